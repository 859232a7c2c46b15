//! What happens on "resume tenant": its home is opened again, and then its route says so. The tenant counts as suspended
//! until that. It only goes forward: a suspension takes its place at any time.

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{EventKind, Placement, RouteState, TenantState};
use tenantry_store::{NewEvent, TenantRef, Tx};

use super::home_access::{self, Place};
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};

/// The kind `resume`.
pub(crate) struct ResumeTenant;

/// What a resumption remembers: nothing, the tenant's row says what is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ResumeProgress {}

impl Kind for ResumeTenant {
    const CODE_VERSION: i32 = 1;
    type Progress = ResumeProgress;
    const STEPS: &'static [Step<ResumeProgress>] = &[
        step!("stamp", stamp, nothing),
        step!("let_in", let_in, nothing),
        step!("publish_route", publish_route, record_publish_route),
    ];
    const PIVOT: Option<&'static str> = None;

    fn undo<'a>(_: &'a Work<'a>, _: &'a mut ResumeProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Err(StepError::Failed { reason: "a resumption is taken back by suspending".to_owned() }) })
    }

    fn record_end<'a>(
        _: &'a Work<'a>,
        _: &'a ResumeProgress,
        _: &'a str,
        _: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Where the tenant lives, while there is something to resume.
async fn suspended(work: &Work<'_>) -> Result<Option<Placement>, StepError> {
    match home_access::tenant(work).await?.state {
        TenantState::Suspended { home, .. } => Ok(Some(home)),
        _ => Ok(None),
    }
}

async fn stamp(work: &Work<'_>, _: &mut ResumeProgress) -> StepResult {
    let Some(home) = suspended(work).await? else { return Ok(Effect::None) };
    Place::of(work, &home).await?.stamp(work, RouteState::Active).await?;
    Ok(Effect::Changed)
}

async fn let_in(work: &Work<'_>, _: &mut ResumeProgress) -> StepResult {
    let Some(home) = suspended(work).await? else { return Ok(Effect::None) };
    Place::of(work, &home).await?.open(work).await?;
    Ok(Effect::Changed)
}

async fn publish_route(_: &Work<'_>, _: &mut ResumeProgress) -> StepResult {
    Ok(Effect::Changed)
}

/// A suspension that came meanwhile has taken the lease away, so this is still what is wanted.
async fn record_publish_route(work: &Work<'_>, _: &ResumeProgress, tx: &mut Tx) -> Result<(), StepError> {
    let tenant = tx.lock_tenant(&TenantRef::Id(home_access::tenant_id(work)?)).await?;
    // Whether the trial is over was looked at when it was asked for; if it ended since, upkeep will find that.
    let Ok(state) = tenant.state.resume(None, Timestamp::now()) else { return Ok(()) };
    let home = state.placement().map(|placement| placement.home.id);
    tx.set_tenant_state(tenant.id, &state).await?;
    tx.publish_route(tenant.id, RouteState::Active, tenant.generation, home).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantResumed, tenant.id).by(work.operation.id)).await?;
    Ok(())
}

async fn nothing(_: &Work<'_>, _: &ResumeProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
