//! `/v1/plans`, and what holds for a tenant.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{CreatePlan, EffectivePlan, ListQuery, Page, Plan, TenantRef, UpdatePlan};
use tenantry_control::plans::{self, PlanChange};
use tenantry_control::{Caller, Control, ControlError};
use tenantry_domain::PlanName;

use super::convert;
use super::etag::{IfMatch, etag};
use super::extract::{Json, Path, Query};
use super::problem::Refusal;

/// How often an update is tried again when somebody else changes the plan at the same time.
const UPDATE_ATTEMPTS: usize = 5;

/// Create a plan
///
/// Name and isolation have no default; each absent limit is "no ceiling".
#[utoipa::path(
    post,
    path = "/v1/plans",
    operation_id = "create_plan",
    tag = "plans",
    request_body = CreatePlan,
    responses(
        (status = CREATED, description = "The plan", body = Plan,
            headers(
                ("location" = String, description = "Where the plan is"),
                ("etag" = String, description = "Its version, for `If-Match`"),
            ),
            links(("plan" = (operation_id = "show_plan", parameters(("plan" = "$response.body#/id")))))),
    ),
)]
pub(crate) async fn create(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<CreatePlan>,
) -> Result<Response, Refusal> {
    let wish = plans::CreatePlan {
        name: body.name,
        isolation: body.isolation,
        quotas: body.quotas,
        features: body.features,
        limits: body.limits,
        price: body.price,
        seed: body.seed,
        affinity: body.affinity,
    };
    let plan = plans::create(&control, &caller, wish).await?;
    let location = [(LOCATION, format!("/v1/plans/{}", plan.name))];
    Ok((StatusCode::CREATED, location, tagged(plan)).into_response())
}

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
            headers(("etag" = String, description = "Its version, for `If-Match`")),
            links(
                ("tenants" = (operation_id = "list_tenants", parameters(("plan" = "$response.body#/id")))),
                ("update" = (operation_id = "update_plan", parameters(("plan" = "$response.body#/id")))),
                ("delete" = (operation_id = "delete_plan", parameters(("plan" = "$response.body#/id")))),
            )),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(plan): Path<PlanName>,
) -> Result<Response, Refusal> {
    Ok(tagged(plans::show(&control, &caller, &plan).await?))
}

/// Change a plan
///
/// Absent fields stay; in `limits` and `quotas`, null removes an entry. New limits reach the plan's tenants within
/// seconds: their routes first, then the roles in PostgreSQL. A new isolation holds for new tenants only.
#[utoipa::path(
    patch,
    path = "/v1/plans/{plan}",
    operation_id = "update_plan",
    tag = "plans",
    params(
        ("plan" = String, Path, description = "Its name"),
        ("if-match" = Option<String>, Header, description = "Change only this version (`ETag`)"),
    ),
    request_body = UpdatePlan,
    responses(
        (status = OK, description = "The plan after the change", body = Plan,
            headers(("etag" = String, description = "Its new version"))),
    ),
)]
pub(crate) async fn update(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(plan): Path<PlanName>,
    IfMatch(if_match): IfMatch,
    Json(body): Json<UpdatePlan>,
) -> Result<Response, Refusal> {
    for _ in 0..UPDATE_ATTEMPTS {
        // Limits and quotas are merged into what is there, so what is there must still be it when the change lands.
        let current = plans::show(&control, &caller, &plan).await?;
        let version = if_match.unwrap_or(current.updated_at);
        let change = PlanChange {
            isolation: body.isolation,
            quotas: Some(body.quotas(current.quotas)),
            features: body.features.clone(),
            limits: Some(body.limits(current.limits)),
            price: body.price.clone().into_change().map(Option::unwrap_or_default),
            seed: body.seed.clone().into_change(),
            affinity: body.affinity.clone().into_change().map(Option::unwrap_or_default),
        };
        match plans::update(&control, &caller, &plan, change, Some(version)).await {
            Ok(plan) => return Ok(tagged(plan)),
            Err(ControlError::PreconditionFailed) if if_match.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::busy("Others change this plan at the same time; try again."))
}

/// Delete a plan
///
/// Only one that no tenant has, deleted ones included until they are purged.
#[utoipa::path(
    delete,
    path = "/v1/plans/{plan}",
    operation_id = "delete_plan",
    tag = "plans",
    params(
        ("plan" = String, Path, description = "Its name"),
        ("if-match" = Option<String>, Header, description = "Delete only this version (`ETag`)"),
    ),
    responses((status = NO_CONTENT, description = "It is gone")),
)]
pub(crate) async fn delete(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(plan): Path<PlanName>,
    IfMatch(if_match): IfMatch,
) -> Result<StatusCode, Refusal> {
    plans::delete(&control, &caller, &plan, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show what holds for a tenant
///
/// Every limit, quota and feature, and whether the plan says so or the tenant's own overrides.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/effective-plan",
    operation_id = "show_effective_plan",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug")),
    responses(
        (status = OK, description = "What holds", body = EffectivePlan,
            links(
                ("plan" = (operation_id = "show_plan", parameters(("plan" = "$response.body#/plan")))),
                ("update" = (operation_id = "update_tenant", parameters(("tenant" = "$response.body#/tenant")))),
            )),
    ),
)]
pub(crate) async fn effective(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
) -> Result<Json<EffectivePlan>, Refusal> {
    let (tenant, effective) = plans::effective(&control, &caller, &convert::tenant_ref(tenant)).await?;
    Ok(Json(EffectivePlan::of(tenant, effective)))
}

fn tagged(plan: tenantry_domain::Plan) -> Response {
    (etag(plan.updated_at), Json(Plan::from(plan))).into_response()
}
