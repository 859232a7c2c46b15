//! One operation, from the step where it stands to where it ends or waits.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{EventKind, OperationState};
use tenantry_store::{NewEvent, Operation};
use tokio::time::timeout;
use tracing::{error, info, warn};

#[cfg(feature = "failpoints")]
use super::failpoints;
use super::step::{Effect, Kind, Step, StepError, StepResult, Work};
use crate::backoff::backoff;
use crate::signals::News;

/// Attempts after which trouble counts as more than everyday.
const EVERYDAY_ATTEMPTS: u32 = 3;
/// The longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// Carries the operation as far as it goes now. `Err` only when the lease was lost or the catalog does not answer: then
/// another claim goes on from the last commit.
pub(crate) async fn run<K: Kind>(work: &Work<'_>) -> Result<(), StepError> {
    let operation = work.operation;
    let mut progress: K::Progress = serde_json::from_value(operation.progress.clone())
        .map_err(|error| StepError::Failed { reason: format!("its stored progress does not parse: {error}") })?;
    if operation.code_version > K::CODE_VERSION {
        return hand_back(work, "it was begun by a newer version of Tenantry").await;
    }
    if operation.state == OperationState::Undoing {
        return undo::<K>(work, &mut progress).await;
    }
    let first = match operation.step.as_deref() {
        None => 0,
        Some(name) => K::STEPS
            .iter()
            .position(|step| step.name == name)
            .ok_or_else(|| StepError::Failed { reason: format!("it stands at a step `{name}` that is not known") })?,
    };
    let mut attempt = operation.attempt;
    for (index, step) in K::STEPS.iter().enumerate().skip(first) {
        if operation.cancel_requested && K::is_before_pivot(step.name) {
            return begin_undo::<K>(work, &mut progress, cancelled()).await;
        }
        if is_overdue(work) {
            return give_up::<K>(work, &mut progress, step.name).await;
        }
        let performed = match timeout(work.control.config().step_timeout, perform(work, step, &mut progress)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StepError::Again {
                reason: format!("step `{}` took longer than its time", step.name),
                after: Duration::from_secs(1),
                is_busy: false,
            }),
        };
        let next = K::STEPS.get(index + 1).map(|step| step.name);
        let committed = match performed {
            Ok(Effect::None) if next.is_some() => continue,
            Ok(Effect::Wait(at)) => return rest::<K>(work, &mut progress, step.name, at).await,
            Ok(Effect::None | Effect::Changed) => commit::<K>(work, index, &progress, next).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(Committed::Yes) => {
                attempt = 0;
                #[cfg(feature = "failpoints")]
                failpoints::pass(work, step.name, "committed").await?;
            }
            Ok(Committed::Cancelled) => return begin_undo::<K>(work, &mut progress, cancelled()).await,
            Err(StepError::LeaseLost) => return Err(StepError::LeaseLost),
            Err(error) => return stumble::<K>(work, &mut progress, step.name, attempt, error).await,
        }
    }
    Ok(())
}

/// What the step does outside the catalog.
async fn perform<P>(work: &Work<'_>, step: &Step<P>, progress: &mut P) -> StepResult {
    #[cfg(feature = "failpoints")]
    failpoints::pass(work, step.name, "before").await?;
    let effect = (step.perform)(work, progress).await?;
    #[cfg(feature = "failpoints")]
    if failpoints::pass(work, step.name, "performed").await? == Some(tenantry_fleet::failpoints::Action::Repeat) {
        (step.perform)(work, progress).await?;
    }
    Ok(effect)
}

/// Whether a step's outcome was committed.
enum Committed {
    Yes,
    /// Somebody asked for the operation to be walked back while the step was performed, and it still can be.
    Cancelled,
}

fn is_overdue(work: &Work<'_>) -> bool {
    work.operation.deadline_at.is_some_and(|deadline| deadline <= Timestamp::now())
}

/// What took longer than it may is walked back where that is possible; else a person decides.
async fn give_up<K: Kind>(work: &Work<'_>, progress: &mut K::Progress, step: &'static str) -> Result<(), StepError> {
    let last = work.operation.error.as_ref().map(reason_of);
    let message =
        last.map_or_else(|| "its deadline has passed".to_owned(), |last| format!("its deadline has passed; {last}"));
    let cause = json!({ "message": message, "step": step });
    if K::is_before_pivot(step) && !K::IS_NEVER_WALKED_BACK_BY_FAILURE {
        begin_undo::<K>(work, progress, cause).await
    } else {
        park(work, Some(step), &cause).await
    }
}

fn cancelled() -> Value {
    json!({ "message": "cancelled" })
}

