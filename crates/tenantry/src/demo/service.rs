//! The example product, listening on this machine: a service like any customer's, with a token that may only read routes.

use std::net::{Ipv4Addr, SocketAddr};

use tenantry_router::{Router, TenantSources};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::DemoError;

/// Every airline has the host `<slug>.localhost`, which leads to this machine without any name server.
pub(super) const BASE_DOMAIN: &str = "localhost";

/// The host of an airline.
pub(super) fn host_of(slug: &str) -> String {
    format!("{slug}.{BASE_DOMAIN}")
}

/// The running service.
pub(super) struct Service {
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
    stop: DropGuard,
}

impl Service {
    /// Listens on a port that the kernel chooses.
    pub(super) async fn start(router: Router) -> Result<Self, DemoError> {
        let failed = |source| DemoError::Service { activity: "beginning to listen", source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        let sources = TenantSources::new().sub_domain();
        let serving = tokio::spawn(tenantry_sample::serve(listener, router, sources, stop.clone().cancelled_owned()));
        Ok(Self { address, serving, stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets requests finish and ends it.
    pub(super) async fn stop(self) -> Result<(), DemoError> {
        drop(self.stop);
        let served = self.serving.await.map_err(|_| DemoError::Ended)?;
        served.map_err(|source| DemoError::Service { activity: "serving", source })
    }
}
