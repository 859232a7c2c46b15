//! What happens on "adopt-confirm": the old owners leave. The request is the pivot; there is no way back from it.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_domain::{Home, Isolation, ResourceId};
use tenantry_store::{AdoptionState, NewResource, ResourceKind, Tx};

use super::adopted_home::{AdoptedHome, tenant_of};
use crate::control::new_id;
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};

/// The kind `adopt_confirm`.
pub(crate) struct AdoptConfirm;

/// What a confirmation remembers: nothing, the adoption says where it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConfirmProgress {
    /// The home, while the adoption is open; on its way into the commit, which would have to wait for a second connection
    /// to the catalog to look it up, with the first in its hand.
    #[serde(skip)]
    pub(crate) open: Option<Home>,
}

impl Kind for AdoptConfirm {
    const CODE_VERSION: i32 = 1;
    type Progress = ConfirmProgress;
    const STEPS: &'static [Step<ConfirmProgress>] = &[step!("seal", seal, record_seal)];
    const PIVOT: Option<&'static str> = None;

    fn undo<'a>(_: &'a Work<'a>, _: &'a mut ConfirmProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Err(StepError::Failed { reason: "a confirmation is never walked back".to_owned() }) })
    }

    fn record_end<'a>(
        _: &'a Work<'a>,
        _: &'a ConfirmProgress,
        _: &'a str,
        _: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

async fn seal(work: &Work<'_>, progress: &mut ConfirmProgress) -> StepResult {
    let site = AdoptedHome::load(work).await?;
    let home = &site.home.home;
    let fence = work.fence(home.id);
    let before = site.before()?.unwrap_or_default();
    work.control.fleet().seal_adoption(&site.target, home, &fence, &before, &site.limits, &site.stamp()).await?;
    progress.open = (site.adoption.state == AdoptionState::Open).then(|| home.clone());
    Ok(Effect::Changed)
}

/// From here on the database or schema is the tenant's, and goes with it.
async fn record_seal(work: &Work<'_>, progress: &ConfirmProgress, tx: &mut Tx) -> Result<(), StepError> {
    let tenant = tenant_of(work)?;
    let Some(home) = &progress.open else { return Ok(()) };
    let (kind, name, parent) = match home.isolation {
        Isolation::Schema => (ResourceKind::Schema, home.schema.as_str(), Some(home.database.to_string())),
        Isolation::Row | Isolation::Database | Isolation::Cluster => {
            (ResourceKind::Database, home.database.as_str(), None)
        }
    };
    let resource =
        NewResource { id: ResourceId::new(new_id()), cluster: home.cluster, kind, name: name.to_owned(), parent };
    tx.insert_resources(work.operation.id, Some(home.id), &[resource]).await?;
    tx.resources_of_home_created(home.id).await?;
    tx.decide_adoption(tenant, AdoptionState::Confirmed).await?;
    tx.record_event(work.operation.id, "confirmed", Some("seal"), &json!({})).await?;
    Ok(())
}