/// Commits a step's own record, its event and the next cursor in one transaction.
async fn commit<K: Kind>(
    work: &Work<'_>,
    index: usize,
    progress: &K::Progress,
    next: Option<&str>,
) -> Result<Committed, StepError> {
    let step = &K::STEPS[index];
    let mut tx = work.control.store().begin().await?;
    let can_be_walked_back = K::is_before_pivot(step.name);
    if !tx.complete_step(work.lease, step.name, next, &to_json(progress)?, can_be_walked_back).await? {
        return Ok(Committed::Cancelled);
    }
    (step.record)(work, progress, &mut tx).await?;
    tx.commit().await?;
    if next.is_none() {
        // Ahead of the catalog's own notification: whoever waits here need not wait for that.
        work.control.signals().tell(News::Operation(work.operation.id));
    }
    Ok(Committed::Yes)
}

/// Gives the operation back until a time, unless somebody asked meanwhile for it to be walked back.
async fn rest<K: Kind>(
    work: &Work<'_>,
    progress: &mut K::Progress,
    step: &'static str,
    until: Timestamp,
) -> Result<(), StepError> {
    let tx = work.control.store().begin().await?;
    if tx.guard(work.lease).await?.cancel_requested && K::is_before_pivot(step) {
        drop(tx);
        return begin_undo::<K>(work, progress, cancelled()).await;
    }
    tx.record_event(work.operation.id, "resting", Some(step), &json!({ "until": until })).await?;
    tx.advance(work.lease, Some(step), &to_json(progress)?).await?;
    tx.wait_until(work.lease, until).await?;
    tx.commit().await?;
    Ok(())
}

/// Waiting for others (a template that another worker builds, a lock) goes on for longer than trouble does: with waits
/// that grow to a minute, about an hour by default.
fn attempts_max<K: Kind>(work: &Work<'_>, is_busy: bool) -> u32 {
    let attempts_max = work.control.config().attempts_max.saturating_mul(K::PATIENCE);
    if is_busy { attempts_max.saturating_mul(8) } else { attempts_max }
}

/// Decides what a failed attempt leads to: again later, walking back, or a person.
async fn stumble<K: Kind>(
    work: &Work<'_>,
    progress: &mut K::Progress,
    step: &'static str,
    attempt: u32,
    error: StepError,
) -> Result<(), StepError> {
    let attempt = attempt + 1;
    // That two workers want the same template, or a lock is held, is everyday; what lasts is told as a warning.
    if matches!(error, StepError::Again { .. }) && attempt <= EVERYDAY_ATTEMPTS {
        info!(operation_id = %work.operation.id, step, attempt, reason = %error, "a step is tried again");
    } else {
        warn!(operation_id = %work.operation.id, step, attempt, reason = %error, "a step did not get done");
    }
    let mut cause = error.to_json();
    cause["step"] = step.into();
    match error {
        StepError::LeaseLost => Err(StepError::LeaseLost),
        StepError::Again { after, is_busy, .. } if attempt < attempts_max::<K>(work, is_busy) => {
            let mut at = Timestamp::now() + backoff(after, BACKOFF_MAX, attempt);
            if let Some(deadline) = work.operation.deadline_at {
                at = at.min(deadline.max(Timestamp::now()));
            }
            let tx = work.control.store().begin().await?;
            if tx.guard(work.lease).await?.cancel_requested && K::is_before_pivot(step) {
                drop(tx);
                return begin_undo::<K>(work, progress, cancelled()).await;
            }
            let detail = json!({ "attempt": attempt, "message": cause["message"], "next_run_at": at });
            tx.record_event(work.operation.id, "step_failed", Some(step), &detail).await?;
            // The cursor names this step even when steps without effect were passed over to reach it.
            tx.advance(work.lease, Some(step), &to_json(progress)?).await?;
            tx.retry_later(work.lease, at, &cause, attempt).await?;
            tx.commit().await?;
            Ok(())
        }
        StepError::Again { .. } | StepError::Failed { .. } | StepError::Migration(_) => {
            if K::is_before_pivot(step) && !K::IS_NEVER_WALKED_BACK_BY_FAILURE {
                begin_undo::<K>(work, progress, cause).await
            } else {
                park(work, Some(step), &cause).await
            }
        }
    }
}

async fn begin_undo<K: Kind>(work: &Work<'_>, progress: &mut K::Progress, cause: Value) -> Result<(), StepError> {
    let tx = work.control.store().begin().await?;
    tx.guard(work.lease).await?;
    tx.record_event(work.operation.id, "undoing", work.operation.step.as_deref(), &cause).await?;
    tx.set_state(work.lease, OperationState::Undoing, Some(cause.clone())).await?;
    tx.commit().await?;
    undo_for::<K>(work, progress, &cause, 0).await
}

