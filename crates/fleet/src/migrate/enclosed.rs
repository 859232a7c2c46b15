//! Files that run where they cannot become someone else.
//!
//! A session that migrates many homes may become the owner of each, and a file must not. Within a function that runs with
//! its owner's rights (`SECURITY DEFINER`) PostgreSQL lets nobody change the role, so each file becomes such a function of
//! the home's owner, in the session's temporary schema. What could run later, without that protection, is done within it
//! too: the history row is written there (the table is the home's and may have triggers), deferred triggers fire, and
//! cursors that would outlive the transaction are closed. A trigger that fires can put itself off again, so a home that has
//! one which may wait is not migrated here; foreign keys are no danger, because PostgreSQL checks them with the rights of
//! the table's owner alone.

use refinery_core::Migration as Planned;
use tenantry_migration_set::MigrationSet;

use super::Workplace;
use super::belief::Belief;
use super::guard::witnessed;
use super::ledger::mark;
use super::pending::Pending;
use super::refinery::{Work, as_refinery_has_it};
use crate::error::FleetError;
use crate::quote::literal;
use crate::session::Session;

/// A session in a home that brings it from what it is believed to be to the set, or fails without a word about the file.
pub(super) struct Enclosed<'a> {
    session: &'a mut Session,
    workplace: &'a Workplace,
    belief: &'a Belief,
    pending: Pending<'a>,
    /// How many files were sent.
    sent: usize,
}

impl<'a> Enclosed<'a> {
    pub(super) fn new(
        session: &'a mut Session,
        workplace: &'a Workplace,
        set: &'a MigrationSet,
        belief: &'a Belief,
    ) -> Self {
        Self { session, workplace, belief, pending: Pending::of(set), sent: 0 }
    }
}

impl Work for Enclosed<'_> {
    async fn plan(&mut self, _: &str) -> Result<Vec<Planned>, FleetError> {
        self.pending.leave_out_applied(&self.belief.applied);
        Ok(as_refinery_has_it(self.belief.applied.clone()))
    }

    async fn run(&mut self, sql: &str, history_row: &str) -> Result<(), FleetError> {
        let (workplace, migration) = (self.workplace, self.pending.take(sql)?);
        let (settle_in, belief) = if self.sent == 0 {
            (workplace.settle_in(), Some(self.belief.holds.as_str()))
        } else {
            // Whoever came in between has written the row, and no version has two.
            (String::new(), None)
        };
        self.sent += 1;
        let row = witnessed(workplace, migration, history_row, belief)?;
        let (lock, mark) = (workplace.lock_for_the_transaction(), mark(migration, self.pending.files.is_empty()));
        let function = function(self.sent, &migration.sql, &row);
        let sql = format!("{settle_in}BEGIN;\n{lock}{mark}{function}COMMIT;\n");
        self.session.batch(&format!("apply {migration}"), &sql).await
    }
}

/// Whether something of the home may wait until the commit and then run code of the home's: constraint triggers, and
/// deferrable `UNIQUE` and `EXCLUDE` with expressions. The functions behind foreign keys have these numbers since ever.
const HAS_WAITING_TRIGGERS: &str = "EXISTS (
    SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
     WHERE t.tgdeferrable AND t.tgfoid NOT BETWEEN 1644 AND 1655 AND c.relowner = current_user::pg_catalog.regrole)";

/// Makes the function, and calls it. It goes with the temporary schema's other objects.
fn function(number: usize, file: &str, row: &str) -> String {
    let body = format!(
        "BEGIN\nEXECUTE {};\nEXECUTE {};\nSET CONSTRAINTS ALL IMMEDIATE;\nEXECUTE 'CLOSE ALL';\n\
         SET LOCAL search_path = pg_catalog;\n\
         IF {HAS_WAITING_TRIGGERS} THEN RAISE EXCEPTION 'a trigger may wait until the commit'; END IF;\nEND",
        literal(file),
        literal(row)
    );
    format!(
        "CREATE FUNCTION pg_temp.migration_{number}() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS {};\n\
         SELECT pg_temp.migration_{number}();\n",
        literal(&body)
    )
}
