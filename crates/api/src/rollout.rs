//! Rollouts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{MigrationSetId, RolloutId, RolloutState, SchemaVersion, TargetState, TenantId};
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
    /// How hard it may work.
    pub limits: RolloutLimits,
    /// How many failures it bears.
    pub error_budget: ErrorBudget,
    /// How many targets stand where.
    pub counts: RolloutCounts,
    /// Made at.
    pub created_at: Timestamp,
    /// Succeeded, failed or aborted at.
    pub finished_at: Option<Timestamp>,
}

/// One wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutWave {
    /// The share of the fleet that is through after it, in percent.
    #[schema(maximum = 100)]
    pub share_percent: u8,
}

/// How hard a rollout may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutLimits {
    /// Most targets that are migrated at the same time.
    pub concurrency: u16,
}

/// How many failures a rollout bears before it stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBudget {
    /// Most targets that may fail; null means that failures never stop it.
    pub targets: Option<u32>,
}

/// How many targets stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RolloutCounts {
    /// Not begun.
    pub pending: u64,
    /// Being migrated.
    pub running: u64,
    /// Migrated by this rollout.
    pub applied: u64,
    /// Were there before.
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
    /// Why it failed: an object with `message`, and `file`, `line`, `sqlstate`, `detail`, `hint` where known.
    #[schema(value_type = Option<Object>)]
    pub error: Option<serde_json::Value>,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: Option<u64>,
}

bounded! {
    /// Most targets that are migrated at the same time: 1 to 256.
    Concurrency(u16), 1..=256
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
    fn waves_cannot_be_asked_for_yet_and_concurrency_is_bounded() {
        let id = "0".repeat(64);
        let read = |more: &str| serde_json::from_str::<CreateRollout>(&format!(r#"{{"migration_set":"{id}"{more}}}"#));
        assert!(read("").is_ok());
        assert!(read(r#","concurrency":256"#).is_ok());
        assert!(read(r#","concurrency":0"#).is_err());
        assert!(read(r#","waves":[]"#).is_err());
    }
}
