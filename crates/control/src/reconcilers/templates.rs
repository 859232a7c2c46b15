//! Golden templates: builds those that new tenants will be made from ahead of them, and drops those that nothing needs.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_store::RetiredTemplate;
use tracing::{info, warn};

use super::Reconciler;
use crate::control::Control;
use crate::engine::StepError;
use crate::engine::step::Effect;
use crate::error::ControlError;
use crate::operations::bases;
use crate::operations::cluster_target::cluster_target;
use crate::warm_pool::DEMAND_WINDOW;

/// Templates that one pass builds and drops at most; the next goes on.
const BUILT_MAX: usize = 4;
const DROPPED_MAX: i64 = 16;
/// A template is dropped at once and once more after this time, before its record is forgotten: by then a worker that
/// had lost its lease while it built the template has long noticed.
const KEPT: Duration = Duration::from_mins(10);

/// Its name, for poking it.
pub(crate) const NAME: &str = "templates";

pub(super) const RECONCILER: Reconciler =
    Reconciler { name: NAME, period: Duration::from_mins(1), reconcile: |control| Box::pin(reconcile(control)) };

async fn reconcile(control: &Control) -> Result<Value, ControlError> {
    let (built, unbuilt) = build(control).await?;
    let tx = control.store().begin().await?;
    let promoted = tx.promoted_id().await?;
    let retired = tx.retire_templates(promoted.as_ref()).await?;
    tx.commit().await?;
    let (mut dropped, mut undropped) = (0, 0);
    for template in control.store().retired_templates(DROPPED_MAX).await? {
        match drop_template(control, &template).await {
            Ok(()) => dropped += 1,
            // One cluster that is away keeps nobody else's templates.
            Err(error) => {
                undropped += 1;
                warn!(%error, template = %template.name, "a template could not be dropped; trying again");
            }
        }
    }
    Ok(json!({ "built": built, "unbuilt": unbuilt, "retired": retired, "dropped": dropped, "undropped": undropped }))
}

/// Builds, where a warm pool is kept, the template of the set that new tenants start with. Elsewhere the first tenant's own
/// provision does that.
async fn build(control: &Control) -> Result<(usize, usize), ControlError> {
    let (mut built, mut unbuilt) = (0, 0);
    let Some(set) = control.store().promoted().await?.filter(|_| control.config().warm_pool.is_on()) else {
        return Ok((0, 0));
    };
    for pool in control.store().warm_pools(Some(&set.id), DEMAND_WINDOW).await? {
        let is_off_limits = control.keep_off() == Some(pool.system_identifier.as_str());
        if !pool.takes_homes || is_off_limits || built >= BUILT_MAX {
            continue;
        }
        let target = cluster_target(control, pool.cluster).await?;
        match bases::ensure_template(control, &target, Some(&set.id)).await {
            Ok(Effect::Changed) => {
                built += 1;
                info!(cluster = %pool.name, migration_set = %set.id, "a template is built");
            }
            Ok(Effect::None | Effect::Wait(_)) => {}
            // Somebody else is building it.
            Err(StepError::Again { is_busy: true, .. }) => unbuilt += 1,
            Err(error) => {
                unbuilt += 1;
                warn!(%error, cluster = %pool.name, "a template could not be built; trying again");
            }
        }
    }
    Ok((built, unbuilt))
}

async fn drop_template(control: &Control, template: &RetiredTemplate) -> Result<(), ControlError> {
    match cluster_target(control, template.cluster).await {
        Ok(target) => control.fleet().drop_database(&target, &template.name).await?,
        // Its cluster is gone, and everything with it.
        Err(ControlError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    if template.retired_at + KEPT < Timestamp::now() {
        let tx = control.store().begin().await?;
        tx.forget_template(template.id).await?;
        tx.commit().await?;
    }
    Ok(())
}
