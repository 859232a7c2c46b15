//! `/v1/routes/resolve`.

use axum::extract::{Extension, State};
use tenantry_api::route::ResolveBy;
use tenantry_api::{ResolveQuery, Route};
use tenantry_control::{Caller, Control, routes};

use super::extract::{Json, Query};
use super::problem::Refusal;

/// Resolve a route
///
/// What is needed to reach one tenant, for services with pools of their own. With passwords where the token has
/// `routes:secrets`.
#[utoipa::path(
    get,
    path = "/v1/routes/resolve",
    operation_id = "resolve_route",
    tag = "routes",
    params(ResolveQuery),
    responses(
        (status = OK, description = "The route", body = Route,
            links(("tenant" = (operation_id = "show_tenant", parameters(("tenant" = "$response.body#/tenant")))))),
    ),
)]
pub(crate) async fn resolve(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ResolveQuery>,
) -> Result<Json<Route>, Refusal> {
    let by = match query.by().map_err(|error| Refusal::invalid("?", error.to_string()))? {
        ResolveBy::Host(host) => routes::ResolveBy::Host(host),
        ResolveBy::Slug(slug) => routes::ResolveBy::Slug(slug),
        ResolveBy::Id(id) => routes::ResolveBy::Id(id),
    };
    Ok(Json(Route::from(routes::resolve(&control, &caller, &by).await?)))
}
