//! What a rollout would do, and trying a set before the fleet gets it.

use serde::{Deserialize, Serialize};
use tenantry_domain::{LockMode, MigrationSetId, RolloutPlanDigest, SchemaVersion, Slug, TenantId, WaveSelection};
use utoipa::ToSchema;

use crate::migration_set::{Migration, Repeatable};
use crate::query::{OutOfBounds, bounded};
use crate::rollout::{BreakerLength, Concurrency, CreateRollout, CreateWave, ErrorBudget, RolloutLimits};
use crate::schema;

/// What a rollout would do now. Only what is behind the set counts: tenants that are there already come and go without
/// another digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutPlan {
    /// Its digest, 64 hexadecimal digits: over the set, the waves, the limits, and each tenant that would be migrated with
    /// its version and wave. `POST /v1/rollouts` takes it as `plan`.
    #[schema(value_type = String)]
    pub digest: RolloutPlanDigest,
    /// Where to.
    #[schema(value_type = String)]
    pub migration_set: MigrationSetId,
    /// That set's highest version.
    #[schema(value_type = i64)]
    pub latest_version: SchemaVersion,
    /// How many tenants would be migrated.
    pub pending: u64,
    /// How many are there already.
    pub already: u64,
    /// Its waves in order, empty ones included.
    pub waves: Vec<PlannedWave>,
    /// How hard it would work.
    pub limits: RolloutLimits,
    /// How many failures it would bear, over all waves.
    pub error_budget: ErrorBudget,
    /// After how many targets in a row that failed with the same SQLSTATE it would stop; null means never.
    pub breaker: Option<u32>,
    /// Whether every tenant's own history would be asked, whatever the catalog knows.
    #[serde(default)]
    pub verify: bool,
    /// The versions that tenants start from, the lowest first.
    pub starts: Vec<PlannedStart>,
    /// The files that some tenant lacks, in order.
    pub migrations: Vec<PlannedMigration>,
    /// The set's repeatable files, by name. Each home says by itself which of them it lacks as they are.
    #[serde(default)]
    pub repeatables: Vec<PlannedRepeatable>,
}

/// A wave to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedWave {
    /// Whom it takes, of those whom no earlier wave took.
    #[schema(value_type = String)]
    pub select: WaveSelection,
    /// How long the rollout waits once the wave is through, in seconds.
    pub bake_seconds: u32,
    /// How many failures it bears.
    pub error_budget: ErrorBudget,
    /// How many tenants it would take.
    pub tenants: u64,
    /// The first of them, ten at most.
    pub first: Vec<PlannedTenant>,
}

/// A tenant in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedTenant {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: TenantId,
    /// Its slug, where the token has `tenants:read`.
    #[schema(value_type = Option<String>)]
    pub slug: Option<Slug>,
}

/// Tenants that have the same version, and what they get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStart {
    /// The version that they have.
    #[schema(value_type = i64)]
    pub from_version: SchemaVersion,
    /// How many they are.
    pub tenants: u64,
    /// The versions of the files that each of them gets, in order.
    #[schema(value_type = Vec<i64>)]
    pub migrations: Vec<SchemaVersion>,
}

/// A file in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedMigration {
    /// The migration.
    #[serde(flatten)]
    pub migration: Migration,
    /// The file's name.
    #[schema(example = "V7__delays.sql")]
    pub file: String,
    /// The file's content, as it would be run.
    pub sql: String,
}

/// A repeatable file in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedRepeatable {
    /// What it is.
    #[serde(flatten)]
    pub repeatable: Repeatable,
    /// The file's name.
    #[schema(example = "R__report.sql")]
    pub file: String,
    /// The file's content, as it would be run.
    pub sql: String,
}

impl RolloutPlan {
    /// The rollout that does exactly this.
    pub fn rollout(&self) -> CreateRollout {
        let limit = |limit: u16| Concurrency::new(limit.into()).ok();
        let wave = |wave: &PlannedWave| CreateWave {
            select: wave.select.clone(),
            bake_seconds: wave.bake_seconds,
            error_budget: wave.error_budget,
        };
        CreateRollout {
            concurrency: limit(self.limits.concurrency),
            per_cluster: self.limits.per_cluster.and_then(limit),
            per_database: self.limits.per_database.and_then(limit),
            waves: Some(self.waves.iter().map(wave).collect()),
            error_budget: self.error_budget,
            breaker: self.breaker.and_then(|length| BreakerLength::new(length.into()).ok()),
            verify: self.verify,
            plan: Some(self.digest.clone()),
            ..CreateRollout::new(self.migration_set.clone())
        }
    }
}

bounded! {
    /// On how many tenants a set is tried: 1 to 20.
    DryRunSize(u8), 1..=20
}

bounded! {
    /// How long a set is tried on one tenant: 1 to 600 seconds.
    DryRunSeconds(u16), 1..=600
}

/// Tries a set on a few tenants that lack it, and undoes everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutDryRun {
    /// Which set.
    #[schema(value_type = String)]
    pub migration_set: MigrationSetId,
    /// On how many tenants, 1 to 20: the smallest, the largest, and others between by the space that they take.
    #[schema(value_type = u8, minimum = 1, maximum = 20)]
    pub tenants: DryRunSize,
    /// The longest that it may take for each tenant, in seconds, 1 to 600; 60 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 600)]
    pub timeout_seconds: Option<DryRunSeconds>,
}

