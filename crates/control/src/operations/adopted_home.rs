//! What the steps of adopting, confirming and cancelling look at.

use serde_json::Value;
use tenantry_domain::{Generation, Limits, RouteState, Tenant, TenantId, TenantStatus};
use tenantry_fleet::{Belongings, ClusterTarget, Stamp};
use tenantry_store::{Adoption, AdoptionState, HomeRecord, TenantRef};

use super::cluster_target::target_of;
use super::release_home;
use crate::engine::{StepError, Work};

pub(crate) fn tenant_of(work: &Work<'_>) -> Result<TenantId, StepError> {
    work.operation.tenant.ok_or_else(|| StepError::Failed { reason: "it names no tenant".to_owned() })
}

/// An adopted home with everything around it.
pub(crate) struct AdoptedHome {
    pub(crate) tenant: Tenant,
    pub(crate) adoption: Adoption,
    pub(crate) home: HomeRecord,
    pub(crate) target: ClusterTarget,
    pub(crate) limits: Limits,
}

impl AdoptedHome {
    pub(crate) async fn load(work: &Work<'_>) -> Result<Self, StepError> {
        let store = work.control.store();
        let id = tenant_of(work)?;
        let adoption = adoption_of(work).await?;
        let (tenant, home) =
            tokio::try_join!(async { store.tenant(&TenantRef::Id(id)).await }, store.home(adoption.home))?;
        let (access, plan) = tokio::try_join!(store.cluster_access(home.home.cluster), store.plan(&tenant.plan))?;
        let limits = plan.limits.overridden_by(tenant.overrides.limits);
        Ok(Self { tenant, adoption, home, target: target_of(access), limits })
    }

    /// The stamp as the tenant stands.
    pub(crate) fn stamp(&self) -> Stamp {
        let state = match self.tenant.state.status() {
            TenantStatus::Active | TenantStatus::Provisioning => RouteState::Active,
            _ => RouteState::Suspended,
        };
        Stamp { tenant: self.tenant.id, generation: self.tenant.generation.max(Generation::FIRST), state }
    }

    /// How it was before, if that was written down: before that, nothing was changed.
    pub(crate) fn before(&self) -> Result<Option<Belongings>, StepError> {
        let Some(before) = &self.adoption.before else { return Ok(None) };
        let unreadable = |error: serde_json::Error| StepError::Failed {
            reason: format!("what it was before is unreadable: {error}"),
        };
        Ok(Some(serde_json::from_value(before.clone()).map_err(unreadable)?))
    }
}

pub(crate) async fn adoption_of(work: &Work<'_>) -> Result<Adoption, StepError> {
    let adoption = work.control.store().adoption(tenant_of(work)?).await?;
    adoption.ok_or_else(|| StepError::Failed { reason: "the tenant was not adopted".to_owned() })
}

/// Shuts the tenant out and gives everything back to whom it belonged to, once. Then the adoption counts as cancelled,
/// and only its roles are left to be dropped.
pub(crate) async fn give_back(work: &Work<'_>, forgets_history: bool) -> Result<(), StepError> {
    if adoption_of(work).await?.state != AdoptionState::Open {
        return Ok(());
    }
    let site = AdoptedHome::load(work).await?;
    let (home, fleet) = (&site.home.home, work.control.fleet());
    if let Some(before) = site.before()? {
        let fence = work.fence(home.id);
        fleet.disable_logins(&site.target, &fence, home, false).await?;
        let stamp = Stamp { state: RouteState::Suspended, ..site.stamp() };
        fleet.give_back(&site.target, home, &fence, &before, forgets_history, &stamp).await?;
    }
    let tx = work.control.store().begin().await?;
    tx.guard(work.lease).await?;
    tx.decide_adoption(site.tenant.id, AdoptionState::Cancelled).await?;
    tx.record_event(work.operation.id, "given_back", None, &Value::Object(serde_json::Map::new())).await?;
    tx.commit().await?;
    Ok(())
}

/// Gives everything back and drops the roles.
pub(crate) async fn undo(work: &Work<'_>, forgets_history: bool) -> Result<(), StepError> {
    give_back(work, forgets_history).await?;
    release_home::release(work, tenant_of(work)?).await
}
