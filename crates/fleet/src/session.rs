//! One connection to a server, and what happens to it when nobody waits for it any more.

use std::time::Duration;

use futures::TryStreamExt as _;
use tenantry_domain::{Endpoint, Secret};
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::Type;
use tokio_postgres::{
    CancelToken, Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream, Socket, Statement,
};

use crate::error::FleetError;
use crate::quote::literal;
use crate::tls::Tls;
use crate::version;

/// How much longer than the server's own timeout we wait for an answer before the network counts as dead.
const GRACE: Duration = Duration::from_secs(10);
/// Between two requests to cancel one statement.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Whom to be, where.
pub(crate) struct Login<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) tls: &'a Tls,
    pub(crate) user: &'a str,
    pub(crate) password: &'a Secret,
    pub(crate) database: &'a str,
    pub(crate) application_name: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    /// After which the server ends a session that asks for nothing; absent where sessions are kept.
    pub(crate) idle_timeout: Option<Duration>,
}

/// A connection. Dropped in the middle of a statement, it asks the server to stop, so that no backend works for nobody.
pub(crate) struct Session {
    client: Client,
    tls: Tls,
    driver: AbortHandle,
    patience: Duration,
    is_superuser: bool,
    server_version: i32,
    /// A statement was sent and not answered.
    in_flight: bool,
    /// An error came, so a transaction may be open.
    failed: bool,
    /// What is sent ahead of the next statements.
    ahead: Option<&'static str>,
}

impl Session {
    /// Connects. Everything that matters is set at start-up, where it wins over settings of the role and the database.
    pub(crate) async fn open(login: Login<'_>) -> Result<Self, FleetError> {
        let mut config = Config::new();
        config
            .host(login.endpoint.host())
            .port(login.endpoint.port())
            .user(login.user)
            .password(login.password.expose())
            .dbname(login.database)
            .application_name(login.application_name)
            .connect_timeout(login.connect_timeout)
            .keepalives_idle(Duration::from_secs(30))
            .tcp_user_timeout(Duration::from_secs(30))
            .options(format!(
                "-c search_path=pg_catalog -c client_min_messages=warning -c client_encoding=UTF8 -c DateStyle=ISO \
                 -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=60000 \
                 -c idle_session_timeout={} -c client_connection_check_interval=2000",
                login.statement_timeout.as_millis(),
                login.lock_timeout.as_millis(),
                login.idle_timeout.unwrap_or_default().as_millis(),
            ));
        let patience = login.statement_timeout + GRACE;
        let connecting = async {
            match login.tls {
                Tls::Off => Self::start(config.ssl_mode(SslMode::Disable), NoTls, login.tls, patience).await,
                Tls::On(connector) => {
                    Self::start(config.ssl_mode(SslMode::Require), connector.clone(), login.tls, patience).await
                }
            }
        };
        match tokio::time::timeout(login.connect_timeout, connecting).await {
            Ok(result) => result.map_err(|error| FleetError::of_connecting(error, login.endpoint)),
            Err(source) => Err(FleetError::Unreachable { endpoint: login.endpoint.clone(), source: Box::new(source) }),
        }
    }

