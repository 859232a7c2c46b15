//! What keeps a file from becoming someone else, and the app from writing the home's history.

use tenantry_migration_set::Migration;
use tokio_postgres::error::{DbError, SqlState};

use super::{HISTORY_TABLES, Workplace};
use crate::error::FleetError;
use crate::quote::{ident, literal};

/// Takes writing from the app, on a table of ours in a home.
pub(super) fn reserve(workplace: &Workplace, table: &str) -> String {
    workplace.app.as_ref().map_or_else(String::new, |app| {
        format!("REVOKE INSERT, UPDATE, DELETE ON {table} FROM {};\n", ident(app.as_str()))
    })
}

/// The statement that writes a file's row, which fails where the file became someone else or left its transaction.
///
/// `row` inserts one row, and begins its values with what must not be null: then that is what it becomes. A question of its
/// own would cost a session that lives for a few milliseconds one of them, and a block of PL/pgSQL another. `and` is what else
/// must hold.
pub(super) fn witnessed(
    workplace: &Workplace,
    migration: &Migration,
    row: &str,
    and: Option<&str>,
) -> Result<String, FleetError> {
    let parts = row.split_once("VALUES (").and_then(|(before, after)| Some((before, after.split_once(", ")?)));
    let Some((before, (key, values))) = parts else {
        return Err(FleetError::refused("the row of a migration is not written as it should be"));
    };
    let is_as_it_was = is_as_it_was(workplace, migration);
    let and = and.map_or_else(String::new, |condition| format!(" AND {condition}"));
    Ok(format!("{before}VALUES (CASE WHEN {is_as_it_was}{and} THEN {key} END, {values};\n"))
}

/// The statements that take a file's row out of a table, which fail likewise.
pub(super) fn witnessed_removal(workplace: &Workplace, migration: &Migration, table: &str) -> String {
    let (is_as_it_was, version) = (is_as_it_was(workplace, migration), migration.version);
    format!(
        "UPDATE {table} SET version = CASE WHEN {is_as_it_was} THEN version END WHERE version = {version};\n\
         DELETE FROM {table} WHERE version = {version};\n"
    )
}

/// An expression: whether the session is who it was, in the transaction where it was.
pub(super) fn is_as_it_was(workplace: &Workplace, migration: &Migration) -> String {
    let transaction = if migration.transactional {
        format!(" AND pg_catalog.current_setting('tenantry.migration', true) = '{}'", migration.version)
    } else {
        String::new()
    };
    format!(
        "current_user = {} AND session_user = {}{transaction}",
        literal(workplace.owner.as_str()),
        literal(workplace.migrator.as_str())
    )
}

/// What a file is told that became someone else or left its transaction: SQLSTATE, message and hint.
pub(super) const VERDICT: (&str, &str, &str) = (
    "TN004",
    "the file changed its role or ended its transaction",
    "Remove SET ROLE, RESET ROLE, SET SESSION AUTHORIZATION and transaction commands from it.",
);

/// The same, where an error says that its row was not written.
pub(super) fn verdict(said: &DbError) -> Option<(&'static str, &'static str, &'static str)> {
    let is_ours = said.code() == &SqlState::NOT_NULL_VIOLATION
        && said.table().is_some_and(|table| HISTORY_TABLES.contains(&table));
    is_ours.then_some(VERDICT)
}
