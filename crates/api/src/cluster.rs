//! Clusters.

use serde::{Deserialize, Serialize};
use tenantry_domain::{
    Check, ClusterHealth, ClusterId, ClusterLimits, ClusterName, ClusterState, ClusterUsage, DatabaseName, Endpoint,
    InvalidName, Isolation, ProviderKind, Region, RoleName, Slug, Tenancy, TenantId, TlsMode,
};
use utoipa::{IntoParams, ToSchema};

use crate::patch::{Patch, never_null};
use crate::placement::PlacementCluster;
use crate::query::PageLimit;
use crate::schema;
use crate::secret::SecretText;

/// One PostgreSQL server. Its credential is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: ClusterId,
    /// Its name, unique.
    #[schema(value_type = String, example = "eu-1")]
    pub name: ClusterName,
    /// Where its data is.
    #[schema(value_type = String, example = "eu-central-1")]
    pub region: Region,
    /// Whether several tenants may share it.
    #[schema(schema_with = schema::tenancy)]
    pub tenancy: Tenancy,
    /// Who brought it into being.
    #[schema(schema_with = schema::provider)]
    pub provider: ProviderKind,
    /// Host name, IP address or socket folder.
    #[schema(example = "db-1.example.com")]
    pub host: String,
    /// Port.
    #[schema(example = 5432)]
    pub port: u16,
    /// How connections are protected.
    #[schema(schema_with = schema::tls_mode)]
    pub tls_mode: TlsMode,
    /// Whether it takes new homes.
    #[schema(schema_with = schema::cluster_state)]
    pub state: ClusterState,
    /// `server_version_num`, for example 150018.
    #[schema(example = 150_018)]
    pub server_version: i32,
    /// How much it takes.
    #[schema(schema_with = schema::cluster_limits)]
    pub limits: ClusterLimits,
    /// What lives on it.
    #[schema(schema_with = schema::cluster_usage)]
    pub usage: ClusterUsage,
    /// What was last seen.
    #[schema(schema_with = schema::cluster_health)]
    pub health: ClusterHealth,
}

impl From<tenantry_domain::Cluster> for Cluster {
    fn from(cluster: tenantry_domain::Cluster) -> Self {
        Self {
            id: cluster.id,
            name: cluster.name,
            region: cluster.region,
            tenancy: cluster.tenancy,
            provider: cluster.provider,
            host: cluster.endpoint.host().to_owned(),
            port: cluster.endpoint.port(),
            tls_mode: cluster.tls_mode,
            state: cluster.state,
            server_version: cluster.server_version,
            limits: cluster.limits,
            usage: cluster.usage,
            health: cluster.health,
        }
    }
}

/// A host that may stand in an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

impl Host {
    /// Host name, IP address or socket folder.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Host {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Endpoint::new(&text, 1).map(|_| Self(text))
    }
}

impl From<Host> for String {
    fn from(host: Host) -> String {
        host.0
    }
}

/// The PEM text of one or more certificates, 64 KiB at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificatePem(String);

/// The text is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give PEM text of 64 KiB at most with a line `-----BEGIN CERTIFICATE-----`")]
pub struct InvalidCertificate;

impl CertificatePem {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CertificatePem {
    type Error = InvalidCertificate;

    fn try_from(text: String) -> Result<Self, InvalidCertificate> {
        let is_pem = text.len() <= 65_536 && text.contains("-----BEGIN CERTIFICATE-----");
        if is_pem { Ok(Self(text)) } else { Err(InvalidCertificate) }
    }
}

impl From<CertificatePem> for String {
    fn from(pem: CertificatePem) -> String {
        pem.0
    }
}

/// Registers a server. The role that is named must be a superuser, or have `CREATEDB` and `CREATEROLE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterCluster {
    /// Its name, unique.
    #[schema(value_type = String, example = "eu-1")]
    pub name: ClusterName,
    /// Where its data is.
    #[schema(value_type = String, example = "eu-central-1")]
    pub region: Region,
    /// Whether several tenants may share it.
    #[schema(schema_with = schema::tenancy)]
    pub tenancy: Tenancy,
    /// Host name, IP address, or the absolute path of a unix socket's folder.
    #[schema(value_type = String)]
    pub host: Host,
    /// Port.
    #[schema(value_type = u16, minimum = 1)]
    pub port: std::num::NonZeroU16,
    /// The role that manages it.
    #[schema(value_type = String, example = "postgres")]
    pub user: RoleName,
    /// That role's password. Stored sealed, never shown again.
    #[schema(value_type = String, format = Password, write_only)]
    pub password: SecretText,
    /// The database to connect to for managing; `postgres` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub database: Option<DatabaseName>,
    /// How connections are protected; `disable` for this machine and `verify_full` for others unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::tls_mode, required = false)]
    pub tls_mode: Option<TlsMode>,
    /// The authority for `verify_ca` and `verify_full`; the system's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tls_ca: Option<CertificatePem>,
    /// How much it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::cluster_limits, required = false)]
    pub limits: Option<ClusterLimits>,
}

