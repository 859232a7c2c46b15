//! `/v1/audit-log`.

use axum::extract::{Extension, State};
use tenantry_api::{AuditEntry, ListAuditLog, Page};
use tenantry_control::records::{AuditFilter, AuditRecord};
use tenantry_control::{Caller, Control, audit_log};

use super::convert;
use super::extract::{Json, Query};
use super::problem::Refusal;

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
