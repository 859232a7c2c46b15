//! Rollouts: bringing the fleet to a migration set.

mod budget;
mod hours;
mod plan_digest;
mod spread;
mod wave;

pub use budget::{ErrorBudget, FailureStreak, RolloutStop, WaveTally};
pub use hours::Hours;
pub use plan_digest::RolloutPlanDigest;
pub use wave::{Wave, WaveSelection, Waves};

use crate::word::words;
use serde::{Deserialize, Serialize};

words! {
    /// Where a rollout stands.
    RolloutState, "rollout state", "use queued, running, paused, succeeded, failed or aborted", {
        /// Waits for a worker.
        Queued => "queued",
        /// Targets are being migrated.
        Running => "running",
        /// Stopped by a person; resumable.
        Paused => "paused",
        /// No live tenant is below the set.
        Succeeded => "succeeded",
        /// Some target could not be migrated.
        Failed => "failed",
        /// Ended by a person.
        Aborted => "aborted",
    }
}

impl RolloutState {
    /// Whether nothing more will happen by itself.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Aborted)
    }
}

words! {
    /// Where one tenant's migration stands.
    TargetState, "target state", "use pending, running, applied, already, failed, parked or skipped", {
        /// Not begun.
        Pending => "pending",
        /// A worker has it.
        Running => "running",
        /// Migrated now.
        Applied => "applied",
        /// Was there before.
        Already => "already",
        /// Could not be migrated; the error says why.
        Failed => "failed",
        /// Set aside for a person.
        Parked => "parked",
        /// The tenant went away or the rollout ended first.
        Skipped => "skipped",
    }
}

impl TargetState {
    /// Whether nothing more will happen by itself.
    pub const fn is_finished(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}
