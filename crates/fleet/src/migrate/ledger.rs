//! refinery's three traits on a connection of our own.

use std::collections::VecDeque;

use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use refinery_core::{AsyncMigrate, Migration as Planned};
use tenantry_domain::SchemaVersion;
use tenantry_migration_set::{Migration, MigrationSet};
use time::OffsetDateTime;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use super::guard::{reserve, witnessed};
use super::{AppliedMigration, HISTORY, Workplace, failure, repeatables, statements};
use crate::error::FleetError;
use crate::quote::{do_block, literal};
use crate::session::{Session, rows_of};

/// A migrator's session that knows the set, so that it can tell which file it was handed.
pub(super) struct Ledger<'a> {
    session: Session,
    workplace: &'a Workplace,
    pending: VecDeque<&'a Migration>,
    repeatables: Vec<&'a Migration>,
    found: SchemaVersion,
    /// refinery hides what it is given behind a box; the sorted error waits here.
    failure: Option<FleetError>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(session: Session, workplace: &'a Workplace, set: &'a MigrationSet) -> Self {
        let pending = set.migrations().iter().collect();
        let repeatables = set.repeatables().iter().collect();
        Self { session, workplace, pending, repeatables, found: SchemaVersion::default(), failure: None }
    }

    /// The home's version before anything was applied.
    pub(super) fn found(&self) -> SchemaVersion {
        self.found
    }

    pub(super) fn failure(self) -> Option<FleetError> {
        self.failure
    }

    async fn plan(&mut self, select: &str) -> Result<Vec<Planned>, FleetError> {
        let what = "read the home's history";
        let (settle_in, lock) = (self.workplace.settle_in(), self.workplace.lock());
        let (select, make_repeatables) = if self.repeatables.is_empty() {
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
        let present = repeatables::present(&rows);
        self.repeatables.retain(|migration| !present.contains(&(migration.name.as_str(), migration.checksum)));
        // Rows of the settings that come before have other columns.
        let rows = rows.iter().filter(|row| row.columns().first().is_some_and(|column| column.name() == "version"));
        let applied = rows.map(applied_migration).collect::<Result<Vec<_>, _>>()?;
        self.pending.retain(|migration| !applied.iter().any(|row| row.version == migration.version));
        self.found = SchemaVersion(applied.iter().map(|row| row.version).max().unwrap_or(0));
        Ok(as_refinery_has_it(applied))
    }

    /// Applies the repeatable files that the home lacks as they are; says how many. To be called once nothing else is
    /// pending.
    pub(super) async fn repeat(&mut self) -> Result<usize, FleetError> {
        let repeatables = std::mem::take(&mut self.repeatables);
        for (at, migration) in repeatables.iter().enumerate() {
            let row = repeatables::row(self.workplace, migration);
            let is_last = at + 1 == repeatables.len();
            self.run_file(migration, &row, is_last).await?;
        }
        Ok(repeatables.len())
    }

    async fn run(&mut self, sql: &str, history_row: &str) -> Result<(), FleetError> {
        let at = self.pending.iter().position(|migration| migration.sql == sql);
        let Some(migration) = at.and_then(|at| self.pending.remove(at)) else {
            return Err(FleetError::refused("the migration to apply is not in the set; register the set again"));
        };
        let is_last = self.pending.is_empty() && self.repeatables.is_empty();
        self.run_file(migration, history_row, is_last).await
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

impl AsyncTransaction for Ledger<'_> {
    type Error = FleetError;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, FleetError> {
        let queries: Vec<&str> = queries.collect();
        let result = match queries.as_slice() {
            // The history table is made where the first question finds none, which saves a round trip.
            [""] => Ok(()),
            [sql, history_row] => self.run(sql, history_row).await,
            _ => Err(FleetError::refused("refinery asks for more than a file and its history row")),
        };
        self.keep(result).map(|()| queries.len())
    }
}

impl AsyncQuery<Vec<Planned>> for Ledger<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Planned>, FleetError> {
        let result = self.plan(query).await;
        self.keep(result)
    }
}

impl AsyncMigrate for Ledger<'_> {
    fn assert_migrations_table_query(_migration_table_name: &str) -> String {
        String::new()
    }
}

impl Ledger<'_> {
    /// Keeps the error for the caller and gives refinery one to stop at.
    fn keep<T>(&mut self, result: Result<T, FleetError>) -> Result<T, FleetError> {
        result.map_err(|error| {
            self.failure = Some(error);
            FleetError::refused("see the error that was kept")
        })
    }
}

/// The time of application is no part of refinery's planning.
pub(super) fn as_refinery_has_it(applied: Vec<AppliedMigration>) -> Vec<Planned> {
    let planned =
        |row: AppliedMigration| Planned::applied(row.version, row.name, OffsetDateTime::UNIX_EPOCH, row.checksum);
    applied.into_iter().map(planned).collect()
}

/// The set as refinery takes it.
pub(super) fn planned(set: &MigrationSet) -> Result<Vec<Planned>, FleetError> {
    let files: Result<Vec<_>, _> = set.migrations().iter().map(Migration::to_refinery).collect();
    files.map_err(|source| FleetError::Refused {
        reason: "refinery does not take the migration set".into(),
        source: Some(Box::new(source)),
    })
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
