//! One replica of the control plane, run within the process.

use std::net::SocketAddr;
use std::sync::OnceLock;

use tenantry_control::{Control, ControlConfig};
use tenantry_fleet::{Fleet, FleetConfig};
use tenantry_runtime::{Telemetry, TelemetryConfig};
use tenantry_server::{Server, ServerConfig};
use tenantry_store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A control plane with its workers and its door.
#[derive(Debug)]
pub struct Replica {
    control: Control,
    address: SocketAddr,
    stop: CancellationToken,
    working: JoinHandle<()>,
    serving: JoinHandle<()>,
}

impl Replica {
    pub(crate) async fn start(store: Store, config: ControlConfig, server: ServerConfig) -> Self {
        Self::start_as(store, config, server, true).await
    }

    /// A door without workers: what is asked for is recorded, and nothing is done.
    pub(crate) async fn start_idle(store: Store, config: ControlConfig, server: ServerConfig) -> Self {
        Self::start_as(store, config, server, false).await
    }

    async fn start_as(store: Store, config: ControlConfig, server: ServerConfig, works: bool) -> Self {
        let fleet = Fleet::new(FleetConfig::default());
        let control = Control::new(store, fleet, config, Vec::new()).await.expect("a control plane");
        let server = Server::bind(server, control.clone(), telemetry()).expect("a door");
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let working = tokio::spawn({
            let (control, stop) = (control.clone(), stop.clone());
            async move {
                if works {
                    control.run(stop).await;
                }
            }
        });
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move { server.run(stop).await.expect("a door that stays open") }
        });
        Self { control, address, stop, working, serving }
    }

    /// The use-cases behind its door.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Where its door is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its door is, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it as a crash would: in the middle of whatever it does, with its leases held. Its door goes too.
    pub async fn crash(self) {
        self.working.abort();
        self.serving.abort();
        let _ = self.working.await;
        let _ = self.serving.await;
    }

    /// Ends it in good order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.await.expect("the door closes without a panic");
        self.working.await.expect("the workers end without a panic");
    }
}

/// Installed once, because tracing and metrics are process-wide. `TENANTRY_TEST_LOG=debug` shows what happens.
fn telemetry() -> Telemetry {
    static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();
    let install = || {
        let log_filter = std::env::var("TENANTRY_TEST_LOG").unwrap_or_else(|_| "off".to_owned());
        let config = TelemetryConfig { log_filter, ..TelemetryConfig::default() };
        Telemetry::install(&config).expect("the first telemetry of the process")
    };
    TELEMETRY.get_or_init(install).clone()
}
