//! `/v1/clusters/{cluster}/replicas`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{AddClusterReplica, ClusterRef, ClusterReplica, ListQuery, Page};
use tenantry_control::clusters::replicas;
use tenantry_control::{Caller, Control};
use tenantry_domain::ClusterReplicaId;

use super::convert;
use super::extract::{Json, Path, Paths, Query};
use super::problem::Refusal;

/// Register a replica
///
/// A physical standby of the cluster, from which routers may read as long as it is no further behind than `lag_max_ms`.
/// It is looked at with the cluster's own credential, and refused unless it follows this very server. From then on it is
/// looked at with its cluster, and routers do not hear of one that was promoted. A cluster may have 16.
#[utoipa::path(
    post,
    path = "/v1/clusters/{cluster}/replicas",
    operation_id = "add_cluster_replica",
    tag = "clusters",
    params(("cluster" = String, Path, description = "Id or name")),
    request_body = AddClusterReplica,
    responses(
        (status = CREATED, description = "The replica", body = ClusterReplica,
            headers(("location" = String, description = "Where it is")),
            links(
                ("remove" = (operation_id = "remove_cluster_replica", parameters(
                    ("cluster" = "$response.body#/cluster"), ("replica" = "$response.body#/id")))),
                ("cluster" = (operation_id = "show_cluster", parameters(("cluster" = "$response.body#/cluster")))),
            )),
    ),
)]
pub(crate) async fn add(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
    Json(body): Json<AddClusterReplica>,
) -> Result<Response, Refusal> {
    let wish = replicas::AddReplica {
        endpoint: body.endpoint().map_err(|error| Refusal::invalid("/host", error.to_string()))?,
        tls_mode: body.tls_mode,
        tls_ca: body.tls_ca.map(String::from),
        lag_max: body.lag_max_ms,
    };
    let added = replicas::add(&control, &caller, &convert::cluster_ref(cluster), wish).await?;
    let location = [(LOCATION, format!("/v1/clusters/{}/replicas/{}", added.cluster, added.id))];
    Ok((StatusCode::CREATED, location, Json(ClusterReplica::from(added))).into_response())
}

/// List a cluster's replicas
///
/// Oldest first, with what was last seen of each.
#[utoipa::path(
    get,
    path = "/v1/clusters/{cluster}/replicas",
    operation_id = "list_cluster_replicas",
    tag = "clusters",
    params(("cluster" = String, Path, description = "Id or name"), ListQuery),
    responses((status = OK, description = "One page", body = Page<ClusterReplica>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ClusterReplica>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    let replicas = replicas::list(&control, &caller, &convert::cluster_ref(cluster), &page).await?;
    Ok(Json(convert::page(replicas, ClusterReplica::from)))
}

/// Forget a replica
///
/// Routers read from it no longer. The server itself is left alone.
#[utoipa::path(
    delete,
    path = "/v1/clusters/{cluster}/replicas/{replica}",
    operation_id = "remove_cluster_replica",
    tag = "clusters",
    params(
        ("cluster" = String, Path, description = "Id or name"),
        ("replica" = Uuid, Path, description = "Its id"),
    ),
    responses((status = NO_CONTENT, description = "It is forgotten")),
)]
pub(crate) async fn remove(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Paths(cluster, replica): Paths<ClusterRef, ClusterReplicaId>,
) -> Result<StatusCode, Refusal> {
    replicas::remove(&control, &caller, &convert::cluster_ref(cluster), replica).await?;
    Ok(StatusCode::NO_CONTENT)
}
