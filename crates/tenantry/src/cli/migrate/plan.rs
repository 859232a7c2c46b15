//! What a rollout would do, and holding one to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use tenantry_api::{
    Client, CreateRollout, DryRunTenant, PlannedMigration, PlannedRepeatable, PlannedStart, PlannedWave, Rollout,
    RolloutPlan,
};
use tenantry_domain::Hours;

use super::{PlanArguments, dry_run, set, wave};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::table::{Cell, Tabular};

/// A plan holds the SQL of a set, which has 64 MiB at most; in JSON that may grow.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(super) async fn plan(context: &Context, arguments: PlanArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let create = arguments.wish.create(context, &client).await?;
    let plan = client.plan_rollout(&create).await?;
    let tried = match arguments.dry_run {
        Some(tenants) => Some(dry_run::run(&client, &plan.migration_set, tenants, arguments.dry_run_timeout).await?),
        None => None,
    };
    let shown = Planned { plan: &plan, dry_run: tried.as_deref() };
    if let Some(path) = &arguments.out {
        write(&shown, path)?;
    }
    context.output.composed(&shown, |composition| {
        composition.object(&plan);
        composition.list(&numbered(&plan));
        if !plan.starts.is_empty() {
            composition.list(&plan.starts);
            composition.list(&files(&plan));
        }
        if arguments.sql {
            for file in files(&plan) {
                composition.text(&format!("-- {}\n{}\n", file.file, file.sql.trim_end()));
            }
        }
        if let Some(tried) = &tried {
            dry_run::compose(composition, tried);
        }
    })?;
    match tried.iter().flatten().filter(|tenant| !tenant.passed).count() {
        0 => Ok(()),
        failed => Err(CliError::DryRun { failed, tenants: tried.map_or(0, |tried| tried.len()) }),
    }
}

/// Begins just what a file of `tenantry migrate plan` says.
pub(super) async fn begin(client: &Client, path: &Path, hours: Option<Hours>) -> Result<Rollout, CliError> {
    let plan = read(path)?;
    let refused = match client.create_rollout(&CreateRollout { hours, ..plan.rollout() }).await {
        Ok(rollout) => return Ok(rollout),
        Err(refused) => refused,
    };
    if refused.code() != Some(tenantry_api::Code::Conflict) {
        return Err(refused.into());
    }
    let now = client.plan_rollout(&CreateRollout { plan: None, ..plan.rollout() }).await?;
    if now.digest == plan.digest {
        // Something else is in the way.
        return Err(refused.into());
    }
    Err(CliError::PlanChanged { differences: differences(&plan, &now) })
}

/// What a rollout would do now that it would not have done then.
fn differences(then: &RolloutPlan, now: &RolloutPlan) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |what: String, then: u64, now: u64| {
        if then != now {
            found.push(format!("{what}: {now} tenants instead of {then}"));
        }
    };
    note("to migrate".to_owned(), then.pending, now.pending);
    let starts = |plan: &RolloutPlan| -> BTreeMap<i64, u64> {
        plan.starts.iter().map(|start| (start.from_version.0, start.tenants)).collect()
    };
    let (from_then, from_now) = (starts(then), starts(now));
    let mut versions: Vec<i64> = from_then.keys().chain(from_now.keys()).copied().collect();
    versions.sort_unstable();
    versions.dedup();
    for version in versions {
        let of = |starts: &BTreeMap<i64, u64>| starts.get(&version).copied().unwrap_or_default();
        note(format!("from version {version}"), of(&from_then), of(&from_now));
    }
    for (number, (then, now)) in (1..).zip(then.waves.iter().zip(&now.waves)) {
        note(format!("in wave {number} ({})", now.select), then.tenants, now.tenants);
    }
    if found.is_empty() {
        found.push("other tenants, or in other waves".to_owned());
    }
    found
}

fn read(path: &Path) -> Result<RolloutPlan, CliError> {
    let mut text = Vec::new();
    let file = |source| CliError::File { what: "the plan", path: path.to_owned(), source };
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text)).map_err(file)?;
    serde_json::from_slice(&text).map_err(|error| {
        let path = path.display();
        CliError::usage(format!("{path} is no plan ({error}); write one with `tenantry migrate plan --out FILE`"))
    })
}

fn write(plan: &Planned<'_>, path: &Path) -> Result<(), CliError> {
    let text = serde_json::to_vec_pretty(plan).map_err(|error| CliError::Output(error.into()))?;
    std::fs::write(path, text).map_err(|source| CliError::Program {
        message: format!("cannot write {}; check that it may be written", path.display()),
        source,
    })
}

/// A plan, and what came of trying it.
#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    plan: &'a RolloutPlan,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<&'a [DryRunTenant]>,
}

