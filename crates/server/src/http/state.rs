//! What every handler can reach.

use std::sync::Arc;

use axum::extract::FromRef;
use tenantry_control::Control;
use tenantry_runtime::Telemetry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ServerConfig;

/// The door's own state. Cheap to clone; all clones are the same door.
#[derive(Clone)]
pub(crate) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    config: ServerConfig,
    control: Control,
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
