//! `/v1/tenants`.

use axum::extract::{Extension, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use tenantry_api::{
    CreateTenant, CreateTenantAnswer, CreateTenantQuery, DeleteTenant, GraceSeconds, ListOperations, ListTenants,
    MigrateDown, Operation, Page, Patch, Tenant, TenantPreview, TenantRef, TenantWithOperation, UpdateTenant,
    WaitQuery,
};
use tenantry_control::records::{self, TenantChange, TenantFilter};
use tenantry_control::seeds::SeedChoice;
use tenantry_control::{Caller, Control, ControlError, credentials, tenants};
use tenantry_domain::InvalidName;
use tracing::{Span, field};

use super::convert;
use super::etag::{IfMatch, etag};
use super::extract::{Json, NoBody, Path, Query};
use super::problem::Refusal;
use super::{operations, placement, wait};

/// How often an update is tried again when somebody else changes the tenant at the same time.
const UPDATE_ATTEMPTS: usize = 5;

/// Create a tenant
///
/// Begins to provision a home for it. Only the slug is needed. With `wait`, the answer is held until the tenant is
/// active, or has failed. With `dry_run`, everything is checked and decided and nothing is recorded.
#[utoipa::path(
    post,
    path = "/v1/tenants",
    operation_id = "create_tenant",
    tag = "tenants",
    params(CreateTenantQuery),
    request_body = CreateTenant,
    responses(
        (status = CREATED, description = "The tenant is active", body = TenantWithOperation,
            headers(("location" = String, description = "Where the tenant is")),
            links(
                ("tenant" = (operation_id = "show_tenant", parameters(("tenant" = "$response.body#/tenant/id")))),
                ("delete" = (operation_id = "delete_tenant", parameters(("tenant" = "$response.body#/tenant/id")))),
                ("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))),
            )),
        (status = ACCEPTED, description = "The work goes on", body = TenantWithOperation,
            headers(("location" = String, description = "Where the tenant is")),
            links(
                ("tenant" = (operation_id = "show_tenant", parameters(("tenant" = "$response.body#/tenant/id")))),
                ("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))),
                ("events" = (operation_id = "follow_operation", parameters(("operation" = "$response.body#/operation/id")))),
            )),
        (status = OK, description = "The tenant could not be provisioned, and the operation says why; with `dry_run`: a \
                                     `TenantPreview`", body = CreateTenantAnswer),
    ),
)]
pub(crate) async fn create(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<CreateTenantQuery>,
    Json(body): Json<CreateTenant>,
) -> Result<Response, Refusal> {
    let wish = wish(body)?;
    if query.dry_run {
        if query.wait.is_some() {
            return Err(Refusal::invalid("?wait", "a dry run begins nothing that could be waited for; leave it out"));
        }
        let preview = tenants::preview(&control, &caller, &wish).await?;
        let tenant = preview.tenant;
        return Ok(Json(TenantPreview {
            slug: tenant.slug,
            name: tenant.name,
            parent: tenant.parent,
            placement: placement::placement(tenant.plan, tenant.region, preview.limits, preview.home),
        })
        .into_response());
    }
    let begun = tenants::create(&control, &caller, wish, None).await?;
    let location = [(LOCATION, format!("/v1/tenants/{}", begun.0.id))];
    answer(&control, &caller, begun, WaitQuery { wait: query.wait }, StatusCode::CREATED, location).await
}

/// What the body asks for.
pub(crate) fn wish(body: CreateTenant) -> Result<tenants::CreateTenant, Refusal> {
    let seed = match (body.seed, body.no_seed) {
        (Some(_), true) => return Err(Refusal::invalid("/no_seed", "`seed` names one; leave out one of the two")),
        (Some(seed), false) => SeedChoice::Seed(seed),
        (None, true) => SeedChoice::Nothing,
        (None, false) => SeedChoice::OfPlan,
    };
    Ok(tenants::CreateTenant {
        slug: body.slug,
        name: body.name,
        plan: body.plan,
        region: body.region,
        isolation: body.isolation,
        parent: body.parent.map(convert::tenant_ref),
        labels: body.labels,
        overrides: body.overrides,
        trial_ends_at: body.trial_ends_at,
        cluster: body.cluster.map(convert::cluster_ref),
        seed,
        affinity: body.affinity,
    })
}

/// List tenants
///
/// Oldest first. Deleted tenants are listed only where `status` asks for them.
#[utoipa::path(
    get,
    path = "/v1/tenants",
    operation_id = "list_tenants",
    tag = "tenants",
    params(ListTenants),
    responses((status = OK, description = "One page", body = Page<Tenant>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListTenants>,
) -> Result<Json<Page<Tenant>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor.clone());
    let filter = filter(&control, &caller, query).await?;
    let tenants = tenants::list(&control, &caller, &filter, &page).await?;
    Ok(Json(convert::page(tenants, Tenant::of)))
}

