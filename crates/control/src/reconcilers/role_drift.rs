//! Finds what tenants changed on their own roles and on those of their pools, or people by hand, and sets it right:
//! passwords, settings, connection limits, logins, memberships. A query per cluster and some hundred homes, and one for
//! its pools.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tenantry_domain::ClusterId;
use tracing::warn;

use super::roles::{Outcome, PAGE, inhabited, look_after};
use super::{Reconciler, pool_roles};
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;

/// Clusters that are looked at at the same time.
const CLUSTERS: usize = 4;

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: "role_drift",
    period: Duration::from_mins(1),
    reconcile: |control| {
        Box::pin(async move {
            let clusters = inhabited(control).await?;
            let mut visits =
                futures::stream::iter(clusters.into_iter().map(|id| visit(control, id))).buffer_unordered(CLUSTERS);
            let (mut total, mut unreachable) = (Outcome::default(), 0);
            while let Some((cluster, visited)) = visits.next().await {
                match visited {
                    Ok(outcome) => total += outcome,
                    Err(error) => {
                        warn!(cluster_id = %cluster, %error, "the roles on a cluster could not be looked at");
                        unreachable += 1;
                    }
                }
            }
            Ok(json!({
                "seen": total.seen, "repaired": total.repaired, "failed": total.failed, "unreachable_clusters": unreachable,
            }))
        })
    },
};

async fn visit(control: &Control, cluster: ClusterId) -> (ClusterId, Result<Outcome, ControlError>) {
    (cluster, walk(control, cluster).await)
}

async fn walk(control: &Control, cluster: ClusterId) -> Result<Outcome, ControlError> {
    let target = cluster_target(control, cluster).await?;
    // Each serves many tenants.
    let (mut total, mut after) = (pool_roles::look_after(control, &target).await?, None);
    loop {
        let homes = control.store().home_roles(cluster, after, PAGE).await?;
        let Some(last) = homes.last() else { return Ok(total) };
        after = Some(last.home.id);
        total += look_after(control, &target, &homes).await?;
    }
}
