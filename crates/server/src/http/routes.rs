//! Every URL on one page.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::compression::CompressionLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::observe::observe;
use super::openapi::{Base, openapi_document};
use super::security_headers::guard;
use super::state::Shared;
use super::{
    adoption, audit_log, bulk, clusters, docs, explain, health, metrics, migration_sets, operations, placement, plans,
    query, region_groups, rollout_plans, rollouts,
};
use super::{
    auth, idempotency, limits, route_resolve, routers, routes_feed, secrets, seeds, tenant_health, tenants, tokens,
    webhooks,
};
use super::{cluster_replicas, doctor, drift, orphans, tenant_hosts, tenant_lifecycle, unread_body};

/// Bytes of one bulk call: ten thousand rows of a kilobyte and a half.
const BULK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Calls whose POST is done once under an `Idempotency-Key`.
fn remembered() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(tenants::create, tenants::list))
        .routes(routes!(tenants::show, tenants::update, tenants::delete))
        .routes(routes!(explain::explain_tenant))
        .routes(routes!(adoption::adopt))
        .routes(routes!(adoption::confirm))
        .routes(routes!(adoption::cancel))
        .routes(routes!(tenants::purge))
        .routes(routes!(tenant_lifecycle::suspend))
        .routes(routes!(tenant_lifecycle::resume))
        .routes(routes!(tenant_lifecycle::restore))
        .routes(routes!(tenants::operations))
        .routes(routes!(tenant_hosts::add, tenant_hosts::list))
        .routes(routes!(tenant_hosts::remove))
        .routes(routes!(clusters::register, clusters::list))
        .routes(routes!(clusters::show, clusters::update, clusters::delete))
        .routes(routes!(clusters::cordon))
        .routes(routes!(clusters::uncordon))
        .routes(routes!(clusters::drain))
        .routes(routes!(cluster_replicas::add, cluster_replicas::list))
        .routes(routes!(cluster_replicas::remove))
        .routes(routes!(placement::explain, placement::explain_query))
        .routes(routes!(region_groups::list))
        .routes(routes!(region_groups::show, region_groups::put, region_groups::delete))
        .routes(routes!(plans::create, plans::list))
        .routes(routes!(plans::show, plans::update, plans::delete))
        .routes(routes!(plans::effective))
        .routes(routes!(tenants::rotate_credentials))
        .routes(routes!(tenants::migrate_down))
        .routes(routes!(tenant_health::show))
        .routes(routes!(operations::list))
        .routes(routes!(operations::show))
        .routes(routes!(operations::timeline))
        .routes(routes!(operations::cancel))
        .routes(routes!(operations::retry))
        .routes(routes!(operations::skip))
        .routes(routes!(operations::abandon))
        .routes(routes!(rollouts::create, rollouts::list))
        .routes(routes!(rollout_plans::plan))
        .routes(routes!(rollouts::show))
        .routes(routes!(rollouts::targets))
        .routes(routes!(rollouts::versions))
        .routes(routes!(rollouts::pause))
        .routes(routes!(rollouts::resume))
        .routes(routes!(rollouts::abort))
        .routes(routes!(rollouts::retry))
        .routes(routes!(drift::check, drift::list))
        .routes(routes!(drift::show))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::delete))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::show, webhooks::update, webhooks::delete))
        .routes(routes!(webhooks::rotate_secret))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(secrets::show))
        .routes(routes!(secrets::rotate))
        .routes(routes!(audit_log::list))
        .routes(routes!(orphans::list))
        .routes(routes!(orphans::show))
        .routes(routes!(orphans::scan))
        .routes(routes!(orphans::remove))
        .routes(routes!(doctor::catalog))
        .routes(routes!(doctor::cluster))
        .routes(routes!(audit_log::chains))
}

/// As [`remembered`], with bodies that may be large.
fn large() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(migration_sets::push, migration_sets::list))
        .routes(routes!(migration_sets::show))
        .routes(routes!(seeds::push, seeds::list))
        .routes(routes!(seeds::show, seeds::retire))
}

/// What routers call. Their reports replace one another and come every few seconds: remembering each would cost more
/// than it is worth. Streams end by themselves, so they count apart.
fn routing() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(route_resolve::resolve))
        .routes(routes!(routers::list))
        .routes(routes!(routers::report))
}

/// Answers without an end.
fn streams() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(routes_feed::feed))
        .routes(routes!(operations::events))
        .routes(routes!(rollouts::events))
        .routes(routes!(rollout_plans::dry_run))
        .routes(routes!(query::run))
        .routes(routes!(audit_log::export))
}

/// Many rows in, a line of answer for each. Rows remember themselves, by their operations.
fn bulk() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(bulk::run))
}

/// For whoever runs the program; without a token, because those who probe and scrape have none.
fn service() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(health::alive)).routes(routes!(health::ready)).routes(routes!(metrics::metrics))
}

/// All of them without layers, for their documentation.
pub(crate) fn documented() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Base::openapi())
        .merge(remembered())
        .merge(large())
        .merge(routing())
        .merge(streams())
        .merge(bulk())
        .merge(service())
}

/// The whole door. Layers wrap what is above them: the last one sees a request first.
pub(crate) fn router(shared: &Shared) -> Router {
    let once = from_fn_with_state(shared.clone(), idempotency::once);
    let large = Router::from(large())
        .route_layer(once.clone())
        .route_layer(from_fn_with_state(shared.clone(), limits::admit_push))
        .layer(DefaultBodyLimit::max(shared.config().migration_set_bytes_max));
    let small = Router::from(remembered())
        .route_layer(once)
        .merge(routing())
        .merge(streams())
        .layer(DefaultBodyLimit::max(shared.config().body_bytes_max));
    let bulk = Router::from(bulk())
        .route_layer(from_fn_with_state(shared.clone(), limits::admit_push))
        .layer(DefaultBodyLimit::max(BULK_BYTES_MAX));
    let protected = large.merge(small).merge(bulk).route_layer(from_fn_with_state(shared.clone(), auth::authenticate));
    protected
        .route_layer(from_fn_with_state(shared.clone(), limits::admit))
        // Not refused under load: a program that is busy is alive.
        .merge(service())
        .merge(docs::router(&openapi_document()))
        .layer(from_fn(guard))
        .layer(from_fn(observe))
        .layer(from_fn(unread_body::drain))
        .layer(CompressionLayer::new().gzip(true))
        .with_state(shared.clone())
}
