//! Clusters: PostgreSQL servers that homes are placed on.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster_health::ClusterHealth;
use crate::id::{ClusterId, TenantId};
use crate::name::{ClusterName, InvalidName, Region};
use crate::word::words;

words! {
    /// Whether several tenants may live on the cluster.
    Tenancy, "tenancy", "use shared or dedicated", {
        /// Many tenants.
        Shared => "shared",
        /// One tenant at most.
        Dedicated => "dedicated",
    }
}

words! {
    /// Whether the cluster takes new homes.
    ClusterState, "cluster state", "use active, cordoned or draining", {
        /// Takes new homes.
        Active => "active",
        /// Keeps its homes, takes no new ones.
        Cordoned => "cordoned",
        /// Its homes are being moved away.
        Draining => "draining",
    }
}

words! {
    /// Who brought the cluster into being, and so who ends it.
    ProviderKind, "provider", "use registered or local", {
        /// An operator registered a server of theirs; it is released, never destroyed.
        Registered => "registered",
        /// A private cluster that the running program started and owns.
        Local => "local",
    }
}

words! {
    /// How connections to the cluster are protected.
    TlsMode, "tls mode", "use disable, require, verify_ca or verify_full", {
        /// Plain text: only on loopback and unix sockets.
        Disable => "disable",
        /// Encrypted, the server's certificate is not checked.
        Require => "require",
        /// Encrypted, the certificate must come from the configured authority.
        VerifyCa => "verify_ca",
        /// As `verify_ca`, and it must name the host.
        VerifyFull => "verify_full",
    }
}

/// Where a server listens: a host name, an IP address, or the absolute path of a unix socket's folder, with a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Checks host and port.
    pub fn new(host: &str, port: u16) -> Result<Self, InvalidName> {
        let is_path = host.starts_with('/') && host.len() <= 100 && !host.chars().any(char::is_control);
        let is_address = host.parse::<IpAddr>().is_ok();
        let is_name = (1..=253).contains(&host.len())
            && host.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            });
        if port == 0 {
            return Err(InvalidName::new("port", "use 1 to 65535", "0"));
        }
        if is_path || is_address || is_name {
            Ok(Self { host: host.to_owned(), port })
        } else {
            let rule = "use a DNS name, an IP address or the absolute path of a unix socket's folder";
            Err(InvalidName::new("host", rule, host))
        }
    }

    /// Host name, IP address or socket folder.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port, or the number in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether nothing sent there leaves this machine: a unix socket, `localhost`, or a loopback address.
    pub fn is_local(&self) -> bool {
        self.host.starts_with('/')
            || self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = || InvalidName::new("endpoint", "write it as host:port", text);
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self::new(host, port.parse().map_err(|_| refuse())?)
    }
}

/// How much a cluster takes.
///
/// The defaults come from what was measured on PostgreSQL 15 with a schema of 40 tables. A database of it costs 9.4 MB and
/// 540 files before its first row, a visit of autovacuum each `autovacuum_naptime`, and 84 to 580 ms to drop: 2,000 of
/// them are 19 GB and a million files. A schema of it adds 280 rows to `pg_class` that every backend of that database may
/// come to cache: 600 schemas were 168,000 rows and 379 MB in one backend that touched them all, so 250 stay near 160 MB.
/// More than four `CREATE DATABASE` at once gained nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterLimits {
    /// Most tenants.
    pub tenants: u32,
    /// Most databases of tenants, shared ones included.
    pub databases: u32,
    /// Most schema homes in one shared database.
    pub schemas_per_database: u32,
    /// How many `CREATE DATABASE` run at the same time.
    pub concurrent_creations: u32,
    /// Most connections that the ceilings of its tenants may add up to. Absent means that ceilings may promise more than
    /// the server has, as they do wherever routers share a server's connections between tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Most connections that all routers together may hold. Absent means what the server has less a tenth
    /// ([`connections_for_routers`](crate::connections_for_routers)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_connections: Option<u32>,
    /// Bytes on disk of all its homes from which on no new ones are placed; absent means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

impl Default for ClusterLimits {
    fn default() -> Self {
        Self {
            tenants: 5_000,
            databases: 2_000,
            schemas_per_database: 250,
            concurrent_creations: 4,
            connections: None,
            router_connections: None,
            disk_bytes: None,
        }
    }
}

/// What lives on a cluster now, from the catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterUsage {
    /// Homes that exist or are being made.
    pub homes: u32,
    /// Databases of tenants, shared ones included.
    pub databases: u32,
    /// Homes among these, each a database, that are kept ready for tenants to come, or are being made ready.
    #[serde(default)]
    pub warm: u32,
    /// The connection ceilings of its tenants together.
    pub connections: u64,
    /// Bytes on disk of all its homes, as last measured.
    pub disk_bytes: Option<u64>,
}

impl ClusterUsage {
    /// Homes that are tenants'. Those that wait for one never stand in a tenant's way.
    pub const fn claimed_homes(&self) -> u32 {
        self.homes.saturating_sub(self.warm)
    }

    /// Databases that are tenants', shared ones included.
    pub const fn claimed_databases(&self) -> u32 {
        self.databases.saturating_sub(self.warm)
    }
}

/// Encoding and locale that every database of the cluster gets, so that a template made later sorts as the first did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLocale {
    /// Such as `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// `libc`, `icu` or `builtin`.
    pub provider: String,
    /// The provider's own locale (ICU or builtin), if any.
    pub provider_locale: Option<String>,
}

/// One PostgreSQL server.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Its name, unique.
    pub name: ClusterName,
    /// Where its data is.
    pub region: Region,
    /// Whether several tenants may share it.
    pub tenancy: Tenancy,
    /// Who brought it into being.
    pub provider: ProviderKind,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections are protected.
    pub tls_mode: TlsMode,
    /// PEM of the authority for `verify_ca` and `verify_full`; absent means the system's.
    pub tls_ca: Option<String>,
    /// Whether it takes new homes.
    pub state: ClusterState,
    /// `server_version_num`, for example 150018.
    pub server_version: i32,
    /// What every database of it gets.
    pub locale: ClusterLocale,
    /// How much it takes.
    pub limits: ClusterLimits,
    /// What lives on it.
    pub usage: ClusterUsage,
    /// What was last seen.
    pub health: ClusterHealth,
    /// The tenant that has it to itself.
    pub claimed_by: Option<TenantId>,
    /// Registered at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_knows_whether_it_stays_on_the_machine() {
        for local in ["127.0.0.1:5432", "localhost:1", "[::1]:5432", "/tmp/sockets:5432"] {
            assert!(local.parse::<Endpoint>().expect(local).is_local(), "{local}");
        }
        for remote in ["10.0.0.1:5432", "db.example.com:5432", "localhost.example.com:1"] {
            assert!(!remote.parse::<Endpoint>().expect(remote).is_local(), "{remote}");
        }
        for bad in ["", "host", "host:0", "ho st:1", ":5432", "a..b:1"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
        assert_eq!("[::1]:5432".parse::<Endpoint>().expect("valid").to_string(), "[::1]:5432");
    }
}
