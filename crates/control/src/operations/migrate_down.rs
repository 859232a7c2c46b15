//! What happens on "migrate down": the catalog says first that the tenant is at the earlier version, and then its home is
//! brought there.
//!
//! In this order, so that services which need the later version stop before it goes. A worker that dies in between is
//! followed by another, to which the home's own history says what is left; where a file fails, the catalog is told what
//! that history says.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_domain::{EventKind, HomeId, MigrationSetId, SchemaVersion};
use tenantry_fleet::{ApplyOptions, ClusterTarget};
use tenantry_store::{HomeRecord, NewEvent, Tx};

use super::cluster_target::cluster_target;
use super::home_access::tenant_id;
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};
use crate::migration_sets;

/// The kind `migrate_down`.
pub(crate) struct MigrateDown;

/// What it remembers from step to step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DownProgress {
    /// Whose schema.
    pub(crate) home: HomeId,
    /// By whose down files.
    pub(crate) set: MigrationSetId,
    /// Where it goes.
    pub(crate) version: SchemaVersion,
    /// What the home's history told when it was walked back.
    pub(crate) reached: Option<SchemaVersion>,
}

impl Kind for MigrateDown {
    const CODE_VERSION: i32 = 1;
    type Progress = DownProgress;
    const STEPS: &'static [Step<DownProgress>] =
        &[step!("lower_version", lower_version, record_lower), step!("run_down_files", run_down_files, record_run)];
    const PIVOT: Option<&'static str> = Some("run_down_files");

    fn undo<'a>(work: &'a Work<'a>, progress: &'a mut DownProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let (home, target) = site(work, progress).await?;
            let history = work.control.fleet().history(&target, &home.home, &home.secrets.migrator).await?;
            progress.reached = Some(SchemaVersion(history.iter().map(|row| row.version).max().unwrap_or(0)));
            Ok(())
        })
    }

    fn record_end<'a>(
        work: &'a Work<'a>,
        progress: &'a DownProgress,
        _: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if let Some(reached) = progress.reached {
                tx.raise_version(tenant_id(work)?, progress.home, reached).await?;
            }
            Ok(())
        })
    }
}

async fn site(work: &Work<'_>, progress: &DownProgress) -> Result<(HomeRecord, ClusterTarget), StepError> {
    let home = work.control.store().home(progress.home).await?;
    let target = cluster_target(work.control, home.home.cluster).await?;
    Ok((home, target))
}

async fn lower_version(_: &Work<'_>, _: &mut DownProgress) -> StepResult {
    Ok(Effect::Changed)
}

async fn record_lower(work: &Work<'_>, progress: &DownProgress, tx: &mut Tx) -> Result<(), StepError> {
    Ok(tx.lower_version(tenant_id(work)?, progress.home, progress.version).await?)
}

async fn run_down_files(work: &Work<'_>, progress: &mut DownProgress) -> StepResult {
    let (home, target) = site(work, progress).await?;
    let set = migration_sets::load(work.control, &progress.set).await?;
    let (fleet, options) = (work.control.fleet(), ApplyOptions::default());
    fleet.go_back(&target, &home.home, &home.secrets.migrator, &set, progress.version, &options).await?;
    Ok(Effect::Changed)
}

/// Says the version once more: a rollout that had this tenant in hand may have raised it meanwhile.
async fn record_run(work: &Work<'_>, progress: &DownProgress, tx: &mut Tx) -> Result<(), StepError> {
    tx.lower_version(tenant_id(work)?, progress.home, progress.version).await?;
    let event = NewEvent {
        detail: json!({ "migration_set": progress.set, "version": progress.version }),
        ..NewEvent::of_tenant(EventKind::TenantMigrated, tenant_id(work)?).by(work.operation.id)
    };
    tx.emit(&event).await?;
    Ok(())
}
