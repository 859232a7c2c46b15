//! `/v1/tenants/{tenant}/explain`.

use axum::extract::{Extension, State};
use tenantry_api::explain as api;
use tenantry_api::{EffectivePlan, Explanation, Route, Tenant, TenantRef};
use tenantry_control::explain;
use tenantry_control::{Caller, Control};

use super::convert;
use super::extract::{Json, Path};
use super::problem::Refusal;

/// Explain a tenant
///
/// What is intended, what its cluster shows and where they differ; its placement and why; what was made for it; its
/// newest operations; how far each router is. A cluster that does not answer within ten seconds is said to be unseen.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/explain",
    operation_id = "explain_tenant",
    tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug")),
    responses((status = OK, description = "The explanation", body = Explanation)),
)]
pub(crate) async fn explain_tenant(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
) -> Result<Json<Explanation>, Refusal> {
    let told = explain::explain(&control, &caller, &convert::tenant_ref(tenant)).await?;
    let observed = observed(told.observed);
    Ok(Json(Explanation {
        plan: EffectivePlan::of(told.tenant.id, told.plan),
        tenant: Tenant::of(told.tenant),
        differences: told.differences,
        route: told.route.map(Route::from),
        placement: told.placement.map(|placement| api::ExplainedPlacement {
            home: placement.home,
            cluster: placement.cluster.id,
            cluster_name: placement.cluster.name,
            database: placement.place.database,
            schema: placement.place.schema,
            reason: placement.reason,
        }),
        adoption: told.adoption.map(|adoption| api::ExplainedAdoption {
            state: adoption.state.as_str().to_owned(),
            created_at: adoption.created_at,
            decided_at: adoption.decided_at,
        }),
        observed,
        resources: told.resources.into_iter().map(resource).collect(),
        operations: told
            .operations
            .into_iter()
            .map(|(operation, events)| api::ExplainedOperation {
                operation: convert::operation(operation),
                timeline: events.into_iter().map(convert::operation_event).collect(),
            })
            .collect(),
        feed_version: told.feed_version,
        routers: told
            .routers
            .into_iter()
            .map(|standing| api::RouterStanding {
                router: standing.router.name,
                applied_version: standing.router.applied_version,
                has_route: standing.has_route,
                reported_at: standing.router.reported_at,
            })
            .collect(),
    }))
}

fn observed(observed: explain::Observed) -> api::ObservedTenant {
    let home = observed.home;
    api::ObservedTenant {
        database: home.as_ref().map(|home| home.database),
        schema: home.as_ref().map(|home| home.schema),
        roles: home.map(|home| home.roles.iter().map(ToString::to_string).collect()),
        stamped_generation: observed.stamp.map(|stamp| stamp.generation),
        stamped_state: observed.stamp.map(|stamp| stamp.state.to_string()),
        schema_version: observed.schema_version,
        sessions: observed.sessions,
        size_bytes: observed.size_bytes,
        unseen: observed.unseen,
    }
}

fn resource(resource: tenantry_control::records::Resource) -> api::ExplainedResource {
    api::ExplainedResource {
        kind: resource.kind.as_str().to_owned(),
        name: resource.name,
        parent: resource.parent,
        cluster: resource.cluster,
        state: resource.state.as_str().to_owned(),
    }
}
