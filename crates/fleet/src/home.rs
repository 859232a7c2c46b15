//! The inside of a home: who may do what in it.

use tenantry_domain::{DatabaseName, Home, Limits};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::roles::RoleSecrets;
use crate::stamp::Stamp;
use crate::target::ClusterTarget;

/// Everything that a home is made from.
#[derive(Debug, Clone)]
pub struct HomeSpec<'a> {
    /// Which home.
    pub home: &'a Home,
    /// Under which lease.
    pub fence: Fence,
    /// Passwords of its roles.
    pub secrets: &'a RoleSecrets,
    /// The tenant's effective limits.
    pub limits: &'a Limits,
    /// For `database` and `cluster`: the template to clone.
    pub template: Option<&'a DatabaseName>,
    /// For whom; absent for a home that waits for its tenant.
    pub stamp: Option<Stamp>,
}

impl Fleet {
    /// Makes a whole home but for its migrations: the same as [`Fleet::ensure_roles`], then [`Fleet::ensure_database`] or
    /// [`Fleet::ensure_schema`], [`Fleet::prepare_home`] and [`Fleet::write_stamp`], with roles and database made side by
    /// side and one connection into the home. A clone is at its template's version; other homes want [`Fleet::apply`].
    pub async fn ensure_home(&self, target: &ClusterTarget, spec: &HomeSpec<'_>) -> Result<(), FleetError> {
        todo!()
    }

    /// Hands what was cloned from the template to the home's owner and lets the home's roles in: grants, default
    /// privileges for what comes later, extensions, and temporary tables where the limits say so.
    pub async fn prepare_home(
        &self,
        target: &ClusterTarget,
        home: &Home,
        template: Option<&DatabaseName>,
        limits: &Limits,
    ) -> Result<(), FleetError> {
        todo!()
    }
}