/// What a query asks for, its page aside.
pub(crate) async fn filter(control: &Control, caller: &Caller, query: ListTenants) -> Result<TenantFilter, Refusal> {
    Ok(TenantFilter {
        status: query.status.0,
        plan: query.plan,
        region: query.region,
        isolation: query.isolation,
        cluster: convert::cluster_filter(control, caller, query.cluster).await?,
        parent: convert::tenant_filter(control, caller, "?parent", query.parent).await?,
        below: convert::tenant_filter(control, caller, "?below", query.below).await?,
        labels: query.labels.0.into_iter().map(|selector| (selector.key, selector.value)).collect(),
        slug_prefix: query.slug_prefix,
        schema_version_below: query.schema_version_below,
    })
}

/// Show a tenant
///
/// A deleted tenant is shown too, until it is purged.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}",
    operation_id = "show_tenant",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug")),
    responses(
        (status = OK, description = "The tenant", body = Tenant,
            headers(("etag" = String, description = "Its version, for `If-Match`")),
            links(
                ("operations" = (operation_id = "list_tenant_operations", parameters(("tenant" = "$response.body#/id")))),
                ("update" = (operation_id = "update_tenant", parameters(("tenant" = "$response.body#/id")))),
                ("suspend" = (operation_id = "suspend_tenant", parameters(("tenant" = "$response.body#/id")))),
                ("delete" = (operation_id = "delete_tenant", parameters(("tenant" = "$response.body#/id")))),
            )),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
) -> Result<Response, Refusal> {
    let tenant = tenants::show(&control, &caller, &convert::tenant_ref(tenant)).await?;
    Ok(tagged(tenant))
}

/// Change a tenant
///
/// Absent fields stay; in `labels` and `overrides`, null removes an entry; null for `parent`, `affinity` or
/// `trial_ends_at` removes that. Isolation, region and cluster do not change here: that is a move.
#[utoipa::path(
    patch,
    path = "/v1/tenants/{tenant}",
    operation_id = "update_tenant",
    tag = "tenants",
    params(
        ("tenant" = String, Path, description = "Id or slug"),
        ("if-match" = Option<String>, Header, description = "Change only this version (`ETag`)"),
    ),
    request_body = UpdateTenant,
    responses(
        (status = OK, description = "The tenant after the change", body = Tenant,
            headers(("etag" = String, description = "Its new version"))),
    ),
)]
pub(crate) async fn update(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    IfMatch(if_match): IfMatch,
    Json(body): Json<UpdateTenant>,
) -> Result<Response, Refusal> {
    let tenant = convert::tenant_ref(tenant);
    for _ in 0..UPDATE_ATTEMPTS {
        // Labels and overrides are merged into what is there, so what is there must still be it when the change lands.
        let current = tenants::show(&control, &caller, &tenant).await?;
        let version = if_match.unwrap_or(current.updated_at);
        let mut change = merged(&body, &current).map_err(|error| Refusal::invalid("/labels", error.to_string()))?;
        change.parent = match &body.parent {
            Patch::Keep => None,
            Patch::Clear => Some(None),
            Patch::Set(parent) => {
                Some(convert::tenant_filter(&control, &caller, "/parent", Some(parent.clone())).await?)
            }
        };
        match tenants::update(&control, &caller, &tenant, change, Some(version)).await {
            Ok(tenant) => return Ok(tagged(tenant)),
            Err(ControlError::PreconditionFailed) if if_match.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::busy("Others change this tenant at the same time; try again."))
}

/// Delete a tenant
///
/// Shuts it out at once, and takes its home down once the grace period is over; up to then it can be restored. Asked
/// again, the sooner end counts. The tenant stays as `deleted` and keeps its slug. With `wait`, the answer is held until
/// its home is gone, or, with grace, until it is shut out.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{tenant}",
    operation_id = "delete_tenant",
    tag = "tenants",
    params(
        ("tenant" = String, Path, description = "Id or slug"),
        ("if-match" = Option<String>, Header, description = "Delete only this version (`ETag`)"),
        DeleteTenant,
    ),
    responses(
        (status = OK, description = "Its home is gone", body = TenantWithOperation),
        (status = ACCEPTED, description = "The work goes on, or the grace period lasts", body = TenantWithOperation,
            links(
                ("restore" = (operation_id = "restore_tenant", parameters(("tenant" = "$response.body#/tenant/id")))),
                ("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))),
                ("events" = (operation_id = "follow_operation", parameters(("operation" = "$response.body#/operation/id")))),
            )),
    ),
)]
pub(crate) async fn delete(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    IfMatch(if_match): IfMatch,
    Query(query): Query<DeleteTenant>,
) -> Result<Response, Refusal> {
    let grace = query.grace.map(GraceSeconds::as_duration);
    let begun = tenants::delete(&control, &caller, &convert::tenant_ref(tenant), grace, if_match).await?;
    answer(&control, &caller, begun, WaitQuery { wait: query.wait }, StatusCode::OK, []).await
}

