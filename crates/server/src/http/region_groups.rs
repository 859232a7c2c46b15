//! `/v1/region-groups`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tenantry_api::{ListQuery, Page, PutRegionGroup, RegionGroup};
use tenantry_control::{Caller, Control, region_groups};
use tenantry_domain::Region;

use super::convert;
use super::etag::{IfMatch, etag};
use super::extract::{Json, Path, Query};
use super::problem::Refusal;

/// List region groups
///
/// By name.
#[utoipa::path(
    get,
    path = "/v1/region-groups",
    operation_id = "list_region_groups",
    tag = "clusters",
    params(ListQuery),
    responses((status = OK, description = "One page", body = Page<RegionGroup>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<RegionGroup>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(convert::page(region_groups::list(&control, &caller, &page).await?, RegionGroup::from)))
}

/// Show a region group
#[utoipa::path(
    get,
    path = "/v1/region-groups/{group}",
    operation_id = "show_region_group",
    tag = "clusters",
    params(("group" = String, Path, description = "Its name")),
    responses(
        (status = OK, description = "The group", body = RegionGroup,
            headers(("etag" = String, description = "Its version, for `If-Match`")),
            links(("tenants" = (operation_id = "list_tenants", parameters(("region" = "$response.body#/id")))))),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(group): Path<Region>,
) -> Result<Response, Refusal> {
    let group = region_groups::show(&control, &caller, &group).await?;
    Ok(tagged(StatusCode::OK, group))
}

/// Make or change a region group
///
/// All its members at once. A region in which a tenant of the group lives cannot leave it.
#[utoipa::path(
    put,
    path = "/v1/region-groups/{group}",
    operation_id = "put_region_group",
    tag = "clusters",
    params(
        ("group" = String, Path, description = "Its name, which no region has"),
        ("if-match" = Option<String>, Header, description = "Change only this version (`ETag`)"),
    ),
    request_body = PutRegionGroup,
    responses(
        (status = OK, description = "The group after the change", body = RegionGroup,
            headers(("etag" = String, description = "Its new version"))),
        (status = CREATED, description = "The new group", body = RegionGroup,
            headers(("etag" = String, description = "Its version")),
            links(("delete" = (operation_id = "delete_region_group", parameters(("group" = "$response.body#/id")))))),
    ),
)]
pub(crate) async fn put(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(group): Path<Region>,
    IfMatch(if_match): IfMatch,
    Json(body): Json<PutRegionGroup>,
) -> Result<Response, Refusal> {
    let (group, is_new) = region_groups::put(&control, &caller, &group, &body.regions, if_match).await?;
    Ok(tagged(if is_new { StatusCode::CREATED } else { StatusCode::OK }, group))
}

/// Forget a region group
///
/// One that no tenant names.
#[utoipa::path(
    delete,
    path = "/v1/region-groups/{group}",
    operation_id = "delete_region_group",
    tag = "clusters",
    params(("group" = String, Path, description = "Its name")),
    responses((status = NO_CONTENT, description = "It is forgotten")),
)]
pub(crate) async fn delete(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(group): Path<Region>,
) -> Result<StatusCode, Refusal> {
    region_groups::delete(&control, &caller, &group).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn tagged(status: StatusCode, group: tenantry_domain::RegionGroup) -> Response {
    (status, etag(group.updated_at), Json(RegionGroup::from(group))).into_response()
}
