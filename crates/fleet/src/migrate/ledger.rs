//! A home's own history: read before the first file, written with each.

use refinery_core::Migration as Planned;
use tenantry_domain::SchemaVersion;
use tenantry_migration_set::{Migration, MigrationSet};
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use super::belief::Belief;
use super::guard::{reserve, witnessed};
use super::pending::Pending;
use super::refinery::{Work, as_refinery_has_it};
use super::{AppliedMigration, HISTORY, Workplace, failure, repeatables, statements};
use crate::error::FleetError;
use crate::quote::{do_block, literal};
use crate::session::{Session, rows_of};

/// A migrator's session that knows the set, so that it can tell which file it was handed.
pub(super) struct Ledger<'a> {
    session: &'a mut Session,
    workplace: &'a Workplace,
    set: &'a MigrationSet,
    pending: Pending<'a>,
    knowledge: Knowledge<'a>,
}

/// What is known of the home's history before a file is sent.
enum Knowledge<'a> {
    /// What it told.
    Told,
    /// What it is believed to tell; the first file finds out.
    Believed(&'a Belief),
    /// The first file failed, for its own sake or because the belief was wrong.
    Doubted(&'a Belief, FleetError),
}

/// How many statements settle in, and take the lock.
const STATEMENTS_OF_ARRIVAL: usize = 3;

impl<'a> Ledger<'a> {
    pub(super) fn new(
        session: &'a mut Session,
        workplace: &'a Workplace,
        set: &'a MigrationSet,
        belief: Option<&'a Belief>,
    ) -> Self {
        let knowledge = belief.map_or(Knowledge::Told, Knowledge::Believed);
        Self { session, workplace, set, pending: Pending::of(set), knowledge }
    }

    /// Whether the home is to be asked, and everything begun anew with what it tells.
    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(self.knowledge, Knowledge::Doubted(..))
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
        let row = witnessed(self.workplace, migration, history_row, None)?;
        if migration.transactional {
            self.run_whole(migration, &row, is_last, ("", 0)).await
        } else {
            statements::run(self.session, self.workplace, migration, &row).await
        }
    }

    /// The first file, which arrives with the session, and finds out whether the home is what it is believed to be.
    async fn run_believing(
        &mut self,
        belief: &'a Belief,
        migration: &Migration,
        history_row: &str,
        is_last: bool,
    ) -> Result<(), FleetError> {
        let row = witnessed(self.workplace, migration, history_row, Some(&belief.holds))?;
        let arrival = format!("{}{}", self.workplace.settle_in(), self.workplace.lock());
        match self.run_whole(migration, &row, is_last, (&arrival, STATEMENTS_OF_ARRIVAL)).await {
            Err(failure @ FleetError::Migration(_)) => {
                self.knowledge = Knowledge::Doubted(belief, failure);
                Err(FleetError::refused("the home must be asked for its history"))
            }
            other => other,
        }
    }

    /// A file in its transaction, with its row. `arrival` is what comes before, and how many statements that is.
    async fn run_whole(
        &mut self,
        migration: &Migration,
        row: &str,
        is_last: bool,
        arrival: (&str, usize),
    ) -> Result<(), FleetError> {
        // The line break ends a comment on the file's last line, the semicolon its last statement.
        let before = format!("{}BEGIN;\n{}", arrival.0, mark(migration, is_last));
        let sql = format!("{before}{}\n;\n{row}COMMIT;\n", migration.sql);
        let statements_before = arrival.1 + if is_last { 2 } else { 3 };
        self.session.counted(&sql).await.map_err(|(answered, cause)| {
            failure::of(cause, migration, &before, answered.checked_sub(statements_before))
        })
    }
}

impl Work for Ledger<'_> {
    async fn plan(&mut self, select: &str) -> Result<Vec<Planned>, FleetError> {
        let doubted = match std::mem::replace(&mut self.knowledge, Knowledge::Told) {
            Knowledge::Told => None,
            Knowledge::Believed(belief) => {
                self.knowledge = Knowledge::Believed(belief);
                self.pending.leave_out_applied(&belief.applied);
                return Ok(as_refinery_has_it(belief.applied.clone()));
            }
            Knowledge::Doubted(belief, failure) => Some((belief, failure)),
        };
        let what = "read the home's history";
        let end = if doubted.is_some() { "ROLLBACK;\n" } else { "" };
        let (settle_in, lock) = (format!("{end}{}", self.workplace.settle_in()), self.workplace.lock());
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
        self.pending = Pending::of(self.set);
        let applied = self.pending.leave_out(&rows)?;
        match doubted {
            // The home is what it was believed to be, so it was the file.
            Some((belief, failure)) if belief.applied == applied => Err(failure),
            Some(_) | None => Ok(as_refinery_has_it(applied)),
        }
    }

    async fn run(&mut self, sql: &str, history_row: &str) -> Result<(), FleetError> {
        let migration = self.pending.take(sql)?;
        let is_last = self.pending.files.is_empty() && self.pending.repeatables.is_empty();
        match std::mem::replace(&mut self.knowledge, Knowledge::Told) {
            Knowledge::Believed(belief) => self.run_believing(belief, migration, history_row, is_last).await,
            Knowledge::Told | Knowledge::Doubted(..) => self.run_file(migration, history_row, is_last).await,
        }
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
