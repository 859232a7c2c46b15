//! `/v1/rollouts`.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use jiff::Timestamp;
use tenantry_api::{
    BreakerLength, Concurrency, CreateRollout, CreateWave, FleetVersion, FleetVersions, ListQuery, ListTargets, Page,
    Rollout, RolloutCounts, RolloutLimits, RolloutTarget, RolloutWave, WaitQuery,
};
use tenantry_control::records::{self, RolloutRecord};
use tenantry_control::signals::{News, Signals};
use tenantry_control::{Caller, Control, rollouts};
use tenantry_domain::{RolloutId, Wave};
use tracing::warn;

use super::extract::{Json, NoBody, Path, Query};
use super::problem::{Refusal, chain};
use super::state::Shared;
use super::{convert, streams};

/// Streams look for themselves this often, in case news was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A large rollout changes many times a second; its readers need not see each change.
const PACE: Duration = Duration::from_millis(200);
/// A comment keeps a silent stream from looking dead.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Start a rollout
///
/// Brings every live tenant to a migration set, wave by wave. One rollout is under way at a time; another is refused, or
/// waits its turn. The set is promoted, so that new
/// tenants begin with it, once all waves before the last are through. Where more fails than an error budget bears, or the
/// breaker opens, no more targets are begun, those that run are finished, and the rollout has failed; a retry goes on.
/// With the digest of a `plan`, it begins only if it would do just what was planned.
#[utoipa::path(
    post,
    path = "/v1/rollouts",
    operation_id = "create_rollout",
    tag = "migrations",
    params(WaitQuery),
    request_body = CreateRollout,
    responses(
        (status = CREATED, description = "The rollout is finished", body = Rollout,
            headers(("location" = String, description = "Where it is"))),
        (status = ACCEPTED, description = "The work goes on", body = Rollout,
            headers(("location" = String, description = "Where it is")),
            links(
                ("rollout" = (operation_id = "show_rollout", parameters(("rollout" = "$response.body#/id")))),
                ("events" = (operation_id = "follow_rollout", parameters(("rollout" = "$response.body#/id")))),
                ("targets" = (operation_id = "list_rollout_targets", parameters(("rollout" = "$response.body#/id")))),
            )),
    ),
)]
pub(crate) async fn create(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<WaitQuery>,
    Json(body): Json<CreateRollout>,
) -> Result<Response, Refusal> {
    let mut rollout = rollouts::create(&control, &caller, wish(body)).await?;
    if let Some(wait) = query.wait {
        rollout = rollouts::wait(&control, &caller, rollout.id, wait.as_duration()).await?;
    }
    let status = if rollout.state.is_finished() { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    let location = [(LOCATION, format!("/v1/rollouts/{}", rollout.id))];
    Ok((status, location, Json(shown(rollout))).into_response())
}

/// List rollouts
///
/// The newest first.
#[utoipa::path(
    get,
    path = "/v1/rollouts",
    operation_id = "list_rollouts",
    tag = "migrations",
    params(ListQuery),
    responses((status = OK, description = "One page", body = Page<Rollout>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Rollout>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    let rollouts = rollouts::list(&control, &caller, &page).await?;
    Ok(Json(convert::page(rollouts, shown)))
}

/// Show a rollout
#[utoipa::path(
    get,
    path = "/v1/rollouts/{rollout}",
    operation_id = "show_rollout",
    tag = "migrations",
    params(("rollout" = Uuid, Path, description = "Its id")),
    responses(
        (status = OK, description = "The rollout", body = Rollout,
            links(
                ("targets" = (operation_id = "list_rollout_targets", parameters(("rollout" = "$response.body#/id")))),
                ("events" = (operation_id = "follow_rollout", parameters(("rollout" = "$response.body#/id")))),
                ("set" = (operation_id = "show_migration_set", parameters(("set" = "$response.body#/migration_set")))),
            )),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<RolloutId>,
) -> Result<Json<Rollout>, Refusal> {
    Ok(Json(shown(rollouts::show(&control, &caller, id).await?)))
}

/// List a rollout's targets
#[utoipa::path(
    get,
    path = "/v1/rollouts/{rollout}/targets",
    operation_id = "list_rollout_targets",
    tag = "migrations",
    params(("rollout" = Uuid, Path, description = "Its id"), ListTargets),
    responses((status = OK, description = "One page", body = Page<RolloutTarget>)),
)]
pub(crate) async fn targets(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<RolloutId>,
    Query(query): Query<ListTargets>,
) -> Result<Json<Page<RolloutTarget>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    let targets = rollouts::targets(&control, &caller, id, &query.state.0, &page).await?;
    Ok(Json(convert::page(targets, target)))
}

