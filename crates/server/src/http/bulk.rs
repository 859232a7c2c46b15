//! `/v1/tenants/bulk`.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::body::Body;
use axum::extract::{Extension, FromRequest, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde::de::DeserializeOwned;
use tenantry_api::bulk::{CSV, JSON_LINES, ROWS_MAX};
use tenantry_api::{
    BulkAction, BulkChange, BulkLine, BulkOutcome, BulkQuery, BulkResult, BulkSummary, Code, CreateTenant,
    GraceSeconds, Problem,
};
use tenantry_control::bulk::{self, Action, Reached};
use tenantry_control::tenants::{Resume, Suspend};
use tenantry_control::{Caller, Control, ControlError, operations};
use tenantry_domain::{OperationState, Scope, ScopeSet, Slug, Tenant};

use super::bulk_rows::{self, BulkRow};
use super::extract::{Json, Query, body};
use super::problem::Refusal;
use super::state::Shared;
use super::{convert, idempotency, streams, tenants};

/// What a bulk call is about, by its media type.
pub(crate) enum BulkBody {
    /// Tenants to create.
    Rows(Vec<BulkRow>),
    /// A change of tenants that are there.
    Change(Box<BulkChange>),
}

impl<S: Send + Sync> FromRequest<S> for BulkBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            CSV => bulk_rows::of_csv(&body(request, state).await?).map(Self::Rows),
            JSON_LINES => bulk_rows::of_json_lines(&body(request, state).await?).map(Self::Rows),
            "application/json" => change(Json::from_request(request, state).await?),
            _ => {
                let detail = "Send rows of tenants to create as text/csv or application/x-ndjson, or a change of many \
                              tenants as application/json.";
                Err(Refusal::new(Code::InvalidRequest, detail)
                    .with_status(axum::http::StatusCode::UNSUPPORTED_MEDIA_TYPE))
            }
        }
    }
}

fn change(Json(change): Json<BulkChange>) -> Result<BulkBody, Refusal> {
    let filter = &change.filter;
    if filter.limit.is_some() || filter.cursor.is_some() {
        return Err(Refusal::invalid("/filter", "leave out `limit` and `cursor`: all tenants that it finds are meant"));
    }
    if *filter == tenantry_api::ListTenants::default() {
        let message = "name at least one filter; for really all tenants, name every status";
        return Err(Refusal::invalid("/filter", message));
    }
    if !change.dry_run && change.expected.is_none() {
        let message = "say how many tenants you expect to reach; a call with `dry_run` counts them";
        return Err(Refusal::invalid("/expected", message));
    }
    Ok(BulkBody::Change(Box::new(change)))
}

/// Create or change many tenants
///
/// Rows create a tenant each: `text/csv` with a heading (`slug`, `name`, `plan`, `region`, `isolation`, `parent`,
/// `cluster`, `seed`, `no_seed`, `trial_ends_at`, `label.<key>`, `override.<limit>`), or `application/x-ndjson` with what
/// `POST /v1/tenants` takes in each line. `application/json` does the same to every tenant that a filter finds
/// (`change_plan`, `suspend`, `resume`, `delete`): first with `dry_run`, which counts them, then with that number as
/// `expected`. A tenant that is so already is `known` and left as it is.
///
/// The answer is one line per tenant, in order, as they are done, and a summary last; one that is refused holds up no
/// other. Where the answer breaks off, send the same rows again under the same `Idempotency-Key`: no tenant is made
/// twice. 10,000 tenants at most.
#[utoipa::path(
    post,
    path = "/v1/tenants/bulk",
    operation_id = "bulk_tenants",
    tag = "tenants",
    params(BulkQuery),
    request_body(
        description = "Rows of tenants, or a change",
        content((BulkChange = "application/json"), (CreateTenant = "application/x-ndjson"), (String = "text/csv")),
    ),
    responses((status = OK, description = "Results", body = BulkLine, content_type = "application/x-ndjson")),
)]
pub(crate) async fn run(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<BulkQuery>,
    headers: axum::http::HeaderMap,
    body: BulkBody,
) -> Result<Response, Refusal> {
    // Asked before the first byte, so that a refusal still has a status.
    bulk::check(&caller)?;
    let key = idempotency::key(&headers)?;
    let wait = query.wait.map(tenantry_api::WaitSeconds::as_duration);
    let control = shared.control().clone();
    match body {
        BulkBody::Rows(rows) => {
            let worker = Worker { control, caller: caller.clone(), wait };
            let results = stream::iter(rows.into_iter().enumerate())
                .map(move |(index, row)| {
                    let (worker, key) = (worker.clone(), key.clone());
                    async move { worker.create(index, row, key.as_deref()).await }
                })
                .buffered(bulk::CONCURRENCY);
            answer(shared, &caller, results)
        }
        BulkBody::Change(change) => {
            let action = action(change.action.clone());
            bulk::check_action(&action)?;
            let found = found(&control, &caller, &change).await?;
            if change.dry_run {
                let rows = u64::try_from(found.len()).unwrap_or(u64::MAX);
                let summary = BulkLine::Summary(BulkSummary { rows, dry_run: true, ..BulkSummary::default() });
                let lines = line(&summary).map(Ok::<_, Infallible>);
                return Ok(([(CONTENT_TYPE, JSON_LINES)], Body::from_stream(stream::iter(lines))).into_response());
            }
            let worker = Worker { control, caller: caller.clone(), wait };
            let results = stream::iter(found.into_iter().enumerate())
                .map(move |(index, tenant)| {
                    let (worker, action) = (worker.clone(), action.clone());
                    async move { worker.act(index, &action, &tenant).await }
                })
                .buffered(bulk::CONCURRENCY);
            answer(shared, &caller, results)
        }
    }
}

