//! `/v1/tenants/{tenant}/suspend`, `…/resume` and `…/restore`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tenantry_api::{
    ResumeTenant, SuspendTenant, Tenant, TenantRef, TenantWithOperation, TenantWithSubtree, WaitQuery, WaitSeconds,
};
use tenantry_control::{Caller, Control, records, tenants};
use tokio::time::Instant;
use tracing::{Span, field};

use super::convert;
use super::etag::etag;
use super::extract::{Json, NoBody, OptionalJson, Path, Query};
use super::problem::Refusal;
use super::tenants::answer;
use super::wait;

/// Suspend a tenant
///
/// Routers stop serving it at once; then its logins are disabled and its sessions end, and no other tenant's. Work that
/// is going on on it is held back meanwhile. A second call changes reason, note and end, and nothing else. With `wait`,
/// the answer is held until it is true inside PostgreSQL.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/suspend",
    operation_id = "suspend_tenant",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug"), WaitQuery),
    request_body = SuspendTenant,
    responses(
        (status = OK, description = "It is shut out", body = TenantWithSubtree),
        (status = ACCEPTED, description = "Routers are told; the work in PostgreSQL goes on", body = TenantWithSubtree,
            links(
                ("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))),
                ("resume" = (operation_id = "resume_tenant", parameters(("tenant" = "$response.body#/tenant/id")))),
            )),
    ),
)]
pub(crate) async fn suspend(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Query(query): Query<WaitQuery>,
    OptionalJson(body): OptionalJson<SuspendTenant>,
) -> Result<Response, Refusal> {
    let wish = tenants::Suspend { reason: body.reason, note: body.note, until: body.until, subtree: body.subtree };
    let begun = tenants::suspend(&control, &caller, &convert::tenant_ref(tenant), wish).await?;
    answer_all(&control, &caller, begun, query).await
}

/// Resume a tenant
///
/// Opens its home, and then tells routers. Those below it that were suspended together with it are resumed too, unless
/// `subtree` is false; those suspended for themselves never are. With `wait`, the answer is held until it is served.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/resume",
    operation_id = "resume_tenant",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug"), WaitQuery),
    request_body = ResumeTenant,
    responses(
        (status = OK, description = "It is served", body = TenantWithSubtree),
        (status = ACCEPTED, description = "The work goes on", body = TenantWithSubtree,
            links(("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))))),
    ),
)]
pub(crate) async fn resume(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Query(query): Query<WaitQuery>,
    OptionalJson(body): OptionalJson<ResumeTenant>,
) -> Result<Response, Refusal> {
    let wish = tenants::Resume { subtree: body.subtree };
    let begun = tenants::resume(&control, &caller, &convert::tenant_ref(tenant), wish).await?;
    answer_all(&control, &caller, begun, query).await
}

/// Take a deletion back
///
/// As long as its grace period lasts: the tenant becomes what it was, active or suspended. The deletion's operation is
/// walked back and ends `cancelled`. With `wait`, the answer is held until that. Where the fleet was migrated meanwhile,
/// the tenant is brought along right after; `explain` and `health` say so as long as it is behind.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/restore",
    operation_id = "restore_tenant",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug"), WaitQuery),
    responses(
        (status = OK, description = "It is what it was", body = TenantWithOperation),
        (status = ACCEPTED, description = "The work goes on", body = TenantWithOperation,
            links(("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))))),
    ),
)]
pub(crate) async fn restore(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Query(query): Query<WaitQuery>,
    _: NoBody,
) -> Result<Response, Refusal> {
    let begun = tenants::restore(&control, &caller, &convert::tenant_ref(tenant)).await?;
    answer(&control, &caller, begun, query, StatusCode::OK, []).await
}

/// What has begun on a tenant and on those below it, held until all of it is done, for as long as the caller asked.
async fn answer_all(
    control: &Control,
    caller: &Caller,
    begun: tenants::Begun,
    query: WaitQuery,
) -> Result<Response, Refusal> {
    Span::current().record("tenant_id", field::display(begun.tenant.id));
    Span::current().record("operation_id", field::display(begun.operation.id));
    let began = Instant::now();
    let mut works = vec![(begun.tenant, begun.operation)];
    works.extend(begun.below);
    if let Some(wait) = query.wait {
        for (tenant, operation) in &mut works {
            let left = u64::from(wait.get()).saturating_sub(began.elapsed().as_secs());
            let left = WaitQuery { wait: WaitSeconds::new(left).ok() };
            *operation = wait::for_operation(control, caller, operation.clone(), left).await?;
            *tenant = tenants::show(control, caller, &records::TenantRef::Id(tenant.id)).await?;
        }
    }
    let goes_on = works.iter().any(|(_, operation)| wait::status(operation, StatusCode::OK) == StatusCode::ACCEPTED);
    let status = if goes_on { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut works = works.into_iter().map(|(tenant, operation)| TenantWithOperation {
        tenant: Tenant::of(tenant),
        operation: convert::operation(operation),
    });
    let Some(TenantWithOperation { tenant, operation }) = works.next() else {
        return Err(Refusal::internal("a call on a tenant left it out"));
    };
    let tag = etag(tenant.updated_at);
    Ok((status, tag, Json(TenantWithSubtree { tenant, operation, below: works.collect() })).into_response())
}
