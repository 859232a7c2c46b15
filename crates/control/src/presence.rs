//! Saying that this replica is alive, and learning which master key wraps.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::control::Control;

/// How often. Five missed reports in a row, and the others take the replica for gone.
const REPORT: Duration = Duration::from_secs(10);
/// The longest that saying goodbye may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Reports until told to stop.
pub(crate) async fn run(control: &Control, stop: &CancellationToken) {
    let (store, replica) = (control.store(), control.config().replica);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(REPORT) => {}
        }
        if let Err(error) = store.report_replica(replica).await {
            warn!(%error, "could not say that this replica is alive; trying again");
        }
    }
    // Otherwise it is taken for alive for another minute, which only delays those who wait for it.
    let _ = tokio::time::timeout(FAREWELL, store.forget_replica(replica)).await;
}
