//! Making a used connection as good as new, off the caller's path.
//!
//! A connection reaches its next borrower only after everything that the last one may have left is gone: an open or
//! failed transaction, a running query, settings, roles, cursors, temporary tables, advisory locks, LISTEN, prepared
//! statements. What cannot be cleaned is closed.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object};
use tokio_postgres::error::SqlState;

use crate::pool::TenantPool;
use crate::returning::{Return, Returning};

/// The batch that resets a session; in one round trip.
///
/// `BEGIN` before `ROLLBACK` keeps PostgreSQL from logging a warning for every connection that has no transaction
/// open; in a failed transaction it is refused, see [`clean`]. `RESET ALL` leaves role and session user alone, so they
/// come first. `DISCARD ALL` would not do: it also drops the statements that the driver keeps for itself. Those that
/// were prepared in SQL are the borrower's.
pub(crate) fn reset_statements(attach: &str) -> String {
    format!(
        "BEGIN; ROLLBACK; \
         SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; \
         CLOSE ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); \
         DISCARD TEMP; DISCARD SEQUENCES; \
         DO LANGUAGE plpgsql $$ DECLARE statement pg_catalog.text; BEGIN \
             FOR statement IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP \
                 EXECUTE pg_catalog.format('DEALLOCATE %I', statement); \
             END LOOP; \
         END $$; \
         {attach}"
    )
}

/// How patient the reset is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResetTimes {
    /// After so long the connection counts as busy with a query that nobody waits for.
    pub(crate) abandoned_after: Duration,
    /// After so long it is given up.
    pub(crate) give_up_after: Duration,
}

/// A used connection on its way back. Dropped before it is clean, it is closed.
pub(crate) struct Used {
    object: Option<Object>,
    /// Dropped after the object: whoever waits finds it in the pool.
    _return: Return,
}

impl Used {
    pub(crate) fn new(object: Object, returning: &Arc<Returning>) -> Self {
        Self { object: Some(object), _return: returning.begin() }
    }

    /// Gives it to the pool.
    fn give_back(mut self) {
        drop(self.object.take());
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

/// Cleans a connection and gives it back, or closes it.
pub(crate) async fn give_back(used: Used, pool: Arc<TenantPool>, times: ResetTimes) {
    let Some(client) = used.object.as_ref() else { return };
    if client.is_closed() {
        return;
    }
    if pool.pool.is_closed() {
        // Retired: nobody will borrow it again. A query that nobody waits for should not go on either, but one that
        // has ended needs no cancelling, so this asks only when the connection does not answer.
        let _ = settle(client, "", &pool, times).await;
        return;
    }
    match settle(client, &pool.reset, &pool, times).await {
        Outcome::Clean => used.give_back(),
        Outcome::Spoilt(reason) => {
            metrics::counter!("tenantry_router_connections_discarded_total", "reason" => reason).increment(1);
            tracing::debug!(tenant_id = %pool.key.tenant, reason, "a connection is closed instead of reused");
        }
    }
}

enum Outcome {
    Clean,
    Spoilt(&'static str),
}

/// Runs the reset. A query whose caller went away holds it up; that query is cancelled, and the connection closed,
/// because a late cancel request could hit the next borrower.
async fn settle(client: &ClientWrapper, reset: &str, pool: &TenantPool, times: ResetTimes) -> Outcome {
    let cleaning = clean(client, reset);
    tokio::pin!(cleaning);
    match tokio::time::timeout(times.abandoned_after, &mut cleaning).await {
        Ok(Ok(())) => Outcome::Clean,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection could not be reset");
            Outcome::Spoilt("reset_failed")
        }
        Err(_) => {
            let cancelling = async {
                pool.tls.cancel(client.cancel_token()).await;
                // Waiting lets the server end the query before it loses its client.
                let _ = cleaning.await;
            };
            let _ = tokio::time::timeout(times.give_up_after, cancelling).await;
            Outcome::Spoilt("abandoned_query")
        }
    }
}

async fn clean(client: &ClientWrapper, reset: &str) -> Result<(), tokio_postgres::Error> {
    match client.batch_execute(reset).await {
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            client.batch_execute("ROLLBACK").await?;
            client.batch_execute(reset).await
        }
        outcome => outcome,
    }
}
