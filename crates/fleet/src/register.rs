//! Taking a server in: what it is, and closing its doors.

use tenantry_domain::ClusterLocale;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

/// What a server is and what the admin may do on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// `server_version_num`, for example 150018.
    pub server_version: i32,
    /// Whether the admin is a superuser.
    pub is_superuser: bool,
    /// Whether the admin may create databases.
    pub can_create_database: bool,
    /// Whether the admin may create roles.
    pub can_create_role: bool,
    /// Whether the admin may end sessions of roles that are not its own (superuser or `pg_signal_backend`).
    pub can_signal: bool,
    /// Of `template0`: what new databases get.
    pub locale: ClusterLocale,
    /// `wal_level`.
    pub wal_level: String,
    /// `max_connections`.
    pub max_connections: i32,
    /// Of the data directory: two addresses with one identifier are one server (or a physical copy of it).
    pub system_identifier: String,
    /// Databases besides the templates and the admin database.
    pub existing_user_databases: Vec<String>,
    /// Whether this connection was encrypted.
    pub tls: bool,
}

impl Inspection {
    /// What stands against using the server, one sentence each; empty when it can be registered.
    pub fn obstacles(&self) -> Vec<String> {
        todo!()
    }
}

impl Fleet {
    /// Looks at a server. Changes nothing.
    pub async fn inspect(&self, target: &ClusterTarget) -> Result<Inspection, FleetError> {
        todo!()
    }

    /// Makes the fence and closes the doors ([`Fleet::close_public`], whose findings it returns).
    pub async fn prepare_cluster(&self, target: &ClusterTarget) -> Result<Vec<String>, FleetError> {
        todo!()
    }

    /// Takes `PUBLIC`'s rights on every database of the server, `postgres` and `template1` included. What the admin is not
    /// allowed to close comes back as findings, one sentence each.
    pub async fn close_public(&self, target: &ClusterTarget) -> Result<Vec<String>, FleetError> {
        todo!()
    }

    /// Removes the fence from a server that is given back; it must hold no home any more.
    pub async fn release_cluster(&self, target: &ClusterTarget) -> Result<(), FleetError> {
        todo!()
    }
}
