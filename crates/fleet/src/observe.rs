//! Looking at a cluster without changing it.

use tenantry_domain::{DatabaseName, Home, HomeId, RoleName, SchemaName};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

/// A database as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedDatabase {
    /// Its name.
    pub name: DatabaseName,
    /// Whether anyone may connect.
    pub is_open: bool,
    /// Whether a drop of it was interrupted.
    pub is_half_dropped: bool,
}

/// What there is of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedHome {
    /// Whether its database exists.
    pub database: bool,
    /// Whether its schema exists; for `database` and `cluster` homes the same as `database`.
    pub schema: bool,
    /// Those of its roles that exist.
    pub roles: Vec<RoleName>,
}

/// A session that works on a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedBackend {
    /// The server's process.
    pub pid: i32,
    /// The role it logged in as.
    pub role: String,
    /// Its database.
    pub database: Option<String>,
    /// Whether it runs a statement now.
    pub is_active: bool,
}

impl Fleet {
    /// Whether the server answers.
    pub async fn ping(&self, target: &ClusterTarget) -> Result<(), FleetError> {
        todo!()
    }

    /// The databases whose name starts with a prefix (`h_`, `s_`, `t_`), by name.
    pub async fn databases(&self, target: &ClusterTarget, prefix: &str) -> Result<Vec<ObservedDatabase>, FleetError> {
        todo!()
    }

    /// The roles whose name starts with a prefix, by name.
    pub async fn roles(&self, target: &ClusterTarget, prefix: &str) -> Result<Vec<RoleName>, FleetError> {
        todo!()
    }

    /// The homes' schemas in a shared database, by name.
    pub async fn schemas(
        &self,
        target: &ClusterTarget,
        database: &DatabaseName,
    ) -> Result<Vec<SchemaName>, FleetError> {
        todo!()
    }

    /// What there is of a home.
    pub async fn observe_home(&self, target: &ClusterTarget, home: &Home) -> Result<ObservedHome, FleetError> {
        todo!()
    }

    /// The control plane's own sessions on a home's behalf, found by `application_name`; also those whose client is gone.
    pub async fn backends(&self, target: &ClusterTarget, home: HomeId) -> Result<Vec<ObservedBackend>, FleetError> {
        todo!()
    }
}
