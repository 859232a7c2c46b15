//! Operations: durable work, and the rules of their states.

use crate::word::words;
use serde::{Deserialize, Serialize};

words! {
    /// What an operation does.
    OperationKind, "operation kind",
    "use provision, delete, suspend, resume, rotate_credentials, adopt, adopt_confirm, adopt_cancel, prepare_home, drop_home or migrate_down", {
        /// Makes a home and lets the tenant in.
        Provision => "provision",
        /// Takes the tenant out and its home down.
        Delete => "delete",
        /// Shuts the tenant out of its home.
        Suspend => "suspend",
        /// Lets a suspended tenant in again.
        Resume => "resume",
        /// Makes a database or schema that is there already a tenant's.
        Adopt => "adopt",
        /// Makes an adoption final.
        AdoptConfirm => "adopt_confirm",
        /// Puts back what was adopted.
        AdoptCancel => "adopt_cancel",
        /// Gives a tenant's roles other passwords.
        RotateCredentials => "rotate_credentials",
        /// Makes a home that waits for its tenant.
        PrepareHome => "prepare_home",
        /// Takes down a home that no tenant ever had.
        DropHome => "drop_home",
        /// Takes a tenant's schema back to an earlier version.
        MigrateDown => "migrate_down",
    }
}

words! {
    /// Where an operation stands.
    OperationState, "operation state",
    "use queued, running, waiting, parked, undoing, succeeded, failed or cancelled", {
        /// Waits for a worker.
        Queued => "queued",
        /// A worker has it.
        Running => "running",
        /// Waits until its next attempt.
        Waiting => "waiting",
        /// Stopped; a person decides: retry, skip or abandon.
        Parked => "parked",
        /// Walks its resources back.
        Undoing => "undoing",
        /// Done.
        Succeeded => "succeeded",
        /// Walked back or abandoned; the error says why.
        Failed => "failed",
        /// Walked back at a person's wish.
        Cancelled => "cancelled",
    }
}

impl OperationState {
    /// Whether nothing more will happen by itself or by a worker.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether a worker may take it up.
    pub const fn is_runnable(self) -> bool {
        matches!(self, Self::Queued | Self::Running | Self::Waiting | Self::Undoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_finished_runnable_or_parked() {
        for state in OperationState::ALL {
            let claims = [state.is_finished(), state.is_runnable(), *state == OperationState::Parked];
            assert_eq!(claims.into_iter().filter(|claim| *claim).count(), 1, "{state}");
            assert_eq!(state.as_str().parse(), Ok(*state));
        }
    }
}
