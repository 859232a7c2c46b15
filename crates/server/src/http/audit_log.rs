//! `/v1/audit-log`.

use std::io;
use std::pin::pin;

use async_stream::stream;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tenantry_api::feed::FEED_MEDIA_TYPE;
use tenantry_api::{AuditChain, AuditEntry, AuditLine, ExportAuditLog, ListAuditChains, ListAuditLog, Page};
use tenantry_control::records::{AuditExport, AuditFilter, AuditRecord, LinkedRecord};
use tenantry_control::{Caller, Control, ControlError, audit_log};
use tracing::warn;

use super::convert;
use super::extract::{Json, Query};
use super::problem::{Refusal, chain};
use super::state::Shared;
use super::streams;

/// Most lines that go out in one piece.
const LINES_MAX: usize = 128;

/// List the audit log
///
/// The newest first. Entries of one tenant, and those of the platform, are chained by their hashes.
#[utoipa::path(
    get,
    path = "/v1/audit-log",
    operation_id = "list_audit_log",
    tag = "audit",
    params(ListAuditLog),
    responses((status = OK, description = "One page", body = Page<AuditEntry>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListAuditLog>,
) -> Result<Json<Page<AuditEntry>>, Refusal> {
    let filter = AuditFilter {
        tenant: convert::tenant_filter(&control, &caller, "?tenant", query.tenant).await?,
        action: query.action,
        actor: query.actor,
        since: query.since,
        until: query.until,
    };
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(convert::page(audit_log::list(&control, &caller, &filter, &page).await?, shown)))
}

/// List the chains of the audit log
///
/// How many entries each chain has and the hash of its last one. Kept elsewhere, it shows later whether entries were cut
/// off the end.
#[utoipa::path(
    get,
    path = "/v1/audit-log/chains",
    operation_id = "list_audit_chains",
    tag = "audit",
    params(ListAuditChains),
    responses((status = OK, description = "One page", body = Page<AuditChain>)),
)]
pub(crate) async fn chains(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListAuditChains>,
) -> Result<Json<Page<AuditChain>>, Refusal> {
    let tenant = convert::tenant_filter(&control, &caller, "?tenant", query.tenant).await?;
    let page = convert::page_request(query.limit, query.cursor);
    let page = audit_log::chains(&control, &caller, tenant, &page).await?;
    Ok(Json(convert::page(page, |chain| AuditChain {
        tenant: chain.tenant,
        entries: chain.entries,
        head: hex::encode(chain.head),
        last_entry: chain.last_entry,
    })))
}

/// Export the audit log
///
/// Every entry that is wanted and was there when the request came, oldest first, one a line (`AuditLine`), each with the
/// hash of the one before it in its chain, so that it can be verified anywhere. A connection that is cut means that the
/// export is not complete.
#[utoipa::path(
    get,
    path = "/v1/audit-log/export",
    operation_id = "export_audit_log",
    tag = "audit",
    params(ExportAuditLog),
    responses((status = OK, description = "Entries", body = AuditLine, content_type = "application/x-ndjson")),
)]
pub(crate) async fn export(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ExportAuditLog>,
) -> Result<impl IntoResponse, Refusal> {
    let tenant = convert::tenant_filter(shared.control(), &caller, "?tenant", query.tenant).await?;
    let export = AuditExport { tenant, since: query.since, until: query.until };
    let records = audit_log::export(shared.control(), &caller, export).await?;
    let place = streams::place(&shared)?;
    // Whoever is cut off, by a closing door or a revoked token too, must be able to tell.
    let pieces = ended(streams::guarded(shared, caller.token, place, pieces(records)));
    Ok(([(CONTENT_TYPE, FEED_MEDIA_TYPE)], Body::from_stream(pieces)))
}

/// Lines, as many at once as are ready; `None` after the last one.
fn pieces(
    records: impl Stream<Item = Result<LinkedRecord, ControlError>> + Send,
) -> impl Stream<Item = Option<Bytes>> + Send {
    stream! {
        let mut ready = pin!(records.ready_chunks(LINES_MAX));
        while let Some(records) = ready.next().await {
            let mut piece = Vec::new();
            for record in records {
                match record {
                    Ok(record) => write_line(&mut piece, record),
                    Err(error) => {
                        warn!(error = %chain(&error), "an export of the audit log is cut off");
                        return;
                    }
                }
            }
            yield Some(Bytes::from(piece));
        }
        yield None;
    }
}

/// The pieces, and an error where they stop before their end.
fn ended(pieces: impl Stream<Item = Option<Bytes>> + Send) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream! {
        let mut pieces = pin!(pieces);
        loop {
            match pieces.next().await {
                Some(Some(piece)) => yield Ok(piece),
                Some(None) => return,
                None => {
                    yield Err(io::Error::other("the export is not complete"));
                    return;
                }
            }
        }
    }
}

fn write_line(piece: &mut Vec<u8>, linked: LinkedRecord) {
    let tenant = linked.record.entry.tenant;
    let line = AuditLine { entry: shown(linked.record), tenant, previous: linked.previous.map(hex::encode) };
    // JSON into memory: neither serialising nor writing can fail.
    if serde_json::to_writer(&mut *piece, &line).is_ok() {
        piece.push(b'\n');
    }
}

fn shown(record: AuditRecord) -> AuditEntry {
    let entry = record.entry;
    AuditEntry {
        id: record.id,
        at: record.at,
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
        request_id: entry.request_id.map(|id| id.to_string()),
        operation: entry.operation,
        before: entry.before,
        after: entry.after,
        hash: hex::encode(record.hash),
    }
}
