//! refinery's three traits, once for all who bring files to a home: it decides what is pending and what diverges.

use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use refinery_core::{AsyncMigrate, Migration as Planned, Report, Target};
use tenantry_migration_set::{Migration, MigrationSet};
use time::OffsetDateTime;

use super::{AppliedMigration, HISTORY, Workplace};
use crate::error::FleetError;

/// A session in a home that does what refinery has decided.
pub(super) trait Work: Send {
    /// What the home has applied; `select` asks its history for that.
    fn plan(&mut self, select: &str) -> impl Future<Output = Result<Vec<Planned>, FleetError>> + Send;

    /// Does with the file of this text, and the row that belongs into the history with it, what is to be done.
    fn run(&mut self, sql: &str, history_row: &str) -> impl Future<Output = Result<(), FleetError>> + Send;
}

/// Has everything done that the home lacks of the set's versions.
pub(super) async fn bring<W: Work>(
    work: &mut W,
    workplace: &Workplace,
    set: &MigrationSet,
) -> Result<Report, FleetError> {
    let files: Result<Vec<_>, _> = set.migrations().iter().map(Migration::to_refinery).collect();
    let files = files.map_err(|source| FleetError::Refused {
        reason: "refinery does not take the migration set".into(),
        source: Some(Box::new(source)),
    })?;
    let mut adapter = Adapter { work, failure: None };
    let history = workplace.table(HISTORY);
    let result = adapter.migrate(&files, true, true, false, Target::Latest, &history).await;
    result.map_err(|error| adapter.failure.unwrap_or_else(|| diverged(&error)))
}

/// The time of application is no part of refinery's planning.
pub(super) fn as_refinery_has_it(applied: Vec<AppliedMigration>) -> Vec<Planned> {
    let planned =
        |row: AppliedMigration| Planned::applied(row.version, row.name, OffsetDateTime::UNIX_EPOCH, row.checksum);
    applied.into_iter().map(planned).collect()
}

fn diverged(error: &refinery_core::Error) -> FleetError {
    use refinery_core::error::Kind;
    let reason = match error.kind() {
        Kind::DivergentVersion(applied, wanted) => format!(
            "the home has applied {applied} with other content than {wanted} of the set; an applied file never changes, \
             so restore it and add a new one"
        ),
        Kind::MissingVersion(migration) => format!(
            "{migration} is in the home's history or below its version, but not in both the set and the history; \
             the set is older than the home, or a file was added below its version"
        ),
        other => other.to_string(),
    };
    FleetError::Diverged { reason }
}

struct Adapter<'w, W> {
    work: &'w mut W,
    /// refinery hides what it is given behind a box; the sorted error waits here.
    failure: Option<FleetError>,
}

impl<W> Adapter<'_, W> {
    /// Keeps the error for the caller and gives refinery one to stop at.
    fn keep<T>(&mut self, result: Result<T, FleetError>) -> Result<T, FleetError> {
        result.map_err(|error| {
            self.failure = Some(error);
            FleetError::refused("see the error that was kept")
        })
    }
}

impl<W: Work> AsyncTransaction for Adapter<'_, W> {
    type Error = FleetError;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, FleetError> {
        let queries: Vec<&str> = queries.collect();
        let result = match queries.as_slice() {
            // Whoever plans makes the history table, which saves a round trip.
            [""] => Ok(()),
            [sql, history_row] => self.work.run(sql, history_row).await,
            _ => Err(FleetError::refused("refinery asks for more than a file and its history row")),
        };
        self.keep(result).map(|()| queries.len())
    }
}

impl<W: Work> AsyncQuery<Vec<Planned>> for Adapter<'_, W> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Planned>, FleetError> {
        let result = self.work.plan(query).await;
        self.keep(result)
    }
}

impl<W: Work> AsyncMigrate for Adapter<'_, W> {
    fn assert_migrations_table_query(_migration_table_name: &str) -> String {
        String::new()
    }
}
