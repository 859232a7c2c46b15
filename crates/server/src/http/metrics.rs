//! `/metrics`: numbers of the whole program in Prometheus' text form. No tenant is named in them.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use tenantry_control::operations;
use tokio::time::timeout;

use super::state::Shared;

/// Whoever scrapes gives up after some seconds, and wants the other numbers all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// Show metrics
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "service",
    responses((status = OK, description = "Metrics", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    // Counted when asked for, so that every replica tells the same. Without the catalog the last number stays.
    if let Ok(Ok(parked)) = timeout(PATIENCE, operations::count_parked(shared.control())).await {
        for (kind, count) in parked {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            metrics::gauge!("tenantry_operations_parked", "kind" => kind.as_str()).set(count);
        }
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.telemetry().render_metrics())
}

/// Says what the door's own numbers mean. Describing twice changes nothing.
pub(crate) fn describe() {
    metrics::describe_gauge!("tenantry_operations_parked", "Operations that wait for a person's decision, by kind");
    metrics::describe_counter!("tenantry_http_requests_total", "Requests answered, by method, route and status");
    metrics::describe_histogram!(
        "tenantry_http_request_seconds",
        metrics::Unit::Seconds,
        "Time to the head of the answer, by method and route"
    );
    metrics::describe_gauge!("tenantry_http_streams", "Open feeds and event streams");
    metrics::describe_gauge!("tenantry_feed_followers", "Readers of this replica's route feed");
    metrics::describe_gauge!("tenantry_feed_bytes", metrics::Unit::Bytes, "Recent route changes kept for them");
    metrics::describe_counter!(
        "tenantry_feed_cut_total",
        "Readers of the route feed cut off because they were too slow"
    );
    metrics::describe_counter!(
        "tenantry_http_connections_refused_total",
        "Connections closed at once because there were as many as configured"
    );
}
