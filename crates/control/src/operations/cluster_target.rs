//! From what the catalog knows of a cluster to what the fleet needs to reach it.

use tenantry_domain::ClusterId;
use tenantry_fleet::ClusterTarget;
use tenantry_store::ClusterAccess;

use crate::control::Control;
use crate::error::ControlError;

/// How to reach the cluster as its administrator.
pub(crate) async fn cluster_target(control: &Control, id: ClusterId) -> Result<ClusterTarget, ControlError> {
    Ok(target_of(control.store().cluster_access(id).await?))
}

pub(crate) fn target_of(access: ClusterAccess) -> ClusterTarget {
    let cluster = access.cluster;
    ClusterTarget {
        id: cluster.id,
        endpoint: cluster.endpoint,
        tls_mode: cluster.tls_mode,
        tls_ca: cluster.tls_ca,
        user: access.admin_user,
        password: access.admin_password,
        admin_database: access.admin_database,
        server_version: cluster.server_version,
        locale: cluster.locale,
        concurrent_creations: cluster.limits.concurrent_creations,
    }
}
