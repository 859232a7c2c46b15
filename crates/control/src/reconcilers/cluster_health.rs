//! Looks at every cluster: whether it answers, what is free on it, and whether what was checked at its registration still
//! holds. One that is away delays nobody else's look.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{Cluster, ClusterId, ClusterObservation, ClusterReplica, HealthState, ReplicaState};
use tenantry_fleet::tls_check;
use tenantry_store::{ClusterLook, ClusterRef, PageRequest, ReplicaLook, StoreError};
use tracing::{info, warn};

use super::Reconciler;
use crate::clusters::{observation, replicas};
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::{cluster_target, target_of};

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: "cluster_health",
    period: Duration::from_secs(15),
    reconcile: |control| Box::pin(look_at_all(control)),
};

/// Clusters that are looked at at the same time.
const AT_ONCE: usize = 8;
/// The longest that one look may take.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// One lost connection is no outage: the second look decides.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Sizes are summed up this often at most; that visits every file.
const DISK_EVERY: Duration = Duration::from_mins(5);
/// And for this long at most.
const DISK_MAX: Duration = Duration::from_secs(30);
/// Ceilings that one pass sets right.
const RECOUNTED_MAX: u32 = 5_000;

async fn look_at_all(control: &Control) -> Result<Value, ControlError> {
    let clusters = control.store().living_clusters().await?;
    let looks: Vec<Option<HealthState>> =
        stream::iter(clusters).map(|id| look_at(control, id)).buffer_unordered(AT_ONCE).collect().await;
    let count = |state| looks.iter().filter(|look| **look == Some(state)).count();
    let recounted = control.store().recount_connections(RECOUNTED_MAX).await?;
    Ok(json!({
        "healthy": count(HealthState::Healthy),
        "read_only": count(HealthState::ReadOnly),
        "unreachable": count(HealthState::Unreachable),
        "not_looked_at": looks.iter().filter(|look| look.is_none()).count(),
        "ceilings_set_right": recounted,
    }))
}

/// One look, kept in the catalog. Trouble with the catalog is told and costs this look only.
async fn look_at(control: &Control, id: ClusterId) -> Option<HealthState> {
    match look_and_record(control, id).await {
        Ok(state) => Some(state),
        // Forgotten meanwhile.
        Err(ControlError::NotFound { .. }) => None,
        Err(error) => {
            warn!(cluster_id = %id, %error, "a cluster could not be looked at");
            None
        }
    }
}

async fn look_and_record(control: &Control, id: ClusterId) -> Result<HealthState, ControlError> {
    let before = control.store().cluster(&ClusterRef::Id(id)).await?;
    let mut look = attempt(control, id, before.health.observed.as_ref()).await?;
    if matches!(look, ClusterLook::Silent { .. }) {
        tokio::time::sleep(LOOK_AGAIN).await;
        look = attempt(control, id, before.health.observed.as_ref()).await?;
    }
    control.store().record_cluster_look(id, &look).await?;
    let name = before.name.as_str();
    let gauge = |metric: &'static str| metrics::gauge!(metric, "cluster" => name.to_owned());
    look_at_replicas(control, &before, &look).await?;
    let state = match &look {
        ClusterLook::Answered { observed, .. } => {
            gauge("tenantry_cluster_connections_open").set(observed.connections_open);
            gauge("tenantry_cluster_connections_max").set(observed.connections_max);
            #[expect(clippy::cast_precision_loss, reason = "a gauge needs no last byte")]
            gauge("tenantry_cluster_disk_bytes").set(observed.disk_bytes as f64);
            if observed.in_recovery { HealthState::ReadOnly } else { HealthState::Healthy }
        }
        ClusterLook::Silent { .. } => HealthState::Unreachable,
    };
    gauge("tenantry_cluster_up").set(if state == HealthState::Healthy { 1.0 } else { 0.0 });
    gauge("tenantry_cluster_homes").set(before.usage.homes);
    match (&look, before.health.state) {
        (ClusterLook::Silent { error }, was) if was != HealthState::Unreachable => {
            warn!(cluster = name, reason = error, "a cluster does not answer; it takes no new homes until it does");
        }
        (ClusterLook::Answered { .. }, HealthState::Unreachable) => info!(cluster = name, "a cluster answers again"),
        _ => {}
    }
    Ok(state)
}

