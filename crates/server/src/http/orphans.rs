//! `/v1/orphans`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use tenantry_api::{ListOrphans, Orphan, Page};
use tenantry_control::records::{OrphanFilter, OrphanRecord};
use tenantry_control::{Caller, Control, orphans};
use tenantry_domain::OrphanId;

use super::convert;
use super::extract::{Json, NoBody, Path, Query};
use super::problem::Refusal;

/// List orphans
///
/// What the catalog and the clusters disagree on, the newest first.
#[utoipa::path(
    get,
    path = "/v1/orphans",
    operation_id = "list_orphans",
    tag = "clusters",
    params(ListOrphans),
    responses((status = OK, description = "One page", body = Page<Orphan>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListOrphans>,
) -> Result<Json<Page<Orphan>>, Refusal> {
    let filter = OrphanFilter {
        cluster: convert::cluster_filter(&control, &caller, query.cluster).await?,
        kind: query.kind,
        verdict: query.verdict,
        with_gone: query.gone.unwrap_or_default(),
    };
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(convert::page(orphans::list(&control, &caller, &filter, &page).await?, shown)))
}

/// Show an orphan
#[utoipa::path(
    get,
    path = "/v1/orphans/{orphan}",
    operation_id = "show_orphan",
    tag = "clusters",
    params(("orphan" = Uuid, Path, description = "Its id")),
    responses(
        (status = OK, description = "The orphan", body = Orphan,
            links(("remove" = (operation_id = "remove_orphan", parameters(("orphan" = "$response.body#/id")))))),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(orphan): Path<OrphanId>,
) -> Result<Json<Orphan>, Refusal> {
    Ok(Json(shown(orphans::show(&control, &caller, orphan).await?)))
}

/// Look for orphans now
///
/// On every cluster, within moments. What was found is then listed.
#[utoipa::path(
    post,
    path = "/v1/orphans/scan",
    operation_id = "scan_orphans",
    tag = "clusters",
    responses((status = NO_CONTENT, description = "It is asked for")),
)]
pub(crate) async fn scan(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    _: NoBody,
) -> Result<StatusCode, Refusal> {
    orphans::scan(&control, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove an orphan now
///
/// Only what is `ours`, before its delay is over.
#[utoipa::path(
    post,
    path = "/v1/orphans/{orphan}/remove",
    operation_id = "remove_orphan",
    tag = "clusters",
    params(("orphan" = Uuid, Path, description = "Its id")),
    responses((status = OK, description = "The orphan, gone", body = Orphan)),
)]
pub(crate) async fn remove(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(orphan): Path<OrphanId>,
    _: NoBody,
) -> Result<Json<Orphan>, Refusal> {
    Ok(Json(shown(orphans::remove(&control, &caller, orphan).await?)))
}

fn shown(record: OrphanRecord) -> Orphan {
    let finding = record.finding;
    Orphan {
        id: record.id,
        cluster: record.cluster,
        kind: finding.kind,
        name: finding.name,
        parent: (!finding.parent.is_empty()).then_some(finding.parent),
        verdict: finding.verdict,
        reason: finding.reason,
        first_seen: record.first_seen,
        last_seen: record.last_seen,
        removable_after: record.removable_after,
        gone_at: record.gone_at,
        removed: record.removed,
        error: record.error,
    }
}