async fn found(control: &Control, caller: &Caller, change: &BulkChange) -> Result<Vec<Tenant>, Refusal> {
    let filter = tenants::filter(control, caller, change.filter.clone()).await?;
    let found = bulk::matching(control, caller, &filter, ROWS_MAX).await?;
    let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
    if change.expected.is_some_and(|expected| expected != count) {
        let detail = format!("The filter finds {count} tenants, which is not what you expect; nothing was changed.");
        return Err(Refusal::new(Code::PreconditionFailed, detail));
    }
    Ok(found)
}

fn action(action: BulkAction) -> Action {
    match action {
        BulkAction::ChangePlan { plan } => Action::ChangePlan(plan),
        BulkAction::Suspend { reason, note, until } => Action::Suspend(Suspend { reason, note, until, subtree: false }),
        BulkAction::Resume { subtree } => Action::Resume(Resume { subtree }),
        BulkAction::Delete { grace } => Action::Delete(grace.map(GraceSeconds::as_duration)),
    }
}

fn answer(
    shared: Shared,
    caller: &Caller,
    results: impl Stream<Item = BulkResult> + Send + 'static,
) -> Result<Response, Refusal> {
    let place = streams::place(&shared)?;
    let pieces = stream! {
        let mut summary = BulkSummary::default();
        let mut results = std::pin::pin!(results);
        while let Some(result) = results.next().await {
            summary.count(result.outcome);
            if let Some(piece) = line(&BulkLine::Result(Box::new(result))) {
                yield piece;
            }
        }
        if let Some(piece) = line(&BulkLine::Summary(summary)) {
            yield piece;
        }
    };
    let pieces = streams::guarded(shared, caller.token, place, pieces);
    Ok(([(CONTENT_TYPE, JSON_LINES)], Body::from_stream(pieces.map(Ok::<_, Infallible>))).into_response())
}

/// Words, numbers and times into memory: nothing here fails to serialise.
fn line(line: &BulkLine) -> Option<Bytes> {
    let mut text = serde_json::to_vec(line).ok()?;
    text.push(b'\n');
    Some(Bytes::from(text))
}

/// Works on one tenant after the other.
#[derive(Clone)]
struct Worker {
    control: Control,
    caller: Caller,
    wait: Option<Duration>,
}

impl Worker {
    async fn create(&self, index: usize, row: BulkRow, key: Option<&str>) -> BulkResult {
        let row_number = number(index);
        let create = match row {
            Ok(create) => create,
            Err(problem) => return refused(row_number, None, *problem),
        };
        let slug = create.slug.clone();
        let wish = match tenants::wish(create) {
            Ok(wish) => wish,
            Err(refusal) => return refused(row_number, Some(slug), refusal.into_problem()),
        };
        let reached = bulk::create(&self.control, &self.caller, wish, key).await;
        self.finish(row_number, slug, reached).await
    }

    async fn act(&self, index: usize, action: &Action, tenant: &Tenant) -> BulkResult {
        let reached = bulk::act(&self.control, &self.caller, action, tenant).await;
        self.finish(number(index), tenant.slug.clone(), reached).await
    }

    async fn finish(&self, row: u64, slug: Slug, reached: Result<Reached, ControlError>) -> BulkResult {
        let mut reached = match reached {
            Ok(reached) => reached,
            Err(error) => {
                let refusal = Refusal::from(error);
                refusal.log();
                return refused(row, Some(slug), refusal.into_problem());
            }
        };
        if let (Some(wait), Some(operation)) = (self.wait, &reached.operation) {
            // Whoever may begin the work may watch this one piece of it.
            let scopes = self.caller.scopes.iter().chain([Scope::Operations(tenantry_domain::Access::Read)]);
            let watcher = Caller { scopes: ScopeSet::new(scopes), ..self.caller.clone() };
            match operations::wait(&self.control, &watcher, operation.id, wait).await {
                Ok(operation) => reached.operation = Some(operation),
                // It was begun; only looking at it did not work.
                Err(error) => tracing::warn!(%error, "an operation of a bulk call could not be watched"),
            }
        }
        BulkResult {
            row,
            slug: Some(slug),
            outcome: outcome(&reached),
            tenant: Some(reached.tenant),
            operation: reached.operation.map(convert::operation),
            problem: None,
        }
    }
}

fn outcome(reached: &Reached) -> BulkOutcome {
    match reached.operation.as_ref().map(|operation| operation.state) {
        Some(OperationState::Failed | OperationState::Cancelled) => BulkOutcome::Failed,
        _ if reached.is_known => BulkOutcome::Known,
        None | Some(OperationState::Succeeded) => BulkOutcome::Done,
        Some(_) => BulkOutcome::Accepted,
    }
}

fn refused(row: u64, slug: Option<Slug>, problem: Problem) -> BulkResult {
    BulkResult { row, slug, outcome: BulkOutcome::Refused, tenant: None, operation: None, problem: Some(problem) }
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1)
}

/// The same refusal as a body of its own would get.
pub(crate) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Problem>> {
    tenantry_api::parse_body(body).map_err(|invalid| Box::new(Problem::from(invalid)))
}
