//! What a provision looks at, over all its tables.

use tenantry_domain::{HomeId, Plan, Tenant, TenantId};

use crate::bases::{Template, has_base, template_of};
use crate::clusters::{ClusterAccess, access_of};
use crate::error::StoreError;
use crate::homes::{HomeRecord, home as home_of};
use crate::plans::plan_of;
use crate::store::Store;
use crate::tenants::{TenantRef, select as tenant_of};

/// A tenant, the home that is made for it, and what that is made with.
#[derive(Debug, Clone)]
pub struct ProvisionSite {
    /// For whom.
    pub tenant: Tenant,
    /// Its plan.
    pub plan: Plan,
    /// What is made.
    pub home: HomeRecord,
    /// Where.
    pub access: ClusterAccess,
    /// For `database`: the cluster's template of the home's set, if it is recorded.
    pub template: Option<Template>,
    /// Whether what the home is made from is there: the template, or the shared database.
    pub has_base: bool,
}

impl Store {
    /// Everything that making a home for a tenant looks at, in one round trip.
    pub async fn provision_site(&self, tenant: TenantId, home: HomeId) -> Result<ProvisionSite, StoreError> {
        let (client, keyring, named) = (self.client().await?, self.keyring(), TenantRef::Id(tenant));
        let (tenant, plan, home, access, template, has_base) = futures::try_join!(
            tenant_of(&client, &named),
            plan_of(&client, tenant),
            home_of(&client, keyring, home),
            access_of(&client, keyring, home),
            template_of(&client, home),
            has_base(&client, home),
        )?;
        Ok(ProvisionSite { tenant, plan, home, access, template, has_base })
    }
}
