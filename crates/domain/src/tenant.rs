//! Tenants: customer organisations, and where they stand. What leads from one state to the next is in `lifecycle`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::affinity::Affinity;
use crate::home::{Generation, Placement};
use crate::id::{OperationId, TenantId};
use crate::isolation::Isolation;
use crate::label::Labels;
use crate::limits::Overrides;
use crate::migration::SchemaVersion;
use crate::name::{DisplayName, HostName, PlanName, Region};
use crate::slug::Slug;
use crate::suspension::Suspension;
use crate::word::words;

words! {
    /// The word for a tenant's state.
    TenantStatus, "tenant status",
    "use provisioning, active, suspended, moving, deleting, deleted or failed", {
        /// Its home is being made.
        Provisioning => "provisioning",
        /// Served.
        Active => "active",
        /// Shut out on purpose; nothing is lost.
        Suspended => "suspended",
        /// Between two homes.
        Moving => "moving",
        /// Its home is being taken down.
        Deleting => "deleting",
        /// Gone; a tombstone keeps its id and slug.
        Deleted => "deleted",
        /// Its home could not be made; retry or delete.
        Failed => "failed",
    }
}

/// Where a tenant stands, with what each state needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantState {
    /// Its home is being made by an operation.
    Provisioning {
        /// Who makes it.
        operation: OperationId,
    },
    /// Served from a home.
    Active {
        /// Where.
        home: Placement,
    },
    /// Shut out on purpose.
    Suspended {
        /// Where its data waits.
        home: Placement,
        /// Why, by whom and until when.
        suspension: Suspension,
    },
    /// Between two homes.
    Moving {
        /// Where it lives until the pivot.
        from: Placement,
        /// Who moves it.
        operation: OperationId,
    },
    /// On its way out.
    Deleting {
        /// Who does it.
        operation: OperationId,
        /// The way back; absent once its home is being taken down, or if it has none.
        grace: Option<Grace>,
    },
    /// Gone.
    Deleted {
        /// Since when.
        at: Timestamp,
    },
    /// Its home could not be made.
    Failed {
        /// Why.
        reason: String,
    },
}

/// How long a tenant that is being deleted can be restored, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grace {
    /// From then on there is no way back.
    pub ends_at: Timestamp,
    /// Where its data waits.
    pub home: Placement,
    /// Absent if it was active.
    pub suspension: Option<Suspension>,
}

impl TenantState {
    /// The word for it.
    pub const fn status(&self) -> TenantStatus {
        match self {
            Self::Provisioning { .. } => TenantStatus::Provisioning,
            Self::Active { .. } => TenantStatus::Active,
            Self::Suspended { .. } => TenantStatus::Suspended,
            Self::Moving { .. } => TenantStatus::Moving,
            Self::Deleting { .. } => TenantStatus::Deleting,
            Self::Deleted { .. } => TenantStatus::Deleted,
            Self::Failed { .. } => TenantStatus::Failed,
        }
    }

    /// The home that holds its data, if one does.
    pub const fn placement(&self) -> Option<&Placement> {
        match self {
            Self::Active { home }
            | Self::Suspended { home, .. }
            | Self::Moving { from: home, .. }
            | Self::Deleting { grace: Some(Grace { home, .. }), .. } => Some(home),
            Self::Provisioning { .. }
            | Self::Deleting { grace: None, .. }
            | Self::Deleted { .. }
            | Self::Failed { .. } => None,
        }
    }

    /// Why it is as it is, where there is a reason to tell.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Suspended { suspension, .. } => Some(suspension.to_string()),
            Self::Failed { reason } => Some(reason.clone()),
            _ => None,
        }
    }

    /// The suspension that it is in, or that it comes back to when it is restored.
    pub const fn suspension(&self) -> Option<&Suspension> {
        match self {
            Self::Suspended { suspension, .. }
            | Self::Deleting { grace: Some(Grace { suspension: Some(suspension), .. }), .. } => Some(suspension),
            _ => None,
        }
    }

    /// For how long it can be restored, where it can.
    pub const fn grace(&self) -> Option<&Grace> {
        match self {
            Self::Deleting { grace, .. } => grace.as_ref(),
            _ => None,
        }
    }
}

/// One customer organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id, never reused.
    pub id: TenantId,
    /// Its name in URLs and hosts.
    pub slug: Slug,
    /// Its name for people.
    pub name: DisplayName,
    /// Its plan.
    pub plan: PlanName,
    /// Where its data must be.
    pub region: Region,
    /// What it has to itself.
    pub isolation: Isolation,
    /// The tenant above it.
    pub parent: Option<TenantId>,
    /// Marks for selecting.
    pub labels: Labels,
    /// Hosts that lead to it besides its sub-domain, by name.
    pub hosts: Vec<HostName>,
    /// Its own limits, quotas and features, in place of the plan's.
    pub overrides: Overrides,
    /// Whom it should live beside, and whom not.
    pub affinity: Affinity,
    /// The version of its schema as last seen.
    pub schema_version: SchemaVersion,
    /// Of its placement.
    pub generation: Generation,
    /// Where it stands.
    pub state: TenantState,
    /// End of its trial.
    pub trial_ends_at: Option<Timestamp>,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at; also its version for conditional updates.
    pub updated_at: Timestamp,
}
