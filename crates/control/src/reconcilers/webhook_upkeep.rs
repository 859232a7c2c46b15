//! Disables webhooks that have taken nothing for days, gives up what waits for disabled ones, and forgets what is over.

use std::time::Duration;

use serde_json::json;

use super::Reconciler;
use crate::webhooks::dispatch;

/// Sweeps of one pass at most, some thousands of rows each.
const SWEEPS_MAX: usize = 20;

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: "webhook_upkeep",
    period: Duration::from_mins(5),
    reconcile: |control| {
        Box::pin(async move {
            let (store, config) = (control.store(), &control.config().webhooks);
            let failing = store.webhooks_failing_for(config.disable_after).await?;
            for webhook in &failing {
                let hours = config.disable_after.as_secs() / 3600;
                dispatch::disable(control, webhook.id, &format!("it took nothing for {hours} hours")).await;
            }
            let given_up = store.fail_stale_deliveries(config.give_up_after).await?;
            let mut swept = 0;
            for _ in 0..SWEEPS_MAX {
                let rows = store.sweep_webhooks(config.kept).await?;
                swept += rows;
                if rows == 0 {
                    break;
                }
            }
            let figures = store.webhook_figures().await?;
            metrics::gauge!("tenantry_webhook_deliveries_pending").set(figures.pending);
            metrics::gauge!("tenantry_webhooks_failing").set(figures.failing);
            metrics::gauge!("tenantry_webhooks_disabled").set(figures.disabled);
            Ok(json!({
                "disabled": failing.len(), "given_up": given_up, "swept": swept, "pending": figures.pending,
                "failing": figures.failing,
            }))
        })
    },
};
