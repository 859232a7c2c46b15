//! Sets roles right whose intended state changed: other limits, another plan; and pools the connections of tenants together
//! whose limits say so.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tenantry_domain::{ClusterId, HomeId};
use tenantry_store::HomeRoles;
use tracing::warn;

use super::pooling;
use super::roles::{Outcome, PAGE, look_after};
use super::{ROLE_CHANGES, Reconciler};
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;

/// Batches in one pass; the next goes on.
const BATCHES_MAX: usize = 100;

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: ROLE_CHANGES,
    period: Duration::from_secs(20),
    reconcile: |control| {
        Box::pin(async move {
            let mut total = Outcome::default();
            let mut unreachable = Vec::new();
            for _ in 0..BATCHES_MAX {
                let due = control.store().take_due_roles(PAGE).await?;
                if due.is_empty() {
                    break;
                }
                let mut by_cluster: BTreeMap<ClusterId, Vec<HomeRoles>> = BTreeMap::new();
                for roles in control.store().home_roles_among(&due).await? {
                    by_cluster.entry(roles.home.cluster).or_default().push(roles);
                }
                for (cluster, homes) in by_cluster {
                    match visit(control, cluster, &homes).await {
                        Ok(outcome) => total += outcome,
                        Err(error) => {
                            warn!(cluster_id = %cluster, %error, "roles that are due could not be looked at");
                            unreachable.extend(homes.iter().map(|it| it.home.id));
                        }
                    }
                }
            }
            // In the end, or they would be taken again at once.
            put_back(control, &unreachable).await?;
            let pooling = pooling::settle_all(control).await?;
            Ok(json!({
                "seen": total.seen, "repaired": total.repaired, "failed": total.failed, "put_back": unreachable.len(),
                "pooled": pooling.settled, "not_pooled": pooling.failed,
            }))
        })
    },
};

async fn visit(control: &Control, cluster: ClusterId, homes: &[HomeRoles]) -> Result<Outcome, ControlError> {
    let target = cluster_target(control, cluster).await?;
    look_after(control, &target, homes).await
}

async fn put_back(control: &Control, homes: &[HomeId]) -> Result<(), ControlError> {
    if !homes.is_empty() {
        control.store().put_back_due_roles(homes).await?;
    }
    Ok(())
}
