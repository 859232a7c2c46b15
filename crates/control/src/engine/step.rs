//! What a kind of work is made of.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tenantry_domain::HomeId;
use tenantry_fleet::{Fence, FleetError, MigrationFailure};
use tenantry_store::{Lease, Operation, StoreError, Tx};

use crate::control::Control;
use crate::error::ControlError;
use crate::migration_sets::failure_json;

/// Whether a step had anything to do. A step without effect needs no commit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Something outside the catalog changed, or the progress did.
    Changed,
    /// Nothing to do.
    None,
    /// Nothing to do before this time: the step is performed again then, or when somebody hastens the operation.
    Wait(Timestamp),
}

/// Why a step did not get done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// Not now, or the outcome is not known: look again and repeat.
    #[error("{reason}")]
    Again {
        /// What stood in the way.
        reason: String,
        /// How long to wait at least.
        after: Duration,
        /// Whether it only waits for others, which may take long and is no trouble.
        is_busy: bool,
    },
    /// Never: repeating cannot help.
    #[error("{reason}")]
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// Never, until somebody mends the migration.
    #[error("{0}")]
    Migration(Box<MigrationFailure>),
    /// Another worker owns the operation now.
    #[error("the lease is lost")]
    LeaseLost,
}

impl StepError {
    /// The failure as the operation keeps it: an object with `message`, and for a migration with all that is known.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Migration(failure) => failure_json(failure),
            Self::Again { .. } | Self::Failed { .. } | Self::LeaseLost => json!({ "message": self.to_string() }),
        }
    }
}

pub(crate) type StepResult = Result<Effect, StepError>;

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::LeaseLost) {
            Self::LeaseLost
        } else if error.is_retryable() {
            let is_busy = matches!(error, StoreError::Busy { .. });
            Self::Again { reason: chain(&error), after: Duration::from_millis(500), is_busy }
        } else {
            Self::Failed { reason: chain(&error) }
        }
    }
}

impl From<FleetError> for StepError {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::StaleEpoch { .. } => Self::LeaseLost,
            FleetError::Migration(failure) => Self::Migration(failure),
            error if error.is_retryable() => {
                let is_busy = matches!(error, FleetError::Busy { .. });
                Self::Again { reason: chain(&error), after: Duration::from_millis(500), is_busy }
            }
            error => Self::Failed { reason: chain(&error) },
        }
    }
}

impl From<ControlError> for StepError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Unavailable { retry_after, .. } => {
                Self::Again { reason: chain(&error), after: retry_after, is_busy: false }
            }
            ControlError::Outrun { .. } => {
                Self::Again { reason: chain(&error), after: Duration::from_millis(100), is_busy: false }
            }
            other => Self::Failed { reason: chain(&other) },
        }
    }
}

/// The error's sentence with those of its causes, for the operation's own record.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// One attempt at one operation.
pub(crate) struct Work<'a> {
    pub(crate) control: &'a Control,
    pub(crate) operation: &'a Operation,
    pub(crate) lease: &'a Lease,
}

impl Work<'_> {
    /// The mark under which this attempt may change roles and stamps of a home.
    pub(crate) fn fence(&self, home: HomeId) -> Fence {
        Fence { home, epoch: self.lease.epoch }
    }
}

type Perform<P> = for<'a> fn(&'a Work<'a>, &'a mut P) -> BoxFuture<'a, StepResult>;
type Record<P> = for<'a> fn(&'a Work<'a>, &'a P, &'a mut Tx) -> BoxFuture<'a, Result<(), StepError>>;

/// One idempotent step: what it does outside the catalog, and what it writes into it together with the cursor.
pub(crate) struct Step<P: 'static> {
    pub(crate) name: &'static str,
    pub(crate) perform: Perform<P>,
    pub(crate) record: Record<P>,
}

/// A kind of durable work.
pub(crate) trait Kind: 'static {
    /// Raised when stored progress or steps change meaning.
    const CODE_VERSION: i32;
    /// What it remembers from step to step.
    type Progress: Serialize + DeserializeOwned + Send + Sync;
    /// Its steps in order.
    const STEPS: &'static [Step<Self::Progress>];
    /// How long it may take from when a worker first has it; past that it is walked back, or parked behind its pivot.
    const DEADLINE: Duration = Duration::from_hours(2);
    /// The step with whose commit it can no longer be walked back; absent when it never could.
    const PIVOT: Option<&'static str>;
    /// Whether it is set aside for a person where it fails before its pivot, too; walking back is for those who ask.
    const IS_NEVER_WALKED_BACK_BY_FAILURE: bool = false;
    /// How many times more attempts it gets than others: for what must be made true however long its cluster is away.
    const PATIENCE: u32 = 1;

    /// Undoes what was done before the pivot, by the resource rows. Idempotent.
    fn undo<'a>(work: &'a Work<'a>, progress: &'a mut Self::Progress) -> BoxFuture<'a, Result<(), StepError>>;

    /// Writes, with the final state, what its subject becomes once walked back or given up.
    fn record_end<'a>(
        work: &'a Work<'a>,
        progress: &'a Self::Progress,
        reason: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>>;

    /// Writes, with the final state, what giving up the parked operation means to its subject. Unless a kind says
    /// otherwise its subject stays as it is: only what is half made or half gone cannot.
    fn record_abandoned<'a>(
        _operation: &'a Operation,
        _reason: &'a str,
        _tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Whether the step of that name comes before the pivot.
    fn is_before_pivot(step: &str) -> bool {
        let position = |name: &str| Self::STEPS.iter().position(|step| step.name == name);
        match (position(step), Self::PIVOT.and_then(position)) {
            (Some(step), Some(pivot)) => step <= pivot,
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }
}

/// Makes a [`Step`] of two async functions.
macro_rules! step {
    ($name:literal, $perform:path, $record:path) => {
        $crate::engine::Step {
            name: $name,
            perform: |work, progress| Box::pin($perform(work, progress)),
            record: |work, progress, tx| Box::pin($record(work, progress, tx)),
        }
    };
}
pub(crate) use step;
