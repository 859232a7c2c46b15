//! `/v1/tenants/{tenant}/hosts`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{AddTenantHost, ListQuery, Page, TenantHost, TenantRef};
use tenantry_control::records::HostRecord;
use tenantry_control::tenants::hosts;
use tenantry_control::{Caller, Control};
use tenantry_domain::HostName;

use super::convert;
use super::extract::{Json, Path, Paths, Query};
use super::problem::Refusal;

/// Give a tenant a host
///
/// A DNS name that leads to it besides its sub-domain; routers know it within a moment. Nobody verifies that the name is
/// the tenant's, so this is not for tokens that are bound to a tenant. A name has one tenant: where somebody has it
/// already, the answer is `conflict` and says who. A tenant may have 100, and keeps them until it is deleted for good, or
/// they are taken away.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/hosts",
    operation_id = "add_tenant_host",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug")),
    request_body = AddTenantHost,
    responses(
        (status = CREATED, description = "The host", body = TenantHost,
            headers(("location" = String, description = "Where it is")),
            links(
                ("remove" = (operation_id = "remove_tenant_host", parameters(
                    ("tenant" = "$response.body#/tenant"), ("host" = "$response.body#/host")))),
                ("tenant" = (operation_id = "show_tenant", parameters(("tenant" = "$response.body#/tenant")))),
            )),
    ),
)]
pub(crate) async fn add(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Json(body): Json<AddTenantHost>,
) -> Result<Response, Refusal> {
    let added = hosts::add(&control, &caller, &convert::tenant_ref(tenant), &body.host).await?;
    let location = [(LOCATION, format!("/v1/tenants/{}/hosts/{}", added.tenant, added.host))];
    Ok((StatusCode::CREATED, location, Json(shown(added))).into_response())
}

/// List a tenant's hosts
///
/// By name.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/hosts",
    operation_id = "list_tenant_hosts",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug"), ListQuery),
    responses((status = OK, description = "One page", body = Page<TenantHost>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<TenantHost>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    let hosts = hosts::list(&control, &caller, &convert::tenant_ref(tenant), &page).await?;
    Ok(Json(convert::page(hosts, shown)))
}

/// Take a host away from a tenant
///
/// It leads nowhere from now on, and another tenant may be given it.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{tenant}/hosts/{host}",
    operation_id = "remove_tenant_host",
    tag = "tenants",
    params(
        ("tenant" = String, Path, description = "Id or slug"),
        ("host" = String, Path, description = "The name, in lower case"),
    ),
    responses((status = NO_CONTENT, description = "It is nobody's")),
)]
pub(crate) async fn remove(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Paths(tenant, host): Paths<TenantRef, HostName>,
) -> Result<StatusCode, Refusal> {
    hosts::remove(&control, &caller, &convert::tenant_ref(tenant), &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(record: HostRecord) -> TenantHost {
    TenantHost { host: record.host, tenant: record.tenant, created_at: record.created_at }
}
