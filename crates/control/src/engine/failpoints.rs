//! The points of the engine: before and after each step of each kind, and around walking back. Only in builds with the
//! feature `failpoints`; see [`tenantry_fleet::failpoints`] for what happens there and who says so.

use std::time::Duration;

use tenantry_domain::OperationKind;
use tenantry_fleet::failpoints::{self, Action};

use super::kinds::with_kind;
use super::step::{Kind, StepError, Work};

/// Walking back, where the name of a step stands otherwise.
pub(crate) const UNDO: &str = "undo";

/// A kind of work as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindSteps {
    /// The kind.
    pub kind: OperationKind,
    /// The names of its steps in order.
    pub steps: Vec<&'static str>,
    /// How many of them are walked back when they fail for good, the pivot included.
    pub before_pivot: usize,
}

impl KindSteps {
    /// Every kind of work that there is.
    pub fn all() -> Vec<Self> {
        OperationKind::ALL.iter().map(|kind| with_kind!(*kind, K => Self::of::<K>(*kind))).collect()
    }

    fn of<K: Kind>(kind: OperationKind) -> Self {
        let steps: Vec<&'static str> = K::STEPS.iter().map(|step| step.name).collect();
        let is_walked_back = |step: &&&str| K::is_before_pivot(step) && !K::IS_NEVER_WALKED_BACK_BY_FAILURE;
        let before_pivot = steps.iter().filter(is_walked_back).count();
        Self { kind, steps, before_pivot }
    }
}

/// Passes a point of a step; returns what is left to the caller.
pub(crate) async fn pass(work: &Work<'_>, step: &str, moment: &str) -> Result<Option<Action>, StepError> {
    let action = failpoints::pass(&format!("{}.{step}.{moment}", work.operation.kind)).await;
    let reason = || format!("a failpoint {moment} step `{step}`");
    match action {
        Some(Action::Abandon) => Err(StepError::LeaseLost),
        Some(Action::Fail) => {
            Err(StepError::Again { reason: reason(), after: Duration::from_millis(20), is_busy: false })
        }
        Some(Action::FailForGood) => Err(StepError::Failed { reason: reason() }),
        action => Ok(action),
    }
}
