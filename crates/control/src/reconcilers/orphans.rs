//! Looks for what the catalog and the clusters disagree on, reports it at once, and removes what is ours and past its delay.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tenantry_domain::{ClusterId, OrphanVerdict, RequestId};
use tenantry_store::{ClusterFilter, OrphanRecord, PAGE_MAX, PageRequest};
use tracing::warn;

use super::Reconciler;
use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;
use crate::orphans;

/// Clusters that are looked at side by side.
const AT_ONCE: usize = 4;
/// Objects that one pass removes at most; the next goes on.
const REMOVED_MAX: i64 = 100;

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: orphans::RECONCILER,
    period: Duration::from_mins(1),
    reconcile: |control| Box::pin(reconcile(control)),
};

async fn reconcile(control: &Control) -> Result<Value, ControlError> {
    let clusters = clusters(control).await?;
    let number = clusters.len();
    let looks = futures::stream::iter(clusters).map(|cluster| async move {
        let looked = orphans::look_and_record(control, cluster).await;
        if let Err(error) = &looked {
            // One cluster that is away hides nothing of the others.
            warn!(%error, cluster_id = %cluster, "a cluster could not be looked at; trying again");
        }
        looked
    });
    let looks: Vec<_> = looks.buffer_unordered(AT_ONCE).collect().await;
    let unseen = looks.iter().filter(|look| look.is_err()).count();
    let removed = remove(control).await?;
    let counts: BTreeMap<&str, i64> = control
        .store()
        .count_orphans()
        .await?
        .into_iter()
        .map(|(verdict, number)| (verdict.as_str(), number))
        .collect();
    for verdict in OrphanVerdict::ALL {
        let number = counts.get(verdict.as_str()).copied().unwrap_or_default();
        metrics::gauge!("tenantry_orphans", "verdict" => verdict.as_str())
            .set(f64::from(u32::try_from(number).unwrap_or(u32::MAX)));
    }
    Ok(json!({ "clusters": number, "unseen": unseen, "removed": removed, "open": counts }))
}

async fn clusters(control: &Control) -> Result<Vec<ClusterId>, ControlError> {
    let mut clusters = Vec::new();
    let mut page = PageRequest { limit: PAGE_MAX, cursor: None };
    loop {
        let listed = control.store().clusters(&ClusterFilter::default(), &page).await?;
        clusters.extend(listed.items.into_iter().map(|cluster| cluster.id));
        if listed.next.is_none() {
            return Ok(clusters);
        }
        page.cursor = listed.next;
    }
}

/// Removes what is due; returns how many objects that was tried with.
async fn remove(control: &Control) -> Result<usize, ControlError> {
    let due = control.store().removable_orphans(REMOVED_MAX).await?;
    let number = due.len();
    let mut by_cluster: BTreeMap<ClusterId, Vec<OrphanRecord>> = BTreeMap::new();
    for orphan in due {
        by_cluster.entry(orphan.cluster).or_default().push(orphan);
    }
    let caller = Caller::system("reconciler orphans", RequestId::new(new_id()));
    for (cluster, orphans) in by_cluster {
        if let Err(error) = orphans::take_down(control, &caller, cluster, &orphans).await {
            warn!(%error, cluster_id = %cluster, "not everything that is due could be removed; trying again");
        }
    }
    Ok(number)
}
