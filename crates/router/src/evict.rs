//! The one sweeper that ends what is idle, for all tenants.

use std::sync::Arc;
use std::time::Duration;

use crate::inner::Inner;

/// Looks at the pools in use, a few times in each idle time, until the router ends. Tenants without a pool cost it
/// nothing.
pub(crate) async fn sweep(inner: Arc<Inner>) {
    let interval = (inner.config.idle_timeout / 4).clamp(Duration::from_millis(20), Duration::from_secs(15));
    let sweeps_per_idle_time = u64::try_from(inner.config.idle_timeout.as_nanos().div_ceil(interval.as_nanos()));
    let sweeps_per_idle_time = sweeps_per_idle_time.unwrap_or(u64::MAX);
    let shutdown = inner.shutdown.clone();
    while shutdown.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        inner.pools.evict(sweeps_per_idle_time);
        inner.admissions.sweep();
        inner.pools.openings.sweep();
        if let Some(age) = inner.freshness.age() {
            metrics::gauge!("tenantry_router_staleness_seconds").set(age.as_secs_f64());
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than a double counts exactly")]
        {
            metrics::gauge!("tenantry_router_pools").set(inner.pools.len() as f64);
            metrics::gauge!("tenantry_router_limited_tenants").set(inner.admissions.len() as f64);
            for (cluster, budget) in inner.table.clusters.budgets() {
                let gauge = |metric: &'static str| metrics::gauge!(metric, "cluster" => cluster.to_string());
                gauge("tenantry_router_connections_open").set(budget.open() as f64);
                gauge("tenantry_router_connections_waiting").set(budget.waiting() as f64);
                gauge("tenantry_router_connections_ceiling").set(budget.ceiling().unwrap_or_default() as f64);
            }
        }
    }
    inner.pools.close();
}
