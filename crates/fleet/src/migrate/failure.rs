//! From PostgreSQL's error to file, line and column.

use tenantry_migration_set::{Migration, line_of_position, statements};
use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

use super::guard;
use crate::error::{FleetError, MigrationFailure};
use crate::session::StatementFailure;

/// Sorts the failure of a file that was sent whole, after `before`. `statement` is the index of the statement that
/// failed, which tells the line where PostgreSQL gives no position.
pub(super) fn of(cause: StatementFailure, migration: &Migration, before: &str, statement: Option<usize>) -> FleetError {
    sort(cause, migration, |said| {
        let skipped = u32::try_from(before.chars().count()).unwrap_or(u32::MAX);
        let length = u32::try_from(migration.sql.chars().count()).unwrap_or(u32::MAX);
        match position(said).map(|position| position.saturating_sub(skipped)) {
            Some(within) if (1..=length).contains(&within) => Some(line_of_position(&migration.sql, within)),
            Some(_) => None,
            None => {
                let all = statements(&migration.sql);
                statement.and_then(|at| all.get(at)).map(|found| (found.position.line, found.position.column))
            }
        }
    })
}

/// Sorts the failure of one statement of a file, sent alone.
pub(super) fn of_statement(
    cause: StatementFailure,
    migration: &Migration,
    statement: &tenantry_migration_set::Statement<'_>,
) -> FleetError {
    sort(cause, migration, |said| {
        let place = position(said).map_or(statement.position, |position| statement.file_position(position));
        Some((place.line, place.column))
    })
}

fn sort(
    cause: StatementFailure,
    migration: &Migration,
    place: impl FnOnce(&DbError) -> Option<(u32, u32)>,
) -> FleetError {
    let what = format!("apply {migration}");
    let said = match &cause {
        StatementFailure::Answered(error) => error.as_db_error().cloned(),
        StatementFailure::Silent(_) => None,
    };
    match said {
        Some(said) if is_about_the_file(said.code()) => {
            let place = place(&said);
            FleetError::Migration(Box::new(described(&said, migration, place)))
        }
        _ => cause.sorted(&what),
    }
}

/// PostgreSQL's words about a statement of a file, or about its end, whoever is to blame.
pub(super) fn told(
    said: &DbError,
    migration: &Migration,
    statement: Option<&tenantry_migration_set::Statement<'_>>,
) -> MigrationFailure {
    let place = statement.map(|statement| {
        let place = position(said).map_or(statement.position, |position| statement.file_position(position));
        (place.line, place.column)
    });
    described(said, migration, place)
}

fn described(said: &DbError, migration: &Migration, place: Option<(u32, u32)>) -> MigrationFailure {
    let verdict = guard::verdict(said);
    let (line, column) = if verdict.is_some() { (None, None) } else { place.unzip() };
    let (sqlstate, message, hint) = verdict.map_or_else(
        || (said.code().code(), said.message(), said.hint()),
        |(sqlstate, message, hint)| (sqlstate, message, Some(hint)),
    );
    MigrationFailure {
        version: migration.version,
        name: migration.name.clone(),
        file: migration.file_name(),
        line,
        column,
        sqlstate: sqlstate.to_owned(),
        message: message.to_owned(),
        detail: said.detail().map(str::to_owned),
        hint: hint.map(str::to_owned),
        context: said.where_().map(str::to_owned),
    }
}

/// Whether the server has ended the session, which says nothing of what it ran.
pub(super) fn ends_the_session(code: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
}

/// Whether the file is to blame, and not the moment (a lock, a timeout, a full disk, a server that stops).
fn is_about_the_file(code: &SqlState) -> bool {
    let of_the_moment = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::OBJECT_IN_USE,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    !of_the_moment.contains(code) && !code.code().starts_with("53")
}

fn position(said: &DbError) -> Option<u32> {
    match said.position()? {
        ErrorPosition::Original(position) => Some(*position),
        // Within the body of a function; the context names it.
        ErrorPosition::Internal { .. } => None,
    }
}