    async fn start<T>(
        config: &Config,
        connector: T,
        tls: &Tls,
        patience: Duration,
    ) -> Result<Self, tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, connection) = config.connect(connector).await?;
        let is_superuser = connection.parameter("is_superuser") == Some("on");
        let server_version = connection.parameter("server_version").and_then(version::parse).unwrap_or(0);
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection to a cluster ended");
            }
        });
        Ok(Self {
            client,
            tls: tls.clone(),
            driver: driver.abort_handle(),
            patience,
            is_superuser,
            server_version,
            in_flight: false,
            failed: false,
            ahead: None,
        })
    }

    /// Whether the role that logged in is a superuser.
    pub(crate) fn is_superuser(&self) -> bool {
        self.is_superuser
    }

    /// `server_version_num` as the server said at the start.
    pub(crate) fn server_version(&self) -> i32 {
        self.server_version
    }

    /// Whether it may be used again by someone else.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.in_flight && !self.failed && !self.client.is_closed()
    }

    /// Forgets settings, role, temporary tables, locks and all else that was left behind, in the round trip of the next
    /// [`Self::messages`] or [`Self::counted`].
    pub(crate) const fn discard_first(&mut self) {
        self.ahead = Some("DISCARD ALL");
    }

    /// Polled in this order, and so sent in this order.
    async fn sent_after<T>(
        &self,
        ahead: Option<&str>,
        working: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, tokio_postgres::Error> {
        let Some(ahead) = ahead else { return working.await };
        let (ahead, done) = futures::future::join(self.client.batch_execute(ahead), working).await;
        ahead.and(done)
    }

    /// Sends statements at once and waits until all are done. `what` completes "could not …".
    pub(crate) async fn batch(&mut self, what: &str, sql: &str) -> Result<(), FleetError> {
        self.batch_unless(what, sql, |_| None).await
    }

    /// The same; `known` tells errors that mean something of their own.
    pub(crate) async fn batch_unless(
        &mut self,
        what: &str,
        sql: &str,
        known: impl FnOnce(&DbError) -> Option<FleetError>,
    ) -> Result<(), FleetError> {
        self.messages(sql).await.map_err(|failure| {
            let meant = match &failure {
                StatementFailure::Answered(error) => error.as_db_error().and_then(known),
                StatementFailure::Silent(_) => None,
            };
            meant.unwrap_or_else(|| failure.sorted(what))
        })?;
        #[cfg(feature = "failpoints")]
        self.lose_reply_to(what).await?;
        Ok(())
    }

    /// Sends statements at once and returns every row of every answer.
    pub(crate) async fn rows(&mut self, what: &str, sql: &str) -> Result<Vec<SimpleQueryRow>, FleetError> {
        self.messages(sql).await.map(rows_of).map_err(|failure| failure.sorted(what))
    }

    /// Sends a statement that must travel alone under another `application_name`, in one round trip.
    pub(crate) async fn alone_as(&mut self, application_name: &str, what: &str, sql: &str) -> Result<(), FleetError> {
        let sign = format!("SET application_name = {};", literal(application_name));
        self.in_flight = true;
        // Polled in this order, and so sent in this order.
        let all = futures::future::join3(
            self.client.batch_execute(&sign),
            self.client.batch_execute(sql),
            self.client.batch_execute("RESET application_name;"),
        );
        let result = match tokio::time::timeout(self.patience, all).await {
            Ok((signed, done, unsigned)) => signed.and(done).and(unsigned).map_err(StatementFailure::Answered),
            Err(elapsed) => Err(StatementFailure::Silent(elapsed)),
        };
        self.settle(&result);
        result.map_err(|failure| failure.sorted(what))?;
        #[cfg(feature = "failpoints")]
        self.lose_reply_to(what).await?;
        Ok(())
    }

    /// Sends statements at once and returns the raw answer.
    pub(crate) async fn messages(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, StatementFailure> {
        self.in_flight = true;
        let ahead = self.ahead.take();
        let answering = self.sent_after(ahead, self.client.simple_query(sql));
        let answer = tokio::time::timeout(self.patience, answering).await;
        let result = match answer {
            Ok(result) => result.map_err(StatementFailure::Answered),
            Err(elapsed) => Err(StatementFailure::Silent(elapsed)),
        };
        self.settle(&result);
        result
    }

    /// Sends statements at once. With an error comes how many were answered before it, which tells the one that failed.
    pub(crate) async fn counted(&mut self, sql: &str) -> Result<(), (usize, StatementFailure)> {
        self.in_flight = true;
        let ahead = self.ahead.take();
        let mut answered = 0;
        let counting = async {
            let answers = self.client.simple_query_raw(sql).await?;
            futures::pin_mut!(answers);
            while let Some(message) = answers.try_next().await? {
                answered += usize::from(matches!(message, SimpleQueryMessage::CommandComplete(_)));
            }
            Ok(())
        };
        let counting = self.sent_after(ahead, counting);
        let result = match tokio::time::timeout(self.patience, counting).await {
            Ok(result) => result.map_err(StatementFailure::Answered),
            Err(elapsed) => Err(StatementFailure::Silent(elapsed)),
        };
        self.settle(&result);
        result.map_err(|failure| (answered, failure))
    }

    /// Has one statement parsed, without running it, and says what its rows consist of. Several are refused.
    pub(crate) async fn describe(&mut self, sql: &str) -> Result<Vec<(String, Type)>, StatementFailure> {
        self.in_flight = true;
        let result = match tokio::time::timeout(self.patience, self.client.prepare(sql)).await {
            Ok(result) => result.map_err(StatementFailure::Answered),
            Err(elapsed) => Err(StatementFailure::Silent(elapsed)),
        };
        self.settle(&result);
        let columns = |statement: Statement| {
            statement.columns().iter().map(|column| (column.name().to_owned(), column.type_().clone())).collect()
        };
        result.map(columns)
    }

    /// Begins a statement whose rows are read one by one. It counts as running until [`Self::end_stream`].
    pub(crate) async fn stream(&mut self, sql: &str) -> Result<SimpleQueryStream, StatementFailure> {
        self.in_flight = true;
        let result = self.client.simple_query_raw(sql).await.map_err(StatementFailure::Answered);
        self.failed |= result.is_err();
        result
    }

    /// The stream has come to its end, whatever that was.
    pub(crate) fn end_stream(&mut self) {
        self.in_flight = false;
    }

    /// Behaves as if the connection had ended after the server had done what it was asked to, where a test says so.
    #[cfg(feature = "failpoints")]
    async fn lose_reply_to(&mut self, what: &str) -> Result<(), FleetError> {
        use crate::failpoints::{of_statement, pass};

        if pass(&of_statement(what, "replied")).await.is_none() {
            return Ok(());
        }
        self.driver.abort();
        self.failed = true;
        Err(FleetError::Unknown { source: "a failpoint cut the connection".into() })
    }

    fn settle<T>(&mut self, result: &Result<T, StatementFailure>) {
        // After silence the statement may still run: `drop` will ask the server to stop it.
        self.in_flight = matches!(result, Err(StatementFailure::Silent(_)));
        self.failed |= result.is_err();
    }
}

/// The rows among what a server answered.
pub(crate) fn rows_of(messages: Vec<SimpleQueryMessage>) -> Vec<SimpleQueryRow> {
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// Why a statement has no good answer.
#[derive(Debug)]
pub(crate) enum StatementFailure {
    /// The server or the driver said why.
    Answered(tokio_postgres::Error),
    /// Nothing came for longer than the server itself would have taken.
    Silent(tokio::time::error::Elapsed),
}

impl StatementFailure {
    /// What the server called it.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Answered(error) => error.code(),
            Self::Silent(_) => None,
        }
    }

    pub(crate) fn sorted(self, what: &str) -> FleetError {
        match self {
            Self::Answered(error) => FleetError::of_statement(error, what),
            Self::Silent(elapsed) => FleetError::Unknown { source: Box::new(elapsed) },
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.in_flight || self.client.is_closed() {
            return;
        }
        let cancel = stop(self.client.cancel_token(), self.tls.clone(), self.driver.clone());
        // Outside a runtime nothing can be sent; the server notices the closed socket at its next answer.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(cancel);
        } else {
            self.driver.abort();
        }
    }
}

/// Asks the server to cancel until the connection has come to its end, then closes it in any case. Once is not enough: a
/// request that overtakes its statement cancels nothing.
async fn stop(token: CancelToken, tls: Tls, driver: AbortHandle) {
    let asking = async {
        while !driver.is_finished() {
            let asked = match &tls {
                Tls::Off => token.cancel_query(NoTls).await,
                Tls::On(connector) => token.cancel_query(connector.clone()).await,
            };
            if asked.is_err() {
                return;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    // Unanswered, the server still notices the closed socket by itself (`client_connection_check_interval`).
    if tokio::time::timeout(GRACE, asking).await.is_err() {
        tracing::warn!("a statement could not be cancelled; its backend ends when the server notices");
    }
    driver.abort();
}
