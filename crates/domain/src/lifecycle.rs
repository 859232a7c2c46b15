//! The rules of a tenant's life: from which state what may be asked, and what becomes of it.
//!
//! Pure: every rule takes a state and gives the next one, or says why not. Whoever changes a tenant applies the rule to
//! the state that it has locked and writes what the rule gave.

use std::time::Duration;

use jiff::Timestamp;

use crate::id::OperationId;
use crate::suspension::{Suspension, SuspensionReason};
use crate::tenant::{Grace, TenantState, TenantStatus};

/// The longest grace period of a deletion.
pub const GRACE_MAX: Duration = Duration::from_hours(365 * 24);

/// Why a state does not allow what was asked; completes "tenant `acme` …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// Its home is not there yet.
    #[error("is being provisioned; wait for that, or cancel its operation")]
    Provisioning,
    /// It is between two homes.
    #[error("is moving; wait until it has arrived")]
    Moving,
    /// It is on its way out and can still come back.
    #[error("is being deleted; restore it first")]
    Deleting,
    /// It is on its way out, and its home is being taken down.
    #[error("is being deleted, and there is no way back: its home is being taken down")]
    Releasing,
    /// It is gone.
    #[error("is deleted already; purge it to free its slug")]
    Deleted,
    /// It has no home.
    #[error("has failed and has no home; retry its operation, or delete it")]
    Failed,
    /// There is nothing to resume or restore.
    #[error("is active already")]
    Active,
    /// It is not being deleted, so there is nothing to restore.
    #[error("is suspended, not being deleted; resume it to let it in again")]
    Suspended,
    /// Its trial is over, so it would be suspended again at once.
    #[error("has a trial that is over; move the end of its trial (`trial_ends_at`) or remove it, then resume")]
    TrialOver,
}

impl TenantState {
    /// Shut out, for this reason. Of a tenant that is suspended already only reason, note, asker and end change; one
    /// that is suspended for itself is never turned into a part of its parent's suspension.
    pub fn suspend(&self, suspension: Suspension) -> Result<Self, LifecycleError> {
        match self {
            Self::Active { home } => Ok(Self::Suspended { home: home.clone(), suspension }),
            Self::Suspended { home, suspension: before } => {
                let follows = suspension.reason == SuspensionReason::Parent;
                let suspension =
                    if follows { before.clone() } else { Suspension { since: before.since, ..suspension } };
                Ok(Self::Suspended { home: home.clone(), suspension })
            }
            other => Err(other.refusal()),
        }
    }

    /// Let in again, unless its trial is over.
    pub fn resume(&self, trial_ends_at: Option<Timestamp>, now: Timestamp) -> Result<Self, LifecycleError> {
        match self {
            Self::Suspended { .. } if trial_ends_at.is_some_and(|end| end <= now) => Err(LifecycleError::TrialOver),
            Self::Suspended { home, .. } => Ok(Self::Active { home: home.clone() }),
            other => Err(other.refusal()),
        }
    }

    /// On its way out, for good once the grace period is over. Asked again, the sooner end counts; without grace there
    /// is no way back. A tenant without a home gets no grace: there would be nothing to come back to.
    pub fn delete(&self, operation: OperationId, grace: Duration, now: Timestamp) -> Result<Self, LifecycleError> {
        let ends_at = now.checked_add(grace.min(GRACE_MAX)).unwrap_or(Timestamp::MAX);
        let kept = |grace_of: Grace| (!grace.is_zero()).then_some(grace_of);
        match self {
            Self::Active { home } => {
                let grace = kept(Grace { ends_at, home: home.clone(), suspension: None });
                Ok(Self::Deleting { operation, grace })
            }
            Self::Suspended { home, suspension } => {
                let grace = kept(Grace { ends_at, home: home.clone(), suspension: Some(suspension.clone()) });
                Ok(Self::Deleting { operation, grace })
            }
            Self::Failed { .. } => Ok(Self::Deleting { operation, grace: None }),
            Self::Deleting { operation, grace: Some(before) } => {
                let grace = kept(Grace { ends_at: ends_at.min(before.ends_at), ..before.clone() });
                Ok(Self::Deleting { operation: *operation, grace })
            }
            Self::Deleting { operation, grace: None } => Ok(Self::Deleting { operation: *operation, grace: None }),
            Self::Provisioning { .. } | Self::Moving { .. } | Self::Deleted { .. } => Err(self.refusal()),
        }
    }

    /// Back to what it was before its deletion was asked for.
    pub fn restore(&self) -> Result<Self, LifecycleError> {
        match self {
            Self::Deleting { grace: Some(Grace { home, suspension, .. }), .. } => Ok(match suspension {
                None => Self::Active { home: home.clone() },
                Some(suspension) => Self::Suspended { home: home.clone(), suspension: suspension.clone() },
            }),
            Self::Deleting { grace: None, .. } => Err(LifecycleError::Releasing),
            other => Err(other.refusal()),
        }
    }

    /// Why this state allows nothing of the kind that was asked.
    pub const fn refusal(&self) -> LifecycleError {
        match self {
            Self::Provisioning { .. } => LifecycleError::Provisioning,
            Self::Active { .. } => LifecycleError::Active,
            Self::Suspended { .. } => LifecycleError::Suspended,
            Self::Moving { .. } => LifecycleError::Moving,
            Self::Deleting { grace: Some(_), .. } => LifecycleError::Deleting,
            Self::Deleting { grace: None, .. } => LifecycleError::Releasing,
            Self::Deleted { .. } => LifecycleError::Deleted,
            Self::Failed { .. } => LifecycleError::Failed,
        }
    }
}

impl TenantStatus {
    /// Whether its name, plan, labels, limits, parent or trial may be changed.
    pub const fn may_change(self) -> bool {
        !matches!(self, Self::Deleting | Self::Deleted)
    }

    /// Whether a new tenant may be put below it. One that is suspended or on its way out takes nobody in.
    pub const fn may_take_in_children(self) -> bool {
        !matches!(self, Self::Suspended | Self::Deleting | Self::Deleted)
    }
}

#[cfg(test)]
mod tests;
