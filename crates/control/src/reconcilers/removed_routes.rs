//! Forgets removed routes, and routers that are gone, once they are old.

use std::time::Duration;

use serde_json::json;

use super::Reconciler;

/// Marks that are forgotten at a time: every commit of a route waits meanwhile.
const BATCH: i64 = 1_000;
/// Batches of one pass at most.
const BATCHES_MAX: usize = 50;

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: "removed_routes",
    period: Duration::from_mins(10),
    reconcile: |control| {
        Box::pin(async move {
            let (store, kept) = (control.store(), control.config().removed_routes_kept);
            let mut routes = 0;
            for _ in 0..BATCHES_MAX {
                let purged = store.purge_removed_routes(kept, BATCH).await?;
                routes += purged;
                if purged == 0 {
                    break;
                }
            }
            let routers = store.forget_routers(kept).await?;
            Ok(json!({ "routes": routes, "routers": routers }))
        })
    },
};
