//! Operations as people see them, and the kinds of work there are.

pub(crate) mod adopt;
pub(crate) mod adopt_cancel;
pub(crate) mod adopt_confirm;
pub(crate) mod adopted_home;
pub(crate) mod bases;
pub(crate) mod cluster_target;
pub(crate) mod delete_tenant;
pub(crate) mod drop_home;
pub(crate) mod home_access;
pub(crate) mod migrate_down;
pub(crate) mod prepare_home;
pub(crate) mod provision_site;
pub(crate) mod provision_tenant;
pub(crate) mod release_home;
pub(crate) mod reserve_home;
pub(crate) mod resume_tenant;
pub(crate) mod rotate_credentials;
pub(crate) mod suspend_tenant;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{Access, OperationId, OperationKind, OperationState, Scope, TenantStatus};
use tenantry_store::{AuditEntry, Operation, OperationEvent, OperationFilter, Page, PageRequest, TenantRef};
use tokio::time::Instant;

use crate::adoption;
use crate::caller::Caller;
use crate::control::Control;
use crate::engine::Kind;
use crate::engine::kinds::with_kind;
use crate::error::ControlError;
use crate::signals::{News, Signals};

/// The longest that a caller may wait for an operation in one call.
pub const WAIT_MAX: Duration = Duration::from_mins(1);
/// Waiters look for themselves this often, in case news was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A page of operations, newest first.
pub async fn list(
    control: &Control,
    caller: &Caller,
    filter: &OperationFilter,
    page: &PageRequest,
) -> Result<Page<Operation>, ControlError> {
    caller.require(Scope::Operations(Access::Read))?;
    let mut filter = filter.clone();
    if let Some(own) = caller.tenant {
        if filter.tenant.is_some_and(|wanted| wanted != own) {
            return Ok(Page { items: Vec::new(), next: None });
        }
        filter.tenant = Some(own);
    }
    Ok(control.store().operations(&filter, page).await?)
}

/// One operation. Whoever may change tenants may also look at the operations that follow from it.
pub async fn show(control: &Control, caller: &Caller, id: OperationId) -> Result<Operation, ControlError> {
    if !caller.scopes.allows(Scope::Tenants(Access::Write)) {
        caller.require(Scope::Operations(Access::Read))?;
    }
    let operation = control.store().operation(id).await?;
    if visible(caller, &operation) { Ok(operation) } else { Err(not_found(id)) }
}

/// What happened in an operation, oldest first, after the event `after` (zero for all).
pub async fn events(
    control: &Control,
    caller: &Caller,
    id: OperationId,
    after: i64,
    limit: i64,
) -> Result<Vec<OperationEvent>, ControlError> {
    show(control, caller, id).await?;
    Ok(control.store().operation_events(id, after, limit).await?)
}

/// Waits until the operation is finished, parked or rests until a time to come, or `patience` (at most [`WAIT_MAX`]) is over; returns it as it is then.
pub async fn wait(
    control: &Control,
    caller: &Caller,
    id: OperationId,
    patience: Duration,
) -> Result<Operation, ControlError> {
    let deadline = Instant::now() + patience.min(WAIT_MAX);
    // Subscribed before the first look, so that nothing falls between the two.
    let mut news = control.signals().subscribe();
    loop {
        let operation = show(control, caller, id).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let rests = operation.state == OperationState::Parked || operation.waits_until(Timestamp::now()).is_some();
        if operation.state.is_finished() || rests || left.is_zero() {
            return Ok(operation);
        }
        Signals::wait_for(&mut news, left.min(LOOK_AGAIN), |news| news == News::Operation(id)).await;
    }
}

/// How many operations of each kind wait for a person's decision, kinds without one included. Needs no caller: it names
/// nobody.
pub async fn count_parked(control: &Control) -> Result<Vec<(OperationKind, i64)>, ControlError> {
    let parked = control.store().count_parked().await?;
    let of = |kind: OperationKind| parked.iter().find(|(it, _)| *it == kind).map_or(0, |(_, count)| *count);
    Ok(OperationKind::ALL.iter().map(|kind| (*kind, of(*kind))).collect())
}