/// Show how far the fleet is from a rollout's set
///
/// How many live tenants are at which version, as the catalog knows them, and how many of the set's migrations they lack.
#[utoipa::path(
    get,
    path = "/v1/rollouts/{rollout}/versions",
    operation_id = "show_fleet_versions",
    tag = "migrations",
    params(("rollout" = Uuid, Path, description = "Its id")),
    responses((status = OK, description = "The versions, the highest first", body = FleetVersions)),
)]
pub(crate) async fn versions(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<RolloutId>,
) -> Result<Json<FleetVersions>, Refusal> {
    let versions = rollouts::versions(&control, &caller, id).await?;
    let item = |at: records::FleetVersion| FleetVersion {
        version: at.version,
        tenants: at.tenants.into(),
        behind: at.behind.into(),
    };
    Ok(Json(FleetVersions { items: versions.into_iter().map(item).collect() }))
}

/// Pause a rollout
///
/// Begins no more targets; those that run finish.
#[utoipa::path(
    post,
    path = "/v1/rollouts/{rollout}/pause",
    operation_id = "pause_rollout",
    tag = "migrations",
    params(("rollout" = Uuid, Path, description = "Its id")),
    responses((status = OK, description = "The rollout", body = Rollout)),
)]
pub(crate) async fn pause(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<RolloutId>,
    _: NoBody,
) -> Result<Json<Rollout>, Refusal> {
    Ok(Json(shown(rollouts::pause(&control, &caller, id).await?)))
}

/// Resume a rollout
#[utoipa::path(
    post,
    path = "/v1/rollouts/{rollout}/resume",
    operation_id = "resume_rollout",
    tag = "migrations",
    params(("rollout" = Uuid, Path, description = "Its id")),
    responses((status = OK, description = "The rollout", body = Rollout)),
)]
pub(crate) async fn resume(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<RolloutId>,
    _: NoBody,
) -> Result<Json<Rollout>, Refusal> {
    Ok(Json(shown(rollouts::resume(&control, &caller, id).await?)))
}

/// Abort a rollout
///
/// Ends it where it stands. What is migrated stays migrated; the set is not promoted.
#[utoipa::path(
    post,
    path = "/v1/rollouts/{rollout}/abort",
    operation_id = "abort_rollout",
    tag = "migrations",
    params(("rollout" = Uuid, Path, description = "Its id")),
    responses((status = OK, description = "The rollout", body = Rollout)),
)]
pub(crate) async fn abort(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<RolloutId>,
    _: NoBody,
) -> Result<Json<Rollout>, Refusal> {
    Ok(Json(shown(rollouts::abort(&control, &caller, id).await?)))
}

/// Retry a rollout
///
/// Takes the targets of a failed rollout up again that failed, and only those.
#[utoipa::path(
    post,
    path = "/v1/rollouts/{rollout}/retry",
    operation_id = "retry_rollout",
    tag = "migrations",
    params(("rollout" = Uuid, Path, description = "Its id")),
    responses((status = OK, description = "The rollout", body = Rollout)),
)]
pub(crate) async fn retry(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<RolloutId>,
    _: NoBody,
) -> Result<Json<Rollout>, Refusal> {
    Ok(Json(shown(rollouts::retry(&control, &caller, id).await?)))
}

