//! A transaction that owns its connection.

use std::fmt;
use std::ops::Deref;

use tenantry_domain::TenantId;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, IsolationLevel};

use crate::connect::ConnectError;
use crate::error::RouterError;
use crate::inner::{CHANGING_RETRY, count};
use crate::pool::connection::Connection;
use crate::tenant::Tenant;

/// A connection may have ended while it was idle; the next one is new.
const CONNECTIONS_MAX: usize = 2;
/// PostgreSQL answers `COMMIT` in a transaction that has failed with a rollback and no error. Any other statement before it
/// is refused there; this one reads nothing, not even the time at which the transaction sees its data.
const COMMIT: &str = "SHOW transaction_isolation; COMMIT";

impl Tenant {
    /// Borrows a connection and begins a transaction on it, as [`Tenant::client`] and [`Connection::transaction`] do, but in
    /// one value that can be kept in a struct or handed on.
    ///
    /// ```
    /// # use tenantry_router::testing::TestTenants;
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let server = tenantry_testkit::Server::own().await;
    /// # let router = TestTenants::in_database(server.url("postgres")).tenant("acme").build().await?;
    /// let acme = router.tenant("acme").await?;
    /// # acme.client().await?.batch_execute("create table flights (id bigint primary key, status text not null)").await?;
    /// let transaction = acme.transaction().await?;
    /// transaction.execute("insert into flights values ($1, $2)", &[&7_i64, &"boarding"]).await?;
    /// transaction.commit().await?;
    ///
    /// let transaction = acme.transaction().await?;
    /// transaction.execute("delete from flights", &[]).await?;
    /// // Not committed, so it has not happened.
    /// drop(transaction);
    ///
    /// let flights = acme.client().await?.query("select * from flights", &[]).await?;
    /// assert_eq!(flights.len(), 1);
    /// # router.closed().await;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Tenant::client`], and [`RouterError::Unavailable`] where the connection was lost before the transaction
    /// had begun; nothing was done then.
    pub async fn transaction(&self) -> Result<TenantTransaction, RouterError> {
        self.build_transaction().start().await
    }

    /// The same with an isolation level, read-only or deferrable.
    ///
    /// ```
    /// # use tenantry_router::testing::TestTenants;
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let server = tenantry_testkit::Server::own().await;
    /// # let router = TestTenants::in_database(server.url("postgres")).tenant("acme").build().await?;
    /// use tenantry_router::IsolationLevel;
    ///
    /// # let acme = router.tenant("acme").await?;
    /// # acme.client().await?.batch_execute("create table flights (id bigint primary key, status text not null)").await?;
    /// // One picture of everything, however many queries the report takes.
    /// let report = acme
    ///     .build_transaction()
    ///     .isolation_level(IsolationLevel::RepeatableRead)
    ///     .read_only(true)
    ///     .start()
    ///     .await?;
    /// let flights: i64 = report.query_one("select count(*) from flights", &[]).await?.get(0);
    /// report.commit().await?;
    /// # assert_eq!(flights, 0);
    /// # router.closed().await;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn build_transaction(&self) -> TenantTransactionBuilder<'_> {
        TenantTransactionBuilder { tenant: self, isolation_level: None, read_only: None, deferrable: None }
    }
}

/// How a transaction is to be. Made by [`Tenant::build_transaction`]; what is not set is as the tenant's role has it.
#[derive(Debug, Clone)]
#[must_use = "nothing begins before `start`"]
pub struct TenantTransactionBuilder<'t> {
    tenant: &'t Tenant,
    isolation_level: Option<IsolationLevel>,
    read_only: Option<bool>,
    deferrable: Option<bool>,
}