/// Asks that an operation be walked back. It is, at its next step, unless its pivot has passed. `reason` is the person's
/// own, for the audit log and the operation's.
pub async fn cancel(
    control: &Control,
    caller: &Caller,
    id: OperationId,
    reason: Option<&str>,
) -> Result<Operation, ControlError> {
    let (mut tx, operation) = open(control, caller, id).await?;
    // What an adoption did is put back until somebody has confirmed it.
    if let (OperationKind::Adopt, OperationState::Succeeded, Some(tenant)) =
        (operation.kind, operation.state, operation.tenant)
    {
        drop(tx);
        return Ok(adoption::cancel(control, caller, &TenantRef::Id(tenant), reason).await?.1);
    }
    if operation.state.is_finished() {
        return Err(ControlError::InvalidState {
            reason: format!("the operation is {} already; there is nothing to cancel", operation.state),
        });
    }
    if operation.kind == OperationKind::Delete {
        return Err(ControlError::InvalidState {
            reason: "a deletion is taken back by restoring its tenant, as long as its grace period lasts".to_owned(),
        });
    }
    if with_kind!(operation.kind, K => K::PIVOT.is_none()) {
        return Err(ControlError::InvalidState {
            reason: format!("`{}` passes its pivot when it is accepted and cannot be cancelled", operation.kind),
        });
    }
    decide(&mut tx, caller, "cancel", &operation, reason).await?;
    tx.request_cancel(id).await?;
    audit(&mut tx, caller, "cancel", &operation, reason).await?;
    tx.commit().await?;
    control.signals().wake_operations();
    show(control, caller, id).await
}

/// Takes up again what is parked, or provisions again what was walked back.
pub async fn retry(
    control: &Control,
    caller: &Caller,
    id: OperationId,
    reason: Option<&str>,
) -> Result<Operation, ControlError> {
    let (mut tx, operation) = open(control, caller, id).await?;
    decide(&mut tx, caller, "retry", &operation, reason).await?;
    match operation.state {
        OperationState::Parked => tx.requeue(id, None).await?,
        OperationState::Failed | OperationState::Cancelled if operation.kind == OperationKind::Provision => {
            let Some(tenant) = operation.tenant else {
                return Err(ControlError::InvalidState { reason: "the operation has no tenant to retry".to_owned() });
            };
            let tenant = tx.lock_tenant(&TenantRef::Id(tenant)).await?;
            if tenant.state.status() != TenantStatus::Failed {
                return Err(ControlError::InvalidState {
                    reason: format!("tenant `{}` is {} by now", tenant.slug, tenant.state.status()),
                });
            }
            // A new home: the names of the one that was walked back are never used again.
            let pin = operation.input.get("cluster").cloned().unwrap_or_default();
            let pin = serde_json::from_value(pin).map_err(ControlError::internal)?;
            let plan = tx.plan(&tenant.plan).await?;
            let reserved = reserve_home::choose(control, &mut tx, &tenant, &plan, pin, id).await?;
            let progress = serde_json::to_value(&reserved.progress).map_err(ControlError::internal)?;
            reserved.record(&tx).await?;
            tx.requeue(id, Some(&progress)).await?;
            tx.set_tenant_provisioning(tenant.id, id).await?;
        }
        state => {
            return Err(ControlError::InvalidState {
                reason: format!("the operation is {state}; only a parked operation or a failed provision is retried"),
            });
        }
    }
    audit(&mut tx, caller, "retry", &operation, reason).await?;
    tx.commit().await?;
    control.signals().wake_operations();
    show(control, caller, id).await
}

