//! `/v1/rollouts/plan` and `/v1/rollouts/dry-run`.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use tenantry_api::bulk::JSON_LINES;
use tenantry_api::{
    CreateRollout, DryRunFile, DryRunLine, DryRunLock, DryRunOutcome, DryRunSample, DryRunSummary, DryRunTenant,
    PlannedMigration, PlannedRepeatable, PlannedStart, PlannedTenant, PlannedWave, RolloutDryRun, RolloutPlan,
    SampledTenant,
};
use tenantry_control::records::StoredMigration;
use tenantry_control::rollouts::{self, DryRunWish, TakenLock, TenantTrial, TrialOutcome, TriedFile};
use tenantry_control::{Caller, Control};
use tenantry_domain::SchemaVersion;

use super::extract::Json;
use super::migration_sets::{migration, repeatable};
use super::problem::Refusal;
use super::rollouts::{shown_limits, wish};
use super::state::Shared;
use super::streams;

/// How long a set is tried on one tenant unless the request says so.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// Plan a rollout
///
/// What `POST /v1/rollouts` with the same body would do now, without doing it: which tenants in which wave, and by which
/// files. Sent with the plan's `digest` as `plan`, that call begins just this, or is refused with `conflict` where the
/// fleet is another by then.
#[utoipa::path(
    post,
    path = "/v1/rollouts/plan",
    operation_id = "plan_rollout",
    tag = "migrations",
    request_body = CreateRollout,
    responses((status = OK, description = "The plan", body = RolloutPlan,
        links(("rollout" = (operation_id = "create_rollout",
            request_body = "{\"migration_set\": \"{$response.body#/migration_set}\", \"plan\": \"{$response.body#/digest}\"}"))))),
)]
pub(crate) async fn plan(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<CreateRollout>,
) -> Result<Json<RolloutPlan>, Refusal> {
    Ok(Json(planned(rollouts::plan(&control, &caller, wish(body)).await?)))
}

/// Try a migration set
///
/// Runs the files that a few tenants of different sizes lack, each tenant's in one transaction that is always rolled back,
/// and tells the locks that they took, on which tables, for how long, and what failed. One tenant at a time, a lock is
/// waited for two seconds at most, and each tenant takes `timeout_seconds` at most; programs may be kept waiting as long as
/// locks are held. Files that say `-- no-transaction` cannot be tried. The answer is one line per tenant (`DryRunLine`).
#[utoipa::path(
    post,
    path = "/v1/rollouts/dry-run",
    operation_id = "dry_run_rollout",
    tag = "migrations",
    request_body = RolloutDryRun,
    responses((status = OK, description = "What came of it", body = DryRunLine, content_type = "application/x-ndjson")),
)]
pub(crate) async fn dry_run(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<RolloutDryRun>,
) -> Result<Response, Refusal> {
    let place = streams::place(&shared)?;
    let wish = DryRunWish {
        migration_set: body.migration_set,
        tenants: body.tenants.get().into(),
        time_limit: body.timeout_seconds.map_or(TIME_LIMIT, |seconds| Duration::from_secs(seconds.get().into())),
    };
    let sample = rollouts::dry_run(shared.control(), &caller, wish).await?;
    let lines = streams::json_lines(lines(shared.control().clone(), sample));
    let lines = streams::guarded(shared, caller.token, place, lines);
    Ok(([(CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines.map(Ok::<_, Infallible>))).into_response())
}

fn lines(control: Control, mut sample: rollouts::DryRunSample) -> impl Stream<Item = DryRunLine> + Send {
    stream! {
        let tenants = sample.tenants.iter().cloned().map(sampled).collect();
        yield DryRunLine::Sample(DryRunSample { pending: sample.pending, tenants });
        let mut summary = DryRunSummary { tenants: 0, failed: 0 };
        while let Some(trial) = sample.try_next(&control).await {
            summary.tenants += 1;
            summary.failed += u64::from(trial.has_failed());
            yield DryRunLine::Tenant(Box::new(tried(trial)));
        }
        yield DryRunLine::Summary(summary);
    }
}

fn planned(plan: rollouts::RolloutPlan) -> RolloutPlan {
    let versions: Vec<SchemaVersion> = plan.migrations.iter().map(|file| SchemaVersion(file.version)).collect();
    RolloutPlan {
        digest: plan.digest,
        migration_set: plan.set.id,
        latest_version: plan.set.latest_version,
        pending: plan.starts.iter().map(|start| start.tenants).sum(),
        already: plan.already,
        waves: plan.waves.into_iter().map(wave).collect(),
        limits: shown_limits(plan.limits),
        error_budget: plan.error_budget.into(),
        breaker: plan.breaker,
        verify: plan.verify,
        starts: plan
            .starts
            .iter()
            .map(|start| PlannedStart {
                from_version: start.from_version,
                tenants: start.tenants,
                migrations: versions.iter().copied().filter(|version| *version > start.from_version).collect(),
            })
            .collect(),
        migrations: plan.migrations.into_iter().map(file).collect(),
        repeatables: plan.repeatables.into_iter().map(repeatable_file).collect(),
    }
}

fn wave(planned: rollouts::PlannedWave) -> PlannedWave {
    PlannedWave {
        select: planned.wave.select,
        bake_seconds: planned.wave.bake_seconds,
        error_budget: planned.wave.error_budget.into(),
        tenants: planned.tenants,
        first: planned.first.into_iter().map(|it| PlannedTenant { id: it.tenant, slug: it.slug }).collect(),
    }
}

fn file(stored: StoredMigration) -> PlannedMigration {
    let (file, sql) = (stored.file_name(), stored.sql.clone());
    PlannedMigration { migration: migration(stored), file, sql }
}

fn repeatable_file(stored: StoredMigration) -> PlannedRepeatable {
    let (file, sql) = (stored.file_name(), stored.sql.clone());
    PlannedRepeatable { repeatable: repeatable(stored), file, sql }
}

fn sampled(tenant: rollouts::SampledTenant) -> SampledTenant {
    SampledTenant { id: tenant.tenant, slug: tenant.slug, bytes: tenant.bytes }
}

fn tried(trial: TenantTrial) -> DryRunTenant {
    let passed = !trial.has_failed();
    let (error, from_version, files) = match trial.result {
        Ok(run) => (None, Some(run.from), run.files.into_iter().map(tried_file).collect()),
        Err(error) => (Some(error), None, Vec::new()),
    };
    let duration_ms = milliseconds(trial.duration);
    DryRunTenant { tenant: sampled(trial.tenant), passed, error, from_version, duration_ms, files }
}

fn tried_file(file: TriedFile) -> DryRunFile {
    let (outcome, error, reason) = match file.outcome {
        TrialOutcome::Passed => (DryRunOutcome::Passed, None, None),
        TrialOutcome::Failed(failure) => (DryRunOutcome::Failed, Some(rollouts::failure_json(&failure)), None),
        TrialOutcome::Untried(reason) => (DryRunOutcome::Untried, None, Some(reason)),
    };
    DryRunFile {
        version: SchemaVersion(file.version),
        file: file.file,
        outcome,
        error,
        reason,
        duration_ms: milliseconds(file.duration),
        locks: file.locks.into_iter().map(lock).collect(),
    }
}

fn lock(lock: TakenLock) -> DryRunLock {
    DryRunLock {
        relation: lock.relation,
        mode: lock.mode,
        line: lock.line,
        existed: lock.existed,
        rewritten: lock.rewritten,
        rows: lock.rows,
        bytes: lock.bytes,
        held_ms: milliseconds(lock.held_in_file),
        held_to_rollback_ms: milliseconds(lock.held),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
