//! What keeps a file from becoming someone else, and the app from writing the home's history.

use tenantry_migration_set::Migration;

use super::Workplace;
use crate::quote::{do_block, ident, literal};

/// Takes writing from the app, on a table of ours in a home.
pub(super) fn reserve(workplace: &Workplace, table: &str) -> String {
    workplace.app.as_ref().map_or_else(String::new, |app| {
        format!("REVOKE INSERT, UPDATE, DELETE ON {table} FROM {};\n", ident(app.as_str()))
    })
}

/// Fails a file that became someone else or left its transaction.
pub(super) fn check(workplace: &Workplace, migration: &Migration) -> String {
    let transaction = if migration.transactional {
        format!(
            " OR pg_catalog.current_setting('tenantry.migration', true) IS DISTINCT FROM '{}'::pg_catalog.text",
            migration.version
        )
    } else {
        String::new()
    };
    do_block(&format!(
        "IF current_user IS DISTINCT FROM {}::pg_catalog.name OR session_user IS DISTINCT FROM {}::pg_catalog.name{transaction} THEN
    RAISE EXCEPTION USING ERRCODE = 'TN004', MESSAGE = 'the file changed its role or ended its transaction',
        HINT = 'Remove SET ROLE, RESET ROLE, SET SESSION AUTHORIZATION and transaction commands from it.';
END IF;",
        literal(workplace.owner.as_str()),
        literal(workplace.migrator.as_str()),
    ))
}
