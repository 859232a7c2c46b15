//! What homes are made from: golden templates and shared databases.

use std::time::Duration;

use tenantry_domain::{ClusterId, MigrationSetId};
use tenantry_fleet::ClusterTarget;
use tenantry_store::{BaseState, HomeRecord, Template};

use crate::control::{Control, new_id};
use crate::engine::step::Effect;
use crate::engine::{StepError, StepResult};
use crate::migration_sets;

/// Makes the cluster's template for the set, if it is not there yet. Several workers may come at once: one builds, the
/// others are told "busy" by the server and come back.
pub(crate) async fn ensure_template(
    control: &Control,
    target: &ClusterTarget,
    set: Option<&MigrationSetId>,
) -> StepResult {
    let template = reserve_template(control, target.id, set).await?;
    if template.state == BaseState::Ready {
        return Ok(Effect::None);
    }
    let set = match set {
        Some(id) => Some(migration_sets::load(control, id).await?),
        None => None,
    };
    let version = control.fleet().ensure_template(target, &template.name, set.as_deref()).await?;
    let tx = control.store().begin().await?;
    tx.template_ready(template.id, version).await?;
    tx.commit().await?;
    Ok(Effect::Changed)
}

/// The template that [`ensure_template`] made, or makes now: since then it may have been dropped as not needed.
pub(crate) async fn ready_template(
    control: &Control,
    target: &ClusterTarget,
    set: Option<&MigrationSetId>,
) -> Result<Template, StepError> {
    let template = reserve_template(control, target.id, set).await?;
    if template.state == BaseState::Ready {
        return Ok(template);
    }
    ensure_template(control, target, set).await?;
    let template = reserve_template(control, target.id, set).await?;
    if template.state == BaseState::Ready {
        Ok(template)
    } else {
        Err(StepError::Again { reason: "the template is not ready".to_owned(), after: Duration::ZERO, is_busy: true })
    }
}

async fn reserve_template(
    control: &Control,
    cluster: ClusterId,
    set: Option<&MigrationSetId>,
) -> Result<Template, StepError> {
    if let Some(template) = control.store().template(cluster, set).await? {
        return Ok(template);
    }
    // Recorded as planned in a transaction of its own, before anything of it exists.
    let tx = control.store().begin().await?;
    let template = tx.ensure_template(cluster, set, new_id()).await?;
    tx.commit().await?;
    Ok(template)
}

/// Makes the shared database that the home was assigned to, if it is not there yet.
pub(crate) async fn ensure_shared_database(control: &Control, target: &ClusterTarget, home: &HomeRecord) -> StepResult {
    let Some(id) = home.shared_database else {
        return Err(StepError::Failed { reason: "the home names no shared database".to_owned() });
    };
    let shared = control.store().shared_database(id).await?;
    if shared.state == BaseState::Ready {
        return Ok(Effect::None);
    }
    let findings = control.fleet().ensure_shared_database(target, &shared.name).await?;
    let tx = control.store().begin().await?;
    tx.shared_database_ready(id).await?;
    tx.add_cluster_findings(target.id, &findings).await?;
    tx.commit().await?;
    Ok(Effect::Changed)
}
