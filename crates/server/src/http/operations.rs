//! `/v1/operations`.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use tenantry_api::{DecideOperation, ListOperationEvents, ListOperations, Operation, OperationEvent, Page, WaitQuery};
use tenantry_control::records::{self, OperationFilter};
use tenantry_control::signals::{News, Signals};
use tenantry_control::{Caller, Control, ControlError, operations};
use tenantry_domain::{OperationId, Reason};
use tracing::{Span, field, warn};

use super::extract::{Json, OptionalJson, Path, Query};
use super::problem::{Refusal, chain};
use super::state::Shared;
use super::{convert, streams, wait};

/// Most events that one look brings.
const EVENTS_MAX: i64 = 200;
/// Streams look for themselves this often, in case news was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A comment keeps a silent stream from looking dead.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// List operations
///
/// The newest first.
#[utoipa::path(
    get,
    path = "/v1/operations",
    operation_id = "list_operations",
    tag = "operations",
    params(ListOperations),
    responses((status = OK, description = "One page", body = Page<Operation>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListOperations>,
) -> Result<Json<Page<Operation>>, Refusal> {
    page(&control, &caller, query).await
}

/// One page, for the list of all and the list of a tenant.
pub(crate) async fn page(
    control: &Control,
    caller: &Caller,
    query: ListOperations,
) -> Result<Json<Page<Operation>>, Refusal> {
    let filter = OperationFilter {
        tenant: convert::tenant_filter(control, caller, "?tenant", query.tenant).await?,
        cluster: convert::cluster_filter(control, caller, query.cluster).await?,
        kind: query.kind,
        state: query.state.0,
        since: query.since,
    };
    let page = convert::page_request(query.limit, query.cursor);
    let operations = operations::list(control, caller, &filter, &page).await?;
    Ok(Json(convert::page(operations, convert::operation)))
}

/// Show an operation
#[utoipa::path(
    get,
    path = "/v1/operations/{operation}",
    operation_id = "show_operation",
    tag = "operations",
    params(("operation" = Uuid, Path, description = "Its id")),
    responses(
        (status = OK, description = "The operation", body = Operation,
            links(
                ("events" = (operation_id = "follow_operation", parameters(("operation" = "$response.body#/id")))),
                ("tenant" = (operation_id = "show_tenant", parameters(("tenant" = "$response.body#/tenant")))),
                ("retry" = (operation_id = "retry_operation", parameters(("operation" = "$response.body#/id")))),
                ("cancel" = (operation_id = "cancel_operation", parameters(("operation" = "$response.body#/id")))),
            )),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<OperationId>,
) -> Result<Json<Operation>, Refusal> {
    Ok(Json(convert::operation(operations::show(&control, &caller, id).await?)))
}

/// List an operation's log
///
/// The oldest entry first.
#[utoipa::path(
    get,
    path = "/v1/operations/{operation}/timeline",
    operation_id = "list_operation_events",
    tag = "operations",
    params(("operation" = Uuid, Path, description = "Its id"), ListOperationEvents),
    responses((status = OK, description = "One page", body = Page<OperationEvent>)),
)]
pub(crate) async fn timeline(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<OperationId>,
    Query(query): Query<ListOperationEvents>,
) -> Result<Json<Page<OperationEvent>>, Refusal> {
    let after = match &query.cursor {
        None => 0,
        Some(cursor) => cursor
            .parse()
            .ok()
            .filter(|after| *after >= 0)
            .ok_or_else(|| Refusal::invalid("?cursor", "use the `next` of the page before"))?,
    };
    let limit = query.limit.unwrap_or_default().get();
    let events = operations::events(&control, &caller, id, after, limit.into()).await?;
    let next = (events.len() == usize::from(limit)).then(|| events.last().map(|event| event.id.to_string())).flatten();
    Ok(Json(Page { items: events.into_iter().map(convert::operation_event).collect(), next }))
}

/// Cancel an operation
///
/// Walks it back, unless its pivot has passed.
#[utoipa::path(
    post,
    path = "/v1/operations/{operation}/cancel",
    operation_id = "cancel_operation",
    tag = "operations",
    params(("operation" = Uuid, Path, description = "Its id"), WaitQuery),
    request_body(content = Option<DecideOperation>, description = "Why; may be left out"),
    responses(
        (status = OK, description = "It is finished", body = Operation),
        (status = ACCEPTED, description = "The work goes on", body = Operation),
    ),
)]
pub(crate) async fn cancel(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<OperationId>,
    Query(query): Query<WaitQuery>,
    OptionalJson(body): OptionalJson<DecideOperation>,
) -> Result<Response, Refusal> {
    let reason = body.reason.as_ref().map(Reason::as_str);
    let operation = operations::cancel(&control, &caller, id, reason).await?;
    changed(&control, &caller, operation, query).await
}

/// Retry an operation
///
/// Takes up again what is parked, or provisions again what was walked back.
#[utoipa::path(
    post,
    path = "/v1/operations/{operation}/retry",
    operation_id = "retry_operation",
    tag = "operations",
    params(("operation" = Uuid, Path, description = "Its id"), WaitQuery),
    request_body(content = Option<DecideOperation>, description = "Why; may be left out"),
    responses(
        (status = OK, description = "It is finished", body = Operation),
        (status = ACCEPTED, description = "The work goes on", body = Operation),
    ),
)]
pub(crate) async fn retry(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<OperationId>,
    Query(query): Query<WaitQuery>,
    OptionalJson(body): OptionalJson<DecideOperation>,
) -> Result<Response, Refusal> {
    let reason = body.reason.as_ref().map(Reason::as_str);
    let operation = operations::retry(&control, &caller, id, reason).await?;
    changed(&control, &caller, operation, query).await
}

