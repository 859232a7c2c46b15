//! Where events may be sent. Whoever may record a webhook must not reach through it what only this machine can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use super::WebhookConfig;

/// What the settings allow beyond public addresses over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) allow_loopback: bool,
    pub(super) allow_private_networks: bool,
}

impl Policy {
    pub(super) fn of(config: &WebhookConfig) -> Self {
        Self { allow_loopback: config.allow_loopback, allow_private_networks: config.allow_private_networks }
    }

    /// Whether a connection to this address may be made.
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match class(address) {
            Class::Public => true,
            Class::Loopback => self.allow_loopback,
            Class::Private => self.allow_private_networks,
            Class::Never => false,
        }
    }
}

/// Why a URL is none to send to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this is no URL ({0}); write it like https://example.com/hooks")]
    NoUrl(String),
    #[error("use https; plain http is possible only to this machine, where `webhooks.allow_loopback` is set")]
    Scheme,
    #[error("a user or password in the URL would be shown to everyone who lists webhooks; check the signature instead")]
    Credentials,
    #[error("the part after `#` is never sent; leave it out")]
    Fragment,
    #[error(
        "{0} is not a public address; `webhooks.allow_private_networks` or `webhooks.allow_loopback` in the \
         configuration of `serve` would allow private ones"
    )]
    Address(IpAddr),
    #[error("`{0}` is this machine; `webhooks.allow_loopback` in the configuration of `serve` would allow it")]
    Localhost(String),
}

/// The URL, if events may be sent there as far as it shows. What its host resolves to is checked at each connection.
pub(super) fn check(text: &str, policy: Policy) -> Result<Url, Refusal> {
    let url = Url::parse(text).map_err(|error| Refusal::NoUrl(error.to_string()))?;
    let Some(host) = url.host_str() else { return Err(Refusal::NoUrl("it has no host".to_owned())) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::Credentials);
    }
    if url.fragment().is_some() {
        return Err(Refusal::Fragment);
    }
    // The parser has brought every way to write an IPv4 address (octal, hexadecimal, one number) into the usual one.
    let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let is_localhost = is_localhost(host);
    match url.scheme() {
        "https" => {}
        "http" if policy.allow_loopback && (is_localhost || literal.is_some_and(is_loopback)) => {}
        _ => return Err(Refusal::Scheme),
    }
    match literal {
        Some(address) if !policy.allows(address) => Err(Refusal::Address(address)),
        None if is_localhost && !policy.allow_loopback => Err(Refusal::Localhost(host.to_owned())),
        Some(_) | None => Ok(url),
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost")
}

fn is_loopback(address: IpAddr) -> bool {
    class(address) == Class::Loopback
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Public,
    Loopback,
    Private,
    /// Where no receiver can be: metadata services, multicast, what is reserved or translated.
    Never,
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [127, ..] => Class::Loopback,
        [10, ..] | [192, 168, ..] => Class::Private,
        [172, second, ..] if (16..32).contains(&second) => Class::Private,
        [100, second, ..] if (64..128).contains(&second) => Class::Private,
        [0 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Class::Never,
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        class_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // An IPv4 address in another dress is what it is.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        [0xfc00..=0xfdff, ..] => Class::Private,
        // Global unicast, without Teredo and its neighbours, and without documentation.
        [0x2001, 0..0x200 | 0xdb8, ..] => Class::Never,
        [0x2000..=0x3ffe, ..] => Class::Public,
        _ => Class::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Policy = Policy { allow_loopback: false, allow_private_networks: false };
    const LOCAL: Policy = Policy { allow_loopback: true, allow_private_networks: false };
    const PRIVATE: Policy = Policy { allow_loopback: false, allow_private_networks: true };

    #[test]
    fn an_inward_address_is_refused_however_it_is_written() {
        for inward in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://017700000001/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://10.1.2.3/",
            "https://172.31.255.255/",
            "https://192.168.0.1/",
            "https://100.64.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://0.0.0.0/",
            "https://[::]/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://db.localhost/",
        ] {
            assert!(check(inward, STRICT).is_err(), "{inward}");
        }
        for outward in ["https://example.com/hooks?x=1", "https://8.8.8.8:8443/", "https://[2606:4700::1111]/"] {
            assert!(check(outward, STRICT).is_ok(), "{outward}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for near in ["http://127.0.0.1:8080/hook", "http://localhost:8080/", "http://[::1]/"] {
            assert!(check(near, LOCAL).is_ok(), "{near}");
            assert_eq!(check(near, PRIVATE), Err(Refusal::Scheme), "{near}");
        }
        for far in ["http://example.com/", "http://10.0.0.1/", "http://localhost.example.com/"] {
            assert_eq!(check(far, LOCAL), Err(Refusal::Scheme), "{far}");
        }
    }

    #[test]
    fn private_networks_open_only_where_they_are_allowed_and_metadata_services_never() {
        assert!(check("https://10.0.0.1/", PRIVATE).is_ok());
        assert!(check("https://[fd00::1]/", PRIVATE).is_ok());
        assert!(check("https://127.0.0.1/", PRIVATE).is_err());
        assert!(check("https://169.254.169.254/", PRIVATE).is_err());
        assert!(check("https://10.0.0.1/", LOCAL).is_err());
    }

    #[test]
    fn credentials_fragments_and_other_schemes_are_refused() {
        assert_eq!(check("https://user:word@example.com/", STRICT), Err(Refusal::Credentials));
        assert_eq!(check("https://example.com/#part", STRICT), Err(Refusal::Fragment));
        for other in ["ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "example.com", ""] {
            assert!(check(other, LOCAL).is_err(), "{other}");
        }
    }
}
