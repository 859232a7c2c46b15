//! What the fleet is configured with.

use std::time::Duration;

use tenantry_migration_set::EXTENSIONS_DEFAULT;

/// Bounds of everything that the fleet does. The default suits a control plane near its clusters.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// For reaching a server and logging in.
    pub connect_timeout: Duration,
    /// For one statement of the admin (`CREATE DATABASE` included). Migrations have their own.
    pub statement_timeout: Duration,
    /// For waiting on a lock, as the admin.
    pub lock_timeout: Duration,
    /// Idle admin connections kept per cluster, over all its databases.
    pub idle_connections: usize,
    /// How long a kept connection may idle before it is closed at the next use of its cluster.
    pub idle_timeout: Duration,
    /// What the `application_name` of every connection starts with; the home's id or `control` follows after a slash.
    pub application_name_prefix: String,
    /// Extensions installed in the schema `extensions` of every database, as far as the server offers them.
    pub extensions: Vec<String>,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_mins(1),
            lock_timeout: Duration::from_secs(5),
            idle_connections: 8,
            idle_timeout: Duration::from_mins(2),
            application_name_prefix: "tenantry".to_owned(),
            extensions: EXTENSIONS_DEFAULT.map(str::to_owned).to_vec(),
        }
    }
}
