//! What the steps of a provision look at.

use tenantry_domain::{HomeId, Limits, TenantId};
use tenantry_fleet::ClusterTarget;
use tenantry_store::{HomeRecord, StoreError, Template};

use super::cluster_target::target_of;
use crate::control::Control;

/// A home in the making: for whom, where, and from what.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) tenant: TenantId,
    pub(crate) home: HomeRecord,
    pub(crate) target: ClusterTarget,
    /// The tenant's own in place of its plan's.
    pub(crate) limits: Limits,
    /// For `database`: the cluster's template of the home's set, if it is recorded.
    pub(crate) template: Option<Template>,
    /// Whether what the home is made from is there.
    pub(crate) has_base: bool,
}

impl Site {
    pub(crate) async fn load(control: &Control, tenant: TenantId, home: HomeId) -> Result<Self, StoreError> {
        let site = Box::pin(control.store().provision_site(tenant, home)).await?;
        Ok(Self {
            tenant: site.tenant.id,
            home: site.home,
            target: target_of(site.access),
            limits: site.plan.limits.overridden_by(site.tenant.overrides.limits),
            template: site.template,
            has_base: site.has_base,
        })
    }
}