/// One line of the answer. An answer without a summary at its end broke off. Empty lines mean that it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DryRunLine {
    /// Whom the set is tried on, one after the other.
    Sample(DryRunSample),
    /// What came of one tenant.
    Tenant(Box<DryRunTenant>),
    /// The end.
    Summary(DryRunSummary),
}

/// Whom the set is tried on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRunSample {
    /// How many tenants lack the set.
    pub pending: u64,
    /// The chosen ones, the smallest first.
    pub tenants: Vec<SampledTenant>,
}

/// A tenant that the set is tried on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SampledTenant {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: TenantId,
    /// Its slug, where the token has `tenants:read`.
    #[schema(value_type = Option<String>)]
    pub slug: Option<Slug>,
    /// The space that its database or schema takes, where that could be measured.
    pub bytes: Option<u64>,
}

/// What came of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRunTenant {
    /// Which.
    pub tenant: SampledTenant,
    /// Whether nothing failed.
    pub passed: bool,
    /// Why nothing could be tried.
    pub error: Option<String>,
    /// The version that it has.
    #[schema(value_type = Option<i64>)]
    pub from_version: Option<SchemaVersion>,
    /// From connecting to the rollback, in milliseconds.
    pub duration_ms: u64,
    /// Each file that it lacks, in order.
    pub files: Vec<DryRunFile>,
}

/// What came of trying a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DryRunOutcome {
    /// It works.
    Passed,
    /// It does not; `error` says why.
    Failed,
    /// It could not be tried; `reason` says why.
    Untried,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRunFile {
    /// Its version; 0 for a repeatable one.
    #[schema(value_type = i64)]
    pub version: SchemaVersion,
    /// Its name.
    #[schema(example = "V7__delays.sql")]
    pub file: String,
    /// What came of it.
    pub outcome: DryRunOutcome,
    /// Why it failed: an object with `message`, and `file`, `line`, `sqlstate`, `detail`, `hint` where known.
    #[schema(value_type = Option<Object>)]
    pub error: Option<serde_json::Value>,
    /// Why it could not be tried.
    pub reason: Option<String>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// The strongest lock that it took on each table, view and sequence, unless a file before it held that already.
    pub locks: Vec<DryRunLock>,
}

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRunLock {
    /// On what.
    pub relation: String,
    /// In which mode; `access_exclusive` keeps everybody out.
    #[schema(schema_with = schema::lock_mode)]
    pub mode: LockMode,
    /// The line of the file on which the statement begins that took it.
    pub line: u32,
    /// Whether it was there before, so that programs may be kept waiting.
    pub existed: bool,
    /// Whether its content was written anew.
    pub rewritten: bool,
    /// About how many rows it had, where PostgreSQL knows.
    pub rows: Option<u64>,
    /// The space that it takes, in bytes.
    pub bytes: Option<u64>,
    /// From taking it to the end of the file, in milliseconds: so long a rollout would hold it.
    pub held_ms: u64,
    /// From taking it to the rollback, in milliseconds: so long the dry run held it.
    pub held_to_rollback_ms: u64,
}

/// The end of a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRunSummary {
    /// On how many tenants the set was tried.
    pub tenants: u64,
    /// With how many something failed.
    pub failed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_becomes_the_rollout_that_it_says() {
        let plan: RolloutPlan = serde_json::from_value(serde_json::json!({
            "digest": "1".repeat(64), "migration_set": "2".repeat(64), "latest_version": 4, "pending": 3, "already": 1,
            "waves": [
                { "select": "1", "bake_seconds": 60, "error_budget": { "targets": 0, "percent": null }, "tenants": 1, "first": [] },
                { "select": "all", "bake_seconds": 0, "error_budget": { "targets": null, "percent": 2 }, "tenants": 2, "first": [] },
            ],
            "limits": { "concurrency": 8, "per_cluster": 2, "per_database": null },
            "error_budget": { "targets": 5, "percent": null }, "breaker": 7, "starts": [], "migrations": [],
            "dry_run": "what else is in the file is passed over",
        }))
        .expect("a plan");
        let rollout = serde_json::to_value(plan.rollout()).expect("serialises");
        assert_eq!(
            rollout,
            serde_json::json!({
                "verify": false, "queue": false, "priority": 0,
                "migration_set": "2".repeat(64), "plan": "1".repeat(64), "concurrency": 8, "per_cluster": 2, "breaker": 7,
                "error_budget": { "targets": 5, "percent": null },
                "waves": [
                    { "select": "1", "bake_seconds": 60, "error_budget": { "targets": 0, "percent": null } },
                    { "select": "all", "bake_seconds": 0, "error_budget": { "targets": null, "percent": 2 } },
                ],
            })
        );
    }

    #[test]
    fn what_is_tried_is_bounded() {
        let set = "0".repeat(64);
        let read = |more: &str| serde_json::from_str::<RolloutDryRun>(&format!(r#"{{"migration_set":"{set}"{more}}}"#));
        assert!(read(r#","tenants":20,"timeout_seconds":600"#).is_ok());
        for bad in [
            "",
            r#","tenants":0"#,
            r#","tenants":21"#,
            r#","tenants":1,"timeout_seconds":0"#,
            r#","tenants":1,"commit":true"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
