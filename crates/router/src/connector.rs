//! Opening one connection: TCP or unix socket, TLS, logging in, and the check that the tenant lives there.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::Connect;
use tenantry_domain::{Endpoint, Generation, TenantId};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::RouterError;
use crate::table::ClusterEntry;
use crate::tls::{SystemRoots, client_config};

/// How connections to one cluster are protected.
#[derive(Clone)]
pub(crate) enum Tls {
    /// Not at all: unix sockets and loopback only.
    Plain,
    /// By rustls.
    Rustls(MakeRustlsConnect),
}

impl Tls {
    /// Sets up what a cluster asks for. A password never travels in the clear beyond this machine.
    pub(crate) async fn of(cluster: &ClusterEntry, system: &SystemRoots) -> Result<Self, RouterError> {
        if is_socket(&cluster.endpoint) {
            return Ok(Self::Plain);
        }
        match client_config(cluster.tls_mode, cluster.tls_ca.as_deref(), system).await? {
            Some(config) => Ok(Self::Rustls(MakeRustlsConnect::new(config))),
            None if cluster.endpoint.is_local() => Ok(Self::Plain),
            None => Err(RouterError::Refused {
                reason: format!(
                    "the cluster at {} has tls_mode `disable`; passwords are not sent in the clear beyond this \
                     machine, so set another mode",
                    cluster.endpoint
                ),
                source: None,
            }),
        }
    }

    /// Asks the server to end what a backend is doing. A failure is no news: the backend may be gone.
    pub(crate) async fn cancel(&self, token: CancelToken) {
        let outcome = match self {
            Self::Plain => token.cancel_query(NoTls).await,
            Self::Rustls(tls) => token.cancel_query(tls.clone()).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a cancel request was not delivered");
        }
    }
}

fn is_socket(endpoint: &Endpoint) -> bool {
    endpoint.host().starts_with('/')
}

/// The connection settings of one tenant's home, without its credential.
pub(crate) fn config_for(endpoint: &Endpoint, tls: &Tls, connect_timeout: Duration) -> Config {
    let mut config = Config::new();
    if is_socket(endpoint) {
        config.host_path(endpoint.host());
    } else {
        config.host(endpoint.host());
    }
    config
        .port(endpoint.port())
        .ssl_mode(match tls {
            Tls::Plain => SslMode::Disable,
            Tls::Rustls(_) => SslMode::Require,
        })
        .connect_timeout(connect_timeout)
        .keepalives_idle(Duration::from_mins(1))
        // A peer that vanished is noticed while something is on its way, too.
        .tcp_user_timeout(Duration::from_secs(30))
        .application_name("tenantry-router");
    config
}

/// The statement that checks, inside the home, that this tenant lives there in this generation, and sets the session
/// up. It raises where the route is out of date. Both values are written as constants: one is a UUID, one a number.
pub(crate) fn attach_statement(tenant: TenantId, generation: Generation) -> String {
    format!("SELECT tenantry.attach('{tenant}'::pg_catalog.uuid, {generation}::pg_catalog.int8)")
}

/// How deadpool opens connections of one tenant.
pub(crate) struct TenantConnect {
    pub(crate) tls: Tls,
    pub(crate) attach: String,
}

type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

impl Connect for TenantConnect {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let config = config.clone();
        Box::pin(async move {
            let (client, driver) = match &self.tls {
                Tls::Plain => {
                    let (client, connection) = config.connect(NoTls).await?;
                    (client, tokio::spawn(drive(connection)))
                }
                Tls::Rustls(tls) => {
                    let (client, connection) = config.connect(tls.clone()).await?;
                    (client, tokio::spawn(drive(connection)))
                }
            };
            // On failure the client is dropped, and with it the connection ends.
            client.batch_execute(&self.attach).await?;
            metrics::counter!("tenantry_router_connections_opened_total").increment(1);
            Ok((client, driver))
        })
    }
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}