impl RegisterCluster {
    /// Host and port together.
    pub fn endpoint(&self) -> Result<Endpoint, InvalidName> {
        Endpoint::new(self.host.as_str(), self.port.get())
    }
}

/// Changes a cluster. Absent fields stay. A new endpoint must lead to the same server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateCluster {
    /// Host name, IP address, or the absolute path of a unix socket's folder.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub host: Option<Host>,
    /// Port.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u16, required = false, minimum = 1)]
    pub port: Option<std::num::NonZeroU16>,
    /// The role that manages it.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub user: Option<RoleName>,
    /// That role's password.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = Password, write_only)]
    pub password: Option<SecretText>,
    /// How connections are protected.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::tls_mode, required = false)]
    pub tls_mode: Option<TlsMode>,
    /// The authority for `verify_ca` and `verify_full`; null means the system's.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>)]
    pub tls_ca: Patch<CertificatePem>,
    /// How much it takes, as a whole.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::cluster_limits, required = false)]
    pub limits: Option<ClusterLimits>,
}

/// Which clusters to list. Filters are joined by "and".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListClusters {
    /// In this region.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub region: Option<Region>,
    /// With this tenancy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::tenancy, required = false)]
    pub tenancy: Option<Tenancy>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::cluster_state, required = false)]
    pub state: Option<ClusterState>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What registering a server would come to. Nothing was changed, on it or here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterPreview {
    /// Whether it would be taken in: no check failed.
    pub is_accepted: bool,
    /// `server_version_num`; null where it was not reached.
    pub server_version: Option<i32>,
    /// `max_connections`; null where it was not reached.
    pub connections_max: Option<u32>,
    /// Every check, in the order in which they were made.
    #[schema(schema_with = schema::checks)]
    pub checks: Vec<Check>,
}

/// How to drain a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DrainQuery {
    /// Only plans; the cluster goes on taking new homes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[param(value_type = Option<bool>)]
    pub dry_run: bool,
    /// Most tenants in the answer, 1 to 500; 100 unless given. Those that cannot go come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
}

/// Where each tenant of a cluster would go. Only a plan: nothing moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainPlan {
    /// The cluster, as it is now.
    pub cluster: Cluster,
    /// How many tenants live there; 10,000 are looked at.
    pub tenants: u32,
    /// How many of them have a place elsewhere.
    pub placeable: u32,
    /// Each tenant, those that cannot go first.
    pub moves: Vec<DrainMove>,
    /// Whether there are more tenants than `moves` shows.
    pub is_truncated: bool,
}

/// Where one tenant would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainMove {
    /// Who.
    #[schema(value_type = Uuid)]
    pub tenant: TenantId,
    /// Its slug.
    #[schema(value_type = String, example = "acme")]
    pub slug: Slug,
    /// What it has to itself.
    #[schema(schema_with = schema::isolation)]
    pub isolation: Isolation,
    /// Whether it can go.
    pub is_possible: bool,
    /// The registered cluster it would go to; null where there is none, or a provider would start one.
    pub to: Option<PlacementCluster>,
    /// Why it cannot go; null where it can.
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::parse_body;

    const REGISTER: &str = r#"{"name":"eu-1","region":"eu","tenancy":"shared","host":"db.example.com","port":5432,
        "user":"postgres","password":"hunter2"}"#;

    #[test]
    fn registering_needs_no_more_than_where_and_who() {
        let register: RegisterCluster = parse_body(REGISTER.as_bytes()).expect("valid");
        assert_eq!(register.endpoint().expect("valid").to_string(), "db.example.com:5432");
        assert!(!format!("{register:?}").contains("hunter2"));
    }

    #[test]
    fn a_bad_host_port_or_certificate_is_pointed_at() {
        for (from, to, pointer) in [
            ("db.example.com", "a b", "/host"),
            ("5432", "0", "/port"),
            ("5432", "70000", "/port"),
            ("\"shared\"", "\"sharred\"", "/tenancy"),
            ("\"password\"", "\"tls_ca\":\"nonsense\",\"password\"", "/tls_ca"),
        ] {
            let body = REGISTER.replace(from, to);
            let invalid = parse_body::<RegisterCluster>(body.as_bytes()).expect_err(to);
            assert_eq!(invalid.pointer, pointer, "{invalid}");
        }
    }
}
