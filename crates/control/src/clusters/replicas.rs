//! Replicas: physical standbys of a cluster, from which routers may read.

use tenantry_domain::{Access, ClusterId, ClusterReplica, ClusterReplicaId, Endpoint, LagMax, Scope, TlsMode};
use tenantry_fleet::{ClusterTarget, ReplicaSighting};
use tenantry_store::{ClusterAccess, ClusterRef, NewClusterReplica, Page, PageRequest, ReplicaLook};

use super::{audit, check_tls};
use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;
use crate::operations::cluster_target::{cluster_target, target_of};

/// Most replicas of one cluster: every router holds them all, and each is looked at with its cluster.
pub const REPLICAS_MAX: u32 = 16;

/// The wish to read from a standby.
#[derive(Debug, Clone)]
pub struct AddReplica {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections are protected; absent means as the cluster's.
    pub tls_mode: Option<TlsMode>,
    /// PEM of the authority; absent means the cluster's.
    pub tls_ca: Option<String>,
    /// How far it may be behind.
    pub lag_max: LagMax,
}

/// A page of a cluster's replicas, oldest first.
pub async fn list(
    control: &Control,
    caller: &Caller,
    cluster: &ClusterRef,
    page: &PageRequest,
) -> Result<Page<ClusterReplica>, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    let cluster = control.store().cluster(cluster).await?.id;
    Ok(control.store().cluster_replicas(cluster, page).await?)
}

/// Takes a standby in: looks at it with the cluster's own credential, and refuses one that is no standby of this cluster.
pub async fn add(
    control: &Control,
    caller: &Caller,
    cluster: &ClusterRef,
    wish: AddReplica,
) -> Result<ClusterReplica, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let id = ClusterReplicaId::new(new_id());
    let access = control.store().cluster_access(control.store().cluster(cluster).await?.id).await?;
    let tls_mode = wish.tls_mode.unwrap_or(access.cluster.tls_mode);
    let tls_ca = wish.tls_ca.clone().or_else(|| access.cluster.tls_ca.clone());
    check_tls(tls_mode, &wish.endpoint)?;
    let (cluster, identifier) = (access.cluster.id, access.system_identifier.clone());
    let replica = replica_target(access, id, wish.endpoint.clone(), tls_mode, tls_ca);
    let primary = cluster_target(control, cluster).await?;
    // Where the primary does not tell, the standby's own clock does.
    let written = control.fleet().written(&primary).await.ok();
    let seen = control.fleet().look_at_replica(&replica, written.as_deref()).await;
    control.fleet().forget(replica.id);
    let seen = seen?;
    if let Some(reason) = misfit(&identifier, &seen, &wish.endpoint) {
        return Err(ControlError::invalid("/host", reason));
    }
    let mut tx = control.store().begin().await?;
    let cluster = tx.lock_cluster(&ClusterRef::Id(cluster)).await?;
    if tx.count_cluster_replicas(cluster.id).await? >= REPLICAS_MAX {
        return Err(ControlError::LimitExceeded {
            reason: format!("cluster `{}` has {REPLICAS_MAX} replicas, the most that one may have", cluster.name),
        });
    }
    let new = NewClusterReplica {
        id,
        cluster: cluster.id,
        endpoint: wish.endpoint,
        tls_mode: wish.tls_mode,
        tls_ca: wish.tls_ca,
        lag_max: wish.lag_max,
        lag_ms: seen.lag_ms,
    };
    let replica = tx.insert_cluster_replica(&new).await?;
    audit(&mut tx, caller, "cluster.add_replica", cluster.id, None, Some(summary(&replica))).await?;
    tx.commit().await?;
    Ok(replica)
}

/// Forgets a replica: routers read from it no longer. The server itself is left alone.
pub async fn remove(
    control: &Control,
    caller: &Caller,
    cluster: &ClusterRef,
    replica: ClusterReplicaId,
) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let mut tx = control.store().begin().await?;
    let cluster = tx.lock_cluster(cluster).await?.id;
    let before = tx.delete_cluster_replica(cluster, replica).await?;
    audit(&mut tx, caller, "cluster.remove_replica", cluster, Some(summary(&before)), None).await?;
    tx.commit().await?;
    Ok(())
}

/// One look at a replica, for the cluster's health. `written` is how far its primary had come just before.
pub(crate) async fn look(
    control: &Control,
    cluster: ClusterId,
    replica: &ClusterReplica,
    written: Option<&str>,
) -> Result<ReplicaLook, ControlError> {
    let access = control.store().cluster_access(cluster).await?;
    let identifier = access.system_identifier.clone();
    let (endpoint, tls_ca) = (replica.endpoint.clone(), replica.tls_ca.clone());
    let target = replica_target(access, replica.id, endpoint, replica.tls_mode, tls_ca);
    let seen = control.fleet().look_at_replica(&target, written).await;
    control.fleet().forget(target.id);
    Ok(match seen {
        Ok(seen) => match misfit(&identifier, &seen, &replica.endpoint) {
            Some(error) => ReplicaLook::NotStandby { error },
            None => ReplicaLook::Standby { lag_ms: seen.lag_ms },
        },
        Err(error) => ReplicaLook::Silent { error: error.to_string() },
    })
}

/// What makes a server no standby of the cluster with this identifier.
fn misfit(identifier: &str, seen: &ReplicaSighting, endpoint: &Endpoint) -> Option<String> {
    if seen.system_identifier != identifier {
        Some(format!(
            "{endpoint} is a standby of another server, or none: its data directory is not a physical copy of this \
             cluster's; make one with pg_basebackup"
        ))
    } else if seen.in_recovery {
        None
    } else {
        Some(format!(
            "{endpoint} takes writes: it is the cluster itself, or was a standby and is promoted; name one that follows it"
        ))
    }
}

/// How to reach a replica. What the fleet keeps per cluster goes by an id of its own, so that neither is in the other's way.
fn replica_target(
    access: ClusterAccess,
    id: ClusterReplicaId,
    endpoint: Endpoint,
    tls_mode: TlsMode,
    tls_ca: Option<String>,
) -> ClusterTarget {
    ClusterTarget { id: ClusterId::new(id.as_uuid()), endpoint, tls_mode, tls_ca, ..target_of(access) }
}

/// What the audit log keeps of a replica.
fn summary(replica: &ClusterReplica) -> serde_json::Value {
    serde_json::json!({
        "id": replica.id,
        "endpoint": replica.endpoint,
        "tls_mode": replica.tls_mode,
        "lag_max_ms": replica.lag_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_standby_of_the_very_same_server_will_do() {
        let endpoint = Endpoint::new("db-2.example.com", 5432).expect("valid");
        let misfit = |identifier: &str, in_recovery| {
            let seen = ReplicaSighting { system_identifier: identifier.to_owned(), in_recovery, lag_ms: Some(0) };
            misfit("7", &seen, &endpoint)
        };
        assert_eq!(misfit("7", true), None);
        assert!(misfit("7", false).is_some_and(|reason| reason.contains("promoted")));
        assert!(misfit("8", true).is_some_and(|reason| reason.contains("pg_basebackup")));
        assert!(misfit("8", false).is_some());
    }
}
