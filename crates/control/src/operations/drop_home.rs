//! Taking a home down that no tenant ever had: there are too many of them, or new tenants start with another migration set.
//! It was retired, for good, in the transaction that asked for this, so nobody can claim it any more.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tenantry_domain::HomeId;
use tenantry_store::Tx;

use super::release_home;
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};

/// The kind `drop_home`.
pub(crate) struct DropHome;

/// What it remembers: which home. The resource rows say what is left of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DropProgress {
    /// The retired home.
    pub(crate) home: HomeId,
}

impl Kind for DropHome {
    const CODE_VERSION: i32 = 1;
    type Progress = DropProgress;
    const STEPS: &'static [Step<DropProgress>] = &[step!("release_home", release, nothing)];
    const PIVOT: Option<&'static str> = None;

    fn undo<'a>(_: &'a Work<'a>, _: &'a mut DropProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Err(StepError::Failed { reason: "a home that is being dropped is not kept".to_owned() }) })
    }

    fn record_end<'a>(
        _: &'a Work<'a>,
        _: &'a DropProgress,
        _: &'a str,
        _: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

async fn release(work: &Work<'_>, progress: &mut DropProgress) -> StepResult {
    release_home::release_home(work, progress.home).await?;
    Ok(Effect::Changed)
}

async fn nothing(_: &Work<'_>, _: &DropProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
