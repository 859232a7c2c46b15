//! What keeps a file from becoming someone else, and the app from writing the home's history.

use tenantry_migration_set::Migration;
use tokio_postgres::error::{DbError, SqlState};

use super::Workplace;
use crate::quote::{ident, literal};

/// Takes writing from the app, on a table of ours in a home.
pub(super) fn reserve(workplace: &Workplace, table: &str) -> String {
    workplace.app.as_ref().map_or_else(String::new, |app| {
        format!("REVOKE INSERT, UPDATE, DELETE ON {table} FROM {};\n", ident(app.as_str()))
    })
}

/// Begins what [`check`] says, so that it is told from a file that casts some other text to a number.
const CHANGED: &str = "tenantry: the file changed its role or ended its transaction";

/// Fails a file that became someone else or left its transaction.
///
/// A plain query: a block would load PL/pgSQL into a session that lives for a few milliseconds, which costs one of them.
/// It fails by casting a text to a number that is none; only then is the cast evaluated, since the text tells who it is.
pub(super) fn check(workplace: &Workplace, migration: &Migration) -> String {
    let transaction = if migration.transactional {
        format!(
            " OR pg_catalog.current_setting('tenantry.migration', true) IS DISTINCT FROM '{}'::pg_catalog.text",
            migration.version
        )
    } else {
        String::new()
    };
    format!(
        "SELECT CASE WHEN current_user IS DISTINCT FROM {}::pg_catalog.name \
         OR session_user IS DISTINCT FROM {}::pg_catalog.name{transaction} \
         THEN CAST(pg_catalog.concat({}, ' (', current_user, ')') AS pg_catalog.int4) END;\n",
        literal(workplace.owner.as_str()),
        literal(workplace.migrator.as_str()),
        literal(CHANGED),
    )
}

/// What a file that [`check`] has failed is told: SQLSTATE, message and hint.
pub(super) fn verdict(said: &DbError) -> Option<(&'static str, &'static str, &'static str)> {
    let is_ours = said.code() == &SqlState::INVALID_TEXT_REPRESENTATION && said.message().contains(CHANGED);
    is_ours.then_some((
        "TN004",
        "the file changed its role or ended its transaction",
        "Remove SET ROLE, RESET ROLE, SET SESSION AUTHORIZATION and transaction commands from it.",
    ))
}
