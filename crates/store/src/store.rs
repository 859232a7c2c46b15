//! Connecting to the catalog.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::QueueMode;
use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use tenantry_domain::Secret;
use tenantry_tls::TlsError;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::keyring::Keyring;
use crate::listener::Listener;
use crate::row::{get, query_one};
use crate::transaction::Tx;

/// How to reach the catalog.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `postgres://user:password@host/database`, with PostgreSQL's own parameters (`sslmode=require`, …).
    pub url: Secret,
    /// PEM of the authority for encrypted connections; absent means the system's.
    pub tls_ca: Option<String>,
    /// Connections at most, besides the one that listens.
    pub pool_size: usize,
    /// For reaching the server, and for waiting on a free connection.
    pub connect_timeout: Duration,
    /// For one statement.
    pub statement_timeout: Duration,
}

impl StoreConfig {
    /// The defaults, for a URL.
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            tls_ca: None,
            pool_size: 16,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(15),
        }
    }
}

/// The catalog. Clones share connections.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    keyring: Arc<Keyring>,
    connector: Connector,
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Store").field("pool", &self.pool.status()).finish_non_exhaustive()
    }
}

/// What a connection of its own needs.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: MakeRustlsConnect,
}

impl Store {
    /// Checks the URL, refuses to send a password in clear beyond this machine, and connects once.
    pub async fn connect(config: &StoreConfig, keyring: Keyring) -> Result<Self, StoreError> {
        let postgres = postgres_config(config)?;
        let tls = tls(config.tls_ca.as_deref())?;
        let connector = Connector { config: postgres.clone(), tls: tls.clone() };
        let manager = Manager::from_config(postgres, tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(config.pool_size.max(2))
            // The connection that was used last knows its statements best.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(config.connect_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .build()
            .map_err(StoreError::internal)?;
        drop(pool.get().await.map_err(|error| refusal(&error).unwrap_or_else(|| error.into()))?);
        Ok(Self { pool, keyring: Arc::new(keyring), connector })
    }

    /// Whether the catalog answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        query_one(&*self.client().await?, "SELECT 1", &[]).await.map(drop)
    }

    /// The identity of the server's data directory, by which a cluster at another address is recognised as the same.
    pub async fn system_identifier(&self) -> Result<String, StoreError> {
        let client = self.client().await?;
        let row = query_one(&client, "SELECT system_identifier::text FROM pg_control_system()", &[]).await?;
        get(&row, "system_identifier")
    }

    /// Begins a transaction.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Tx::begin(self.client().await?, Arc::clone(&self.keyring)).await
    }

    /// Begins a transaction that sees the catalog at one instant and changes nothing.
    pub(crate) async fn begin_snapshot(&self) -> Result<Tx, StoreError> {
        let tx = self.begin().await?;
        // Before the first statement of the transaction, so it holds for all of them.
        tx.client()?.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(tx)
    }

    /// Listens for news on a connection of its own, which is made anew whenever it is lost.
    pub fn listen(&self) -> Listener {
        Listener::new(self.connector.clone())
    }

    pub(crate) async fn client(&self) -> Result<Box<Connection>, StoreError> {
        Ok(Connection::new(self.pool.get().await?))
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }
}

/// At the start, a server that answers and says no is told apart from one that is away: no later attempt helps.
fn refusal(error: &PoolError) -> Option<StoreError> {
    let PoolError::Backend(error) = error else { return None };
    let refused = error.as_db_error()?;
    let code = refused.code();
    let is_final = code.code().starts_with("28")
        || [SqlState::INVALID_CATALOG_NAME, SqlState::INSUFFICIENT_PRIVILEGE].contains(code);
    is_final.then(|| StoreError::Invalid {
        reason: format!(
            "the catalog's server refuses the login ({}); check user, password and database in its URL",
            refused.message()
        ),
    })
}

fn postgres_config(config: &StoreConfig) -> Result<tokio_postgres::Config, StoreError> {
    let mut postgres: tokio_postgres::Config =
        config.url.expose().parse().map_err(|error: tokio_postgres::Error| {
            let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            StoreError::Invalid { reason: format!("the catalog's URL cannot be read: {reason}") }
        })?;
    // Where both are given, `hostaddr` is connected to and `host` is only a name.
    let addresses_are_local = postgres.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
    let hosts_are_local = postgres.get_hosts().iter().all(|host| match host {
        tokio_postgres::config::Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        tokio_postgres::config::Host::Unix(_) => true,
    });
    let is_local = hosts_are_local && addresses_are_local;
    if !is_local && postgres.get_ssl_mode() != SslMode::Require {
        return Err(StoreError::Invalid {
            reason: "the catalog's password may leave this machine only encrypted; add `sslmode=require` to its URL"
                .to_owned(),
        });
    }
    if is_local && postgres.get_ssl_mode() == SslMode::Prefer {
        postgres.ssl_mode(SslMode::Disable);
    }
    let options = format!(
        "{} -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
        postgres.get_options().unwrap_or_default(),
        config.statement_timeout.as_millis(),
        config.statement_timeout.as_millis(),
    );
    postgres
        .options(options.trim())
        .application_name("tenantry")
        .connect_timeout(config.connect_timeout)
        // A listener sends nothing for hours: without these it would not notice that its server is gone.
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(30));
    Ok(postgres)
}

/// Certificates are always checked, by the given authority or the system's.
fn tls(authority: Option<&str>) -> Result<MakeRustlsConnect, StoreError> {
    let roots = authority.map_or_else(|| Ok(tenantry_tls::system_roots()), tenantry_tls::roots_from);
    let roots = roots.map_err(|TlsError { reason, source }| StoreError::Invalid {
        reason: source.map_or_else(|| reason.to_owned(), |source| format!("{reason}: {source}")),
    })?;
    // The provider is named, so that connecting does not depend on one that the program installed.
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(StoreError::internal)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_cannot_be_used_is_said_so() {
        assert!(tls(None).is_ok());
        let broken = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        let Err(StoreError::Invalid { reason }) = tls(Some(broken)) else { panic!("it is no certificate") };
        assert!(reason.starts_with("tls_ca holds a bad certificate: "), "{reason}");
    }
}
