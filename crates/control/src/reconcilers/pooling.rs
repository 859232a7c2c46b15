//! Pooling connections of tenants together that share a database, where their limits say so, and taking that back.
//!
//! A route says so only while the pool's role is let into the home: the role comes first and goes last.

use std::collections::BTreeMap;

use tenantry_domain::{ClusterId, HomeId};
use tenantry_fleet::{ClusterTarget, Fence, FleetError, random_password};
use tenantry_store::HomeRoles;
use tracing::warn;

use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;

/// Homes that one pass sets right; the next goes on.
const HOMES_MAX: i64 = 1_000;

/// Sets homes right whose connections are not pooled as their limits say. Returns how many were, and how many could not be.
pub(super) async fn settle_all(control: &Control) -> Result<(usize, usize), ControlError> {
    let store = control.store();
    let due = store.homes_to_pool(HOMES_MAX).await?;
    let mut by_cluster: BTreeMap<ClusterId, Vec<HomeId>> = BTreeMap::new();
    for roles in store.home_roles_among(&due).await? {
        by_cluster.entry(roles.home.cluster).or_default().push(roles.home.id);
    }
    let (mut settled, mut failed) = (0, 0);
    for (cluster, homes) in by_cluster {
        let target = match cluster_target(control, cluster).await {
            Ok(target) => target,
            Err(error) => {
                warn!(cluster_id = %cluster, %error, "connections of tenants cannot be pooled; trying again");
                failed += homes.len();
                continue;
            }
        };
        for home in homes {
            match settle(control, &target, home).await {
                Ok(()) => settled += 1,
                Err(error) => {
                    warn!(cluster_id = %cluster, home_id = %home, %error, "a tenant's connections cannot be pooled as its limits say; trying again");
                    failed += 1;
                }
            }
        }
    }
    Ok((settled, failed))
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
