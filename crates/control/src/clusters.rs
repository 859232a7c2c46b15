//! Clusters as admins see them.

mod drain;
mod register;
pub mod replicas;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{Access, Cluster, ClusterId, ClusterState, Endpoint, Scope, TlsMode};
use tenantry_store::{AuditEntry, ClusterChange, ClusterFilter, ClusterRef, Page, PageRequest, Tx};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::{cluster_target, target_of};
use crate::warm_pool;

pub use drain::{DrainMove, DrainPlan, drain};
pub(crate) use register::{ClusterToRegister, ensure_started_cluster, observation};
pub use register::{RegisterCluster, RegistrationPreview, preview, register};

/// A page of clusters, oldest first.
pub async fn list(
    control: &Control,
    caller: &Caller,
    filter: &ClusterFilter,
    page: &PageRequest,
) -> Result<Page<Cluster>, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    Ok(control.store().clusters(filter, page).await?)
}

/// One cluster.
pub async fn show(control: &Control, caller: &Caller, cluster: &ClusterRef) -> Result<Cluster, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    Ok(control.store().cluster(cluster).await?)
}

/// Changes name, limits, address, admin credential or TLS settings. What changes how the server is reached is tried
/// first: it must lead to the same server.
pub async fn update(
    control: &Control,
    caller: &Caller,
    cluster: &ClusterRef,
    change: ClusterChange,
    if_match: Option<Timestamp>,
) -> Result<Cluster, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    check_reach(control, cluster, &change).await?;
    let mut tx = control.store().begin().await?;
    let before = tx.lock_cluster(cluster).await?;
    if if_match.is_some_and(|expected| expected != before.updated_at) {
        return Err(ControlError::PreconditionFailed);
    }
    let after = tx.update_cluster(before.id, &change).await?;
    audit(&mut tx, caller, "cluster.update", before.id, Some(summary(&before)), Some(summary(&after))).await?;
    tx.commit().await?;
    Ok(after)
}

/// Refuses a change after which the cluster would be another server, out of reach, or spoken to in the clear.
async fn check_reach(control: &Control, cluster: &ClusterRef, change: &ClusterChange) -> Result<(), ControlError> {
    let ClusterChange { name: _, limits: _, endpoint, admin_user, admin_password, tls_mode, tls_ca } = change;
    let stays = endpoint.is_none()
        && admin_user.is_none()
        && admin_password.is_none()
        && tls_mode.is_none()
        && tls_ca.is_none();
    if stays {
        return Ok(());
    }
    let id = control.store().cluster(cluster).await?.id;
    let access = control.store().cluster_access(id).await?;
    let recorded = access.system_identifier.clone();
    let mut target = target_of(access);
    target.endpoint = endpoint.clone().unwrap_or(target.endpoint);
    target.user = admin_user.clone().unwrap_or(target.user);
    target.password = admin_password.clone().unwrap_or(target.password);
    target.tls_mode = tls_mode.unwrap_or(target.tls_mode);
    target.tls_ca = tls_ca.clone().unwrap_or(target.tls_ca);
    check_tls(target.tls_mode, &target.endpoint)?;
    let found = control.fleet().inspect(&target).await?;
    if found.system_identifier != recorded {
        return Err(ControlError::invalid(
            "/host",
            format!("another server answers at {}; register that one as a cluster of its own", target.endpoint),
        ));
    }
    Ok(())
}

/// A password may leave this machine only encrypted.
fn check_tls(mode: TlsMode, endpoint: &Endpoint) -> Result<(), ControlError> {
    if mode == TlsMode::Disable && !endpoint.is_local() {
        return Err(ControlError::invalid(
            "/tls_mode",
            "a password may leave this machine only encrypted; use require, verify_ca or verify_full",
        ));
    }
    Ok(())
}

/// Keeps new homes off the cluster; those that are there stay.
pub async fn cordon(control: &Control, caller: &Caller, cluster: &ClusterRef) -> Result<Cluster, ControlError> {
    set_state(control, caller, cluster, ClusterState::Cordoned, "cluster.cordon").await
}

/// Lets new homes in again.
pub async fn uncordon(control: &Control, caller: &Caller, cluster: &ClusterRef) -> Result<Cluster, ControlError> {
    set_state(control, caller, cluster, ClusterState::Active, "cluster.uncordon").await
}

/// Forgets a cluster on which nothing lives, with the templates and shared databases that Tenantry made there.
pub async fn remove(control: &Control, caller: &Caller, cluster: &ClusterRef) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let tx = control.store().begin().await?;
    let before = tx.lock_cluster(cluster).await?;
    if before.state == ClusterState::Active {
        return Err(ControlError::InvalidState {
            reason: format!("cluster `{}` is active; cordon it first, so that nothing new arrives", before.name),
        });
    }
    if before.usage.homes > 0 && before.usage.claimed_homes() == 0 {
        tx.poke_reconciler(warm_pool::NAME).await?;
        tx.commit().await?;
        return Err(ControlError::Unavailable {
            reason: format!(
                "cluster `{}` still has {} homes that no tenant has; they are being dropped",
                before.name, before.usage.warm
            ),
            retry_after: Duration::from_secs(2),
            source: None,
        });
    }
    if before.usage.homes > 0 {
        return Err(ControlError::Conflict {
            reason: format!(
                "cluster `{}` still has {} homes; delete their tenants first",
                before.name,
                before.usage.claimed_homes()
            ),
        });
    }
    let bases = tx.bases_of_cluster(before.id).await?;
    tx.commit().await?;
    let target = cluster_target(control, before.id).await?;
    for database in bases {
        control.fleet().drop_database(&target, &database).await?;
    }
    control.fleet().release_cluster(&target).await?;
    let mut tx = control.store().begin().await?;
    tx.delete_cluster(before.id).await?;
    audit(&mut tx, caller, "cluster.remove", before.id, Some(summary(&before)), None).await?;
    tx.commit().await?;
    Ok(())
}

async fn set_state(
    control: &Control,
    caller: &Caller,
    cluster: &ClusterRef,
    state: ClusterState,
    action: &'static str,
) -> Result<Cluster, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let mut tx = control.store().begin().await?;
    let before = tx.lock_cluster(cluster).await?;
    let after = tx.set_cluster_state(before.id, state).await?;
    audit(&mut tx, caller, action, before.id, Some(summary(&before)), Some(summary(&after))).await?;
    tx.poke_reconciler(warm_pool::NAME).await?;
    tx.commit().await?;
    Ok(after)
}

/// What the audit log keeps of a cluster: no credential.
fn summary(cluster: &Cluster) -> Value {
    json!({
        "name": cluster.name,
        "region": cluster.region,
        "tenancy": cluster.tenancy,
        "provider": cluster.provider,
        "endpoint": cluster.endpoint,
        "tls_mode": cluster.tls_mode,
        "state": cluster.state,
        "limits": cluster.limits,
    })
}

async fn audit(
    tx: &mut Tx,
    caller: &Caller,
    action: &str,
    cluster: ClusterId,
    before: Option<Value>,
    after: Option<Value>,
) -> Result<(), ControlError> {
    tx.audit(&AuditEntry { before, after, ..caller.does(action, format!("cluster/{cluster}")) }).await?;
    Ok(())
}
