//! What can go wrong for a caller. The outside word (HTTP status, exit code) is chosen at the door.

use std::error::Error;
use std::time::Duration;

use tenantry_domain::InvalidName;
use tenantry_fleet::FleetError;
use tenantry_migration_set::Finding;
use tenantry_store::StoreError;

use crate::adoption::AdoptionFinding;

/// A failure of a use-case, by what its caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The request itself is wrong; sending it again changes nothing.
    #[error("{reason}")]
    InvalidRequest {
        /// What is wrong and what would be right.
        reason: String,
        /// JSON pointer of the field, where one field is to blame.
        pointer: Option<&'static str>,
    },
    /// Nobody by that name.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// "tenant", "cluster", ….
        what: &'static str,
        /// As the caller named it.
        name: String,
    },
    /// The slug belongs to another tenant.
    #[error("the slug `{slug}` is taken; choose another (a deleted tenant keeps its slug until it is purged)")]
    SlugTaken {
        /// The slug.
        slug: String,
    },
    /// It collides with what is there.
    #[error("{reason}")]
    Conflict {
        /// With what, and what to do.
        reason: String,
    },
    /// The object's state does not allow it.
    #[error("{reason}")]
    InvalidState {
        /// Which state, and what would be possible.
        reason: String,
    },
    /// Somebody changed the object since the caller read it.
    #[error("the object changed since you read it; read it again and repeat the change")]
    PreconditionFailed,
    /// No cluster can take the home.
    #[error("no cluster can take this tenant: {reason}")]
    NoCapacity {
        /// Why each candidate was refused.
        reason: String,
    },
    /// Somebody else took the last place of the cluster in the same moment; a new attempt decides anew.
    #[error("others are being placed at the same time, and took the place that was meant; try again")]
    Outrun {
        /// Which limit of the cluster was reached.
        limit: &'static str,
    },
    /// What is to be adopted cannot be as it is.
    #[error("this cannot be adopted as it is: {}", joined(findings))]
    AdoptionRefused {
        /// All that stands in the way.
        findings: Vec<AdoptionFinding>,
    },
    /// The wish contradicts where the data may be.
    #[error("{reason}")]
    ResidencyViolation {
        /// Which region and which cluster.
        reason: String,
    },
    /// The token does not allow it.
    #[error("this needs the scope `{scope}`; use a token that has it")]
    Forbidden {
        /// The scope that is missing.
        scope: String,
    },
    /// A ceiling was reached.
    #[error("{reason}")]
    LimitExceeded {
        /// Which one.
        reason: String,
    },
    /// The migration set breaks a rule.
    #[error("the migration set `{name}` is refused: {} finding(s)", findings.len())]
    MigrationRefused {
        /// Its name.
        name: String,
        /// All that was found.
        findings: Vec<Finding>,
    },
    /// The same idempotency key came with another request.
    #[error("this idempotency key was used for another request within 24 hours; use a new key")]
    IdempotencyMismatch,
    /// Something that is needed does not answer now.
    #[error("{reason}; try again")]
    Unavailable {
        /// What does not answer.
        reason: String,
        /// When trying again makes sense.
        retry_after: Duration,
        /// The cause, for the log.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A defect or a condition that no caller can mend.
    #[error("something failed inside; the log has the details under this request's id")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

fn joined(findings: &[AdoptionFinding]) -> String {
    let sentences: Vec<String> =
        findings.iter().map(|finding| format!("{}; {}", finding.message, finding.advice)).collect();
    sentences.join(" · ")
}

impl ControlError {
    pub(crate) fn invalid(pointer: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidRequest { reason: reason.into(), pointer: Some(pointer) }
    }

    /// The route feed ends early; whoever reads it comes back.
    pub(crate) fn feed_interrupted() -> Self {
        let reason = "changes of routes cannot be read now".to_owned();
        Self::Unavailable { reason, retry_after: Duration::from_secs(1), source: None }
    }

    pub(crate) fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(source))
    }
}

impl From<InvalidName> for ControlError {
    fn from(error: InvalidName) -> Self {
        Self::InvalidRequest { reason: error.to_string(), pointer: None }
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what, name } => Self::NotFound { what, name },
            StoreError::SlugTaken { slug } => Self::SlugTaken { slug },
            StoreError::NameTaken { what, name } => {
                Self::Conflict { reason: format!("the {what} name `{name}` is taken; choose another") }
            }
            StoreError::Conflict { reason } => Self::Conflict { reason },
            StoreError::Full { limit } => Self::Outrun { limit },
            StoreError::Residency => {
                Self::ResidencyViolation { reason: "the data would leave the regions that it must stay in".to_owned() }
            }
            StoreError::Invalid { reason } => Self::InvalidRequest { reason, pointer: None },
            busy @ StoreError::Busy { .. } => Self::Unavailable {
                reason: "the catalog is busy".to_owned(),
                retry_after: Duration::from_secs(1),
                source: Some(Box::new(busy)),
            },
            unavailable @ StoreError::Unavailable { .. } => Self::Unavailable {
                reason: "the catalog does not answer".to_owned(),
                retry_after: Duration::from_secs(2),
                source: Some(Box::new(unavailable)),
            },
            lost @ StoreError::LeaseLost => Self::internal(lost),
            internal @ StoreError::Internal { .. } => Self::internal(internal),
        }
    }
}

/// For use-cases that talk to a cluster while the caller waits (registering one).
impl From<FleetError> for ControlError {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::Refused { reason, source } => {
                let reason = source.map_or_else(|| reason.clone(), |source| format!("{reason}: {source}"));
                Self::InvalidRequest { reason, pointer: None }
            }
            FleetError::Busy { .. } => Self::Unavailable {
                reason: format!("the cluster is busy: {error}"),
                retry_after: Duration::from_secs(2),
                source: Some(Box::new(error)),
            },
            FleetError::Unreachable { .. } => Self::Unavailable {
                reason: error.to_string(),
                retry_after: Duration::from_secs(5),
                source: Some(Box::new(error)),
            },
            FleetError::Unknown { .. } => Self::Unavailable {
                reason: "the connection to the cluster was lost".to_owned(),
                retry_after: Duration::from_secs(5),
                source: Some(Box::new(error)),
            },
            FleetError::StaleEpoch { .. }
            | FleetError::StampMismatch { .. }
            | FleetError::Migration(_)
            | FleetError::Diverged { .. } => Self::internal(error),
        }
    }
}
