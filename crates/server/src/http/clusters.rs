//! `/v1/clusters`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{
    Cluster, ClusterPreview, ClusterRef, DrainMove, DrainPlan, DrainQuery, DryRunQuery, ListClusters, Page,
    RegisterCluster, UpdateCluster,
};
use tenantry_control::candidates::Choice;
use tenantry_control::records::{ClusterChange, ClusterFilter};
use tenantry_control::{Caller, Control, clusters};
use tenantry_domain::{Endpoint, InvalidName};

use super::etag::{IfMatch, etag};
use super::extract::{Json, NoBody, Path, Query};
use super::problem::Refusal;
use super::{convert, placement};

/// Register a cluster
///
/// Looks at the server, closes `PUBLIC`'s access to its databases and takes it in. What the provider forbids to close
/// is told in `health.findings`, and everything that was checked in `health.checks`. The credential is stored sealed and
/// never shown. With `dry_run`, every check is answered, nothing is recorded and nothing is changed on the server.
#[utoipa::path(
    post,
    path = "/v1/clusters",
    operation_id = "register_cluster",
    tag = "clusters",
    params(DryRunQuery),
    request_body = RegisterCluster,
    responses(
        (status = OK, description = "With `dry_run`: what it would come to", body = ClusterPreview),
        (status = CREATED, description = "The cluster", body = Cluster,
            headers(("location" = String, description = "Where it is"), ("etag" = String, description = "Its version")),
            links(
                ("cluster" = (operation_id = "show_cluster", parameters(("cluster" = "$response.body#/id")))),
                ("cordon" = (operation_id = "cordon_cluster", parameters(("cluster" = "$response.body#/id")))),
            )),
    ),
)]
pub(crate) async fn register(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<DryRunQuery>,
    Json(body): Json<RegisterCluster>,
) -> Result<Response, Refusal> {
    let wish = clusters::RegisterCluster {
        endpoint: body.endpoint().map_err(|error| Refusal::invalid("/host", error.to_string()))?,
        name: body.name,
        region: body.region,
        tenancy: body.tenancy,
        user: body.user.to_string(),
        password: body.password.into_secret(),
        database: body.database,
        tls_mode: body.tls_mode,
        tls_ca: body.tls_ca.map(String::from),
        limits: body.limits.unwrap_or_default(),
    };
    if query.dry_run {
        let preview = clusters::preview(&control, &caller, wish).await?;
        return Ok(Json(ClusterPreview {
            is_accepted: preview.is_accepted,
            server_version: preview.server_version,
            connections_max: preview.connections_max,
            checks: preview.checks,
        })
        .into_response());
    }
    let cluster = clusters::register(&control, &caller, wish).await?;
    let location = [(LOCATION, format!("/v1/clusters/{}", cluster.id))];
    Ok((StatusCode::CREATED, location, tagged(cluster)).into_response())
}

/// List clusters
///
/// Oldest first.
#[utoipa::path(
    get,
    path = "/v1/clusters",
    operation_id = "list_clusters",
    tag = "clusters",
    params(ListClusters),
    responses((status = OK, description = "One page", body = Page<Cluster>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListClusters>,
) -> Result<Json<Page<Cluster>>, Refusal> {
    let filter = ClusterFilter { region: query.region, tenancy: query.tenancy, state: query.state };
    let page = convert::page_request(query.limit, query.cursor);
    let clusters = clusters::list(&control, &caller, &filter, &page).await?;
    Ok(Json(convert::page(clusters, Cluster::from)))
}

/// Show a cluster
#[utoipa::path(
    get,
    path = "/v1/clusters/{cluster}",
    operation_id = "show_cluster",
    tag = "clusters",
    params(("cluster" = String, Path, description = "Id or name")),
    responses(
        (status = OK, description = "The cluster", body = Cluster,
            headers(("etag" = String, description = "Its version, for `If-Match`")),
            links(
                ("tenants" = (operation_id = "list_tenants", parameters(("cluster" = "$response.body#/id")))),
                ("update" = (operation_id = "update_cluster", parameters(("cluster" = "$response.body#/id")))),
                ("delete" = (operation_id = "delete_cluster", parameters(("cluster" = "$response.body#/id")))),
            )),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
) -> Result<Response, Refusal> {
    Ok(tagged(clusters::show(&control, &caller, &convert::cluster_ref(cluster)).await?))
}

/// Change a cluster
///
/// Absent fields stay. A new endpoint must lead to the same server.
#[utoipa::path(
    patch,
    path = "/v1/clusters/{cluster}",
    operation_id = "update_cluster",
    tag = "clusters",
    params(
        ("cluster" = String, Path, description = "Id or name"),
        ("if-match" = Option<String>, Header, description = "Change only this version (`ETag`)"),
    ),
    request_body = UpdateCluster,
    responses(
        (status = OK, description = "The cluster after the change", body = Cluster,
            headers(("etag" = String, description = "Its new version"))),
    ),
)]
pub(crate) async fn update(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
    IfMatch(if_match): IfMatch,
    Json(body): Json<UpdateCluster>,
) -> Result<Response, Refusal> {
    let cluster = convert::cluster_ref(cluster);
    let current = clusters::show(&control, &caller, &cluster).await?;
    let change = ClusterChange {
        name: None,
        endpoint: endpoint(&body, &current.endpoint).map_err(|error| Refusal::invalid("/host", error.to_string()))?,
        admin_user: body.user.map(|user| user.to_string()),
        admin_password: body.password.map(tenantry_api::SecretText::into_secret),
        tls_mode: body.tls_mode,
        tls_ca: body.tls_ca.into_change().map(|pem| pem.map(String::from)),
        limits: body.limits,
    };
    Ok(tagged(clusters::update(&control, &caller, &cluster, change, if_match).await?))
}

