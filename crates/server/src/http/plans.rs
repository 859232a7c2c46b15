//! `/v1/plans`.

use axum::extract::{Extension, State};
use tenantry_api::{ListQuery, Page, Plan};
use tenantry_control::{Caller, Control, plans};
use tenantry_domain::PlanName;

use super::convert;
use super::extract::{Json, Path, Query};
use super::problem::Refusal;

/// List plans
///
/// By name.
#[utoipa::path(
    get,
    path = "/v1/plans",
    operation_id = "list_plans",
    tag = "plans",
    params(ListQuery),
    responses((status = OK, description = "One page", body = Page<Plan>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Plan>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(convert::page(plans::list(&control, &caller, &page).await?, Plan::from)))
}

/// Show a plan
#[utoipa::path(
    get,
    path = "/v1/plans/{plan}",
    operation_id = "show_plan",
    tag = "plans",
    params(("plan" = String, Path, description = "Its name")),
    responses(
        (status = OK, description = "The plan", body = Plan,
            links(("tenants" = (operation_id = "list_tenants", parameters(("plan" = "$response.body#/id")))))),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(plan): Path<PlanName>,
) -> Result<Json<Plan>, Refusal> {
    Ok(Json(Plan::from(plans::show(&control, &caller, &plan).await?)))
}