/// Looks at all standbys of a cluster at the same time.
async fn look_at_replicas(control: &Control, cluster: &Cluster, look: &ClusterLook) -> Result<(), ControlError> {
    let page = PageRequest { limit: replicas::REPLICAS_MAX, cursor: None };
    let all = control.store().cluster_replicas(cluster.id, &page).await?.items;
    if all.is_empty() {
        return Ok(());
    }
    let written = match look {
        ClusterLook::Answered { .. } => {
            let primary = cluster_target(control, cluster.id).await?;
            tokio::time::timeout(LOOK_MAX, control.fleet().written(&primary)).await.ok().and_then(Result::ok)
        }
        ClusterLook::Silent { .. } => None,
    };
    let looks = all.iter().map(|replica| look_at_replica(control, cluster, replica, written.as_deref()));
    join_all(looks).await.into_iter().collect()
}

async fn look_at_replica(
    control: &Control,
    cluster: &Cluster,
    replica: &ClusterReplica,
    written: Option<&str>,
) -> Result<(), ControlError> {
    let looking = replicas::look(control, cluster.id, replica, written);
    let look = if let Ok(look) = tokio::time::timeout(LOOK_MAX, looking).await {
        look?
    } else {
        let error = format!("{} did not answer within {} s", replica.endpoint, LOOK_MAX.as_secs());
        ReplicaLook::Silent { error }
    };
    control.store().record_replica_look(replica.id, &look).await?;
    let (name, id) = (cluster.name.as_str(), replica.id.to_string());
    let gauge = |metric: &'static str| metrics::gauge!(metric, "cluster" => name.to_owned(), "replica" => id.clone());
    gauge("tenantry_cluster_replica_up").set(if matches!(look, ReplicaLook::Standby { .. }) { 1.0 } else { 0.0 });
    match &look {
        ReplicaLook::Standby { lag_ms } => {
            #[expect(clippy::cast_precision_loss, reason = "a gauge needs no last millisecond")]
            gauge("tenantry_cluster_replica_lag_ms").set(lag_ms.map_or(f64::NAN, |lag| lag as f64));
        }
        ReplicaLook::NotStandby { error } if replica.health.state != ReplicaState::NotStandby => {
            warn!(cluster = name, replica = id, reason = error, "a replica is none any more; routers are told");
        }
        ReplicaLook::Silent { error } if replica.health.state != ReplicaState::Unreachable => {
            warn!(cluster = name, replica = id, reason = error, "a replica does not answer");
        }
        ReplicaLook::NotStandby { .. } | ReplicaLook::Silent { .. } => {}
    }
    Ok(())
}

async fn attempt(
    control: &Control,
    id: ClusterId,
    known: Option<&ClusterObservation>,
) -> Result<ClusterLook, ControlError> {
    let access = match control.store().cluster_access(id).await {
        Err(StoreError::NotFound { what, name }) => return Err(ControlError::NotFound { what, name }),
        access => access?,
    };
    let recorded = access.system_identifier.clone();
    let target = target_of(access);
    let inspection = match tokio::time::timeout(LOOK_MAX, control.fleet().inspect(&target)).await {
        Ok(Ok(inspection)) => inspection,
        Ok(Err(error)) => return Ok(ClusterLook::Silent { error: error.to_string() }),
        Err(_) => {
            let error = format!("{} did not answer within {} s", target.endpoint, LOOK_MAX.as_secs());
            return Ok(ClusterLook::Silent { error });
        }
    };
    if inspection.system_identifier != recorded {
        let error = format!(
            "another server answers at {}; tell where this one is by `tenantry cluster update --host`",
            target.endpoint
        );
        return Ok(ClusterLook::Silent { error });
    }
    let (mut disk_bytes, mut measured_at) = known.map_or((0, None), |known| (known.disk_bytes, known.disk_measured_at));
    let is_stale =
        measured_at.is_none_or(|at| Timestamp::now().duration_since(at) >= DISK_EVERY.try_into().unwrap_or_default());
    if is_stale {
        // A size that cannot be had now is had later; the old one is told with its time.
        match tokio::time::timeout(DISK_MAX, control.fleet().measure_disk(&target)).await {
            Ok(Ok(bytes)) => (disk_bytes, measured_at) = (bytes, Some(Timestamp::now())),
            Ok(Err(error)) => warn!(cluster_id = %id, %error, "the size of a cluster could not be measured"),
            Err(_) => warn!(cluster_id = %id, "measuring the size of a cluster took too long"),
        }
    }
    let mut checks = vec![tls_check(&target.endpoint, target.tls_mode, target.tls_ca.is_some())];
    checks.extend(inspection.checks());
    Ok(ClusterLook::Answered { observed: observation(&inspection, disk_bytes, measured_at), checks })
}
