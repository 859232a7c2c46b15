//! Databases that `schema` homes share.

use tenantry_domain::{DatabaseName, RoleName};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

/// The group roles of a shared database, so that they can be recorded before they exist: first the one that every home
/// in it joins (`CONNECT`, the stamp, extensions), then the one for homes with temporary tables.
/// [`Fleet::drop_database`] drops them.
pub fn shared_database_roles(database: &DatabaseName) -> [RoleName; 2] {
    todo!()
}

impl Fleet {
    /// Makes a shared database with its group roles, closed to `PUBLIC` in every respect, and returns what the admin's
    /// rights do not allow to close. `Busy` while another worker makes it.
    pub async fn ensure_shared_database(
        &self,
        target: &ClusterTarget,
        database: &DatabaseName,
    ) -> Result<Vec<String>, FleetError> {
        todo!()
    }
}