impl TenantTransactionBuilder<'_> {
    /// What it sees of others.
    pub fn isolation_level(mut self, isolation_level: IsolationLevel) -> Self {
        self.isolation_level = Some(isolation_level);
        self
    }

    /// Whether it may only read.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = Some(read_only);
        self
    }

    /// Whether it waits before its first query until no other transaction can make it fail. That is for long reports:
    /// PostgreSQL heeds it where the transaction is read-only and [`IsolationLevel::Serializable`].
    pub fn deferrable(mut self, deferrable: bool) -> Self {
        self.deferrable = Some(deferrable);
        self
    }

    /// Borrows a connection and begins. Waits as [`Tenant::client`] does, and for the server's answer no longer than opening
    /// a connection may take.
    ///
    /// # Errors
    ///
    /// Those of [`Tenant::client`]. [`RouterError::Unavailable`] where the connection is lost meanwhile, and a second one,
    /// too; [`RouterError::Refused`] where PostgreSQL has no such transaction, for example a serializable one on a replica.
    pub async fn start(self) -> Result<TenantTransaction, RouterError> {
        let (tenant, begin) = (self.tenant.id(), self.statement());
        let time_limit = self.tenant.router.config.connect_timeout;
        let mut lost = None;
        for _ in 0..CONNECTIONS_MAX {
            let connection = self.tenant.client().await?;
            match timeout(time_limit, connection.batch_execute(&begin)).await {
                Ok(Ok(())) => return Ok(TenantTransaction { connection }),
                Ok(Err(error)) if is_loss(&error) => lost = Some(ConnectError::Postgres(error)),
                Ok(Err(error)) => {
                    let refused = RouterError::refused("such a transaction cannot begin there", error);
                    return Err(refused).inspect_err(count);
                }
                // Another one would not answer either.
                Err(_) => {
                    lost = Some(ConnectError::Late);
                    break;
                }
            }
        }
        let source = lost.map(Into::into);
        Err(RouterError::Unavailable { tenant, retry_after: CHANGING_RETRY, source }).inspect_err(count)
    }

    fn statement(&self) -> String {
        let level = self.isolation_level.map(|level| match level {
            IsolationLevel::ReadUncommitted => "ISOLATION LEVEL READ UNCOMMITTED",
            IsolationLevel::ReadCommitted => "ISOLATION LEVEL READ COMMITTED",
            IsolationLevel::RepeatableRead => "ISOLATION LEVEL REPEATABLE READ",
            // Whatever comes to be known, it is no less.
            _ => "ISOLATION LEVEL SERIALIZABLE",
        });
        let read_only = self.read_only.map(|read_only| if read_only { "READ ONLY" } else { "READ WRITE" });
        let deferrable = self.deferrable.map(|deferrable| if deferrable { "DEFERRABLE" } else { "NOT DEFERRABLE" });
        let modes: Vec<_> = [level, read_only, deferrable].into_iter().flatten().collect();
        format!("START TRANSACTION {}", modes.join(", "))
    }
}

/// Whether the connection is what failed, and not the statement.
fn is_loss(error: &Error) -> bool {
    error.code().is_none_or(|code| {
        [&SqlState::ADMIN_SHUTDOWN, &SqlState::CRASH_SHUTDOWN, &SqlState::CANNOT_CONNECT_NOW].contains(&code)
    })
}

/// A transaction of one tenant, with the connection that it runs on. Made by [`Tenant::transaction`].
///
/// It derefs to [`Connection`], and by that to [`tokio_postgres::Client`], for everything that runs queries. **Dropped without
/// a commit it is rolled back**, also in the middle of a query, and before anyone else gets the connection; nobody waits
/// for that. For portals and nested transactions see [`Connection::transaction`].
#[must_use = "a transaction that is dropped is rolled back"]
pub struct TenantTransaction {
    connection: Connection,
}

impl TenantTransaction {
    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.connection.tenant()
    }

    /// Makes lasting what was done, and gives the connection back.
    ///
    /// # Errors
    ///
    /// What PostgreSQL says: a constraint that is checked last, a serialization failure (SQLSTATE 40001), or that a query
    /// before it had failed (25P02): then nothing was done. Where the connection is lost meanwhile, or this future dropped,
    /// nobody knows whether it was.
    pub async fn commit(self) -> Result<(), Error> {
        self.connection.batch_execute(COMMIT).await
    }

    /// Undoes what was done, waits for that, and gives the connection back.
    pub async fn rollback(self) -> Result<(), Error> {
        self.connection.batch_execute("ROLLBACK").await
    }
}

impl Deref for TenantTransaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl fmt::Debug for TenantTransaction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TenantTransaction").field("tenant", &self.tenant()).finish_non_exhaustive()
    }
}
