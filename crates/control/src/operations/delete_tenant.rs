//! What happens on "delete tenant". The request itself is the pivot: it withdraws the route and marks the tenant, so the
//! operation only goes forward.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_domain::{EventKind, TenantId};
use tenantry_store::{NewEvent, Operation, StoreError, Tx};

use super::release_home;
use crate::engine::step::Effect;
use crate::engine::step::step;
use crate::engine::{Kind, Step, StepError, StepResult, Work};

/// The kind `delete`.
pub(crate) struct DeleteTenant;

/// What a deletion remembers: nothing, the resource rows say what is left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeleteProgress {}

impl Kind for DeleteTenant {
    const CODE_VERSION: i32 = 1;
    /// Large homes go in batches.
    const DEADLINE: Duration = Duration::from_hours(24);
    type Progress = DeleteProgress;
    const STEPS: &'static [Step<DeleteProgress>] = &[
        step!("shut_out", shut_out, nothing),
        step!("release_homes", release_homes, nothing),
        step!("bury", bury, record_bury),
    ];
    const PIVOT: Option<&'static str> = None;

    fn undo<'a>(_: &'a Work<'a>, _: &'a mut DeleteProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Err(StepError::Failed { reason: "a deletion is never walked back".to_owned() }) })
    }

    fn record_end<'a>(
        _: &'a Work<'a>,
        _: &'a DeleteProgress,
        _: &'a str,
        _: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }

    /// What is left of it stays recorded; another deletion removes that.
    fn record_abandoned<'a>(
        operation: &'a Operation,
        reason: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(tenant) = operation.tenant else { return Ok(()) };
            tx.set_tenant_failed(tenant, reason).await?;
            tx.emit(&NewEvent::of_tenant(EventKind::TenantFailed, tenant).by(operation.id)).await?;
            tx.remove_route(tenant).await
        })
    }
}

fn tenant_of(work: &Work<'_>) -> Result<TenantId, StepError> {
    work.operation.tenant.ok_or_else(|| StepError::Failed { reason: "it names no tenant".to_owned() })
}

async fn shut_out(work: &Work<'_>, _: &mut DeleteProgress) -> StepResult {
    release_home::shut_out(work, tenant_of(work)?).await?;
    Ok(Effect::Changed)
}

async fn release_homes(work: &Work<'_>, _: &mut DeleteProgress) -> StepResult {
    release_home::release(work, tenant_of(work)?).await?;
    Ok(Effect::Changed)
}

async fn bury(_: &Work<'_>, _: &mut DeleteProgress) -> StepResult {
    Ok(Effect::Changed)
}

async fn record_bury(work: &Work<'_>, _: &DeleteProgress, tx: &mut Tx) -> Result<(), StepError> {
    let tenant = tenant_of(work)?;
    tx.close_placement(tenant).await?;
    tx.set_tenant_deleted(tenant).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantDeleted, tenant).by(work.operation.id)).await?;
    tx.record_event(work.operation.id, "deleted", None, &json!({})).await?;
    Ok(())
}

async fn nothing(_: &Work<'_>, _: &DeleteProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
