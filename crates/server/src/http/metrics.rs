//! `/metrics`: numbers of the whole program in Prometheus' text form. No tenant is named in them.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::state::Shared;

/// Show metrics
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "service",
    responses((status = OK, description = "Metrics", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.telemetry().render_metrics())
}

/// Says what the door's own numbers mean. Describing twice changes nothing.
pub(crate) fn describe() {
    metrics::describe_counter!("tenantry_http_requests_total", "Requests answered, by method, route and status");
    metrics::describe_histogram!(
        "tenantry_http_request_seconds",
        metrics::Unit::Seconds,
        "Time to the head of the answer, by method and route"
    );
    metrics::describe_gauge!("tenantry_http_streams", "Open feeds and event streams");
    metrics::describe_counter!(
        "tenantry_http_connections_refused_total",
        "Connections closed at once because there were as many as configured"
    );
}