/// Passes over the step at which an operation is parked. For a person who did its work by hand.
pub async fn skip(
    control: &Control,
    caller: &Caller,
    id: OperationId,
    reason: Option<&str>,
) -> Result<Operation, ControlError> {
    let (mut tx, operation) = open(control, caller, id).await?;
    let next = match (operation.state, operation.step.as_deref()) {
        (OperationState::Parked, Some(step)) => with_kind!(operation.kind, K => next_step::<K>(step)),
        _ => None,
    };
    let Some(next) = next else {
        return Err(ControlError::InvalidState {
            reason: format!(
                "the operation is {}; only a parked operation that is not at its last step can skip a step",
                operation.state
            ),
        });
    };
    decide(&mut tx, caller, "skip", &operation, reason).await?;
    tx.skip_to(id, next).await?;
    audit(&mut tx, caller, "skip", &operation, reason).await?;
    tx.commit().await?;
    control.signals().wake_operations();
    show(control, caller, id).await
}

/// Gives up a parked operation. What that means to its subject is for its kind to say: half a home serves nobody, so its
/// tenant ends `failed`; most others leave their subject as it is. What was made stays recorded and goes with the tenant.
pub async fn abandon(
    control: &Control,
    caller: &Caller,
    id: OperationId,
    reason: Option<&str>,
) -> Result<Operation, ControlError> {
    let (mut tx, operation) = open(control, caller, id).await?;
    if operation.state != OperationState::Parked {
        return Err(ControlError::InvalidState {
            reason: format!("the operation is {}; only a parked one can be abandoned", operation.state),
        });
    }
    decide(&mut tx, caller, "abandon", &operation, reason).await?;
    tx.abandon(id).await?;
    let told = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    let told = format!("its operation was abandoned{told}; delete the tenant to remove what is left");
    with_kind!(operation.kind, K => K::record_abandoned(&operation, &told, &mut tx).await?);
    audit(&mut tx, caller, "abandon", &operation, reason).await?;
    tx.commit().await?;
    show(control, caller, id).await
}

fn next_step<K: Kind>(step: &str) -> Option<&'static str> {
    let position = K::STEPS.iter().position(|known| known.name == step)?;
    K::STEPS.get(position + 1).map(|next| next.name)
}

async fn open(
    control: &Control,
    caller: &Caller,
    id: OperationId,
) -> Result<(tenantry_store::Tx, Operation), ControlError> {
    caller.require(Scope::Operations(Access::Write))?;
    let tx = control.store().begin().await?;
    let operation = tx.lock_operation(id).await?;
    if visible(caller, &operation) { Ok((tx, operation)) } else { Err(not_found(id)) }
}

fn visible(caller: &Caller, operation: &Operation) -> bool {
    match operation.tenant {
        Some(tenant) => caller.sees(tenant),
        None => caller.tenant.is_none(),
    }
}

fn not_found(id: OperationId) -> ControlError {
    ControlError::NotFound { what: "operation", name: id.to_string() }
}

/// Writes down in the operation's own history what a person decides, with their reason.
async fn decide(
    tx: &mut tenantry_store::Tx,
    caller: &Caller,
    decision: &str,
    operation: &Operation,
    reason: Option<&str>,
) -> Result<(), ControlError> {
    let detail = json!({ "decision": decision, "by": caller.name, "reason": reason });
    tx.record_event(operation.id, "decided", operation.step.as_deref(), &detail).await?;
    Ok(())
}

/// Writes down what a person decided, with what it made of the operation.
async fn audit(
    tx: &mut tenantry_store::Tx,
    caller: &Caller,
    decision: &str,
    before: &Operation,
    reason: Option<&str>,
) -> Result<(), ControlError> {
    let now = tx.lock_operation(before.id).await?;
    let mut after = summary(&now);
    after["reason"] = json!(reason);
    let entry = AuditEntry {
        tenant: before.tenant,
        operation: Some(before.id),
        before: Some(summary(before)),
        after: Some(after),
        ..caller.does(&format!("operation.{decision}"), format!("operation/{}", before.id))
    };
    tx.audit(&entry).await?;
    Ok(())
}

/// What the audit log keeps of an operation.
fn summary(operation: &Operation) -> Value {
    json!({
        "kind": operation.kind,
        "state": operation.state,
        "step": operation.step,
        "cancel_requested": operation.cancel_requested,
    })
}
