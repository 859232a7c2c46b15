//! What happens on "suspend tenant". The request itself marks the tenant and stops the routers; this makes it true
//! inside PostgreSQL. It only goes forward: a suspension is taken back by a resumption.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tenantry_domain::{Placement, RouteState, TenantState};
use tenantry_store::Tx;

use super::home_access::{self, Place};
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};

/// The kind `suspend`.
pub(crate) struct SuspendTenant;

/// What a suspension remembers: nothing, the tenant's row says what is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SuspendProgress {}

impl Kind for SuspendTenant {
    const CODE_VERSION: i32 = 1;
    const DEADLINE: Duration = Duration::from_hours(24);
    type Progress = SuspendProgress;
    const STEPS: &'static [Step<SuspendProgress>] =
        &[step!("shut_out", shut_out, nothing), step!("stamp", stamp, nothing)];
    const PIVOT: Option<&'static str> = None;
    // About eight hours. A tenant that is to be shut out must not get in because its cluster was away for a while.
    const PATIENCE: u32 = 60;

    fn undo<'a>(_: &'a Work<'a>, _: &'a mut SuspendProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Err(StepError::Failed { reason: "a suspension is taken back by resuming".to_owned() }) })
    }

    fn record_end<'a>(
        _: &'a Work<'a>,
        _: &'a SuspendProgress,
        _: &'a str,
        _: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Where the tenant lives, while it is wanted suspended.
async fn wanted(work: &Work<'_>) -> Result<Option<Placement>, StepError> {
    match home_access::tenant(work).await?.state {
        TenantState::Suspended { home, .. } => Ok(Some(home)),
        _ => Ok(None),
    }
}

async fn shut_out(work: &Work<'_>, _: &mut SuspendProgress) -> StepResult {
    let Some(home) = wanted(work).await? else { return Ok(Effect::None) };
    Place::of(work, &home).await?.close(work).await?;
    Ok(Effect::Changed)
}

async fn stamp(work: &Work<'_>, _: &mut SuspendProgress) -> StepResult {
    let Some(home) = wanted(work).await? else { return Ok(Effect::None) };
    Place::of(work, &home).await?.stamp(work, RouteState::Suspended).await?;
    Ok(Effect::Changed)
}

async fn nothing(_: &Work<'_>, _: &SuspendProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