/// Follow a rollout
///
/// The rollout whenever it has changed, as server-sent events (`data` is a `Rollout`), until it is finished. There is
/// nothing to resume: the first event is the rollout as it is.
#[utoipa::path(
    get,
    path = "/v1/rollouts/{rollout}/events",
    operation_id = "follow_rollout",
    tag = "migrations",
    params(("rollout" = Uuid, Path, description = "Its id")),
    responses((status = OK, description = "Events", body = Rollout, content_type = "text/event-stream")),
)]
pub(crate) async fn events(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<RolloutId>,
) -> Result<impl IntoResponse, Refusal> {
    // Asked before the first byte, so that a refusal still has a status.
    rollouts::show(shared.control(), &caller, id).await?;
    let place = streams::place(&shared)?;
    let changes = follow(shared.control().clone(), caller.clone(), id);
    let changes = streams::guarded(shared, caller.token, place, changes);
    Ok(Sse::new(changes).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn follow(control: Control, caller: Caller, id: RolloutId) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream! {
        // Subscribed before the first look, so that nothing falls between the two.
        let mut news = control.signals().subscribe();
        let mut told = None;
        loop {
            let seen = match rollouts::show(&control, &caller, id).await {
                Ok(rollout) => shown(rollout),
                Err(error) => {
                    warn!(error = %chain(&error), rollout_id = %id, "an event stream ends early; its reader resumes");
                    return;
                }
            };
            let is_finished = seen.state.is_finished();
            if told.as_ref() != Some(&seen) {
                // Words, numbers and times: nothing here fails to serialise.
                yield Ok(Event::default().event("rollout").json_data(&seen).unwrap_or_default());
                told = Some(seen);
            }
            if is_finished {
                return;
            }
            Signals::wait_for(&mut news, LOOK_AGAIN, |news| news == News::Rollout(id)).await;
            tokio::time::sleep(PACE).await;
        }
    }
}

pub(super) fn wish(body: CreateRollout) -> rollouts::CreateRollout {
    let number = |limit: Concurrency| u32::from(limit.get());
    let wave = |wave: CreateWave| Wave {
        select: wave.select,
        bake_seconds: wave.bake_seconds,
        error_budget: wave.error_budget.into(),
    };
    rollouts::CreateRollout {
        migration_set: body.migration_set,
        waves: body.waves.map(|waves| waves.into_iter().map(wave).collect()),
        error_budget: body.error_budget.into(),
        breaker: body.breaker.map(BreakerLength::get),
        concurrency: body.concurrency.map(number),
        per_cluster: body.per_cluster.map(number),
        per_database: body.per_database.map(number),
        verify: body.verify,
        queue: body.queue,
        priority: body.priority,
        not_before: body.not_before,
        hours: body.hours,
        plan: body.plan,
    }
}

fn shown(rollout: RolloutRecord) -> Rollout {
    let bakes_until = rollout.bakes_until();
    let opens_at = if rollout.state.is_finished() { None } else { rollouts::opens_at(&rollout, Timestamp::now()) };
    let waves = rollout.waves.as_slice().iter().zip(&rollout.wave_counts);
    Rollout {
        id: rollout.id,
        migration_set: rollout.migration_set,
        state: rollout.state,
        waves: waves
            .map(|(wave, counts)| RolloutWave {
                select: wave.select.clone(),
                bake_seconds: wave.bake_seconds,
                error_budget: wave.error_budget.into(),
                counts: shown_counts(counts),
            })
            .collect(),
        wave: rollout.wave,
        bakes_until,
        limits: shown_limits(rollout.limits),
        error_budget: rollout.error_budget.into(),
        breaker: rollout.breaker,
        verify: rollout.verify,
        priority: rollout.priority,
        not_before: rollout.not_before,
        opens_at,
        hours: rollout.hours,
        began_at: rollout.began_at,
        stop: rollout.stop,
        counts: shown_counts(&rollout.counts),
        created_at: rollout.created_at,
        finished_at: rollout.finished_at,
    }
}

pub(super) fn shown_limits(limits: records::RolloutLimits) -> RolloutLimits {
    let limit = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    RolloutLimits {
        concurrency: limit(limits.concurrency),
        per_cluster: limits.per_cluster.map(limit),
        per_database: limits.per_database.map(limit),
    }
}

fn shown_counts(counts: &records::RolloutCounts) -> RolloutCounts {
    RolloutCounts {
        pending: counts.pending.into(),
        running: counts.running.into(),
        applied: counts.applied.into(),
        already: counts.already.into(),
        failed: counts.failed.into(),
        parked: counts.parked.into(),
        skipped: counts.skipped.into(),
    }
}

fn target(target: records::RolloutTarget) -> RolloutTarget {
    RolloutTarget {
        tenant: target.tenant,
        wave: target.wave,
        state: target.state,
        from_version: Some(target.from_version),
        to_version: target.to_version,
        attempts: target.attempts,
        error: target.error,
        duration_ms: target.duration_ms,
    }
}
