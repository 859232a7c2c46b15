//! Files that say `-- no-transaction`: statement by statement, with a row that tells how far they came.
//!
//! The row is written before the first statement and moved on with each. When a worker dies in between, the next one goes
//! on behind the last statement known to be done. The statement that was running may or may not have taken effect: an
//! index left invalid by it is dropped first, and "already there" or "already gone" then counts as done.

use tenantry_migration_set::{Migration, MigrationKind, Statement, statements};
use tokio_postgres::error::SqlState;

use super::guard::reserve;
use super::{PROGRESS, Workplace, failure};
use crate::error::FleetError;
use crate::quote::{do_block, literal};
use crate::session::{Session, StatementFailure};

pub(super) async fn run(
    session: &mut Session,
    workplace: &Workplace,
    migration: &Migration,
    witnessed_row: &str,
) -> Result<(), FleetError> {
    let table = workplace.table(PROGRESS);
    let Progress { done, was_running } = begin(session, workplace, migration, &table).await?;
    drop_invalid_indexes(session, workplace).await?;
    for (index, statement) in statements(&migration.sql).iter().enumerate().skip(done) {
        let moved = format!("UPDATE {table} SET done = {index}, running = true WHERE version = {};", key(migration));
        session.batch("record the progress of a migration", &moved).await?;
        let may_have_run = was_running && index == done;
        match session.counted(statement.text).await {
            Ok(()) => {}
            Err((_, cause)) if may_have_run && is_done_already(&cause) => {}
            Err((_, cause)) => return Err(record_failure(session, migration, statement, cause, &table).await),
        }
    }
    let sql = format!(
        "BEGIN;\n{witnessed_row}DELETE FROM {table} WHERE {};\nCOMMIT;\n",
        // Of a repeatable file, what was begun and has changed since is forgotten too.
        if migration.kind == MigrationKind::Repeatable {
            "version < 0".to_owned()
        } else {
            format!("version = {}", key(migration))
        }
    );
    session.counted(&sql).await.map_err(|(_, cause)| failure::of(cause, migration, "", None))
}

/// Under which number a file's progress is kept. A repeatable one has no version: its content stands for it, below zero, so
/// that it begins anew once it has changed.
fn key(migration: &Migration) -> i64 {
    match migration.kind {
        MigrationKind::Versioned | MigrationKind::Unversioned => migration.version,
        MigrationKind::Repeatable => i64::MIN | (migration.checksum >> 1).cast_signed(),
    }
}

/// How far a file came before.
struct Progress {
    /// Statements that are done.
    done: usize,
    /// Whether the one after them was sent and its answer never recorded.
    was_running: bool,
}

async fn begin(
    session: &mut Session,
    workplace: &Workplace,
    migration: &Migration,
    table: &str,
) -> Result<Progress, FleetError> {
    let version = key(migration);
    let make = do_block(&format!(
        "IF pg_catalog.to_regclass({}) IS NULL THEN
CREATE TABLE {table} (version int8 PRIMARY KEY, done int4 NOT NULL, running bool NOT NULL);\n{}END IF;",
        literal(table),
        reserve(workplace, table)
    ));
    let sql = format!(
        "{make}INSERT INTO {table} VALUES ({version}, 0, false) ON CONFLICT DO NOTHING;\n\
         SELECT done, running FROM {table} WHERE version = {version};"
    );
    let rows = session.rows("record the beginning of a migration", &sql).await?;
    let row = rows.first();
    let done = row.and_then(|row| row.get(0)).and_then(|done| done.parse().ok()).unwrap_or(0);
    Ok(Progress { done, was_running: row.and_then(|row| row.get(1)) == Some("t") })
}

/// Indexes that a failed or interrupted concurrent build has left behind. Nobody else builds any here: the migrations'
/// lock is ours.
async fn drop_invalid_indexes(session: &mut Session, workplace: &Workplace) -> Result<(), FleetError> {
    let sql = format!(
        "SELECT pg_catalog.format('DROP INDEX CONCURRENTLY IF EXISTS %I.%I', n.nspname, c.relname)
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT i.indisvalid AND c.relkind = 'i' AND n.nspname = {};",
        literal(workplace.schema.as_str())
    );
    let rows = session.rows("look for invalid indexes", &sql).await?;
    for drop in rows.iter().filter_map(|row| row.get(0)) {
        session.batch("drop an invalid index", drop).await?;
    }
    Ok(())
}

/// The server has answered, so the statement did not take effect: the next attempt must not take it for done.
async fn record_failure(
    session: &mut Session,
    migration: &Migration,
    statement: &Statement<'_>,
    cause: StatementFailure,
    table: &str,
) -> FleetError {
    let answered = matches!(&cause, StatementFailure::Answered(error) if error.as_db_error().is_some());
    let failure = failure::of_statement(cause, migration, statement);
    if answered {
        let sql = format!("UPDATE {table} SET running = false WHERE version = {};", key(migration));
        if let Err(error) = session.batch("record the failure of a migration", &sql).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the failure of a statement was not recorded");
        }
    }
    failure
}

fn is_done_already(cause: &StatementFailure) -> bool {
    let StatementFailure::Answered(error) = cause else { return false };
    [
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::DUPLICATE_COLUMN,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
    ]
    .iter()
    .any(|code| error.code() == Some(code))
}
