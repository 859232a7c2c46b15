//! Hosts of tenants.

use tenantry_domain::HostName;

use super::request::Call;
use super::{Client, ClientError};
use crate::{AddTenantHost, ListQuery, Page, TenantHost, TenantRef};

impl Client {
    /// `POST /v1/tenants/{tenant}/hosts`: gives it a host that nobody has.
    pub async fn add_tenant_host(&self, tenant: &TenantRef, host: &HostName) -> Result<TenantHost, ClientError> {
        let add = AddTenantHost { host: host.clone() };
        self.send(Call::post(&[&"tenants", tenant, &"hosts"]).json(&add)?).await
    }

    /// `GET /v1/tenants/{tenant}/hosts`: one page, by name.
    pub async fn list_tenant_hosts(
        &self,
        tenant: &TenantRef,
        list: &ListQuery,
    ) -> Result<Page<TenantHost>, ClientError> {
        self.send(Call::get(&[&"tenants", tenant, &"hosts"]).query(list)?).await
    }

    /// `DELETE /v1/tenants/{tenant}/hosts/{host}`: takes it away.
    pub async fn remove_tenant_host(&self, tenant: &TenantRef, host: &HostName) -> Result<(), ClientError> {
        self.send_for_nothing(Call::delete(&[&"tenants", tenant, &"hosts", host])).await
    }
}