/// Rotate a tenant's credentials
///
/// New passwords for reading and writing and for reading only. Clients that come through routers see no error: the old
/// login goes out of use once every router has the new one. With `wait`, the answer is held until that is done.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/rotate-credentials",
    operation_id = "rotate_credentials",
    tag = "tenants",
    params(
        ("tenant" = String, Path, description = "Id or slug"),
        ("if-match" = Option<String>, Header, description = "Rotate only this version (`ETag`)"),
        WaitQuery,
    ),
    responses(
        (status = OK, description = "The old passwords are of no use any more", body = TenantWithOperation),
        (status = ACCEPTED, description = "The work goes on", body = TenantWithOperation,
            links(
                ("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))),
                ("events" = (operation_id = "follow_operation", parameters(("operation" = "$response.body#/operation/id")))),
            )),
    ),
)]
pub(crate) async fn rotate_credentials(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    IfMatch(if_match): IfMatch,
    Query(query): Query<WaitQuery>,
    _: NoBody,
) -> Result<Response, Refusal> {
    let begun = credentials::rotate(&control, &caller, &convert::tenant_ref(tenant), if_match).await?;
    answer(&control, &caller, begun, query, StatusCode::OK, []).await
}

/// Migrate a tenant down
///
/// Undoes what its schema has above a version, by the down files of a set, the newest first. It is then behind the fleet,
/// and stays so until the next rollout. Refused with `migration_refused` where the set has no down file for one of the
/// versions, and with `invalid_state` while a rollout is under way. With `wait`, the answer is held until that is done.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/migrate-down",
    operation_id = "migrate_tenant_down",
    tag = "migrations",
    params(("tenant" = String, Path, description = "Id or slug"), WaitQuery),
    request_body = MigrateDown,
    responses(
        (status = OK, description = "It is at the version", body = TenantWithOperation),
        (status = ACCEPTED, description = "The work goes on", body = TenantWithOperation,
            links(("operation" = (operation_id = "show_operation", parameters(("operation" = "$response.body#/operation/id")))))),
    ),
)]
pub(crate) async fn migrate_down(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Query(query): Query<WaitQuery>,
    Json(body): Json<MigrateDown>,
) -> Result<Response, Refusal> {
    let wish = tenants::GoBack { version: body.version, migration_set: body.migration_set };
    let begun = tenants::migrate_down(&control, &caller, &convert::tenant_ref(tenant), wish).await?;
    answer(&control, &caller, begun, query, StatusCode::OK, []).await
}

/// Purge a deleted tenant
///
/// Forgets it, its operations included, which frees its slug. The audit log keeps what happened.
#[utoipa::path(
    post,
    path = "/v1/tenants/{tenant}/purge",
    operation_id = "purge_tenant",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug")),
    responses((status = NO_CONTENT, description = "It is forgotten")),
)]
pub(crate) async fn purge(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    _: NoBody,
) -> Result<StatusCode, Refusal> {
    tenants::purge(&control, &caller, &convert::tenant_ref(tenant)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the operations on a tenant
///
/// The newest first.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/operations",
    operation_id = "list_tenant_operations",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug"), ListOperations),
    responses((status = OK, description = "One page", body = Page<Operation>)),
)]
pub(crate) async fn operations(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
    Query(query): Query<ListOperations>,
) -> Result<Json<Page<Operation>>, Refusal> {
    if query.tenant.is_some() {
        return Err(Refusal::invalid("?tenant", "the path names the tenant already; leave it out"));
    }
    let tenant = tenants::show(&control, &caller, &convert::tenant_ref(tenant)).await?.id;
    let query = ListOperations { tenant: Some(tenant.into()), ..query };
    operations::page(&control, &caller, query).await
}

/// What has begun, held for as long as the caller asked.
pub(super) async fn answer<const N: usize>(
    control: &Control,
    caller: &Caller,
    (tenant, operation): (tenantry_domain::Tenant, records::Operation),
    query: WaitQuery,
    done: StatusCode,
    headers: [(HeaderName, String); N],
) -> Result<Response, Refusal> {
    Span::current().record("tenant_id", field::display(tenant.id));
    Span::current().record("operation_id", field::display(operation.id));
    let (tenant, operation) = if query.wait.is_some() {
        let operation = wait::for_operation(control, caller, operation, query).await?;
        (tenants::show(control, caller, &records::TenantRef::Id(tenant.id)).await?, operation)
    } else {
        (tenant, operation)
    };
    let (status, tag) = (wait::status(&operation, done), etag(tenant.updated_at));
    let body = TenantWithOperation { tenant: Tenant::of(tenant), operation: convert::operation(operation) };
    Ok((status, tag, headers, Json(body)).into_response())
}

fn tagged(tenant: tenantry_domain::Tenant) -> Response {
    Span::current().record("tenant_id", field::display(tenant.id));
    (etag(tenant.updated_at), Json(Tenant::of(tenant))).into_response()
}

fn merged(body: &UpdateTenant, current: &tenantry_domain::Tenant) -> Result<TenantChange, InvalidName> {
    Ok(TenantChange {
        name: body.name.clone(),
        plan: body.plan.clone(),
        labels: convert::merge(&body.labels, |patch| patch.apply(&current.labels))?,
        overrides: convert::merge(&body.overrides, |patch| Ok(patch.apply(current.overrides.clone())))?,
        parent: None,
        trial_ends_at: body.trial_ends_at.into_change(),
        affinity: body.affinity.clone().into_change().map(Option::unwrap_or_default),
    })
}
