//! The database of a home with isolation `database` or `cluster`.

use tenantry_domain::{DatabaseName, Home};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

impl Fleet {
    /// Makes the home's database as a clone of a template, or empty where there is none; closes it to `PUBLIC`, lets the
    /// home's roles in and opens it. The roles must exist. `Busy` while an earlier attempt still runs on the server.
    pub async fn ensure_database(
        &self,
        target: &ClusterTarget,
        home: &Home,
        template: Option<&DatabaseName>,
        fence: &Fence,
    ) -> Result<(), FleetError> {
        todo!()
    }
}
