//! Pooling connections of tenants together that share a database, where their limits say so, and taking that back.
//!
//! A route says so only while the pool's role is let into the home: the role comes first and goes last.

use std::collections::{BTreeMap, BTreeSet};

use tenantry_domain::{ClusterId, HomeId};
use tenantry_fleet::{ClusterTarget, Fence, FleetError, random_password};
use tenantry_store::HomeRoles;
use tracing::warn;

use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;

/// Homes that are looked at at once.
const BATCH: i64 = 500;
/// Batches in one pass; the next goes on.
const BATCHES_MAX: usize = 100;

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Settled {
    /// Homes that were set right.
    pub(super) settled: usize,
    /// Homes that could not be.
    pub(super) failed: usize,
}

/// Sets homes right whose connections are not pooled as their limits say.
pub(super) async fn settle_all(control: &Control) -> Result<Settled, ControlError> {
    let (mut total, mut away, mut after) = (Settled::default(), BTreeSet::new(), None);
    for _ in 0..BATCHES_MAX {
        let due = control.store().due_pooling(after, BATCH).await?;
        if due.last.is_none() {
            break;
        }
        after = due.last;
        let mut by_cluster: BTreeMap<ClusterId, Vec<HomeId>> = BTreeMap::new();
        for roles in control.store().home_roles_among(&due.homes).await? {
            by_cluster.entry(roles.home.cluster).or_default().push(roles.home.id);
        }
        for (cluster, homes) in by_cluster {
            let settled = settle_some(control, cluster, &homes, &mut away).await;
            total.settled += settled;
            total.failed += homes.len() - settled;
        }
    }
    Ok(total)
}

/// Sets homes of one cluster right; the answer is how many. One that is away is not tried again in this pass.
async fn settle_some(control: &Control, cluster: ClusterId, homes: &[HomeId], away: &mut BTreeSet<ClusterId>) -> usize {
    let mut settled = 0;
    let target = match cluster_target(control, cluster).await {
        Ok(target) => target,
        Err(error) => {
            warn!(cluster_id = %cluster, %error, "connections of tenants cannot be pooled; trying again");
            return 0;
        }
    };
    for home in homes {
        if away.contains(&cluster) {
            break;
        }
        match settle(control, &target, *home).await {
            Ok(()) => settled += 1,
            Err(error) => {
                warn!(cluster_id = %cluster, home_id = %home, %error, "a tenant's connections cannot be pooled as its limits say; trying again");
                if is_away(&error) {
                    away.insert(cluster);
                }
            }
        }
    }
    settled
}

fn is_away(error: &ControlError) -> bool {
    let ControlError::Unavailable { source: Some(source), .. } = error else { return false };
    matches!(source.downcast_ref(), Some(FleetError::Unreachable { .. }))
}

/// The epoch is drawn before the catalog is read, as for other changes of roles that are no operation's.
async fn settle(control: &Control, target: &ClusterTarget, home: HomeId) -> Result<(), ControlError> {
    let epoch = control.store().draw_epoch().await?;
    let Some(roles) = control.store().home_roles_among(&[home]).await?.into_iter().next() else { return Ok(()) };
    let fence = Fence { home, epoch };
    let outcome = match (roles.wants_pooling(), roles.shared_database) {
        (true, Some(_)) if !roles.is_open => return Ok(()),
        (true, Some(database)) => {
            let tx = control.store().begin().await?;
            let password = tx.shared_pool_password(database, &random_password()).await?;
            let is_there = tx.admit_pool(home).await?;
            tx.commit().await?;
            if !is_there {
                return Ok(());
            }
            control.fleet().ensure_shared_pool(target, &roles.home.database, &password).await?;
            control.fleet().join_shared_pool(target, &fence, &roles.home).await
        }
        _ => {
            publish(control, &roles, false).await?;
            control.fleet().leave_shared_pool(target, &fence, &roles.home).await
        }
    };
    match outcome {
        Ok(()) => {}
        // An operation has taken the home up meanwhile.
        Err(FleetError::StaleEpoch { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    if roles.wants_pooling() {
        return publish(control, &roles, true).await;
    }
    let tx = control.store().begin().await?;
    tx.dismiss_pool(home, epoch).await?;
    Ok(tx.commit().await?)
}

async fn publish(control: &Control, roles: &HomeRoles, is_pooled: bool) -> Result<(), ControlError> {
    let mut tx = control.store().begin().await?;
    tx.set_pooled(roles.tenant, roles.home.id, is_pooled).await?;
    Ok(tx.commit().await?)
}
