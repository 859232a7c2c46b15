//! `/v1/routes/resolve`.

use axum::extract::{Extension, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, ETAG, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tenantry_api::route::ResolveBy;
use tenantry_api::{ResolveQuery, ResolvedRoute, Route};
use tenantry_control::routes::{self, Resolved};
use tenantry_control::{Caller, Control};

use super::convert;
use super::etag::is_known;
use super::extract::{Json, Query};
use super::problem::Refusal;

/// Resolve a route
///
/// What is needed to reach one tenant, for services with pools of their own: by exactly one of `host`, `slug` and `id`.
/// Connect to `endpoint`, log in as `credential`, and call `SELECT tenantry.attach(tenant, generation)` first on every
/// connection: it raises unless the home is that tenant's. With passwords where the token has `routes:secrets`; without them where it has `routes:read`. A tenant that cannot be
/// reached now (`provisioning`, `suspended`, `moving`) is answered with its `state`, and the caller decides; one that is
/// being deleted, is deleted or never was is `not_found`.
///
/// The `ETag` changes with everything that the answer tells: send it as `If-None-Match` to ask whether there is news. It
/// is another one for a token that sees passwords.
#[utoipa::path(
    get,
    path = "/v1/routes/resolve",
    operation_id = "resolve_route",
    tag = "routes",
    params(
        ResolveQuery,
        ("if-none-match" = Option<String>, Header, description = "The `ETag`s of what the caller has; any of them is \
                                                                   answered with 304 where it still holds"),
    ),
    responses(
        (status = OK, description = "The route", body = ResolvedRoute,
            headers(
                ("etag" = String, description = "Its version, and whether passwords are in it"),
                ("cache-control" = String, description = "`private, no-store` with passwords, else `private, no-cache`"),
            ),
            links(("tenant" = (operation_id = "show_tenant", parameters(("tenant" = "$response.body#/tenant")))))),
        (status = NOT_MODIFIED, description = "The caller has it already",
            headers(("etag" = String, description = "Its version, and whether passwords are in it"))),
    ),
)]
pub(crate) async fn resolve(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Query(query): Query<ResolveQuery>,
) -> Result<Response, Refusal> {
    let by = match query.by().map_err(|error| Refusal::invalid("?", error.to_string()))? {
        ResolveBy::Host(host) => routes::ResolveBy::Host(host),
        ResolveBy::Slug(slug) => routes::ResolveBy::Slug(slug),
        ResolveBy::Id(id) => routes::ResolveBy::Id(id),
    };
    let resolved = routes::resolve(&control, &caller, &by).await?;
    let tag = tag(&resolved)?;
    let common = common_headers(tag.clone(), resolved.has_secrets);
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let endpoint = resolved.cluster.map(convert::feed_cluster);
    Ok((common, Json(ResolvedRoute { route: Route::from(resolved.route), endpoint })).into_response())
}

/// The versions of the route and of its cluster, and whether passwords are there.
fn tag(resolved: &Resolved) -> Result<HeaderValue, Refusal> {
    let cluster = resolved.cluster.as_ref().map(|cluster| format!("-{}", cluster.version)).unwrap_or_default();
    let secrets = if resolved.has_secrets { "-secrets" } else { "" };
    let text = format!("\"{}{cluster}{secrets}\"", resolved.route.version);
    HeaderValue::from_str(&text).map_err(|_| Refusal::internal("a number makes no entity tag"))
}

/// A cache of the caller's own may keep what bears no password, if it asks each time whether that still holds.
fn common_headers(tag: HeaderValue, has_secrets: bool) -> [(HeaderName, HeaderValue); 3] {
    let cache = if has_secrets { "private, no-store" } else { "private, no-cache" };
    [(ETAG, tag), (CACHE_CONTROL, HeaderValue::from_static(cache)), (VARY, HeaderValue::from_name(AUTHORIZATION))]
}
