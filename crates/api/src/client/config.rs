//! Where the control plane is and how patient the client is.

use std::net::IpAddr;
use std::time::Duration;

use tenantry_domain::Secret;
use url::{Host, Url};

use super::ClientError;

/// Settings of a [`Client`](super::Client). [`ClientConfig::new`] has defaults for all but the URL and the token.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `https://…`, or `http://…` on this machine. A path in it is a prefix of every call.
    pub url: Url,
    /// Sent as a bearer token.
    pub token: Option<Secret>,
    /// PEM of the only authorities to trust; the system's unless given.
    pub ca: Option<String>,
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
    /// How long one attempt of a call may take, besides the time that it was asked to wait for its operation.
    pub request_timeout: Duration,
    /// How long a stream may be silent before it counts as dead. Streams send heartbeats more often.
    pub idle_timeout: Duration,
    /// How often a call is repeated after its first attempt.
    pub retries: u32,
    /// Who calls.
    pub user_agent: String,
}

impl ClientConfig {
    /// Parses the URL; everything else gets its default.
    pub fn new(url: &str, token: Option<Secret>) -> Result<Self, ClientError> {
        let invalid = |source| ClientError::refused("the URL of the control plane is not valid", source);
        Ok(Self {
            url: Url::parse(url).map_err(invalid)?,
            token,
            ca: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            retries: 4,
            user_agent: concat!("tenantry/", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    /// Whether nothing sent to the URL leaves this machine.
    pub(super) fn is_local(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            None => false,
        }
    }

    /// Refuses what would send a token in the clear.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        let refuse = |reason: &str| Err(ClientError::Refused { reason: reason.to_owned(), source: None });
        if !self.url.username().is_empty() || self.url.password().is_some() {
            return refuse("the URL of the control plane bears a user name; give a token instead");
        }
        match self.url.scheme() {
            "https" => Ok(()),
            "http" if self.token.is_none() || self.is_local() => Ok(()),
            "http" => refuse("a token is not sent over plain http beyond this machine; use https"),
            _ => refuse("the URL of the control plane must begin with https:// or http://"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    fn build(url: &str) -> Result<Client, ClientError> {
        Client::new(ClientConfig::new(url, Some(Secret::new("t".to_owned())))?)
    }

    #[test]
    fn a_token_leaves_over_tls_or_to_this_machine_only() {
        for good in ["https://tenantry.example.com", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1/x"] {
            assert!(build(good).is_ok(), "{good}");
        }
        for bad in ["http://10.0.0.1", "http://localhost.example.com", "http://127.0.0.1.nip.io", "ftp://localhost"] {
            assert!(matches!(build(bad), Err(ClientError::Refused { .. })), "{bad}");
        }
        assert!(matches!(build("https://user:secret@example.com"), Err(ClientError::Refused { .. })));
        let without_token = ClientConfig::new("http://10.0.0.1", None).and_then(Client::new);
        assert!(without_token.is_ok());
    }
}
