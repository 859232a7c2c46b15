//! The control plane of a world: one replica and its door, in this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tenantry_control::provider::ClusterProvider;
use tenantry_control::webhooks::WebhookConfig;
use tenantry_control::{Control, ControlConfig};
use tenantry_fleet::{Fleet, FleetConfig};
use tenantry_runtime::Telemetry;
use tenantry_server::{Server, ServerConfig, ServerError};
use tenantry_store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::catalog;
use super::error::WorldError;
use crate::local_provider::LocalProvider;

/// How long requests may take to finish when the world ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Which port of 127.0.0.1 the control plane listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApiPort {
    /// This one if it is free, else one that the kernel chooses.
    Preferred(u16),
    /// This one or none.
    Exactly(u16),
    /// One that the kernel chooses.
    Any,
}

/// One replica. Servers that an operator registers as dedicated are used before private ones are started.
pub(super) async fn assemble(store: Store, provider: Arc<LocalProvider>) -> Result<Control, WorldError> {
    let config = ControlConfig {
        default_region: Some(catalog::region()?),
        place_on_catalog_server: true,
        webhooks: WebhookConfig { allow_loopback: true, ..WebhookConfig::default() },
        ..ControlConfig::new(Uuid::now_v7())
    };
    let providers: Vec<Arc<dyn ClusterProvider>> = vec![provider];
    Ok(Control::new(store, Fleet::new(FleetConfig::default()), config, providers).await?)
}

/// Opens the door and lets the replica work, both until `stop`. Answers with the URL.
pub(super) fn serve(
    control: &Control,
    port: ApiPort,
    telemetry: Telemetry,
    stop: &CancellationToken,
) -> Result<(String, JoinSet<Result<(), WorldError>>), WorldError> {
    let server = bind(control, port, &telemetry)?;
    let url = server.url();
    let mut parts = JoinSet::new();
    parts.spawn({
        let stop = stop.clone();
        async move { Ok(server.run(stop).await?) }
    });
    parts.spawn({
        let (control, stop) = (control.clone(), stop.clone());
        async move {
            control.run(stop).await;
            Ok(())
        }
    });
    parts.spawn({
        let stop = stop.clone();
        async move {
            telemetry.run_upkeep(stop).await;
            Ok(())
        }
    });
    Ok((url, parts))
}

fn bind(control: &Control, port: ApiPort, telemetry: &Telemetry) -> Result<Server, ServerError> {
    let bind = |port| {
        let config = ServerConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            shutdown_grace: SHUTDOWN_GRACE,
            ..ServerConfig::default()
        };
        Server::bind(config, control.clone(), telemetry.clone())
    };
    match port {
        ApiPort::Exactly(port) => bind(port),
        ApiPort::Any => bind(0),
        ApiPort::Preferred(port) => match bind(port) {
            Err(ServerError::Listen { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => bind(0),
            bound => bound,
        },
    }
}
