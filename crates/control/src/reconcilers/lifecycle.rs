//! Ends what has its time: suspensions with an end, and trials.

use std::time::Duration;

use serde_json::json;
use tracing::warn;

use super::Reconciler;
use crate::control::Control;
use crate::error::ControlError;
use crate::tenants;

/// The most of each kind in one pass; the longest overdue come first.
const BATCH: i64 = 200;

pub(super) const RECONCILER: Reconciler =
    Reconciler { name: "lifecycle", period: Duration::from_secs(5), reconcile: |control| Box::pin(reconcile(control)) };

async fn reconcile(control: &Control) -> Result<serde_json::Value, ControlError> {
    let (mut resumed, mut suspended, mut failed) = (0, 0, 0);
    for tenant in control.store().suspensions_over(BATCH).await? {
        match tenants::end_suspension(control, tenant).await {
            Ok(()) => resumed += 1,
            Err(error) => {
                failed += 1;
                warn!(%error, tenant_id = %tenant, "a suspension is over and could not be ended; trying again");
            }
        }
    }
    for tenant in control.store().trials_over(BATCH).await? {
        match tenants::end_trial(control, tenant).await {
            Ok(()) => suspended += 1,
            Err(error) => {
                failed += 1;
                warn!(%error, tenant_id = %tenant, "a trial is over and could not be ended; trying again");
            }
        }
    }
    Ok(json!({ "resumed": resumed, "trials_ended": suspended, "failed": failed }))
}
