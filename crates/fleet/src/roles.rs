//! The roles of a home.

use tenantry_domain::{Home, Limits, LoginSlot, Secret};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

/// Passwords of a home's roles, in clear; they leave this process only as SCRAM verifiers.
#[derive(Debug, Clone)]
pub struct RoleSecrets {
    /// Which of the two login roles is in use.
    pub slot: LoginSlot,
    /// Its password.
    pub login: Secret,
    /// Of the read-only role.
    pub read_only: Secret,
    /// Of the migrator role.
    pub migrator: Secret,
}

impl Fleet {
    /// Makes the six roles of a home, or sets them right: passwords, connection limits, default timeouts, memberships.
    /// The login role that is not in use cannot log in. In a shared database [`Fleet::ensure_shared_database`] must have
    /// run before.
    pub async fn ensure_roles(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        secrets: &RoleSecrets,
        limits: &Limits,
    ) -> Result<(), FleetError> {
        todo!()
    }

    /// Takes `LOGIN` from the home's login and read-only roles, ends their sessions and waits until none is left. The
    /// migrator stays: a suspended home is still migrated.
    pub async fn disable_logins(&self, target: &ClusterTarget, fence: &Fence, home: &Home) -> Result<(), FleetError> {
        todo!()
    }

    /// Gives `LOGIN` back to the login role in use and the read-only role.
    pub async fn enable_logins(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        slot: LoginSlot,
    ) -> Result<(), FleetError> {
        todo!()
    }

    /// Ends what the home's roles still run, drops what they still own in any database, then the roles. The home's
    /// database or schema should be gone already ([`Fleet::drop_database`], [`Fleet::drop_schema`]).
    pub async fn drop_roles(&self, target: &ClusterTarget, fence: &Fence, home: &Home) -> Result<(), FleetError> {
        todo!()
    }
}
