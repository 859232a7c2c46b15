//! Making a home before anyone needs it: everything that a provision would make, but for the stamp, and with no role that
//! can log in. Asked for by the reconciler of the warm pool.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_domain::{HomeId, Limits, SchemaVersion};
use tenantry_fleet::{ClusterTarget, HomeSpec};
use tenantry_store::{HomeRecord, Tx};

use super::cluster_target::cluster_target;
use super::provision_tenant::role_secrets;
use super::{bases, release_home};
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};
use crate::warm_pool;

/// The kind `prepare_home`.
pub(crate) struct PrepareHome;

/// What it remembers from step to step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PrepareProgress {
    /// The home that was recorded for it.
    pub(crate) home: HomeId,
    /// The version of the home's schema.
    pub(crate) schema_version: SchemaVersion,
}

impl Kind for PrepareHome {
    const CODE_VERSION: i32 = 1;
    type Progress = PrepareProgress;
    const STEPS: &'static [Step<PrepareProgress>] =
        &[step!("ensure_base", ensure_base, nothing), step!("ensure_home", ensure_home, record_warm)];
    const PIVOT: Option<&'static str> = Some("ensure_home");

    fn undo<'a>(work: &'a Work<'a>, progress: &'a mut PrepareProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { release_home::release_home(work, progress.home).await })
    }

    fn record_end<'a>(
        _: &'a Work<'a>,
        _: &'a PrepareProgress,
        _: &'a str,
        _: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

async fn load(work: &Work<'_>, progress: &PrepareProgress) -> Result<(HomeRecord, ClusterTarget), StepError> {
    let home = work.control.store().home(progress.home).await?;
    let target = cluster_target(work.control, home.home.cluster).await?;
    Ok((home, target))
}

async fn ensure_base(work: &Work<'_>, progress: &mut PrepareProgress) -> StepResult {
    let (home, target) = load(work, progress).await?;
    bases::ensure_template(work.control, &target, home.migration_set.as_ref()).await
}

async fn ensure_home(work: &Work<'_>, progress: &mut PrepareProgress) -> StepResult {
    let (record, target) = load(work, progress).await?;
    let home = &record.home;
    let template = bases::ready_template(work.control, &target, record.migration_set.as_ref()).await?;
    let secrets = role_secrets(&record);
    let spec = HomeSpec {
        home,
        fence: work.fence(home.id),
        secrets: &secrets,
        // The tenant's own come with the tenant.
        limits: &Limits::default(),
        template: Some(&template.name),
        stamp: None,
    };
    work.control.fleet().ensure_home(&target, &spec).await?;
    progress.schema_version = template.schema_version;
    Ok(Effect::Changed)
}

/// The pivot: from here on a tenant may claim it.
async fn record_warm(work: &Work<'_>, progress: &PrepareProgress, tx: &mut Tx) -> Result<(), StepError> {
    tx.home_warm(progress.home, progress.schema_version).await?;
    tx.record_event(work.operation.id, "home_made", Some("ensure_home"), &json!({ "home": progress.home })).await?;
    tx.poke_reconciler(warm_pool::NAME).await?;
    Ok(())
}

async fn nothing(_: &Work<'_>, _: &PrepareProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
