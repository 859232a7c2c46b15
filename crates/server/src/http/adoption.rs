//! `/v1/tenants/adopt`, and the decision that follows.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{
    AdoptQuery, AdoptTenant, AdoptionFinding, AdoptionReport, AdoptionSeverity, DecideOperation, TenantRef,
    TenantWithOperation, WaitQuery,
};
use tenantry_control::adoption::{self, Severity};
use tenantry_control::{Caller, Control};
use tenantry_domain::Reason;

use super::convert;
use super::extract::{Json, NoBody, OptionalJson, Path, Query};
use super::problem::Refusal;
use super::tenants::answer;

/// Adopt a database or schema
///
/// What is there becomes a tenant's, without copying and without shutting anybody out. It is served at once; whoever had
/// rights before keeps them until the adoption is confirmed, and cancelling puts everything back. With `dry_run`,
/// nothing is changed and the answer is what would be found.
#[utoipa::path(
    post,
    path = "/v1/tenants/adopt",
    operation_id = "adopt_tenant",
    tag = "tenants",
    params(AdoptQuery),
    request_body = AdoptTenant,
    responses(
        (status = CREATED, description = "The tenant is active", body = TenantWithOperation,
            headers(("location" = String, description = "Where the tenant is")),
            links(
                ("confirm" = (operation_id = "confirm_adoption", parameters(("tenant" = "$response.body#/tenant/id")))),
                ("cancel" = (operation_id = "cancel_adoption", parameters(("tenant" = "$response.body#/tenant/id")))),
            )),
        (status = ACCEPTED, description = "The work goes on", body = TenantWithOperation,
            headers(("location" = String, description = "Where the tenant is")),
            links(
                ("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))),
                ("events" = (operation_id = "follow_operation", parameters(("operation" = "$response.body#/operation/id")))),
            )),
        (status = OK, description = "What was found, with `dry_run`", body = AdoptionReport),
    ),
)]
pub(crate) async fn adopt(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<AdoptQuery>,
    Json(body): Json<AdoptTenant>,
) -> Result<Response, Refusal> {
    if body.baseline_version.is_some_and(|version| version.0 < 0) {
        return Err(Refusal::invalid("/baseline_version", "use 0 or a version of the promoted set"));
    }
    let wish = adoption::AdoptTenant {
        slug: body.slug,
        name: body.name,
        plan: body.plan,
        parent: body.parent.map(convert::tenant_ref),
        labels: body.labels,
        cluster: convert::cluster_ref(body.cluster),
        database: body.database,
        schema: body.schema,
        baseline_version: body.baseline_version,
    };
    if query.dry_run {
        return Ok(Json(report(adoption::preview(&control, &caller, &wish).await?)).into_response());
    }
    let begun = adoption::begin(&control, &caller, wish).await?;
    let location = [(LOCATION, format!("/v1/tenants/{}", begun.0.id))];
    answer(&control, &caller, begun, WaitQuery { wait: query.wait }, StatusCode::CREATED, location).await
}

/// Confirm an adoption
///
/// Takes the rights of whoever had them before and ends their sessions. There is no way back from here.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/adopt-confirm",
    operation_id = "confirm_adoption",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug"), WaitQuery),
    responses(
        (status = OK, description = "It is final", body = TenantWithOperation),
        (status = ACCEPTED, description = "The work goes on", body = TenantWithOperation),
    ),
)]
pub(crate) async fn confirm(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Query(query): Query<WaitQuery>,
    _: NoBody,
) -> Result<Response, Refusal> {
    let begun = adoption::confirm(&control, &caller, &convert::tenant_ref(tenant)).await?;
    answer(&control, &caller, begun, query, StatusCode::OK, []).await
}

/// Cancel an adoption
///
/// Shuts the tenant out, puts owners and rights back as they were, and leaves no tenant. What was written meanwhile stays
/// in the database.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/adopt-cancel",
    operation_id = "cancel_adoption",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug"), WaitQuery),
    request_body(content = Option<DecideOperation>, description = "Why; may be left out"),
    responses(
        (status = OK, description = "Everything is as it was", body = TenantWithOperation),
        (status = ACCEPTED, description = "The work goes on", body = TenantWithOperation),
    ),
)]
pub(crate) async fn cancel(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Query(query): Query<WaitQuery>,
    OptionalJson(body): OptionalJson<DecideOperation>,
) -> Result<Response, Refusal> {
    let reason = body.reason.as_ref().map(Reason::as_str);
    let begun = adoption::cancel(&control, &caller, &convert::tenant_ref(tenant), reason).await?;
    answer(&control, &caller, begun, query, StatusCode::OK, []).await
}

fn report(report: adoption::AdoptionReport) -> AdoptionReport {
    AdoptionReport {
        is_possible: report.is_possible(),
        findings: report.findings.into_iter().map(finding).collect(),
        isolation: report.isolation,
        objects: report.objects,
        size_bytes: report.size_bytes,
        schema_version: report.schema_version,
        latest_version: report.latest_version,
    }
}

fn finding(finding: adoption::AdoptionFinding) -> AdoptionFinding {
    AdoptionFinding {
        severity: match finding.severity {
            Severity::Blocker => AdoptionSeverity::Blocker,
            Severity::Warning => AdoptionSeverity::Warning,
        },
        code: finding.code.to_owned(),
        message: finding.message,
        advice: finding.advice,
    }
}
