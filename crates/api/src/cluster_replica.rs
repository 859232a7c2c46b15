//! Replicas: physical standbys of a cluster.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{ClusterId, ClusterReplicaId, Endpoint, InvalidName, LagMax, ReplicaHealth, TlsMode};
use utoipa::ToSchema;

use crate::cluster::{CertificatePem, Host};
use crate::schema;

/// A physical standby of a cluster, from which routers may read. Roles, passwords and databases are the cluster's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterReplica {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: ClusterReplicaId,
    /// Whose standby it is.
    #[schema(value_type = Uuid)]
    pub cluster: ClusterId,
    /// Host name, IP address or socket folder.
    #[schema(example = "db-1-replica.example.com")]
    pub host: String,
    /// Port.
    #[schema(example = 5432)]
    pub port: u16,
    /// How connections are protected.
    #[schema(schema_with = schema::tls_mode)]
    pub tls_mode: TlsMode,
    /// Further behind than so many milliseconds, nothing is read from it.
    #[schema(value_type = u32, minimum = 1, maximum = 86_400_000)]
    pub lag_max_ms: LagMax,
    /// What was last seen of it, and how far it was behind.
    #[schema(schema_with = schema::replica_health)]
    pub health: ReplicaHealth,
    /// Registered at.
    pub created_at: Timestamp,
}

impl From<tenantry_domain::ClusterReplica> for ClusterReplica {
    fn from(replica: tenantry_domain::ClusterReplica) -> Self {
        Self {
            id: replica.id,
            cluster: replica.cluster,
            host: replica.endpoint.host().to_owned(),
            port: replica.endpoint.port(),
            tls_mode: replica.tls_mode,
            lag_max_ms: replica.lag_max,
            health: replica.health,
            created_at: replica.created_at,
        }
    }
}

/// Registers a physical standby of a cluster. The cluster's own role must be able to log in there, as it is on a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddClusterReplica {
    /// Host name, IP address, or the absolute path of a unix socket's folder.
    #[schema(value_type = String)]
    pub host: Host,
    /// Port.
    #[schema(value_type = u16, minimum = 1)]
    pub port: std::num::NonZeroU16,
    /// How connections are protected; as the cluster's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::tls_mode, required = false)]
    pub tls_mode: Option<TlsMode>,
    /// The authority for `verify_ca` and `verify_full`; the cluster's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tls_ca: Option<CertificatePem>,
    /// Further behind than so many milliseconds, nothing is read from it; 10,000 unless given.
    #[serde(default)]
    #[schema(value_type = u32, required = false, default = 10_000, minimum = 1, maximum = 86_400_000)]
    pub lag_max_ms: LagMax,
}

impl AddClusterReplica {
    /// Host and port together.
    pub fn endpoint(&self) -> Result<Endpoint, InvalidName> {
        Endpoint::new(self.host.as_str(), self.port.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::parse_body;

    #[test]
    fn a_replica_needs_no_more_than_its_address() {
        let add: AddClusterReplica = parse_body(br#"{"host":"db-2.example.com","port":5432}"#).expect("valid");
        assert_eq!((add.lag_max_ms.as_ms(), add.tls_mode), (10_000, None));
        for (body, pointer) in [
            (r#"{"host":"db-2.example.com","port":0}"#, "/port"),
            (r#"{"host":"a b","port":1}"#, "/host"),
            (r#"{"host":"db-2.example.com","port":1,"lag_max_ms":0}"#, "/lag_max_ms"),
        ] {
            let invalid = parse_body::<AddClusterReplica>(body.as_bytes()).expect_err(body);
            assert_eq!(invalid.pointer, pointer, "{invalid}");
        }
    }
}
