//! Golden templates: a database per migration set, closed, to be cloned.

use tenantry_domain::{DatabaseName, RoleName, SchemaVersion};
use tenantry_migration_set::MigrationSet;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

/// Every role of a template, so that they can be recorded before they exist. [`Fleet::drop_database`] drops them.
pub fn template_roles(template: &DatabaseName) -> [RoleName; 2] {
    todo!()
}

impl Fleet {
    /// Makes a template and brings it to the migration set (to the bare interior where there is none), then closes it for
    /// good. A half-made one is finished, a finished one left alone. `Busy` while another worker builds it.
    pub async fn ensure_template(
        &self,
        target: &ClusterTarget,
        template: &DatabaseName,
        set: Option<&MigrationSet>,
    ) -> Result<SchemaVersion, FleetError> {
        todo!()
    }
}
