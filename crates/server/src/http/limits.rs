//! How many requests at a time, and how long one may take.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::Response;
use tenantry_api::Code;
use tenantry_control::operations::WAIT_MAX;

use super::problem::Refusal;
use super::state::Shared;

/// Bodies of migration sets may come over slow lines.
const PUSH_TIME: Duration = Duration::from_mins(1);

/// Middleware: refuses past the configured number of requests instead of queueing, and past the configured time.
pub(crate) async fn admit(State(shared): State<Shared>, request: Request, next: Next) -> Result<Response, Refusal> {
    let Ok(_place) = shared.requests().try_acquire() else {
        return Err(Refusal::busy("As many requests as configured are being answered; try again."));
    };
    let limit = time_limit(&shared, request.uri());
    tokio::time::timeout(limit, next.run(request)).await.map_err(|_| too_slow())
}

/// Middleware for migration sets: they may be large, so only a few are received at the same time.
pub(crate) async fn admit_push(
    State(shared): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if request.method() != axum::http::Method::POST {
        return Ok(next.run(request).await);
    }
    let Ok(_place) = shared.pushes().try_acquire() else {
        return Err(Refusal::busy("As many migration sets as configured are being received; try again."));
    };
    Ok(next.run(request).await)
}

/// How long the request may take. A call that waits for its work gets the longest wait on top, whatever it asked for:
/// what it asked for is checked later, and it is the handler that keeps to it.
pub(crate) fn time_limit(shared: &Shared, uri: &Uri) -> Duration {
    let base = shared.config().request_timeout;
    if uri.path().ends_with("/migration-sets") {
        base + PUSH_TIME
    } else if asks_to_wait(uri) {
        base + WAIT_MAX
    } else {
        base
    }
}

/// Whether the effect is there is not known, which the answer must not hide.
pub(crate) fn too_slow() -> Refusal {
    let detail = "The request took longer than configured; whether it took effect is not known. Look, or repeat it \
                  with the same Idempotency-Key.";
    Refusal::new(Code::Unavailable, detail).with_retry_after(Duration::from_secs(5))
}

fn asks_to_wait(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("wait=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_asks_to_wait() {
        for (uri, waits) in [
            ("/v1/tenants?wait=30", true),
            ("/v1/tenants?x=1&wait=30", true),
            ("/v1/tenants", false),
            ("/v1/tenants?await=1", false),
            ("/v1/wait=1", false),
        ] {
            assert_eq!(asks_to_wait(&Uri::from_static(uri)), waits, "{uri}");
        }
    }
}
