//! Opening one connection: a socket, TLS, logging in, and the check that the tenant lives there.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use std::{io, iter};

use deadpool_postgres::ClientWrapper;
use tenantry_domain::{Endpoint, Generation, TenantId};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::breaker::LeftAlone;
use crate::budget::Permit;
use crate::dial::{Socket, dial, is_socket};
use crate::error::RouterError;
use crate::session::Session;
use crate::session::driver::Driver;
use crate::session::stream::{Watched, WatchedTls};
use crate::table::ServerEntry;
use crate::tls::{SystemRoots, client_config};

/// What tokio-postgres says where the server speaks no TLS, and where the handshake fails.
const TLS_FAILED: &str = "error performing TLS handshake";

/// How connections to one cluster are protected.
#[derive(Clone)]
pub(crate) enum Tls {
    /// Not at all: unix sockets and loopback only.
    Plain,
    /// By rustls.
    Rustls(MakeRustlsConnect),
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The server was not reached.
    #[error("the server was not reached")]
    Socket(#[from] io::Error),
    /// It answered, or what came was no answer.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// It took too long.
    #[error("the server did not answer in time")]
    Late,
    /// The router has as many connections to the server as it may have.
    #[error("all connections that this router may have to the server are in use")]
    Full,
    /// As many connections were opened for the tenant lately as its limit allows.
    #[error("the tenant's limit `connections_per_second` allows the next connection in {} ms", retry_after.as_millis())]
    TooFast {
        /// When the next one may be opened.
        retry_after: Duration,
    },
    /// The server cannot be spoken to in private. Nobody speaks to it in the clear instead.
    #[error(
        "the server at {endpoint} has no TLS, or none that is believed; see to `ssl` and the certificate there, or to \
         `tls_mode` and `tls_ca` of its cluster"
    )]
    Tls {
        /// Which server.
        endpoint: Endpoint,
        /// What is wrong: the certificate, for example.
        source: tokio_postgres::Error,
    },
    /// The server could not be asked lately; nobody asks it for a while.
    #[error("the server is left alone for {} ms, because lately this was wrong: {}", .0.retry_after.as_millis(), .0.why)]
    LeftAlone(LeftAlone),
}

impl ConnectError {
    /// Whether the server did not answer, or only to say that it cannot serve anybody now.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Late | Self::Tls { .. } => true,
            Self::Postgres(error) => match error.code() {
                Some(code) => *code == SqlState::CANNOT_CONNECT_NOW,
                // The connection was lost.
                None => true,
            },
            Self::Full | Self::TooFast { .. } | Self::LeftAlone(_) => false,
        }
    }

    /// What PostgreSQL answered, if it did.
    pub(crate) fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) => error.code(),
            _ => None,
        }
    }

    /// One word, for spans.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Socket(_) => "unreachable",
            Self::Postgres(_) => "refused",
            Self::Late => "late",
            Self::Full => "full",
            Self::TooFast { .. } => "too_fast",
            Self::Tls { .. } => "tls",
            Self::LeftAlone(_) => "left_alone",
        }
    }

    /// All that it says, causes included, for those who see it from afar.
    pub(crate) fn told(&self) -> String {
        let causes = iter::successors(self.source(), |&error| error.source());
        causes.fold(self.to_string(), |told, cause| format!("{told}: {cause}"))
    }
}

impl Tls {
    /// Sets up what a server asks for. A password never travels in the clear beyond this machine.
    pub(crate) async fn of(server: &ServerEntry, system: &SystemRoots) -> Result<Self, RouterError> {
        if is_socket(&server.endpoint) {
            return Ok(Self::Plain);
        }
        match client_config(server.tls_mode, server.tls_ca.as_deref(), system).await? {
            Some(config) => Ok(Self::Rustls(MakeRustlsConnect::new(config))),
            None if server.endpoint.is_local() => Ok(Self::Plain),
            None => Err(RouterError::Refused {
                reason: format!(
                    "the server at {} has tls_mode `disable`; passwords are not sent in the clear beyond this \
                     machine, so set another mode",
                    server.endpoint
                ),
                source: None,
            }),
        }
    }
}

/// How connections of one tenant with one access are opened.
pub(crate) struct Connector {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Tls,
    pub(crate) config: Config,
    /// Run first: raises unless this tenant lives there, and sets the session up.
    pub(crate) attach: String,
}

impl Connector {
    /// The settings of a connection, without its credential.
    pub(crate) fn config(tls: &Tls, application_name: &str) -> Config {
        let mut config = Config::new();
        config.application_name(application_name).ssl_mode(match tls {
            Tls::Plain => SslMode::Disable,
            Tls::Rustls(_) => SslMode::Require,
        });
        config
    }

    /// Opens a connection and attaches it to the tenant's home. The permit is given back when it has ended.
    pub(crate) async fn open(&self, permit: Permit) -> Result<(ClientWrapper, Arc<Session>), ConnectError> {
        let socket = dial(&self.endpoint).await?;
        let session = Arc::new(Session::default());
        let (client, driver) = match &self.tls {
            Tls::Plain => {
                let watched = Watched::new(socket, Arc::clone(&session));
                let (client, connection) = self.config.connect_raw(watched, NoTls).await?;
                (client, tokio::spawn(Driver::new(connection, Arc::clone(&session), permit)))
            }
            Tls::Rustls(tls) => {
                let tls = WatchedTls { tls: for_host(tls, &self.endpoint), session: Arc::clone(&session) };
                let connecting = self.config.connect_raw(socket, tls).await;
                let (client, connection) = connecting.map_err(|error| self.tls_error(error))?;
                (client, tokio::spawn(Driver::new(connection, Arc::clone(&session), permit)))
            }
        };
        // Dropped on failure, and with it the connection ends.
        let client = ClientWrapper::new(client, driver);
        client.batch_execute(&self.attach).await?;
        session.renew();
        metrics::counter!("tenantry_router_connections_opened_total").increment(1);
        Ok((client, session))
    }

    /// Tells failures of TLS apart, which tokio-postgres does in words alone.
    fn tls_error(&self, error: tokio_postgres::Error) -> ConnectError {
        if error.to_string() == TLS_FAILED {
            ConnectError::Tls { endpoint: self.endpoint.clone(), source: error }
        } else {
            error.into()
        }
    }

    /// Asks the server to end what a backend is doing. A failure is no news: the backend may be gone.
    pub(crate) async fn cancel(&self, token: CancelToken) {
        let outcome = async {
            let socket = dial(&self.endpoint).await?;
            match &self.tls {
                Tls::Plain => token.cancel_query_raw(socket, NoTls).await?,
                Tls::Rustls(tls) => token.cancel_query_raw(socket, for_host(tls, &self.endpoint)).await?,
            }
            Ok::<_, ConnectError>(())
        };
        if let Err(error) = outcome.await {
            tracing::debug!(%error, "a cancel request was not delivered");
        }
    }
}

fn for_host(tls: &MakeRustlsConnect, endpoint: &Endpoint) -> <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect {
    let mut tls = tls.clone();
    match MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, endpoint.host()) {
        Ok(connect) => connect,
        Err(never) => match never {},
    }
}

/// The statement that checks, inside the home, that this tenant lives there in this generation, and sets the session
/// up. It raises where the route is out of date. Both values are written as constants: one is a UUID, one a number.
pub(crate) fn attach_statement(tenant: TenantId, generation: Generation) -> String {
    format!("SELECT tenantry.attach('{tenant}'::pg_catalog.uuid, {generation}::pg_catalog.int8)")
}
