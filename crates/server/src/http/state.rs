//! What every handler can reach.

use std::sync::Arc;

use axum::extract::FromRef;
use tenantry_control::Control;
use tenantry_control::routes::Feed;
use tenantry_runtime::Telemetry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::open_tokens::OpenTokens;
use super::routes_feed::write_line;
use crate::config::ServerConfig;

/// The door's own state. Cheap to clone; all clones are the same door.
#[derive(Clone)]
pub(crate) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    config: ServerConfig,
    control: Control,
    feed: Feed,
    open_tokens: OpenTokens,
    telemetry: Telemetry,
    requests: Semaphore,
    streams: Arc<Semaphore>,
    pushes: Semaphore,
    closing: CancellationToken,
    cut_off: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(config: ServerConfig, control: Control, telemetry: Telemetry) -> Self {
        let inner = Inner {
            requests: Semaphore::new(config.requests_max),
            streams: Arc::new(Semaphore::new(config.streams_max)),
            pushes: Semaphore::new(config.migration_set_pushes_max),
            closing: CancellationToken::new(),
            cut_off: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
            feed: Feed::new(control.clone(), write_line),
            open_tokens: OpenTokens::default(),
            control,
            telemetry,
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.inner.config
    }

    pub(crate) fn control(&self) -> &Control {
        &self.inner.control
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.inner.feed
    }

    /// Tokens of open streams.
    pub(crate) fn open_tokens(&self) -> &OpenTokens {
        &self.inner.open_tokens
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.inner.telemetry
    }

    /// Room for requests.
    pub(crate) fn requests(&self) -> &Semaphore {
        &self.inner.requests
    }

    /// Room for streams; a stream takes its place with it.
    pub(crate) fn streams(&self) -> &Arc<Semaphore> {
        &self.inner.streams
    }

    /// Room for migration sets that are being received.
    pub(crate) fn pushes(&self) -> &Semaphore {
        &self.inner.pushes
    }

    /// Cancelled when the door closes: streams end, readiness says no.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// Cancelled when the grace is over: work that is left ends where it stands.
    pub(crate) fn cut_off(&self) -> &CancellationToken {
        &self.inner.cut_off
    }

    /// Work that outlives its connection.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }
}

impl FromRef<Shared> for Control {
    fn from_ref(shared: &Shared) -> Self {
        shared.control().clone()
    }
}
