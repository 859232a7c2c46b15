//! The task that writes snapshots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenantry_domain::FeedVersion;
use tokio_util::sync::CancellationToken;

use super::SnapshotFile;
use super::save::save;
use crate::inner::Inner;

/// Without changes a snapshot is written anew so often, so that its age says how old the routes are.
const REFRESH: Duration = Duration::from_mins(10);
/// The pause after a snapshot is so many times as long as writing took, so that many routes cost no more of the machine
/// than few do.
const REST: u32 = 20;

/// What a snapshot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) version: FeedVersion,
    /// When the control plane last said something, as [`crate::freshness::Freshness`] counts.
    pub(crate) heard_ms: i64,
}

impl Mark {
    pub(crate) fn of(inner: &Inner) -> Option<Self> {
        Some(Self { version: inner.feed.borrow().applied?, heard_ms: inner.freshness.heard_ms()? })
    }
}

/// Writes the table after changes until the router ends, and once more then. `last` is what the file holds already.
pub(crate) async fn keep(inner: Arc<Inner>, file: Arc<SnapshotFile>, mut last: Option<Mark>, ended: CancellationToken) {
    let _ended = ended.drop_guard();
    let shutdown = inner.shutdown.clone();
    let refresh = [file.age_max, inner.config.staleness_max].into_iter().flatten().map(|limit| limit / 4);
    let refresh = refresh.fold(REFRESH, Duration::min);
    loop {
        let is_open = shutdown.run_until_cancelled(is_due(&inner, last, refresh)).await.is_some();
        let (began, now) = (Instant::now(), Mark::of(&inner));
        if now != last && write(&inner, &file).await {
            last = now;
        }
        let pause = inner.config.snapshot_interval.max(began.elapsed().saturating_mul(REST));
        if !is_open {
            return;
        }
        // Whether it was closed meanwhile is seen above.
        let _ = shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// Waits until there is something that the last snapshot does not say.
async fn is_due(inner: &Inner, last: Option<Mark>, refresh: Duration) {
    let mut changes = inner.feed.subscribe();
    let refresh_ms = i64::try_from(refresh.as_millis()).unwrap_or(i64::MAX);
    loop {
        changes.mark_unchanged();
        let is_due = match (Mark::of(inner), last) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(now), Some(last)) => {
                now.version > last.version || now.heard_ms.saturating_sub(last.heard_ms) >= refresh_ms
            }
        };
        if is_due {
            return;
        }
        if changes.changed().await.is_err() {
            // Without a feed nothing comes; the router's end stops the wait.
            return std::future::pending().await;
        }
    }
}

/// Writes it, off the threads that serve others; says whether that went well.
async fn write(inner: &Arc<Inner>, file: &Arc<SnapshotFile>) -> bool {
    let (began, writing) = (Instant::now(), (Arc::clone(inner), Arc::clone(file)));
    let written = tokio::task::spawn_blocking(move || save(&writing.1, &writing.0)).await;
    let path = file.path.display();
    let outcome = match written {
        Ok(Ok(None)) => return false,
        Ok(Ok(Some(bytes))) => {
            #[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 2^53")]
            metrics::gauge!("tenantry_router_snapshot_bytes").set(bytes as f64);
            tracing::debug!(%path, bytes, took_ms = began.elapsed().as_millis(), "a snapshot is written");
            "written"
        }
        Ok(Err(error)) => {
            tracing::warn!(%path, %error, "a snapshot could not be written; the last one stays");
            "failed"
        }
        // The runtime ends.
        Err(error) => {
            tracing::debug!(%path, %error, "a snapshot was not written");
            "failed"
        }
    };
    metrics::counter!("tenantry_router_snapshots_total", "outcome" => outcome).increment(1);
    outcome == "written"
}
