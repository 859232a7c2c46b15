//! `?wait=<seconds>`: holding the answer for the work that it begins.

use axum::http::StatusCode;
use tenantry_api::WaitQuery;
use tenantry_control::records::Operation;
use tenantry_control::{Caller, Control, operations};
use tenantry_domain::{Access, OperationState, Scope, ScopeSet};

use super::problem::Refusal;

/// The operation as it is once it is finished or parked, or once the time is over; as it was if nobody asked to wait.
///
/// Who may begin the work may watch this one piece of it, also without `operations:read`: refusing here would hide
/// what has begun already.
pub(crate) async fn for_operation(
    control: &Control,
    caller: &Caller,
    operation: Operation,
    query: WaitQuery,
) -> Result<Operation, Refusal> {
    let Some(wait) = query.wait else { return Ok(operation) };
    let scopes = ScopeSet::new(caller.scopes.iter().chain([Scope::Operations(Access::Read)]));
    let watcher = Caller { scopes, ..caller.clone() };
    Ok(operations::wait(control, &watcher, operation.id, wait.as_duration()).await?)
}

/// 202 while more will happen by itself or by a person's decision, else what is given for "all is done". Work that
/// failed or was cancelled is 200: the answer is final, but what was asked for is not there.
pub(crate) fn status(operation: &Operation, done: StatusCode) -> StatusCode {
    match operation.state {
        OperationState::Succeeded => done,
        OperationState::Failed | OperationState::Cancelled => StatusCode::OK,
        OperationState::Queued
        | OperationState::Running
        | OperationState::Waiting
        | OperationState::Parked
        | OperationState::Undoing => StatusCode::ACCEPTED,
    }
}
