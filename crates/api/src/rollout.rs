//! Rollouts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{
    Hours, MigrationSetId, RolloutId, RolloutPlanDigest, RolloutState, RolloutStop, SchemaVersion, TargetState,
    TenantId, WaveSelection,
};
use utoipa::{IntoParams, ToSchema};

use crate::query::{CommaSeparated, OutOfBounds, PageLimit, bounded};
use crate::schema;

/// Bringing the fleet to a migration set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: RolloutId,
    /// Where to.
    #[schema(value_type = String)]
    pub migration_set: MigrationSetId,
    /// Where it stands.
    #[schema(schema_with = schema::rollout_state)]
    pub state: RolloutState,
    /// Its waves in order; each begins when the one before is through.
    pub waves: Vec<RolloutWave>,
    /// The wave under way, from 0.
    pub wave: u32,
    /// Where the wave under way is through: the next one begins then.
    pub bakes_until: Option<Timestamp>,
    /// How hard it may work.
    pub limits: RolloutLimits,
    /// How many failures it bears, over all waves.
    pub error_budget: ErrorBudget,
    /// After how many targets in a row that failed with the same SQLSTATE it stops; null means never.
    pub breaker: Option<u32>,
    /// Whether every tenant's own history is asked, whatever the catalog knows.
    pub verify: bool,
    /// Among those that wait, the highest begins first.
    pub priority: i32,
    /// It waits at least until then.
    pub not_before: Option<Timestamp>,
    /// Within which hours it begins targets, as `[DAYS ]HH:MM-HH:MM[ ZONE]`; null means at any time.
    #[schema(value_type = Option<String>)]
    pub hours: Option<Hours>,
    /// Where those hours are over: when they begin again.
    pub opens_at: Option<Timestamp>,
    /// Since when it is under way; null while it waits its turn, without targets.
    pub began_at: Option<Timestamp>,
    /// Why it begins no more targets: an object with `reason` (`wave_budget`, `total_budget`, `breaker`, or `overtaken` where
    /// the fleet went beyond its set while it waited) and what was counted. A retry clears it.
    #[schema(value_type = Option<Object>)]
    pub stop: Option<RolloutStop>,
    /// How many targets stand where.
    pub counts: RolloutCounts,
    /// Made at.
    pub created_at: Timestamp,
    /// Succeeded, failed or aborted at.
    pub finished_at: Option<Timestamp>,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutWave {
    /// Whom it takes, of those whom no earlier wave took.
    #[schema(value_type = String)]
    pub select: WaveSelection,
    /// How long the rollout waits once the wave is through, in seconds.
    pub bake_seconds: u32,
    /// How many failures it bears.
    pub error_budget: ErrorBudget,
    /// How many of its targets stand where.
    pub counts: RolloutCounts,
}

/// A wave to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWave {
    /// Whom it takes, of those whom no earlier wave took: a number of tenants; the share of the rollout's tenants that is
    /// through after it, such as `10%`; `label:KEY=VALUE`, `plan:NAME` or `region:NAME`; or `all`.
    #[schema(value_type = String, example = "10%")]
    pub select: WaveSelection,
    /// How long the rollout waits once the wave is through, in seconds, at most 30 days; 0 unless given.
    #[serde(default)]
    #[schema(maximum = 2_592_000)]
    pub bake_seconds: u32,
    /// How many failures it bears; any number unless given.
    #[serde(default)]
    pub error_budget: ErrorBudget,
}

/// How hard a rollout may work, over all replicas of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutLimits {
    /// Most targets that are migrated at the same time.
    pub concurrency: u16,
    /// Most of them on one cluster.
    pub per_cluster: Option<u16>,
    /// Most of them in one database.
    pub per_database: Option<u16>,
}

/// How many failures a wave, or a rollout, bears before it stops. Both bounds hold together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorBudget {
    /// Most targets that may fail; null means any number.
    pub targets: Option<u32>,
    /// The largest share of the targets that may fail, in percent; null means any.
    #[schema(maximum = 100)]
    pub percent: Option<u8>,
}

