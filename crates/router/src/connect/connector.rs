//! Opening one connection: a socket, TLS, logging in, and what is run first.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, iter};

use deadpool_postgres::ClientWrapper;
use tenantry_domain::{Credential, Endpoint, Generation, TenantId};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::Instrument;

use super::breaker::LeftAlone;
use super::place::Place;
use super::socket::{Socket, dial, is_socket};
use super::tls::{SystemRoots, client_config};
use crate::budget::Permit;
use crate::builder::RouterConfig;
use crate::error::RouterError;
use crate::limits::Opening;
use crate::session::Session;
use crate::session::driver::Driver;
use crate::session::stream::{Watched, WatchedTls};
use crate::spans;
use crate::table::ServerEntry;

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
    /// The tenants of the database have as many connections as they may share.
    #[error("all connections that the tenants of the database share are in use")]
    Busy,
    /// The login that they share may not become the tenant.
    #[error(transparent)]
    Role(tokio_postgres::Error),
    /// It did not say so, and yet is not the tenant.
    #[error("the connection did not become the tenant's role")]
    NotAssumed,
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
            Self::Full | Self::TooFast { .. } | Self::Busy | Self::Role(_) | Self::NotAssumed | Self::LeftAlone(_) => {
                false
            }
        }
    }

    /// What PostgreSQL answered, if it did.
    pub(crate) fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) | Self::Role(error) => error.code(),
            _ => None,
        }
    }

    /// One word, for spans.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Socket(_) => "unreachable",
            Self::Postgres(_) | Self::Role(_) | Self::NotAssumed => "refused",
            Self::Late => "late",
            Self::Full => "full",
            Self::TooFast { .. } => "too_fast",
            Self::Busy => "busy",
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

/// How connections of one role to one database of a server are opened.
pub(crate) struct Connector {
    pub(crate) server: Arc<ServerEntry>,
    tls: Tls,
    config: Config,
    /// How long opening may take.
    pub(crate) time_limit: Duration,
}

impl Connector {
    /// For a login role at a place.
    pub(crate) fn to(
        place: &Place<'_>,
        credential: &Credential,
        limits: &RouterConfig,
        application_name: &str,
    ) -> Result<Self, RouterError> {
        let password = credential.password.as_ref().ok_or_else(|| RouterError::Refused {
            reason: "the feed bears no passwords; give the router a token with the scope `routes:secrets`".to_owned(),
            source: None,
        })?;
        let mut config = Config::new();
        config
            .application_name(application_name)
            .ssl_mode(match place.tls {
                Tls::Plain => SslMode::Disable,
                Tls::Rustls(_) => SslMode::Require,
            })
            .user(credential.role.as_str())
            .password(password.expose())
            .dbname(place.target.database.as_str());
        let time_limit = if place.replica.is_some() { limits.replica_time_limit() } else { limits.connect_timeout };
        Ok(Self { server: Arc::clone(place.server), tls: place.tls.clone(), config, time_limit })
    }

    /// Opens a connection, unless the server is left alone or connections are opened too fast, and runs a statement first.
    /// The permit is given back when the connection has ended.
    pub(crate) async fn open(
        &self,
        permit: Permit,
        first: Option<&str>,
        opening: Option<&Opening>,
    ) -> Result<(ClientWrapper, Arc<Session>), ConnectError> {
        let attempt = self.server.breaker.ask(Instant::now()).map_err(ConnectError::LeftAlone)?;
        opening.map_or(Ok(()), |opening| opening.begin().or_else(too_fast))?;
        let span = spans::connect(&self.server);
        let opened = tokio::time::timeout(self.time_limit, self.log_in(permit, first)).instrument(span.clone()).await;
        let outcome = opened.unwrap_or(Err(ConnectError::Late));
        spans::connected(&span, &outcome);
        match &outcome {
            Err(error) if error.is_silence() => attempt.failed(Instant::now(), error.told()),
            Ok(_) | Err(_) => attempt.answered(),
        }
        outcome
    }

    async fn log_in(&self, permit: Permit, first: Option<&str>) -> Result<(ClientWrapper, Arc<Session>), ConnectError> {
        let endpoint = &self.server.endpoint;
        let socket = dial(endpoint).await?;
        let session = Arc::new(Session::default());
        let (client, driver) = match &self.tls {
            Tls::Plain => {
                let watched = Watched::new(socket, Arc::clone(&session));
                let (client, connection) = self.config.connect_raw(watched, NoTls).await?;
                (client, tokio::spawn(Driver::new(connection, Arc::clone(&session), permit)))
            }
            Tls::Rustls(tls) => {
                let tls = WatchedTls { tls: for_host(tls, endpoint), session: Arc::clone(&session) };
                let connecting = self.config.connect_raw(socket, tls).await;
                let (client, connection) = connecting.map_err(|error| self.tls_error(error))?;
                (client, tokio::spawn(Driver::new(connection, Arc::clone(&session), permit)))
            }
        };
        // Dropped on failure, and with it the connection ends.
        let client = ClientWrapper::new(client, driver);
        if let Some(first) = first {
            client.batch_execute(first).await?;
        }
        session.renew();
        metrics::counter!("tenantry_router_connections_opened_total").increment(1);
        Ok((client, session))
    }

    /// Tells failures of TLS apart, which tokio-postgres does in words alone.
    fn tls_error(&self, error: tokio_postgres::Error) -> ConnectError {
        if error.to_string() == TLS_FAILED {
            ConnectError::Tls { endpoint: self.server.endpoint.clone(), source: error }
        } else {
            error.into()
        }
    }

    /// Asks the server to end what a backend is doing. A failure is no news: the backend may be gone.
    pub(crate) async fn cancel(&self, token: CancelToken) {
        let outcome = async {
            let socket = dial(&self.server.endpoint).await?;
            match &self.tls {
                Tls::Plain => token.cancel_query_raw(socket, NoTls).await?,
                Tls::Rustls(tls) => token.cancel_query_raw(socket, for_host(tls, &self.server.endpoint)).await?,
            }
            Ok::<_, ConnectError>(())
        };
        if let Err(error) = outcome.await {
            tracing::debug!(%error, "a cancel request was not delivered");
        }
    }
}

pub(crate) fn too_fast(retry_after: Duration) -> Result<(), ConnectError> {
    Err(ConnectError::TooFast { retry_after })
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