/// Forget a cluster
///
/// One that is cordoned and on which no tenant lives. The server itself is left alone.
#[utoipa::path(
    delete,
    path = "/v1/clusters/{cluster}",
    operation_id = "delete_cluster",
    tag = "clusters",
    params(("cluster" = String, Path, description = "Id or name")),
    responses((status = NO_CONTENT, description = "It is forgotten")),
)]
pub(crate) async fn delete(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
) -> Result<StatusCode, Refusal> {
    clusters::remove(&control, &caller, &convert::cluster_ref(cluster)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cordon a cluster
///
/// Keeps new homes off it; those that are there stay.
#[utoipa::path(
    post,
    path = "/v1/clusters/{cluster}/cordon",
    operation_id = "cordon_cluster",
    tag = "clusters",
    params(("cluster" = String, Path, description = "Id or name")),
    responses((status = OK, description = "The cluster", body = Cluster)),
)]
pub(crate) async fn cordon(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
    _: NoBody,
) -> Result<Response, Refusal> {
    Ok(tagged(clusters::cordon(&control, &caller, &convert::cluster_ref(cluster)).await?))
}

/// Uncordon a cluster
///
/// Lets new homes in again.
#[utoipa::path(
    post,
    path = "/v1/clusters/{cluster}/uncordon",
    operation_id = "uncordon_cluster",
    tag = "clusters",
    params(("cluster" = String, Path, description = "Id or name")),
    responses((status = OK, description = "The cluster", body = Cluster)),
)]
pub(crate) async fn uncordon(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
    _: NoBody,
) -> Result<Response, Refusal> {
    Ok(tagged(clusters::uncordon(&control, &caller, &convert::cluster_ref(cluster)).await?))
}

/// Drain a cluster
///
/// Lets no new homes in, and answers where each tenant would go, one after the other, or why nowhere. Only a plan:
/// nothing moves. Uncordoning takes it back. With `dry_run`, the cluster goes on as it is.
#[utoipa::path(
    post,
    path = "/v1/clusters/{cluster}/drain",
    operation_id = "drain_cluster",
    tag = "clusters",
    params(("cluster" = String, Path, description = "Id or name"), DrainQuery),
    responses(
        (status = OK, description = "The cluster and the plan", body = DrainPlan,
            links(("uncordon" = (operation_id = "uncordon_cluster", parameters(("cluster" = "$response.body#/cluster/id")))))),
    ),
)]
pub(crate) async fn drain(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
    Query(query): Query<DrainQuery>,
    _: NoBody,
) -> Result<Json<DrainPlan>, Refusal> {
    let plan = clusters::drain(&control, &caller, &convert::cluster_ref(cluster), query.dry_run).await?;
    let shown = usize::from(query.limit.unwrap_or_default().get());
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Json(DrainPlan {
        cluster: Cluster::from(plan.cluster),
        tenants: number(plan.moves.len()),
        placeable: number(plan.moves.iter().filter(|it| it.choice.is_some()).count()),
        is_truncated: plan.is_truncated || plan.moves.len() > shown,
        moves: plan.moves.into_iter().take(shown).map(drain_move).collect(),
    }))
}

fn drain_move(it: clusters::DrainMove) -> DrainMove {
    let to = match it.choice {
        Some(Choice::Cluster(cluster)) => placement::named(&it.decision, cluster),
        Some(Choice::Started(_)) | None => None,
    };
    let reason = it.refusal();
    DrainMove {
        tenant: it.tenant.id,
        slug: it.tenant.slug,
        isolation: it.tenant.isolation,
        is_possible: it.choice.is_some(),
        to,
        reason,
    }
}

fn tagged(cluster: tenantry_domain::Cluster) -> Response {
    (etag(cluster.updated_at), Json(Cluster::from(cluster))).into_response()
}

/// Host and port change alone or together.
fn endpoint(body: &UpdateCluster, current: &Endpoint) -> Result<Option<Endpoint>, InvalidName> {
    if body.host.is_none() && body.port.is_none() {
        return Ok(None);
    }
    let host = body.host.as_ref().map_or(current.host(), |host| host.as_str());
    Endpoint::new(host, body.port.map_or(current.port(), std::num::NonZeroU16::get)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_an_endpoint_may_change() {
        let current = Endpoint::new("db-1.example.com", 5432).expect("valid");
        let changed = |body: &str| {
            let body: UpdateCluster = serde_json::from_str(body).expect("valid");
            endpoint(&body, &current).expect("valid").map(|endpoint| endpoint.to_string())
        };
        assert_eq!(changed("{}"), None);
        assert_eq!(changed(r#"{"port": 6432}"#).as_deref(), Some("db-1.example.com:6432"));
        assert_eq!(changed(r#"{"host": "::1"}"#).as_deref(), Some("[::1]:5432"));
    }
}
