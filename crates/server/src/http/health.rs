//! `/healthz` and `/readyz`, for whoever starts and balances replicas.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use tenantry_api::Readiness;
use tenantry_control::operations;

use super::extract::Json;
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
    responses((status = OK, description = "Requests can be served", body = Readiness)),
)]
pub(crate) async fn ready(State(shared): State<Shared>) -> Result<Json<Readiness>, Refusal> {
    if shared.closing().is_cancelled() {
        return Err(Refusal::busy("The server is stopping."));
    }
    let look = async {
        shared.control().ready().await?;
        operations::count_parked(shared.control()).await
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(parked) => Ok(Json(Readiness { parked_operations: parked?.iter().map(|(_, count)| count).sum() })),
        Err(_) => Err(Refusal::busy("The catalog does not answer in time; try again.")),
    }
}
