//! Dropping a database, and what stands in the way of that.

use tenantry_domain::DatabaseName;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

impl Fleet {
    /// Drops a database of ours (a home's, a shared one, a template) with its logical slots, subscriptions and prepared
    /// transactions; for shared databases and templates also the roles that belong to them. Finishes an interrupted drop.
    pub async fn drop_database(&self, target: &ClusterTarget, database: &DatabaseName) -> Result<(), FleetError> {
        todo!()
    }
}
