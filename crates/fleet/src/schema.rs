//! The schema of a home with isolation `schema`.

use tenantry_domain::Home;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

impl Fleet {
    /// Makes the home's schema in its shared database, empty and closed; [`Fleet::prepare_home`] lets its roles in.
    pub async fn ensure_schema(&self, target: &ClusterTarget, home: &Home) -> Result<(), FleetError> {
        todo!()
    }

    /// Drops the schema, what the home's roles own elsewhere in its database, their rights there, and the stamp. Large
    /// schemas go in batches, so that one transaction never needs more locks than the server has.
    pub async fn drop_schema(&self, target: &ClusterTarget, home: &Home) -> Result<(), FleetError> {
        todo!()
    }
}