/// Goes on with walking back after an interruption; the cause stands in the operation.
async fn undo<K: Kind>(work: &Work<'_>, progress: &mut K::Progress) -> Result<(), StepError> {
    let cause = work.operation.error.clone().unwrap_or_else(|| json!({ "message": "interrupted" }));
    undo_for::<K>(work, progress, &cause, work.operation.attempt).await
}

/// `attempts` counts the failed ones at walking back, not those at the step that led here.
async fn undo_for<K: Kind>(
    work: &Work<'_>,
    progress: &mut K::Progress,
    cause: &Value,
    attempts: u32,
) -> Result<(), StepError> {
    let reason = reason_of(cause);
    match undo_once::<K>(work, progress).await {
        Ok(()) => {}
        Err(StepError::LeaseLost) => return Err(StepError::LeaseLost),
        Err(error) => {
            let attempt = attempts + 1;
            let trouble = error.to_string();
            warn!(operation_id = %work.operation.id, attempt, reason = %trouble, "walking back did not get done");
            if attempt >= work.control.config().attempts_max {
                let message = format!("{reason}; and walking back did not get done: {trouble}");
                return park(work, None, &json!({ "message": message })).await;
            }
            let at = Timestamp::now() + backoff(Duration::from_millis(500), BACKOFF_MAX, attempt);
            let tx = work.control.store().begin().await?;
            tx.guard(work.lease).await?;
            tx.record_event(work.operation.id, "undo_failed", None, &json!({ "message": trouble })).await?;
            tx.retry_later(work.lease, at, cause, attempt).await?;
            tx.commit().await?;
            return Ok(());
        }
    }
    let mut tx = work.control.store().begin().await?;
    let guarded = tx.guard(work.lease).await?;
    let state = if guarded.cancel_requested { OperationState::Cancelled } else { OperationState::Failed };
    tx.record_event(work.operation.id, state.as_str(), None, cause).await?;
    tx.set_state(work.lease, state, Some(cause.clone())).await?;
    K::record_end(work, progress, &reason, &mut tx).await?;
    tx.commit().await?;
    info!(operation_id = %work.operation.id, reason, state = %state, "walked back");
    Ok(())
}

async fn undo_once<K: Kind>(work: &Work<'_>, progress: &mut K::Progress) -> Result<(), StepError> {
    #[cfg(feature = "failpoints")]
    failpoints::pass(work, failpoints::UNDO, "before").await?;
    K::undo(work, progress).await?;
    #[cfg(feature = "failpoints")]
    failpoints::pass(work, failpoints::UNDO, "performed").await?;
    Ok(())
}

/// A cause as one sentence, for the tenant's status and for the log.
fn reason_of(cause: &Value) -> String {
    let text = |field: &str| cause.get(field).and_then(Value::as_str);
    let message = text("message").unwrap_or("interrupted");
    match (text("file"), cause.get("line").and_then(Value::as_u64)) {
        (Some(file), Some(line)) => format!("{file}:{line}: {message}"),
        (Some(file), None) => format!("{file}: {message}"),
        (None, _) => message.to_owned(),
    }
}

/// Sets the operation aside for a person.
async fn park(work: &Work<'_>, step: Option<&str>, cause: &Value) -> Result<(), StepError> {
    let tx = work.control.store().begin().await?;
    tx.guard(work.lease).await?;
    tx.record_event(work.operation.id, "parked", step, cause).await?;
    tx.set_state(work.lease, OperationState::Parked, Some(cause.clone())).await?;
    tx.emit(&parked(work.operation, cause)).await?;
    tx.commit().await?;
    // The one log line of this that ought to wake somebody.
    error!(operation_id = %work.operation.id, step, reason = reason_of(cause), "parked: retry, skip or abandon it");
    metrics::counter!("tenantry_operations_parked_total").increment(1);
    Ok(())
}

fn parked(operation: &Operation, cause: &Value) -> NewEvent {
    NewEvent {
        kind: EventKind::OperationParked,
        tenant: operation.tenant,
        cluster: operation.cluster,
        operation: Some(operation.id),
        detail: json!({ "reason": reason_of(cause) }),
    }
}

/// Leaves the operation to a replica that understands it.
async fn hand_back(work: &Work<'_>, reason: &str) -> Result<(), StepError> {
    let tx = work.control.store().begin().await?;
    tx.guard(work.lease).await?;
    let at = Timestamp::now() + Duration::from_secs(30);
    tx.retry_later(work.lease, at, &json!({ "message": reason }), work.operation.attempt).await?;
    tx.commit().await?;
    Ok(())
}

fn to_json<P: serde::Serialize>(progress: &P) -> Result<serde_json::Value, StepError> {
    serde_json::to_value(progress).map_err(|error| StepError::Failed { reason: error.to_string() })
}
