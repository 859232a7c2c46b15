//! `/v1/query`.

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
    FleetQuery, ListTenants, QueryError, QueryFailed, QueryLine, QueryReached, QueryRow, QuerySkipped, QuerySummary,
    QueryValues,
};
use tenantry_control::query::{self, QueryAnswer, QueryItem, Selection};
use tenantry_control::{Caller, Control};
use tenantry_domain::Scope;

use super::extract::Json;
use super::problem::Refusal;
use super::state::Shared;
use super::{convert, streams, tenants};

/// Unless the request says so.
const CONCURRENCY: usize = 16;
const PER_CLUSTER: usize = 8;
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
const TIME_LIMIT: Duration = Duration::from_mins(10);
const ROWS_MAX: u64 = 1_000;

/// Ask many tenants
///
/// Runs one statement for every tenant that is named, as the home's read-only role, in a transaction that can write nothing,
/// with nothing of it left behind. Several statements, and those that return no rows, are refused. Needs the scope `admin`;
/// the statement is kept in the audit log. The answer is newline-delimited JSON (`QueryLine`), as rows come, each with its
/// tenant, and says of each tenant whether it was reached, failed or was skipped: one that fails holds up no other, and those
/// that are suspended or moving are skipped. A row has 256 KiB at most. Where the caller goes away, all that runs is cancelled.
#[utoipa::path(
    post,
    path = "/v1/query",
    operation_id = "query_tenants",
    tag = "tenants",
    request_body = FleetQuery,
    responses((status = OK, description = "Rows", body = QueryLine, content_type = "application/x-ndjson")),
)]
pub(crate) async fn run(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<FleetQuery>,
) -> Result<Response, Refusal> {
    // Asked before anything is looked up.
    caller.require_fleet_wide(Scope::Admin)?;
    let place = streams::place(&shared)?;
    let wish = wish(shared.control(), &caller, body).await?;
    let answer = query::query(shared.control(), &caller, wish).await?;
    let lines = streams::json_lines(lines(answer));
    let lines = streams::guarded(shared, caller.token, place, lines);
    Ok(([(CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines.map(Ok::<_, Infallible>))).into_response())
}

async fn wish(control: &Control, caller: &Caller, body: FleetQuery) -> Result<query::FleetQuery, Refusal> {
    let selection = match (body.tenants, body.filter, body.all) {
        (Some(named), None, false) => Selection::Tenants(named.into_iter().map(convert::tenant_ref).collect()),
        (None, Some(filter), false) => {
            if filter.limit.is_some() || filter.cursor.is_some() {
                let message = "leave out `limit` and `cursor`: all tenants that it finds are meant";
                return Err(Refusal::invalid("/filter", message));
            }
            if filter == ListTenants::default() {
                return Err(Refusal::invalid("/filter", "name at least one filter; for all tenants, say `all`"));
            }
            Selection::Filter(Box::new(tenants::filter(control, caller, filter).await?))
        }
        (None, None, true) => Selection::Filter(Box::default()),
        _ => return Err(Refusal::invalid("", "say whom to ask by exactly one of `tenants`, `filter` and `all`")),
    };
    Ok(query::FleetQuery {
        sql: body.sql,
        selection,
        concurrency: body.concurrency.map_or(CONCURRENCY, |number| number.get().into()),
        per_cluster: body.per_cluster.map_or(PER_CLUSTER, |number| number.get().into()),
        statement_timeout: body
            .statement_timeout_ms
            .map_or(STATEMENT_TIMEOUT, |limit| Duration::from_millis(limit.get().into())),
        time_limit: body.time_limit_seconds.map_or(TIME_LIMIT, |limit| Duration::from_secs(limit.get().into())),
        rows_max: body.rows_max.map_or(ROWS_MAX, |rows| rows.get().into()),
    })
}

fn lines(mut answer: QueryAnswer) -> impl Stream<Item = QueryLine> + Send {
    stream! {
        while let Some(item) = answer.next().await {
            yield line(item);
        }
    }
}

fn line(item: QueryItem) -> QueryLine {
    match item {
        QueryItem::Row { tenant, columns, values } => {
            QueryLine::Row(QueryRow { tenant, row: QueryValues(columns.iter().cloned().zip(values).collect()) })
        }
        QueryItem::Reached { tenant, rows, truncated } => QueryLine::Reached(QueryReached { tenant, rows, truncated }),
        QueryItem::Failed { tenant, failure } => {
            let query::ReadingFailure { sqlstate, message, detail, hint, position } = *failure;
            QueryLine::Failed(QueryFailed { tenant, error: QueryError { message, sqlstate, detail, hint, position } })
        }
        QueryItem::Skipped { tenant, reason } => QueryLine::Skipped(QuerySkipped { tenant, reason }),
        QueryItem::Summary(sum) => QueryLine::Summary(QuerySummary {
            reached: sum.reached,
            failed: sum.failed,
            skipped: sum.skipped,
            rows: sum.rows,
            truncated: sum.truncated,
        }),
    }
}
