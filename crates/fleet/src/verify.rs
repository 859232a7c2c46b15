//! Checking a route from the tenant's side.

use tenantry_domain::{DatabaseName, Generation, RoleName, Secret, TenantId};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::literal;
use crate::session::{Login, Session};
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
        let config = self.config();
        let tls = self.tls(target)?;
        let login = Login {
            endpoint: &target.endpoint,
            tls: &tls,
            user: check.role.as_str(),
            password: check.password,
            database: check.database.as_str(),
            application_name: self.application_name(None),
            connect_timeout: config.connect_timeout,
            statement_timeout: config.statement_timeout,
            lock_timeout: config.lock_timeout,
            idle_timeout: None,
        };
        let attach = format!("SELECT tenantry.attach({}, {});", literal(&check.tenant.to_string()), check.generation);
        Session::open(login).await?.batch("attach to the home", &attach).await
    }
}
