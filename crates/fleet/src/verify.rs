//! Checking a route from the tenant's side.

use tenantry_domain::{DatabaseName, Generation, RoleName, Secret, TenantId};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

/// What a router would use.
#[derive(Debug, Clone)]
pub struct RouteCheck<'a> {
    /// The database.
    pub database: &'a DatabaseName,
    /// The login role.
    pub role: &'a RoleName,
    /// Its password.
    pub password: &'a Secret,
    /// The tenant expected there.
    pub tenant: TenantId,
    /// The generation expected there.
    pub generation: Generation,
}

impl Fleet {
    /// Logs in as the tenant does and calls `tenantry.attach`. `StampMismatch` when the home refuses.
    pub async fn check_route(&self, target: &ClusterTarget, check: &RouteCheck<'_>) -> Result<(), FleetError> {
        todo!()
    }
}
