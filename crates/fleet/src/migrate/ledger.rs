//! A home's own history: read before the first file, written with each.

use refinery_core::Migration as Planned;
use tenantry_domain::SchemaVersion;
use tenantry_migration_set::{Migration, MigrationSet};
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use super::guard::{reserve, witnessed};
use super::pending::Pending;
use super::refinery::Work;
use super::{AppliedMigration, HISTORY, Workplace, failure, repeatables, statements};
use crate::error::FleetError;
use crate::quote::{do_block, literal};
use crate::session::{Session, rows_of};

/// A migrator's session that knows the set, so that it can tell which file it was handed.
pub(super) struct Ledger<'a> {
    session: Session,
    workplace: &'a Workplace,
    pending: Pending<'a>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(session: Session, workplace: &'a Workplace, set: &'a MigrationSet) -> Self {
        Self { session, workplace, pending: Pending::of(set) }
    }

    /// The home's version before anything was applied.
    pub(super) fn found(&self) -> SchemaVersion {
        self.pending.found
    }

    /// Applies the repeatable files that the home lacks as they are; says how many. To be called once nothing else is
    /// pending.
    pub(super) async fn repeat(&mut self) -> Result<usize, FleetError> {
        let repeatables = std::mem::take(&mut self.pending.repeatables);
        for (at, migration) in repeatables.iter().enumerate() {
            let row = repeatables::row(self.workplace, migration);
            let is_last = at + 1 == repeatables.len();
            self.run_file(migration, &row, is_last).await?;
        }
        Ok(repeatables.len())
    }

    async fn run_file(&mut self, migration: &Migration, history_row: &str, is_last: bool) -> Result<(), FleetError> {
        let row = witnessed(self.workplace, migration, history_row)?;
        if !migration.transactional {
            return statements::run(&mut self.session, self.workplace, migration, &row).await;
        }
        // The line break ends a comment on the file's last line, the semicolon its last statement.
        let before = format!("BEGIN;\n{}", mark(migration, is_last));
        let sql = format!("{before}{}\n;\n{row}COMMIT;\n", migration.sql);
        let statements_before = if is_last { 2 } else { 3 };
        self.session.counted(&sql).await.map_err(|(answered, cause)| {
            failure::of(cause, migration, &before, answered.checked_sub(statements_before))
        })
    }
}

impl Work for Ledger<'_> {
    async fn plan(&mut self, select: &str) -> Result<Vec<Planned>, FleetError> {
        let what = "read the home's history";
        let (settle_in, lock) = (self.workplace.settle_in(), self.workplace.lock());
        let (select, make_repeatables) = if self.pending.repeatables.is_empty() {
            (select.to_owned(), String::new())
        } else {
            // Asked in the same breath; homes that have no such file are not asked, nor given a table.
            let end = if select.trim_end().ends_with(';') { "" } else { ";" };
            (format!("{select}{end}\n{}", repeatables::select(self.workplace)), repeatables::table(self.workplace))
        };
        let rows = match self.session.messages(&format!("{settle_in}{lock}{select}")).await {
            Ok(messages) => rows_of(messages),
            // The first time. To ask each time would cost every home a block of PL/pgSQL.
            Err(failure) if failure.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                let make = history_table(self.workplace);
                self.session.rows(what, &format!("{settle_in}{make}{make_repeatables}{select}")).await?
            }
            Err(failure) => return Err(failure.sorted(what)),
        };
        self.pending.leave_out(&rows)
    }

    async fn run(&mut self, sql: &str, history_row: &str) -> Result<(), FleetError> {
        let migration = self.pending.take(sql)?;
        let is_last = self.pending.files.is_empty() && self.pending.repeatables.is_empty();
        self.run_file(migration, history_row, is_last).await
    }
}

/// Makes refinery's table where it is missing; the app must not write what is the truth about the schema.
pub(super) fn history_table(workplace: &Workplace) -> String {
    let table = workplace.table(HISTORY);
    let mut body = format!(
        "IF pg_catalog.to_regclass({}) IS NULL THEN
CREATE TABLE {table} (version int8 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255));\n",
        literal(&table)
    );
    body.push_str(&reserve(workplace, &table));
    body.push_str("END IF;");
    do_block(&body)
}

/// Leaves a mark that lasts as long as the transaction: when it is gone at the end, the file has ended ours.
///
/// Only the last of several files waits for the disk: write-ahead log is flushed in order, so that commit makes those
/// before it durable too. After a crash in between, file and history row are missing together.
pub(super) fn mark(migration: &Migration, is_last: bool) -> String {
    let hurry = if is_last { "" } else { "SET LOCAL synchronous_commit = off;\n" };
    format!("SET LOCAL tenantry.migration = '{}';\n{hurry}", migration.version)
}

pub(crate) fn applied_migration(row: &SimpleQueryRow) -> Result<AppliedMigration, FleetError> {
    let read = || {
        Some(AppliedMigration {
            version: row.get("version")?.parse().ok()?,
            name: row.get("name")?.to_owned(),
            checksum: row.get("checksum")?.parse().ok()?,
        })
    };
    read().ok_or_else(|| FleetError::refused(format!("a row of {HISTORY} is unreadable; repair it")))
}
