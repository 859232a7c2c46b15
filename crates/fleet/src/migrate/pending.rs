//! The files of a set that a home still lacks.

use std::collections::VecDeque;

use tenantry_domain::SchemaVersion;
use tenantry_migration_set::{Migration, MigrationSet};
use tokio_postgres::SimpleQueryRow;

use super::ledger::applied_migration;
use super::{AppliedMigration, repeatables};
use crate::error::FleetError;

/// All of a set at first; those that a home has fall out once its rows are read.
pub(super) struct Pending<'a> {
    /// By rising version.
    pub(super) files: VecDeque<&'a Migration>,
    /// By name.
    pub(super) repeatables: VecDeque<&'a Migration>,
    /// The home's version before anything was applied.
    pub(super) found: SchemaVersion,
}

impl<'a> Pending<'a> {
    pub(super) fn of(set: &'a MigrationSet) -> Self {
        let (files, repeatables) = (set.migrations().iter().collect(), set.repeatables().iter().collect());
        Self { files, repeatables, found: SchemaVersion::default() }
    }

    /// Leaves out what the rows of a home's history, and of its repeatable files, say that it has. Returns the history.
    pub(super) fn leave_out(&mut self, rows: &[SimpleQueryRow]) -> Result<Vec<AppliedMigration>, FleetError> {
        let present = repeatables::present(rows);
        self.repeatables.retain(|migration| !present.contains(&(migration.name.as_str(), migration.checksum)));
        // Rows of the settings that come before have other columns.
        let rows = rows.iter().filter(|row| row.columns().first().is_some_and(|column| column.name() == "version"));
        let applied = rows.map(applied_migration).collect::<Result<Vec<_>, _>>()?;
        self.leave_out_applied(&applied);
        Ok(applied)
    }

    /// Leaves out what is in a home's history.
    pub(super) fn leave_out_applied(&mut self, applied: &[AppliedMigration]) {
        self.files.retain(|migration| !applied.iter().any(|row| row.version == migration.version));
        self.found = SchemaVersion(applied.iter().map(|row| row.version).max().unwrap_or(0));
    }

    /// Takes the file of this text out.
    pub(super) fn take(&mut self, sql: &str) -> Result<&'a Migration, FleetError> {
        let at = self.files.iter().position(|migration| migration.sql == sql);
        at.and_then(|at| self.files.remove(at))
            .ok_or_else(|| FleetError::refused("the migration that is due is not in the set; register the set again"))
    }
}
