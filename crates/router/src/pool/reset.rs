//! Making a used connection as good as new, off the caller's path.
//!
//! A connection reaches its next borrower only after everything that the last one may have left is gone: an open or
//! failed transaction, a running query, settings, roles, cursors, temporary tables, advisory locks, LISTEN, prepared
//! statements. What cannot be cleaned is closed.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage};
use tracing::Instrument;

use crate::builder::RouterConfig;
use crate::connect::Connector;
use crate::pool::returning::Used;
use crate::pool::{HomeConnection, Source, TenantPool};
use crate::replica::Sight;
use crate::shared::take_back;
use crate::spans;
use crate::sync::Ordering;

/// What every reset begins with.
///
/// `BEGIN` before `ROLLBACK` keeps PostgreSQL from logging a warning for every connection that has no transaction
/// open; in a failed transaction it is refused, see [`answer_of`]. `RESET ALL` leaves role and session user alone, so they
/// come first. `DISCARD ALL` would not do: it also drops the statements that the driver keeps for itself.
pub(crate) const RESET_SESSION: &str = "BEGIN; ROLLBACK; \
     SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; \
     CLOSE ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); \
     DISCARD TEMP; DISCARD SEQUENCES;";

/// The batch that resets a session of a tenant's own; in one round trip. Statements that were prepared in SQL are the
/// borrower's, others the driver's.
pub(crate) fn reset_statements(attach: &str) -> String {
    format!(
        "{RESET_SESSION} \
         DO LANGUAGE plpgsql $$ DECLARE statement pg_catalog.text; BEGIN \
             FOR statement IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP \
                 EXECUTE pg_catalog.format('DEALLOCATE %I', statement); \
             END LOOP; \
         END $$; \
         {attach}"
    )
}

/// Cleans a connection and gives it back, or closes it.
pub(crate) async fn clean(used: Used) {
    let span = spans::reset(&used.pool);
    let outcome = cleaned(used).instrument(span.clone()).await;
    span.record("outcome", outcome);
}

/// Answers what became of it, in one word.
async fn cleaned(used: Used) -> &'static str {
    let Some(connection) = used.object.as_ref().filter(|connection| !connection.is_closed()) else { return "ended" };
    let pool = &used.pool;
    let (connector, reset) = match pool.source() {
        Source::Own { connector, reset, .. } => (connector, reset),
        Source::Shared(borrower) => {
            let stash = Arc::clone(&borrower.stash);
            return take_back(used, &stash).await;
        }
    };
    if pool.pool.is_closed() {
        // Retired: nobody will borrow it again. A query that nobody waits for should not go on either, but one that
        // has ended needs no cancelling, so this asks only when the connection does not answer.
        let _ = settle(connection, connection.batch_execute(""), connector, &pool.config).await;
        return "retired";
    }
    let cleaning = async { answer_of(connection, reset).await.map(drop) };
    match settle(connection, cleaning, connector, &pool.config).await {
        Outcome::Clean => {
            connection.session.renew();
            look_at_home(connection, pool).await;
            if !look_at_replica(connection, pool).await {
                return "silent_replica";
            }
            metrics::counter!("tenantry_router_connections_reset_total").increment(1);
            used.give_back();
            "clean"
        }
        Outcome::Spoilt(reason) => {
            metrics::counter!("tenantry_router_connections_discarded_total", "reason" => reason).increment(1);
            tracing::debug!(tenant_id = %pool.key.tenant, reason, "a connection is closed instead of reused");
            reason
        }
    }
}

/// Finds out, once for each schema, whether plain statements are all they seem.
async fn look_at_home(connection: &HomeConnection, pool: &TenantPool) {
    let schema_version = pool.schema_version.load(Ordering::Relaxed).cast_signed();
    if pool.home.is_known(schema_version) {
        return;
    }
    let looking = pool.home.look(connection, schema_version);
    match tokio::time::timeout(pool.config.reset_timeout, looking).await {
        Ok(Ok(())) => connection.session.renew(),
        // The next one that is cleaned looks again.
        Ok(Err(error)) => tracing::debug!(%error, tenant_id = %pool.key.tenant, "a home could not be looked at"),
        Err(_) => tracing::debug!(tenant_id = %pool.key.tenant, "looking at a home took too long"),
    }
}

/// Finds out, now and then, whether a replica still follows and how far it is behind; says whether it answered.
pub(crate) async fn look_at_replica(connection: &HomeConnection, pool: &TenantPool) -> bool {
    let Some(sight) = pool.sight.as_ref().filter(|sight| sight.claim(Instant::now())) else { return true };
    let looking = sight.look(connection, Sight::SLIGHT);
    match tokio::time::timeout(pool.config.replica_time_limit(), looking).await {
        Ok(Ok(_)) => {
            connection.session.renew();
            return true;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a replica could not be looked at"),
        Err(_) => pool.identity.server.silent(),
    }
    false
}

pub(crate) enum Outcome {
    Clean,
    Spoilt(&'static str),
}

/// Waits for a reset. A query whose caller went away holds it up; that query is cancelled, and the connection closed,
/// because a late cancel request could hit the next borrower.
pub(crate) async fn settle<E: Display>(
    client: &ClientWrapper,
    cleaning: impl Future<Output = Result<(), E>>,
    connector: &Connector,
    config: &RouterConfig,
) -> Outcome {
    tokio::pin!(cleaning);
    match tokio::time::timeout(config.abandoned_after, &mut cleaning).await {
        Ok(Ok(())) => Outcome::Clean,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection could not be reset");
            Outcome::Spoilt("reset_failed")
        }
        Err(_) => {
            let cancelling = async {
                connector.cancel(client.cancel_token()).await;
                // Waiting lets the server end the query before it loses its client.
                let _ = cleaning.await;
            };
            let _ = tokio::time::timeout(config.reset_timeout, cancelling).await;
            Outcome::Spoilt("abandoned_query")
        }
    }
}

/// Runs a reset.
pub(crate) async fn answer_of(client: &Client, reset: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
    match client.simple_query(reset).await {
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            client.batch_execute("ROLLBACK").await?;
            client.simple_query(reset).await
        }
        outcome => outcome,
    }
}
