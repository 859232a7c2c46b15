//! Opening and closing the home that a tenant lives in, under the operation's fence.

use tenantry_domain::{Generation, HomeId, Placement, RouteState, Tenant, TenantId};
use tenantry_fleet::{ClusterTarget, Stamp};
use tenantry_store::{HomeRecord, TenantRef};

use super::cluster_target::target_of;
use crate::engine::{StepError, Work};

/// The home of a placement with all that is needed to reach it.
pub(crate) struct Place {
    tenant: TenantId,
    since: Generation,
    home: HomeRecord,
    target: ClusterTarget,
}

/// The operation's tenant as it is now.
pub(crate) async fn tenant(work: &Work<'_>) -> Result<Tenant, StepError> {
    Ok(work.control.store().tenant(&TenantRef::Id(tenant_id(work)?)).await?)
}

/// The operation's tenant.
pub(crate) fn tenant_id(work: &Work<'_>) -> Result<TenantId, StepError> {
    work.operation.tenant.ok_or_else(|| StepError::Failed { reason: "it names no tenant".to_owned() })
}

impl Place {
    pub(crate) async fn of(work: &Work<'_>, placement: &Placement) -> Result<Self, StepError> {
        let store = work.control.store();
        let (home, access) =
            tokio::try_join!(store.home(placement.home.id), store.cluster_access(placement.home.cluster))?;
        Ok(Self { tenant: placement.tenant, since: placement.since, home, target: target_of(access) })
    }

    /// Nobody logs in as the tenant any more, and its sessions are ended.
    pub(crate) async fn close(&self, work: &Work<'_>) -> Result<(), StepError> {
        let (fence, home) = (work.fence(self.id()), &self.home);
        Ok(work.control.fleet().disable_logins(&self.target, &fence, &home.home, home.pool_member).await?)
    }

    /// The tenant's login role in use and its read-only role log in again.
    pub(crate) async fn open(&self, work: &Work<'_>) -> Result<(), StepError> {
        let (fence, home) = (work.fence(self.id()), &self.home);
        let fleet = work.control.fleet();
        Ok(fleet.enable_logins(&self.target, &fence, &home.home, home.login, home.pool_member).await?)
    }

    /// The home itself says whether it serves its tenant.
    pub(crate) async fn stamp(&self, work: &Work<'_>, state: RouteState) -> Result<(), StepError> {
        let stamp = Stamp { tenant: self.tenant, generation: self.since, state };
        let fence = work.fence(self.id());
        Ok(work.control.fleet().write_stamp(&self.target, &self.home.home, &fence, &stamp).await?)
    }

    fn id(&self) -> HomeId {
        self.home.home.id
    }
}
