//! The stamp: a home's own word on whose it is.
//!
//! One row per home in the table `tenantry.stamp` of its database. Routers call `tenantry.attach(tenant, generation)` as
//! the first thing on a new connection; it raises unless the stamp agrees, and sets the search path. So a router that
//! believes an old route cannot reach the wrong place.

use tenantry_domain::{Generation, Home, RouteState, TenantId};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

/// SQLSTATE of `tenantry.attach` when tenant or generation is not the home's.
pub const WRONG_PLACEMENT: &str = "TN001";
/// SQLSTATE of `tenantry.attach` when the home does not serve its tenant now.
pub const NOT_ACTIVE: &str = "TN002";

/// Whose a home is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The tenant.
    pub tenant: TenantId,
    /// Of its placement.
    pub generation: Generation,
    /// Whether the home serves it; anything but `Active` makes `attach` raise.
    pub state: RouteState,
}

impl Fleet {
    /// Writes the stamp. `StaleEpoch` when a later lease or generation has written it.
    pub async fn write_stamp(
        &self,
        target: &ClusterTarget,
        home: &Home,
        fence: &Fence,
        stamp: &Stamp,
    ) -> Result<(), FleetError> {
        todo!()
    }

    /// Reads the stamp; `None` for a home that waits for its tenant.
    pub async fn read_stamp(&self, target: &ClusterTarget, home: &Home) -> Result<Option<Stamp>, FleetError> {
        todo!()
    }
}
