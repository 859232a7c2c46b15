//! All operations: claims what is due and runs a bounded number at the same time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tenantry_domain::OperationKind;
use tenantry_store::{Claimed, Lease};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span, warn};

use super::kinds::with_kind;
use super::run::run as run_kind;
use super::step::{Kind, StepError, Work};
use crate::control::Control;
use crate::signals::{News, Signals};

/// Looks at least this often, in case news was lost.
const POLL: Duration = Duration::from_secs(5);
/// How long running steps may take to reach their next commit after the stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Claims and runs operations until told to stop, then hands back what is unfinished.
pub(crate) async fn run(control: &Control, stop: &CancellationToken) {
    let slots = Arc::new(Semaphore::new(control.config().workers));
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    let deadlines = deadlines(control);
    while !stop.is_cancelled() {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (replica, lease) = (control.config().replica, control.config().lease);
        match control.store().claim_operation_within(replica, lease, &deadlines).await {
            Ok(Some(claimed)) => {
                let (control, abort) = (control.clone(), abort.clone());
                tasks.spawn(async move {
                    carry_out(&control, claimed, &abort).await;
                    drop(slot);
                });
            }
            Ok(None) => {
                drop(slot);
                let patience = until_due(control).await;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = control.signals().operations_woken() => {}
                    () = tokio::time::sleep(patience) => {}
                }
            }
            Err(error) => {
                warn!(%error, "could not claim work; trying again");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }
    }
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        abort.cancel();
        tasks.wait().await;
    }
}

/// How long each kind of work may take, in milliseconds; kinds without an end are left out.
fn deadlines(control: &Control) -> Value {
    let own = &control.config().deadlines;
    let deadline = |kind: OperationKind| {
        let configured = own.iter().find(|(configured, _)| *configured == kind).map(|(_, deadline)| *deadline);
        configured.unwrap_or(with_kind!(kind, K => K::DEADLINE))
    };
    let named =
        OperationKind::ALL.iter().map(|kind| (kind, deadline(*kind))).filter(|(_, deadline)| !deadline.is_zero());
    named.map(|(kind, deadline)| (kind.as_str().to_owned(), Value::from(deadline.as_secs_f64() * 1_000.0))).collect()
}

/// How long nothing is due, as far as the catalog knows.
async fn until_due(control: &Control) -> Duration {
    match control.store().next_due().await {
        Ok(Some(at)) => {
            let wait = at.duration_since(Timestamp::now());
            Duration::try_from(wait).unwrap_or(Duration::ZERO).clamp(Duration::from_millis(10), POLL)
        }
        Ok(None) | Err(_) => POLL,
    }
}

async fn carry_out(control: &Control, claimed: Claimed, abort: &CancellationToken) {
    let span = info_span!(
        "operation",
        operation_id = %claimed.operation.id,
        kind = %claimed.operation.kind,
        tenant_id = claimed.operation.tenant.map(tracing::field::display),
    );
    let _claim = control.signals().claim(claimed.operation.id);
    async {
        let work = Work { control, operation: &claimed.operation, lease: &claimed.lease };
        let outcome = tokio::select! {
            outcome = dispatch(&work) => outcome,
            () = keep_lease(control, &claimed.lease) => Err(StepError::LeaseLost),
            () = abort.cancelled() => {
                hand_back(control, &claimed.lease).await;
                return;
            }
        };
        match outcome {
            Ok(()) => {}
            Err(StepError::LeaseLost) => warn!("another replica took this operation over"),
            Err(error) => {
                error!(%error, "the outcome could not be written; the operation is taken up again");
                hand_back(control, &claimed.lease).await;
            }
        }
    }
    .instrument(span)
    .await;
}

async fn dispatch(work: &Work<'_>) -> Result<(), StepError> {
    let carried_out = async { with_kind!(work.operation.kind, K => run_kind::<K>(work).await) };
    #[cfg(feature = "failpoints")]
    let carried_out = work.control.config().failpoints.within(work.operation.id.to_string(), carried_out);
    carried_out.await
}

/// Returns when the lease is lost. News of the operation makes it look at once: the lease may have been taken away.
async fn keep_lease(control: &Control, lease: &Lease) {
    let length = control.config().lease;
    let mut kept_at = Instant::now();
    let mut renew_at = kept_at + length / 3;
    let mut news = control.signals().subscribe();
    loop {
        let left = renew_at.saturating_duration_since(Instant::now());
        Signals::wait_for(&mut news, left, |news| news == News::Operation(lease.operation)).await;
        let is_due = Instant::now() >= renew_at;
        // Every operation has news of its own beginning, so news alone costs a look and no write.
        let kept = if is_due {
            renew_at = Instant::now() + length / 3;
            control.store().renew_lease(lease, length).await
        } else {
            control.store().check_lease(lease).await
        };
        match kept {
            Ok(()) if is_due => kept_at = Instant::now(),
            Ok(()) => {}
            Err(tenantry_store::StoreError::LeaseLost) => return,
            // The catalog may be away for a moment. Past the lease's end somebody else may own the work.
            Err(error) if kept_at.elapsed() < length => warn!(%error, "could not renew a lease; trying again"),
            Err(_) => return,
        }
    }
}

async fn hand_back(control: &Control, lease: &Lease) {
    let handed_back = async {
        let tx = control.store().begin().await?;
        tx.release_lease(lease).await?;
        tx.commit().await
    };
    if let Err(error) = handed_back.await {
        warn!(%error, "could not hand an operation back; its lease will run out");
    }
}
