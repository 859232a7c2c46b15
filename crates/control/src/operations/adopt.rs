//! What happens on "adopt": a database or schema that is there becomes a tenant's, and nobody notices.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_domain::{DatabaseName, EventKind, Generation, HomeId, RouteState, SchemaName, SchemaVersion};
use tenantry_fleet::{Belongings, RoleSecrets};
use tenantry_store::{ClusterRef, NewEvent, Operation, StoreError, Tx};

use super::adopted_home::{self, AdoptedHome, tenant_of};
use crate::adoption::{self, Subject};
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};
use crate::migration_sets;

/// The kind `adopt`.
pub(crate) struct Adopt;

/// What an adoption remembers from step to step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdoptProgress {
    /// The home, recorded with the request.
    pub(crate) home: HomeId,
    /// The version that the history begins at.
    pub(crate) schema_version: SchemaVersion,
    /// Who owned what; on its way to a row of its own, because it may be long.
    #[serde(skip)]
    pub(crate) before: Option<Belongings>,
}

/// What was asked for.
#[derive(Debug, Deserialize)]
struct Input {
    database: DatabaseName,
    schema: Option<SchemaName>,
    baseline_version: Option<SchemaVersion>,
}

impl Kind for Adopt {
    const CODE_VERSION: i32 = 1;
    type Progress = AdoptProgress;
    const STEPS: &'static [Step<AdoptProgress>] = &[
        step!("inspect", inspect, record_before),
        step!("ensure_roles", ensure_roles, nothing),
        step!("take_over", take_over, nothing),
        step!("write_history", write_history, nothing),
        step!("publish_route", publish_route, record_publish_route),
    ];
    const PIVOT: Option<&'static str> = Some("publish_route");

    fn undo<'a>(work: &'a Work<'a>, _: &'a mut AdoptProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(adopted_home::undo(work, true))
    }

    fn record_end<'a>(
        work: &'a Work<'a>,
        _: &'a AdoptProgress,
        reason: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { Ok(end(work.operation, reason, tx).await?) })
    }

    /// What it changed is still to be put back: cancelling the adoption does that, and deleting the tenant is refused.
    fn record_abandoned<'a>(
        operation: &'a Operation,
        reason: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(end(operation, reason, tx))
    }
}

async fn end(operation: &Operation, reason: &str, tx: &mut Tx) -> Result<(), StoreError> {
    let Some(tenant) = operation.tenant else { return Ok(()) };
    tx.set_tenant_failed(tenant, reason).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantFailed, tenant).by(operation.id)).await?;
    tx.remove_route(tenant).await
}

/// Looks once more, now that nobody else can adopt it, and writes down who owns what.
async fn inspect(work: &Work<'_>, progress: &mut AdoptProgress) -> StepResult {
    let site = AdoptedHome::load(work).await?;
    // What was written down was true before anything changed, and would not be now.
    if site.adoption.before.is_some() {
        return Ok(Effect::None);
    }
    let input: Input = serde_json::from_value(work.operation.input.clone())
        .map_err(|error| StepError::Failed { reason: format!("its input does not parse: {error}") })?;
    let cluster = work.control.store().cluster(&ClusterRef::Id(site.home.home.cluster)).await?;
    let subject = Subject {
        cluster: &cluster,
        database: &input.database,
        schema: input.schema.as_ref(),
        baseline: input.baseline_version,
        is_recorded: true,
    };
    let report = adoption::inspect(work.control, &subject).await?;
    report.refuse()?;
    progress.schema_version = report.schema_version;
    progress.before = Some(work.control.fleet().belongings(&site.target, &site.home.home).await?);
    Ok(Effect::Changed)
}

async fn record_before(work: &Work<'_>, progress: &AdoptProgress, tx: &mut Tx) -> Result<(), StepError> {
    let Some(before) = &progress.before else { return Ok(()) };
    let before = serde_json::to_value(before).map_err(|error| StepError::Failed { reason: error.to_string() })?;
    tx.set_adoption_before(tenant_of(work)?, &before).await?;
    Ok(())
}

async fn ensure_roles(work: &Work<'_>, _: &mut AdoptProgress) -> StepResult {
    let site = AdoptedHome::load(work).await?;
    let secrets = RoleSecrets {
        slot: site.home.login,
        login: site.home.secrets.login.clone(),
        read_only: site.home.secrets.read_only.clone(),
        migrator: site.home.secrets.migrator.clone(),
    };
    let home = &site.home.home;
    work.control.fleet().ensure_roles(&site.target, &work.fence(home.id), home, &secrets, &site.limits).await?;
    Ok(Effect::Changed)
}

async fn take_over(work: &Work<'_>, _: &mut AdoptProgress) -> StepResult {
    let site = AdoptedHome::load(work).await?;
    let before =
        site.before()?.ok_or_else(|| StepError::Failed { reason: "nobody wrote down how it was".to_owned() })?;
    let home = &site.home.home;
    let fence = work.fence(home.id);
    work.control.fleet().take_over(&site.target, home, &fence, &before, &site.limits, &site.stamp()).await?;
    Ok(Effect::Changed)
}

/// The home's own history is the truth about its version, so it gets one that says where it stands.
async fn write_history(work: &Work<'_>, progress: &mut AdoptProgress) -> StepResult {
    let site = AdoptedHome::load(work).await?;
    let Some(id) = &site.home.migration_set else { return Ok(Effect::None) };
    let set = migration_sets::load(work.control, id).await?;
    let (home, password) = (&site.home.home, &site.home.secrets.migrator);
    let baseline = progress.schema_version;
    progress.schema_version =
        work.control.fleet().record_baseline(&site.target, home, password, &set, baseline).await?;
    Ok(Effect::Changed)
}

async fn publish_route(_: &Work<'_>, _: &mut AdoptProgress) -> StepResult {
    Ok(Effect::Changed)
}

/// The pivot: from here on the tenant is served. Going back takes a decision, not a failure.
async fn record_publish_route(work: &Work<'_>, progress: &AdoptProgress, tx: &mut Tx) -> Result<(), StepError> {
    let (tenant, home) = (tenant_of(work)?, progress.home);
    tx.resources_of_home_created(home).await?;
    tx.home_ready(home, progress.schema_version).await?;
    tx.open_placement(tenant, home, Generation::FIRST).await?;
    tx.set_tenant_active(tenant, Generation::FIRST, progress.schema_version).await?;
    tx.record_event(work.operation.id, "adopted", Some("publish_route"), &json!({ "home": home })).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantAdopted, tenant).by(work.operation.id)).await?;
    tx.publish_route(tenant, RouteState::Active, Generation::FIRST, Some(home)).await?;
    Ok(())
}

async fn nothing(_: &Work<'_>, _: &AdoptProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
