//! What the program's exit status says. Scripts and CI rely on it.

use std::process::ExitCode;

/// Why the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitStatus {
    /// Everything was done.
    Done = 0,
    /// Wrong usage, or it failed.
    Failed = 1,
    /// A migration set or a plan was refused before any tenant was changed.
    Refused = 2,
    /// Some tenants could not be migrated, created, changed or asked; all others were.
    FailuresWithinBudget = 3,
    /// So many tenants could not be migrated that the rollout stopped.
    BudgetExceeded = 4,
    /// Something was checked, and is not as it should be.
    Unwell = 5,
    /// Waiting was given up; the work goes on, or can be resumed.
    Interrupted = 6,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
