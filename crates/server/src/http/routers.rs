//! `/v1/routers`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use tenantry_api::{ClusterDemand, ListRouters, Page, Router, RouterLease, RouterReport};
use tenantry_control::{Caller, Control, records, routers};
use tenantry_domain::DisplayName;

use super::convert;
use super::extract::{Json, Path, Query};
use super::problem::Refusal;

/// List routers
///
/// By name, each with its last report, and whether it follows the feed now, of whichever replica.
#[utoipa::path(
    get,
    path = "/v1/routers",
    operation_id = "list_routers",
    tag = "routes",
    params(ListRouters),
    responses((status = OK, description = "One page", body = Page<Router>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListRouters>,
) -> Result<Json<Page<Router>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    let routers = routers::list(&control, &caller, query.connected, &page).await?;
    Ok(Json(convert::page(routers, |router| Router {
        router: router.name,
        applied_version: router.applied_version,
        lag: router.lag,
        connected_since: router.connected_at,
        replica: router.replica,
        leases: router.leases.into_iter().map(lease).collect(),
        reported_at: router.reported_at,
        detail: router.detail,
    })))
}

fn lease(lease: records::RouterLease) -> RouterLease {
    RouterLease { cluster: lease.cluster, connections: lease.granted, held: lease.held, wanted: lease.wanted }
}

/// Report as a router
///
/// What it has applied and what it needs, on at most 1,000 clusters. What it may hold of their connections is divided by
/// that among all routers, and told over the feed. Each report takes the place of the one before, so an `Idempotency-Key` is
/// accepted and changes nothing.
#[utoipa::path(
    post,
    path = "/v1/routers/{router}/report",
    operation_id = "report_router",
    tag = "routes",
    params(("router" = String, Path, description = "Its name, 1 to 200 characters, unique among routers")),
    request_body = RouterReport,
    responses((status = NO_CONTENT, description = "It is taken down")),
)]
pub(crate) async fn report(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(router): Path<DisplayName>,
    Json(report): Json<RouterReport>,
) -> Result<StatusCode, Refusal> {
    let detail = serde_json::json!({ "routes": report.routes, "pools": report.pools, "clusters": report.clusters });
    let demand = |demand: &ClusterDemand| records::ConnectionDemand {
        router: router.to_string(),
        cluster: demand.cluster,
        open: demand.open,
        wanted: demand.open.saturating_sub(demand.idle).saturating_add(demand.waiting),
        acknowledged: demand.acknowledged,
    };
    let report = records::RouterReport {
        demands: report.clusters.iter().map(demand).collect(),
        name: router.to_string(),
        applied_version: report.applied_version,
        detail,
    };
    routers::report(&control, &caller, report).await?;
    Ok(StatusCode::NO_CONTENT)
}