impl From<tenantry_domain::ErrorBudget> for ErrorBudget {
    fn from(budget: tenantry_domain::ErrorBudget) -> Self {
        Self { targets: budget.targets, percent: budget.percent }
    }
}

impl From<ErrorBudget> for tenantry_domain::ErrorBudget {
    fn from(budget: ErrorBudget) -> Self {
        Self { targets: budget.targets, percent: budget.percent }
    }
}

/// How many targets stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RolloutCounts {
    /// Not begun.
    pub pending: u64,
    /// In the hands of a worker: being migrated, or next.
    pub running: u64,
    /// Migrated by this rollout.
    pub applied: u64,
    /// Were there before; counted, and no targets unless the rollout verifies.
    pub already: u64,
    /// Could not be migrated.
    pub failed: u64,
    /// Set aside for a person.
    pub parked: u64,
    /// The tenant went away or the rollout ended first.
    pub skipped: u64,
}

impl RolloutCounts {
    /// Counts from pairs of state and number.
    pub fn of(pairs: impl IntoIterator<Item = (TargetState, u64)>) -> Self {
        let mut counts = Self::default();
        for (state, number) in pairs {
            *match state {
                TargetState::Pending => &mut counts.pending,
                TargetState::Running => &mut counts.running,
                TargetState::Applied => &mut counts.applied,
                TargetState::Already => &mut counts.already,
                TargetState::Failed => &mut counts.failed,
                TargetState::Parked => &mut counts.parked,
                TargetState::Skipped => &mut counts.skipped,
            } += number;
        }
        counts
    }

    /// All targets.
    pub const fn total(&self) -> u64 {
        self.pending + self.running + self.applied + self.already + self.failed + self.parked + self.skipped
    }

    /// Targets about which nothing more will happen by itself.
    pub const fn finished(&self) -> u64 {
        self.total() - self.pending - self.running
    }
}

/// One tenant in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutTarget {
    /// Who.
    #[schema(value_type = Uuid)]
    pub tenant: TenantId,
    /// In which wave, from 0.
    pub wave: u32,
    /// Where it stands.
    #[schema(schema_with = schema::target_state)]
    pub state: TargetState,
    /// The schema version before.
    #[schema(value_type = Option<i64>)]
    pub from_version: Option<SchemaVersion>,
    /// The schema version to reach, or reached.
    #[schema(value_type = Option<i64>)]
    pub to_version: Option<SchemaVersion>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed: an object with `message`, and `file`, `line`, `sqlstate`, `detail`, `hint` where known, and
    /// `diverged` where the tenant's own history is not the set's. Of a pending target: why it stepped aside.
    #[schema(value_type = Option<Object>)]
    pub error: Option<serde_json::Value>,
    /// How long the attempts took together, in milliseconds.
    pub duration_ms: Option<u64>,
}

/// At which versions the fleet is, seen from a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetVersions {
    /// One entry for each version that any live tenant has, the highest first.
    pub items: Vec<FleetVersion>,
}

/// The live tenants that are at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetVersion {
    /// The version.
    #[schema(value_type = i64)]
    pub version: SchemaVersion,
    /// How many tenants.
    pub tenants: u64,
    /// How many migrations of the rollout's set they lack.
    pub behind: u64,
}

bounded! {
    /// Most targets that are migrated at the same time: 1 to 256.
    Concurrency(u16), 1..=256
}

bounded! {
    /// How many targets in a row with the same SQLSTATE stop a rollout: 1 to 1 000 000.
    BreakerLength(u32), 1..=1_000_000
}

