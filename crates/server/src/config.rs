//! What the door is told at its start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenantry_runtime::duration;

use crate::error::ServerError;

/// The section `server` of the configuration. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Certificate and key; absent means plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Whether a proxy in front ends TLS. Only then may plain HTTP be served beyond this machine.
    pub tls_terminated_upstream: bool,
    /// Largest request body in bytes, migration sets excepted.
    pub body_bytes_max: usize,
    /// Largest migration set in bytes, as JSON.
    pub migration_set_bytes_max: usize,
    /// Longest time for one answer, besides the time that the request asks to wait for its work. Streams are as long
    /// as their readers want. 50 seconds at most.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// Longest time that a reader may leave what was sent to it unread before it is disconnected. 50 seconds at
    /// most.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// Most open connections.
    pub connections_max: usize,
    /// Most requests that are answered at the same time; streams are not counted.
    pub requests_max: usize,
    /// Most open streams: feeds and event streams together.
    pub streams_max: usize,
    /// Most migration sets that are received at the same time, because they may be large.
    pub migration_set_pushes_max: usize,
    /// How long requests may take to finish once the program is told to stop.
    #[serde(with = "duration")]
    pub shutdown_grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070),
            tls: None,
            tls_terminated_upstream: false,
            body_bytes_max: 1024 * 1024,
            migration_set_bytes_max: 64 * 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            connections_max: 16_384,
            requests_max: 1024,
            streams_max: 8192,
            migration_set_pushes_max: 4,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the server's certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub key: PathBuf,
}

impl TlsConfig {
    /// Reads both files and sees that they go together, without opening a door.
    pub fn check(&self) -> Result<(), ServerError> {
        crate::tls::load(self).map(drop)
    }
}

impl ServerConfig {
    /// Refuses settings that would send credentials in the clear, or that could serve nobody.
    pub fn check(&self) -> Result<(), ServerError> {
        if self.tls.is_none() && !self.tls_terminated_upstream && !is_loopback(self.listen.ip()) {
            return Err(ServerError::PlainBeyondLoopback { listen: self.listen });
        }
        let limits = [
            ("body_bytes_max", self.body_bytes_max),
            ("migration_set_bytes_max", self.migration_set_bytes_max),
            ("connections_max", self.connections_max),
            ("requests_max", self.requests_max),
            ("streams_max", self.streams_max),
            ("migration_set_pushes_max", self.migration_set_pushes_max),
        ];
        for (setting, limit) in limits {
            if limit == 0 || limit > tokio::sync::Semaphore::MAX_PERMITS {
                return Err(ServerError::Limit { setting, range: "a positive number that is not astronomical" });
            }
        }
        for (setting, limit) in [("request_timeout", self.request_timeout), ("write_timeout", self.write_timeout)] {
            if limit.is_zero() || limit > TIMEOUT_MAX {
                return Err(ServerError::Limit { setting, range: "more than nothing and no more than 50s" });
            }
        }
        Ok(())
    }
}

/// With the minute that a call may wait for its work, a request stays under the two minutes after which its idempotency
/// key counts as abandoned and a repetition begins anew.
const TIMEOUT_MAX: Duration = Duration::from_secs(50);

/// Whether nothing sent there leaves this machine.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening_at(address: &str) -> ServerConfig {
        ServerConfig { listen: address.parse().expect("an address"), ..ServerConfig::default() }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for here in ["127.0.0.1:0", "127.8.9.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(listening_at(here).check().is_ok(), "{here}");
        }
        for beyond in ["0.0.0.0:80", "10.0.0.1:80", "[::]:80", "[::ffff:10.0.0.1]:80"] {
            let refused = listening_at(beyond).check().expect_err(beyond);
            assert!(matches!(refused, ServerError::PlainBeyondLoopback { .. }), "{beyond}");
            assert!(refused.to_string().contains("tls_terminated_upstream"), "{refused}");
        }
    }

    #[test]
    fn tls_here_or_in_front_opens_the_door() {
        let in_front = ServerConfig { tls_terminated_upstream: true, ..listening_at("0.0.0.0:80") };
        assert!(in_front.check().is_ok());
        let tls = TlsConfig { certificate: "cert.pem".into(), key: "key.pem".into() };
        let here = ServerConfig { tls: Some(tls), ..listening_at("0.0.0.0:443") };
        assert!(here.check().is_ok());
    }

    #[test]
    fn a_limit_out_of_range_is_refused_by_name() {
        let config = ServerConfig { requests_max: 0, ..ServerConfig::default() };
        assert!(config.check().expect_err("nobody could be served").to_string().contains("requests_max"));
        for write_timeout in [Duration::ZERO, Duration::from_mins(1)] {
            let config = ServerConfig { write_timeout, ..ServerConfig::default() };
            assert!(config.check().expect_err("out of range").to_string().contains("write_timeout"));
        }
    }

    #[test]
    fn settings_are_read_by_name_and_unknown_ones_refused() {
        let read = |text: &str| serde_json::from_str::<ServerConfig>(text);
        let config = read(r#"{"listen": "[::1]:80", "shutdown_grace": "250ms"}"#).expect("valid");
        assert_eq!(config.shutdown_grace, Duration::from_millis(250));
        assert_eq!(config.body_bytes_max, ServerConfig::default().body_bytes_max);
        assert!(read(r#"{"lisen": "[::1]:80"}"#).is_err());
    }
}
