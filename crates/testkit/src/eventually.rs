//! Waiting for something that another process or task brings about.

use std::time::{Duration, Instant};

/// Asks `condition` every few milliseconds until it holds. Panics after a minute with `what` was waited for: the
/// limit is there to end a hanging test, never to measure speed.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited a minute in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
