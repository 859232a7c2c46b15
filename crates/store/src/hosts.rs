//! The table `host`: DNS names by which tenants are reached.

use tenantry_domain::{HostName, TenantId};

use crate::error::StoreError;
use crate::row::execute;
use crate::transaction::Tx;

impl Tx {
    /// Gives the tenant a host; routers hear of it at the commit. `Conflict` when a tenant has it already.
    pub async fn add_host(&mut self, tenant: TenantId, host: &HostName) -> Result<(), StoreError> {
        let sql = "INSERT INTO host (name, tenant) VALUES ($1, $2)";
        execute(self.client()?, sql, &[&host.as_str(), &tenant.as_uuid()]).await?;
        self.touch_route(tenant).await
    }

    /// Takes a host away from the tenant; routers hear of it at the commit.
    pub async fn remove_host(&mut self, tenant: TenantId, host: &HostName) -> Result<(), StoreError> {
        let sql = "DELETE FROM host WHERE name = $1 AND tenant = $2";
        if execute(self.client()?, sql, &[&host.as_str(), &tenant.as_uuid()]).await? == 0 {
            return Err(StoreError::NotFound { what: "host", name: host.to_string() });
        }
        self.touch_route(tenant).await
    }
}
