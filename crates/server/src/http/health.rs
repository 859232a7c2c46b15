//! `/healthz` and `/readyz`, for whoever starts and balances replicas.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;

use super::problem::Refusal;
use super::state::Shared;

/// Whoever probes gives up after some seconds; an answer that comes later says nothing.
const PATIENCE: Duration = Duration::from_secs(3);

/// Is it alive?
///
/// Answers as long as the program runs, whatever else is away: restarting would not help.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "health",
    tag = "service",
    responses((status = NO_CONTENT, description = "The program runs")),
)]
pub(crate) async fn alive() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Is it ready?
///
/// Says no while the catalog does not answer, and as soon as the program is told to stop.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readiness",
    tag = "service",
    responses((status = NO_CONTENT, description = "Requests can be served")),
)]
pub(crate) async fn ready(State(shared): State<Shared>) -> Result<StatusCode, Refusal> {
    if shared.closing().is_cancelled() {
        return Err(Refusal::busy("The server is stopping."));
    }
    match tokio::time::timeout(PATIENCE, shared.control().ready()).await {
        Ok(ready) => ready?,
        Err(_) => return Err(Refusal::busy("The catalog does not answer in time; try again.")),
    }
    Ok(StatusCode::NO_CONTENT)
}
