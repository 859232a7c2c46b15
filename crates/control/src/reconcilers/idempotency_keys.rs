//! Forgets the answers that were kept for repeated requests, once they are old.

use std::time::Duration;

use serde_json::json;

use super::Reconciler;
use crate::idempotency::KEPT;

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: "idempotency_keys",
    period: Duration::from_mins(10),
    reconcile: |control| {
        Box::pin(async move {
            control.store().sweep_idempotent(KEPT).await?;
            Ok(json!({}))
        })
    },
};
