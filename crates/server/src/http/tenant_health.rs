//! `/v1/tenants/{tenant}/health`.

use axum::extract::{Extension, State};
use tenantry_api::{HealthCheck, HealthConnections, TenantHealth, TenantRef};
use tenantry_control::{Caller, Control, health};

use super::convert;
use super::extract::{Json, Path};
use super::problem::Refusal;

/// Show how a tenant is
///
/// Logs in as the tenant does, compares stamp and schema version with the catalog, measures the home and counts its
/// sessions. Every check says whether it is well and why; all of them together take a few seconds at most.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/health",
    operation_id = "show_tenant_health",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug")),
    responses(
        (status = OK, description = "How it is, well or not", body = TenantHealth,
            links(("tenant" = (operation_id = "show_tenant", parameters(("tenant" = "$response.body#/tenant")))))),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
) -> Result<Json<TenantHealth>, Refusal> {
    let health = Box::pin(health::check(&control, &caller, &convert::tenant_ref(tenant))).await?;
    let healthy = health.is_healthy();
    let check = |it: health::HealthCheck| HealthCheck { name: it.name.to_owned(), ok: it.ok, why: it.why };
    Ok(Json(TenantHealth {
        tenant: health.tenant,
        status: health.status,
        healthy,
        checks: health.checks.into_iter().map(check).collect(),
        schema_version: health.schema_version,
        size_bytes: health.size_bytes,
        connections: HealthConnections { now: health.connections, limit: health.connection_limit },
        last_operation: health.last_operation.map(convert::operation),
    }))
}