/// Skip a step
///
/// Passes over the step at which the operation is parked. For somebody who did its work by hand.
#[utoipa::path(
    post,
    path = "/v1/operations/{operation}/skip",
    operation_id = "skip_operation_step",
    tag = "operations",
    params(("operation" = Uuid, Path, description = "Its id"), WaitQuery),
    request_body(content = Option<DecideOperation>, description = "Why; may be left out"),
    responses(
        (status = OK, description = "It is finished", body = Operation),
        (status = ACCEPTED, description = "The work goes on", body = Operation),
    ),
)]
pub(crate) async fn skip(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<OperationId>,
    Query(query): Query<WaitQuery>,
    OptionalJson(body): OptionalJson<DecideOperation>,
) -> Result<Response, Refusal> {
    let reason = body.reason.as_ref().map(Reason::as_str);
    let operation = operations::skip(&control, &caller, id, reason).await?;
    changed(&control, &caller, operation, query).await
}

/// Abandon an operation
///
/// Gives up a parked operation. What half a home was made for ends as `failed`; other work leaves its tenant as it is.
/// What was made goes when the tenant is deleted.
#[utoipa::path(
    post,
    path = "/v1/operations/{operation}/abandon",
    operation_id = "abandon_operation",
    tag = "operations",
    params(("operation" = Uuid, Path, description = "Its id"), WaitQuery),
    request_body(content = Option<DecideOperation>, description = "Why; may be left out"),
    responses(
        (status = OK, description = "It is finished", body = Operation),
        (status = ACCEPTED, description = "The work goes on", body = Operation),
    ),
)]
pub(crate) async fn abandon(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<OperationId>,
    Query(query): Query<WaitQuery>,
    OptionalJson(body): OptionalJson<DecideOperation>,
) -> Result<Response, Refusal> {
    let reason = body.reason.as_ref().map(Reason::as_str);
    let operation = operations::abandon(&control, &caller, id, reason).await?;
    changed(&control, &caller, operation, query).await
}

/// Follow an operation
///
/// Its log as server-sent events (`data` is an `OperationEvent`), from after the entry that the header `Last-Event-ID`
/// names, until the operation is finished.
#[utoipa::path(
    get,
    path = "/v1/operations/{operation}/events",
    operation_id = "follow_operation",
    tag = "operations",
    params(
        ("operation" = Uuid, Path, description = "Its id"),
        ("last-event-id" = Option<i64>, Header, description = "The last entry that was read"),
    ),
    responses((status = OK, description = "Events", body = OperationEvent, content_type = "text/event-stream")),
)]
pub(crate) async fn events(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<OperationId>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let after = last_event_id(&headers)?;
    // Asked before the first byte, so that a refusal still has a status.
    operations::show(shared.control(), &caller, id).await?;
    let place = streams::place(&shared)?;
    let entries = follow(shared.control().clone(), caller.clone(), id, after);
    let entries = streams::guarded(shared, caller.token, place, entries);
    Ok(Sse::new(entries).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn follow(
    control: Control,
    caller: Caller,
    id: OperationId,
    mut after: i64,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream! {
        // Subscribed before the first look, so that nothing falls between the two.
        let mut news = control.signals().subscribe();
        loop {
            let (entries, is_finished) = match look(&control, &caller, id, after).await {
                Ok(seen) => seen,
                Err(error) => {
                    warn!(error = %chain(&error), operation_id = %id, "an event stream ends early; its reader resumes");
                    return;
                }
            };
            let is_full = entries.len() == usize::try_from(EVENTS_MAX).unwrap_or(usize::MAX);
            for entry in entries {
                after = entry.id;
                yield Ok(event(entry));
            }
            if is_full {
                continue;
            }
            if is_finished {
                return;
            }
            Signals::wait_for(&mut news, LOOK_AGAIN, |news| news == News::Operation(id)).await;
        }
    }
}

/// The state is read before the log, so a finished operation's log is complete.
async fn look(
    control: &Control,
    caller: &Caller,
    id: OperationId,
    after: i64,
) -> Result<(Vec<records::OperationEvent>, bool), ControlError> {
    let is_finished = operations::show(control, caller, id).await?.state.is_finished();
    Ok((operations::events(control, caller, id, after, EVENTS_MAX).await?, is_finished))
}

fn event(entry: records::OperationEvent) -> Event {
    let (id, kind) = (entry.id.to_string(), entry.kind.clone());
    // Words, numbers and JSON: nothing here fails to serialise.
    Event::default().id(id).event(kind).json_data(convert::operation_event(entry)).unwrap_or_default()
}

fn last_event_id(headers: &HeaderMap) -> Result<i64, Refusal> {
    let Some(given) = headers.get("last-event-id") else { return Ok(0) };
    let id = given.to_str().ok().and_then(|text| text.parse().ok());
    id.ok_or_else(|| Refusal::invalid("Last-Event-ID", "send the `id` of the last event that was read"))
}

async fn changed(
    control: &Control,
    caller: &Caller,
    operation: records::Operation,
    query: WaitQuery,
) -> Result<Response, Refusal> {
    Span::current().record("operation_id", field::display(operation.id));
    let operation = wait::for_operation(control, caller, operation, query).await?;
    let status = wait::status(&operation, StatusCode::OK);
    Ok((status, Json(convert::operation(operation))).into_response())
}
