//! Telling the control plane what was applied and what is needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tenantry_api::{Client, ClusterDemand, RouterReport};
use tenantry_domain::ClusterId;
use tokio::time::Instant;

use crate::inner::Inner;

/// Reports that something asks for come no closer together than this.
const SOONEST: Duration = Duration::from_millis(250);

/// Reports now and then until the router ends, and soon where connections are waited for or a lease was taken over. A
/// report that is lost is no loss: the next one says it anew.
pub(crate) async fn report(inner: Arc<Inner>, client: Client, name: String) {
    let shutdown = inner.shutdown.clone();
    let alarm = Arc::clone(&inner.table.clusters.alarm);
    loop {
        let soonest = Instant::now() + SOONEST;
        let report = current(&inner);
        let sent = shutdown.run_until_cancelled(client.report_router(&name, &report)).await;
        if let Some(Err(error)) = sent {
            tracing::debug!(%error, router = name, "a report did not arrive");
        }
        let pause = async {
            if tokio::time::timeout(inner.config.report_interval, alarm.notified()).await.is_ok() {
                tokio::time::sleep_until(soonest).await;
            }
        };
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

fn current(inner: &Inner) -> RouterReport {
    let pools = inner.pools.all();
    let demand = |cluster| {
        // Of retired pools, too, whose connections are still borrowed.
        let open = inner.table.clusters.get(cluster).map_or(0, |cluster| cluster.primary.budget.open());
        let acknowledged = inner.table.clusters.kept_lease(cluster);
        ClusterDemand { cluster, open: saturating(open), idle: 0, waiting: 0, acknowledged }
    };
    let leased = inner.table.clusters.leases().into_iter().map(|lease| (lease.cluster, demand(lease.cluster)));
    let mut clusters: HashMap<ClusterId, ClusterDemand> = leased.collect();
    // A replica has connections of its own, of which nothing is leased.
    for pool in pools.iter().filter(|pool| pool.key.replica.is_none()) {
        let status = pool.pool.status();
        let demand = clusters.entry(pool.cluster).or_insert_with(|| demand(pool.cluster));
        demand.idle += saturating(status.available);
        // Who waits because the tenant's connections are opened too fast would be helped by no lease.
        let queued = if pool.pool.manager().opening.wait().is_some() { 0 } else { pool.queue.len() };
        demand.waiting += saturating(status.waiting + queued);
    }
    for stash in inner.pools.stashes.all().into_iter().filter(|stash| stash.replica.is_none()) {
        if let Some(demand) = clusters.get_mut(&stash.cluster) {
            demand.idle += saturating(stash.idle_len());
        }
    }
    RouterReport {
        applied_version: inner.feed.borrow().applied.unwrap_or_default(),
        routes: inner.table.len() as u64,
        pools: pools.len() as u64,
        clusters: clusters.into_values().collect(),
    }
}

fn saturating(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
