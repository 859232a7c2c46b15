//! What happens on "delete tenant". The request withdraws the route and marks the tenant. The tenant is shut out at
//! once; then its grace period is waited out, during which a restoration walks this back; then its home is taken down,
//! and from there it only goes forward.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_domain::{EventKind, RouteState, TenantState};
use tenantry_store::{NewEvent, Operation, StoreError, TenantRef, Tx};

use super::home_access::{self, Place, tenant_id};
use super::release_home;
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};

/// The kind `delete`.
pub(crate) struct DeleteTenant;

/// What a deletion remembers: nothing, the tenant's row says until when it can be taken back, the resource rows what is
/// left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeleteProgress {}

impl Kind for DeleteTenant {
    const CODE_VERSION: i32 = 2;
    /// Large homes go in batches. The grace period does not count.
    const DEADLINE: Duration = Duration::from_hours(24);
    type Progress = DeleteProgress;
    const STEPS: &'static [Step<DeleteProgress>] = &[
        step!("shut_out", shut_out, nothing),
        step!("await_end_of_grace", await_end_of_grace, nothing),
        step!("begin_release", begin_release, record_begin_release),
        step!("release_homes", release_homes, nothing),
        step!("bury", bury, record_bury),
    ];
    const PIVOT: Option<&'static str> = Some("begin_release");
    // A cluster that is away is no reason to let a tenant in again.
    const IS_NEVER_WALKED_BACK_BY_FAILURE: bool = true;

    /// Makes the home be as the tenant will be: open, or shut for its suspension, whose own work this may have replaced.
    fn undo<'a>(work: &'a Work<'a>, _: &'a mut DeleteProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            match home_access::tenant(work).await?.state.restore().map_err(refused)? {
                TenantState::Active { home } => {
                    let place = Place::of(work, &home).await?;
                    place.stamp(work, RouteState::Active).await?;
                    place.open(work).await
                }
                TenantState::Suspended { home, .. } => {
                    let place = Place::of(work, &home).await?;
                    place.close(work).await?;
                    place.stamp(work, RouteState::Suspended).await
                }
                other => Err(StepError::Failed { reason: format!("it cannot be restored to {}", other.status()) }),
            }
        })
    }

    fn record_end<'a>(
        work: &'a Work<'a>,
        _: &'a DeleteProgress,
        _: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let tenant = tx.lock_tenant(&TenantRef::Id(tenant_id(work)?)).await?;
            let state = tenant.state.restore().map_err(refused)?;
            let route = if state.suspension().is_some() { RouteState::Suspended } else { RouteState::Active };
            let home = state.placement().map(|placement| placement.home.id);
            tx.note_straggler(tenant.id).await?;
            tx.set_tenant_state(tenant.id, &state).await?;
            tx.publish_route(tenant.id, route, tenant.generation, home).await?;
            tx.emit(&NewEvent::of_tenant(EventKind::TenantRestored, tenant.id).by(work.operation.id)).await?;
            Ok(())
        })
    }

    /// What is left of it stays recorded; another deletion removes that.
    fn record_abandoned<'a>(
        operation: &'a Operation,
        reason: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(tenant) = operation.tenant else { return Ok(()) };
            if tx.lock_tenant(&TenantRef::Id(tenant)).await?.state.grace().is_some() {
                return Err(StoreError::Conflict {
                    reason: "the deletion can still be taken back; restore its tenant, or retry the operation"
                        .to_owned(),
                });
            }
            tx.set_tenant_failed(tenant, reason).await?;
            tx.emit(&NewEvent::of_tenant(EventKind::TenantFailed, tenant).by(operation.id)).await?;
            tx.remove_route(tenant).await
        })
    }
}

fn refused(error: tenantry_domain::LifecycleError) -> StepError {
    StepError::Failed { reason: format!("the tenant {error}") }
}

async fn shut_out(work: &Work<'_>, _: &mut DeleteProgress) -> StepResult {
    let tenant = home_access::tenant(work).await?;
    release_home::shut_out(work, tenant.id).await?;
    if let Some(grace) = tenant.state.grace() {
        Place::of(work, &grace.home).await?.stamp(work, RouteState::Suspended).await?;
    }
    Ok(Effect::Changed)
}

async fn await_end_of_grace(work: &Work<'_>, _: &mut DeleteProgress) -> StepResult {
    match home_access::tenant(work).await?.state.grace() {
        Some(grace) if grace.ends_at > Timestamp::now() => Ok(Effect::Wait(grace.ends_at)),
        Some(_) | None => Ok(Effect::None),
    }
}

async fn begin_release(_: &Work<'_>, _: &mut DeleteProgress) -> StepResult {
    Ok(Effect::Changed)
}

/// The pivot: from here on there is no way back.
async fn record_begin_release(work: &Work<'_>, _: &DeleteProgress, tx: &mut Tx) -> Result<(), StepError> {
    tx.end_grace(tenant_id(work)?).await?;
    Ok(())
}

async fn release_homes(work: &Work<'_>, _: &mut DeleteProgress) -> StepResult {
    release_home::release(work, tenant_id(work)?).await?;
    Ok(Effect::Changed)
}

async fn bury(_: &Work<'_>, _: &mut DeleteProgress) -> StepResult {
    Ok(Effect::Changed)
}

async fn record_bury(work: &Work<'_>, _: &DeleteProgress, tx: &mut Tx) -> Result<(), StepError> {
    let tenant = tenant_id(work)?;
    tx.close_placement(tenant).await?;
    tx.set_tenant_deleted(tenant).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantDeleted, tenant).by(work.operation.id)).await?;
    tx.record_event(work.operation.id, "deleted", None, &json!({})).await?;
    Ok(())
}

async fn nothing(_: &Work<'_>, _: &DeleteProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
