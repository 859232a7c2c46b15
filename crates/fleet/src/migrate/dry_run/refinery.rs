//! refinery's three traits, so that it decides here too what is pending and what diverges.

use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use refinery_core::{AsyncMigrate, Migration as Planned};
use tenantry_domain::SchemaVersion;

use super::Rehearsal;
use crate::error::FleetError;
use crate::migrate::{applied_migration, ledger, repeatables};

impl Rehearsal<'_> {
    async fn plan(&mut self, select: &str) -> Result<Vec<Planned>, FleetError> {
        let workplace = self.workplace;
        let (settle_in, lock) = (workplace.settle_in(), workplace.lock());
        let end = if select.trim_end().ends_with(';') { "" } else { ";" };
        // The tables are undone with everything else where they are not there yet.
        let (make, mut questions) = (ledger::history_table(workplace), format!("{select}{end}\n"));
        if !self.repeatables.is_empty() {
            questions = format!("{}{questions}{}", repeatables::table(workplace), repeatables::select(workplace));
        }
        let sql = format!("{settle_in}{lock}BEGIN;\n{make}{questions}");
        let rows = self.session.rows("read the home's history", &sql).await?;
        let present = repeatables::present(&rows);
        self.repeatables.retain(|migration| !present.contains(&(migration.name.as_str(), migration.checksum)));
        // Rows of the settings that come before have other columns.
        let rows = rows.iter().filter(|row| row.columns().first().is_some_and(|column| column.name() == "version"));
        let applied = rows.map(applied_migration).collect::<Result<Vec<_>, _>>()?;
        self.pending.retain(|migration| !applied.iter().any(|row| row.version == migration.version));
        self.found = SchemaVersion(applied.iter().map(|row| row.version).max().unwrap_or(0));
        self.locks.remember(&mut self.session, self.workplace).await?;
        Ok(ledger::as_refinery_has_it(applied))
    }

    fn keep<T>(&mut self, result: Result<T, FleetError>) -> Result<T, FleetError> {
        result.map_err(|error| {
            self.failure = Some(error);
            FleetError::refused("see the error that was kept")
        })
    }
}

impl AsyncTransaction for Rehearsal<'_> {
    type Error = FleetError;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, FleetError> {
        let queries: Vec<&str> = queries.collect();
        let result = match queries.as_slice() {
            [""] => Ok(()),
            // The history row would be undone with the file.
            [sql, _history_row] => self.try_file(sql).await,
            _ => Err(FleetError::refused("refinery asks for more than a file and its history row")),
        };
        self.keep(result).map(|()| queries.len())
    }
}

impl AsyncQuery<Vec<Planned>> for Rehearsal<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Planned>, FleetError> {
        let result = self.plan(query).await;
        self.keep(result)
    }
}

impl AsyncMigrate for Rehearsal<'_> {
    fn assert_migrations_table_query(_migration_table_name: &str) -> String {
        String::new()
    }
}