impl Tabular for RolloutPlan {
    const COLUMNS: &'static [&'static str] = &["plan", "set", "to migrate", "already there"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.digest),
            Cell::new(set::short(&self.migration_set)),
            Cell::new(self.pending),
            Cell::new(self.already),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("plan", Cell::new(&self.digest)),
            ("migration set", Cell::new(&self.migration_set)),
            ("latest version", Cell::new(self.latest_version)),
            ("to migrate", Cell::new(self.pending)),
            ("already there", Cell::new(self.already)),
            ("concurrency", Cell::new(self.limits.concurrency)),
            ("per cluster", Cell::optional(self.limits.per_cluster)),
            ("per database", Cell::optional(self.limits.per_database)),
            ("failures allowed", Cell::new(wave::said(self.error_budget))),
            ("breaker", Cell::optional(self.breaker)),
        ]
    }
}

/// A wave with its number.
#[derive(Serialize)]
struct Numbered<'a> {
    wave: usize,
    #[serde(flatten)]
    of: &'a PlannedWave,
}

fn numbered(plan: &RolloutPlan) -> Vec<Numbered<'_>> {
    (1..).zip(&plan.waves).map(|(wave, of)| Numbered { wave, of }).collect()
}

impl Tabular for Numbered<'_> {
    const COLUMNS: &'static [&'static str] = &["wave", "takes", "tenants", "bakes", "budget", "the first"];

    fn row(&self) -> Vec<Cell> {
        let named = self
            .of
            .first
            .iter()
            .map(|tenant| tenant.slug.as_ref().map_or_else(|| tenant.id.to_string(), ToString::to_string));
        let more = self.of.tenants > self.of.first.len() as u64;
        vec![
            Cell::new(self.wave),
            Cell::new(&self.of.select),
            Cell::new(self.of.tenants),
            Cell::optional((self.of.bake_seconds > 0).then(|| format!("{} s", self.of.bake_seconds))),
            Cell::new(wave::said(self.of.error_budget)),
            Cell::joined(named.chain(more.then(|| "…".to_owned()))),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for PlannedStart {
    const COLUMNS: &'static [&'static str] = &["from version", "tenants", "files"];

    fn row(&self) -> Vec<Cell> {
        let files = match self.migrations.as_slice() {
            [first, .., last] => format!("{}: {first} to {last}", self.migrations.len()),
            versions => versions.iter().map(ToString::to_string).collect(),
        };
        vec![Cell::new(self.from_version), Cell::new(self.tenants), Cell::new(files)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

/// A file of either kind.
#[derive(Serialize)]
struct PlannedFile<'a> {
    file: &'a str,
    sql: &'a str,
    transactional: bool,
    phase: Option<&'a str>,
    requires_app: Option<&'a str>,
    checksum: &'a str,
}

/// In the order in which they run.
fn files(plan: &RolloutPlan) -> Vec<PlannedFile<'_>> {
    let versioned = plan.migrations.iter().map(|PlannedMigration { migration, file, sql }| PlannedFile {
        file,
        sql,
        transactional: migration.transactional,
        phase: migration.phase.as_deref(),
        requires_app: migration.requires_app.as_deref(),
        checksum: &migration.checksum,
    });
    let repeatable = plan.repeatables.iter().map(|PlannedRepeatable { repeatable, file, sql }| PlannedFile {
        file,
        sql,
        transactional: repeatable.transactional,
        phase: repeatable.phase.as_deref(),
        requires_app: None,
        checksum: &repeatable.checksum,
    });
    versioned.chain(repeatable).collect()
}

impl Tabular for PlannedFile<'_> {
    const COLUMNS: &'static [&'static str] = &["file", "transactional", "phase", "requires app", "checksum"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(self.file),
            Cell::new(if self.transactional { "yes" } else { "no" }),
            Cell::optional(self.phase),
            Cell::optional(self.requires_app),
            Cell::new(self.checksum),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(pending: u64, waves: [u64; 2]) -> RolloutPlan {
        let wave = |select: &str, tenants: u64| json!({ "select": select, "bake_seconds": 0, "error_budget": {}, "tenants": tenants, "first": [] });
        serde_json::from_value(json!({
            "digest": "1".repeat(64), "migration_set": "2".repeat(64), "latest_version": 4, "already": 0,
            "pending": pending, "waves": [wave("1", waves[0]), wave("all", waves[1])],
            "limits": { "concurrency": 8 }, "error_budget": {}, "breaker": null, "migrations": [],
            "starts": [{ "from_version": 3, "tenants": pending, "migrations": [4] }],
        }))
        .expect("a plan")
    }

    #[test]
    fn what_changed_is_told_in_numbers_where_numbers_changed() {
        assert_eq!(
            differences(&planned(3, [1, 2]), &planned(4, [1, 3])),
            [
                "to migrate: 4 tenants instead of 3",
                "from version 3: 4 tenants instead of 3",
                "in wave 2 (all): 3 tenants instead of 2"
            ]
        );
        assert_eq!(differences(&planned(3, [1, 2]), &planned(3, [1, 2])), ["other tenants, or in other waves"]);
    }
}
