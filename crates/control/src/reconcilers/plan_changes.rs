//! Tells tenants that the limits of their plan changed: their routes get a new version, the roles of their homes are set
//! right next. In batches, so that a plan of a hundred thousand tenants holds nobody else's changes up for long.

use std::time::Duration;

use serde_json::json;

use super::{PLAN_CHANGES, ROLE_CHANGES, Reconciler};

/// Tenants that are told in one transaction.
const BATCH: i64 = 500;
/// Batches in one pass; the next goes on.
const BATCHES_MAX: usize = 100;
/// Others publish their changes between two batches.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: PLAN_CHANGES,
    period: Duration::from_secs(30),
    reconcile: |control| {
        Box::pin(async move {
            let mut told = 0;
            for _ in 0..BATCHES_MAX {
                let mut tx = control.store().begin().await?;
                let Some(plan) = tx.untold_plan().await? else { break };
                let batch = tx.tell_tenants_of_plan(&plan, BATCH).await?;
                tx.poke_reconciler(ROLE_CHANGES).await?;
                tx.commit().await?;
                told += batch;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(json!({ "tenants_told": told }))
        })
    },
};