/// Starts a rollout over all tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRollout {
    /// Where to.
    #[schema(value_type = String)]
    pub migration_set: MigrationSetId,
    /// Most targets that are migrated at the same time, 1 to 256; the server's default unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 256)]
    pub concurrency: Option<Concurrency>,
    /// Most of them on one cluster, 1 to 256; only the whole is limited unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 256)]
    pub per_cluster: Option<Concurrency>,
    /// Most of them in one database, 1 to 256, which matters to tenants that share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 256)]
    pub per_database: Option<Concurrency>,
    /// Its waves in order, at most 32. One that takes all who are left comes last, whether it is named or not. Unless given:
    /// one tenant, 1 %, 10 %, all, and no failure in any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 32)]
    pub waves: Option<Vec<CreateWave>>,
    /// How many failures it bears, over all waves; any number unless given.
    #[serde(default)]
    pub error_budget: ErrorBudget,
    /// After how many targets in a row that failed with the same SQLSTATE it stops; never unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    pub breaker: Option<BreakerLength>,
    /// Connects to every tenant and compares its own history with the set, whatever the catalog knows; otherwise those that
    /// are there already are counted without connecting.
    #[serde(default)]
    pub verify: bool,
    /// Waits its turn where another rollout is under way, which otherwise is a conflict. At most 100 wait.
    #[serde(default)]
    pub queue: bool,
    /// Among those that wait, the highest begins first, of equals the oldest: -100 to 100; 0 unless given.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100)]
    pub priority: i32,
    /// Waits until then, and then its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Begins targets only within these hours, `[DAYS ]HH:MM-HH:MM[ ZONE]`; the zone is an IANA name, UTC unless given. Those
    /// that pass midnight belong to the day on which they begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "mon-fri 22:00-05:00 Europe/Berlin")]
    pub hours: Option<Hours>,
    /// The digest of a plan. Unless given, nothing was planned; given, the rollout begins only if it would still do just
    /// that, and is refused with `conflict` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 64, max_length = 64)]
    pub plan: Option<RolloutPlanDigest>,
}

impl CreateRollout {
    /// To this set, with the defaults for everything else.
    pub fn new(migration_set: MigrationSetId) -> Self {
        Self {
            migration_set,
            concurrency: None,
            per_cluster: None,
            per_database: None,
            waves: None,
            error_budget: ErrorBudget::default(),
            breaker: None,
            verify: false,
            queue: false,
            priority: 0,
            not_before: None,
            hours: None,
            plan: None,
        }
    }

    /// The same with everybody at once, and no failure that stops the others.
    pub fn at_once(migration_set: MigrationSetId) -> Self {
        let all = CreateWave { select: WaveSelection::All, bake_seconds: 0, error_budget: ErrorBudget::default() };
        Self { waves: Some(vec![all]), ..Self::new(migration_set) }
    }
}

/// Which targets of a rollout to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListTargets {
    /// States, separated by commas.
    #[serde(skip_serializing_if = "CommaSeparated::is_empty")]
    #[param(value_type = Option<String>, example = "failed,parked")]
    pub state: CommaSeparated<TargetState>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        let counts =
            RolloutCounts::of([(TargetState::Pending, 1), (TargetState::Applied, 5), (TargetState::Failed, 2)]);
        assert_eq!((counts.total(), counts.finished()), (8, 7));
    }

    #[test]
    fn what_is_asked_for_is_bounded() {
        let id = "0".repeat(64);
        let read = |more: &str| serde_json::from_str::<CreateRollout>(&format!(r#"{{"migration_set":"{id}"{more}}}"#));
        assert!(read("").is_ok());
        assert!(read(r#","concurrency":256"#).is_ok());
        assert!(read(r#","concurrency":0"#).is_err());
        assert!(read(r#","breaker":0"#).is_err());
        assert!(
            read(r#","waves":[{"select":"1"},{"select":"10%","bake_seconds":60,"error_budget":{"targets":2}}]"#)
                .is_ok()
        );
        assert!(read(r#","waves":[{"select":"a few"}]"#).is_err());
        assert!(read(r#","error_budget":{"percent":5}"#).is_ok());
        assert!(read(r#","error_budget":{"share":5}"#).is_err());
        assert!(read(r#","queue":true,"priority":-5,"hours":"sat 22:00-05:00 Europe/Berlin""#).is_ok());
        assert!(read(r#","hours":"at night""#).is_err());
    }
}
