//! What happens on "adopt-cancel": everything is put back, and no tenant is left. The request is the pivot: it withdraws
//! the route and marks the tenant.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_domain::EventKind;
use tenantry_store::{NewEvent, Operation, StoreError, Tx};

use super::adopt::AdoptProgress;
use super::adopted_home::{self, adoption_of, tenant_of};
use super::release_home;
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};

/// The kind `adopt_cancel`.
pub(crate) struct AdoptCancel;

/// What a cancellation remembers: nothing, the adoption and the resource rows say what is left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CancelProgress {}

impl Kind for AdoptCancel {
    const CODE_VERSION: i32 = 1;
    type Progress = CancelProgress;
    const STEPS: &'static [Step<CancelProgress>] = &[
        step!("give_back", give_back, nothing),
        step!("release_roles", release_roles, nothing),
        step!("bury", bury, record_bury),
    ];
    const PIVOT: Option<&'static str> = None;

    fn undo<'a>(_: &'a Work<'a>, _: &'a mut CancelProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Err(StepError::Failed { reason: "giving back is never walked back".to_owned() }) })
    }

    fn record_end<'a>(
        _: &'a Work<'a>,
        _: &'a CancelProgress,
        _: &'a str,
        _: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }

    /// It can be asked for again.
    fn record_abandoned<'a>(
        operation: &'a Operation,
        reason: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(tenant) = operation.tenant else { return Ok(()) };
            tx.set_tenant_failed(tenant, reason).await?;
            tx.emit(&NewEvent::of_tenant(EventKind::TenantFailed, tenant).by(operation.id)).await
        })
    }
}

async fn give_back(work: &Work<'_>, _: &mut CancelProgress) -> StepResult {
    // A rollout has been there since: then the history tells more than the adoption wrote, and stays.
    let store = work.control.store();
    let adoption = adoption_of(work).await?;
    let adopted = store.operation(adoption.operation).await?;
    let adopted: AdoptProgress = serde_json::from_value(adopted.progress)
        .map_err(|error| StepError::Failed { reason: format!("the adoption's progress does not parse: {error}") })?;
    let tenant = store.tenant(&tenantry_store::TenantRef::Id(tenant_of(work)?)).await?;
    adopted_home::give_back(work, tenant.schema_version <= adopted.schema_version).await?;
    Ok(Effect::Changed)
}

async fn release_roles(work: &Work<'_>, _: &mut CancelProgress) -> StepResult {
    release_home::release(work, tenant_of(work)?).await?;
    Ok(Effect::Changed)
}

async fn bury(_: &Work<'_>, _: &mut CancelProgress) -> StepResult {
    Ok(Effect::Changed)
}

async fn record_bury(work: &Work<'_>, _: &CancelProgress, tx: &mut Tx) -> Result<(), StepError> {
    let tenant = tenant_of(work)?;
    tx.close_placement(tenant).await?;
    tx.set_tenant_deleted(tenant).await?;
    tx.record_event(work.operation.id, "deleted", None, &json!({})).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantDeleted, tenant).by(work.operation.id)).await?;
    Ok(())
}

async fn nothing(_: &Work<'_>, _: &CancelProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
