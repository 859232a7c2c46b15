//! Trying a set on a few tenants.

use std::time::Duration;

use indicatif::HumanBytes;
use serde::Serialize;
use tenantry_api::{
    Client, DryRunFile, DryRunLine, DryRunLock, DryRunOutcome, DryRunSeconds, DryRunSize, DryRunTenant, RolloutDryRun,
};
use tenantry_domain::{LockMode, MigrationSetId};

use crate::cli::error::CliError;
use crate::cli::output::Composition;
use crate::cli::table::{Cell, Tabular};
use crate::cli::{reason, waiting};

/// Tries the set and returns what came of each tenant, as it came.
pub(super) async fn run(
    client: &Client,
    set: &MigrationSetId,
    tenants: DryRunSize,
    limit: Duration,
) -> Result<Vec<DryRunTenant>, CliError> {
    let timeout_seconds = DryRunSeconds::new(limit.as_secs()).map_err(|error| CliError::usage(error.to_string()))?;
    let wish = RolloutDryRun { migration_set: set.clone(), tenants, timeout_seconds: Some(timeout_seconds) };
    let mut lines = client.dry_run(&wish).await?;
    let spinner = waiting::spinner();
    let mut sampled = 0;
    let mut tried = Vec::new();
    let ended = loop {
        match lines.next().await? {
            Some(DryRunLine::Sample(sample)) => sampled = sample.tenants.len(),
            Some(DryRunLine::Tenant(tenant)) => tried.push(*tenant),
            Some(DryRunLine::Summary(_)) => break true,
            None => break false,
        }
        spinner.set_message(format!("tried on {} of {sampled} tenants", tried.len()));
    };
    spinner.finish_and_clear();
    if ended {
        return Ok(tried);
    }
    Err(CliError::Unsuccessful { message: "the dry run broke off before its end; try again".to_owned() })
}

/// Tenants, files, and the locks that others may have to wait for.
pub(super) fn compose(composition: &mut Composition, tried: &[DryRunTenant]) {
    composition.list(tried);
    let files = |tenant| Of::each(tenant, |tenant: &DryRunTenant| tenant.files.iter());
    let files: Vec<Of<'_, DryRunFile>> = tried.iter().flat_map(files).collect();
    if !files.is_empty() {
        composition.list(&files);
    }
    let locks = |tenant| Of::each(tenant, |tenant: &DryRunTenant| tenant.files.iter().flat_map(|file| &file.locks));
    let matters = |lock: &Of<'_, DryRunLock>| {
        lock.it.existed && lock.it.mode.strength() >= LockMode::ShareUpdateExclusive.strength()
    };
    let locks: Vec<Of<'_, DryRunLock>> = tried.iter().flat_map(locks).filter(matters).collect();
    if !locks.is_empty() {
        composition.list(&locks);
    }
}

fn name(tenant: &DryRunTenant) -> String {
    tenant.tenant.slug.as_ref().map_or_else(|| tenant.tenant.id.to_string(), ToString::to_string)
}

fn seconds(milliseconds: u64) -> String {
    format!("{:.3} s", Duration::from_millis(milliseconds).as_secs_f64())
}

/// Something that was seen at a tenant.
#[derive(Serialize)]
struct Of<'a, T> {
    tenant: &'a DryRunTenant,
    it: &'a T,
}

impl<'a, T> Of<'a, T> {
    fn each<I: Iterator<Item = &'a T>>(
        tenant: &'a DryRunTenant,
        all: impl Fn(&'a DryRunTenant) -> I,
    ) -> impl Iterator<Item = Self> {
        all(tenant).map(move |it| Self { tenant, it })
    }
}

impl Tabular for DryRunTenant {
    const COLUMNS: &'static [&'static str] = &["tried on", "size", "from version", "took", "came to"];

    fn row(&self) -> Vec<Cell> {
        let word = if self.passed { "passed" } else { "failed" };
        let said = self.error.as_ref().map_or_else(|| word.to_owned(), |error| format!("{word}: {error}"));
        vec![
            Cell::new(name(self)),
            Cell::optional(self.tenant.bytes.map(HumanBytes)),
            Cell::optional(self.from_version),
            Cell::new(seconds(self.duration_ms)),
            Cell::verdict(&said, self.passed),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for Of<'_, DryRunFile> {
    const COLUMNS: &'static [&'static str] = &["tenant", "file", "took", "came to"];

    fn row(&self) -> Vec<Cell> {
        let outcome = match self.it.outcome {
            DryRunOutcome::Passed => Cell::verdict("passed", true),
            DryRunOutcome::Failed => {
                let said = self.it.error.as_ref().map(reason::of).unwrap_or_default();
                Cell::verdict(&format!("failed: {said}"), false)
            }
            DryRunOutcome::Untried => Cell::new(format!("not tried: {}", self.it.reason.as_deref().unwrap_or("-"))),
        };
        vec![Cell::new(name(self.tenant)), Cell::new(&self.it.file), Cell::new(seconds(self.it.duration_ms)), outcome]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for Of<'_, DryRunLock> {
    const COLUMNS: &'static [&'static str] =
        &["tenant", "file", "locks", "in the mode", "for", "to rollback", "rewrites", "rows", "size"];

    fn row(&self) -> Vec<Cell> {
        let lock = self.it;
        let file = self.tenant.files.iter().find(|file| file.locks.iter().any(|known| std::ptr::eq(known, lock)));
        let words = lock.mode.as_str().replace('_', " ").to_uppercase();
        // Nobody can even read meanwhile.
        let mode = if lock.mode == LockMode::AccessExclusive { Cell::verdict(&words, false) } else { Cell::new(words) };
        vec![
            Cell::new(name(self.tenant)),
            Cell::optional(file.map(|file| format!("{}:{}", file.file, lock.line))),
            Cell::new(&lock.relation),
            mode,
            Cell::new(seconds(lock.held_ms)),
            Cell::new(seconds(lock.held_to_rollback_ms)),
            if lock.rewritten { Cell::verdict("yes", false) } else { Cell::new("no") },
            Cell::optional(lock.rows),
            Cell::optional(lock.bytes.map(HumanBytes)),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}
