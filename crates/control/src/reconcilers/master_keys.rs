//! Moves what is sealed to where it belongs: data keys to the master key that wraps, and secrets from before there were
//! data keys to one of these.
//!
//! Each batch is a transaction of its own, and every step finds its work by looking: a pass that is cut off costs
//! nothing, and replicas with both keys go on reading and sealing meanwhile.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tenantry_store::{Moved, Store};
use uuid::Uuid;

use super::Reconciler;
use crate::control::Control;
use crate::error::ControlError;

/// The name by which a rotation asks for a pass.
pub(crate) const NAME: &str = "master_keys";

/// Rows of one transaction.
const BATCH: i64 = 500;
/// Transactions of one pass and kind.
const BATCHES_MAX: u32 = 400;

pub(super) const RECONCILER: Reconciler = Reconciler { name: NAME, period: Duration::from_mins(1), reconcile };

fn reconcile(control: &Control) -> BoxFuture<'_, Result<Value, ControlError>> {
    Box::pin(async move {
        let store = control.store();
        // Learns first which key wraps: this replica may not have heard of a rotation yet.
        store.report_replica(control.config().replica).await?;
        let secrets = all(store, What::DirectSecrets).await?;
        let keys = all(store, What::DataKeys).await?;
        metrics::gauge!("tenantry_secrets_unreadable").set(f64::from(secrets.unreadable + keys.unreadable));
        if keys.moved > 0 || secrets.moved > 0 {
            tracing::info!(data_keys = keys.moved, secrets = secrets.moved, "what was sealed is sealed anew");
        }
        Ok(json!({
            "rewrapped_data_keys": keys.moved,
            "resealed_secrets": secrets.moved,
            "unreadable": keys.unreadable + secrets.unreadable,
        }))
    })
}

/// What is moved.
#[derive(Clone, Copy)]
enum What {
    DirectSecrets,
    DataKeys,
}

async fn all(store: &Store, what: What) -> Result<Moved, ControlError> {
    let mut sum = Moved { last: Some(Uuid::nil()), ..Moved::default() };
    for _ in 0..BATCHES_MAX {
        let Some(after) = sum.last else { break };
        let batch = match what {
            What::DirectSecrets => store.reseal_direct_secrets(after, BATCH).await?,
            What::DataKeys => store.rewrap_data_keys(after, BATCH).await?,
        };
        sum.moved += batch.moved;
        sum.unreadable += batch.unreadable;
        sum.last = batch.last;
    }
    Ok(sum)
}
