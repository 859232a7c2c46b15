//! Looks at tenants' schemas in turn, a few in each pass: those first that were not looked at for the longest time.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Reconciler;
use crate::control::Control;
use crate::drift::checker::Checker;
use crate::drift::look_at;
use crate::error::ControlError;

pub(super) const RECONCILER: Reconciler =
    Reconciler { name: "drift", period: Duration::from_secs(15), reconcile: |control| Box::pin(reconcile(control)) };

/// Tenants that are looked at at the same time.
const AT_ONCE: usize = 4;
/// Somebody is mending those that are in drift: they are looked at again after this time.
const AGAIN: Duration = Duration::from_mins(10);

async fn reconcile(control: &Control) -> Result<Value, ControlError> {
    let config = control.config().drift;
    if config.sample == 0 {
        return Ok(json!({ "looked_at": 0 }));
    }
    let ago = |span: Duration| Timestamp::now().checked_sub(span).unwrap_or(Timestamp::MIN);
    let (before, before_if_drifted) = (ago(config.interval), ago(config.interval.min(AGAIN)));
    let subjects = control.store().drift_due(before, before_if_drifted, config.sample).await?;
    let (number, mut unkept) = (subjects.len(), 0);
    if number > 0 {
        let checker = Checker::new(control).await?;
        let looks = stream::iter(subjects).map(|subject| look_at(&checker, subject)).buffer_unordered(AT_ONCE);
        unkept = looks.filter(|kept| std::future::ready(kept.is_err())).count().await;
    }
    for (state, number) in control.store().count_drift().await? {
        let state = state.map_or("unchecked", |state| state.as_str());
        metrics::gauge!("tenantry_drift_tenants", "state" => state)
            .set(f64::from(u32::try_from(number).unwrap_or(u32::MAX)));
    }
    Ok(json!({ "looked_at": number, "unkept": unkept }))
}
