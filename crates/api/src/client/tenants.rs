//! Tenants.

use super::request::{Call, Tagged};
use super::{Client, ClientError};
use crate::{
    CreateTenant, DeleteTenant, DryRunQuery, Explanation, ListOperations, ListTenants, MigrateDown, Operation, Page,
    ResumeTenant, SuspendTenant, Tenant, TenantHealth, TenantPreview, TenantRef, TenantWithOperation,
    TenantWithSubtree, UpdateTenant, WaitSeconds,
};

impl Client {
    /// `POST /v1/tenants`: begins to provision a tenant, and waits for it as long as asked.
    pub async fn create_tenant(
        &self,
        create: &CreateTenant,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithOperation, ClientError> {
        self.send(Call::post(&[&"tenants"]).json(create)?.wait(wait)).await
    }

    /// `POST /v1/tenants?dry_run=true`: what creating a tenant would come to.
    pub async fn preview_tenant(&self, create: &CreateTenant) -> Result<TenantPreview, ClientError> {
        let call = Call::post(&[&"tenants"]).query(&DryRunQuery { dry_run: true })?.repeatable();
        self.send(call.json(create)?).await
    }

    /// `GET /v1/tenants`: one page.
    pub async fn list_tenants(&self, list: &ListTenants) -> Result<Page<Tenant>, ClientError> {
        self.send(Call::get(&[&"tenants"]).query(list)?).await
    }

    /// `GET /v1/tenants/{tenant}`, with its version for a conditional update.
    pub async fn show_tenant(&self, tenant: &TenantRef) -> Result<Tagged<Tenant>, ClientError> {
        self.send_tagged(Call::get(&[&"tenants", tenant])).await
    }

    /// `PATCH /v1/tenants/{tenant}`; with an etag only if the tenant has not changed since.
    pub async fn update_tenant(
        &self,
        tenant: &TenantRef,
        update: &UpdateTenant,
        etag: Option<&str>,
    ) -> Result<Tagged<Tenant>, ClientError> {
        self.send_tagged(Call::patch(&[&"tenants", tenant]).json(update)?.if_match(etag)).await
    }

    /// `DELETE /v1/tenants/{tenant}`: shuts it out, takes its home down once its grace period is over, and waits for that
    /// as long as asked.
    pub async fn delete_tenant(
        &self,
        tenant: &TenantRef,
        delete: &DeleteTenant,
    ) -> Result<TenantWithOperation, ClientError> {
        let grace = DeleteTenant { wait: None, ..*delete };
        self.send(Call::delete(&[&"tenants", tenant]).query(&grace)?.wait(delete.wait)).await
    }

    /// `POST /v1/tenants/{tenant}/restore`: takes its deletion back, and waits for that as long as asked.
    pub async fn restore_tenant(
        &self,
        tenant: &TenantRef,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithOperation, ClientError> {
        self.send(Call::post(&[&"tenants", tenant, &"restore"]).wait(wait)).await
    }

    /// `POST /v1/tenants/{tenant}/suspend`: shuts it out, and waits until that is true in its home as long as asked.
    pub async fn suspend_tenant(
        &self,
        tenant: &TenantRef,
        suspend: &SuspendTenant,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithSubtree, ClientError> {
        self.send(Call::post(&[&"tenants", tenant, &"suspend"]).json(suspend)?.wait(wait)).await
    }

    /// `POST /v1/tenants/{tenant}/resume`: lets it in again, and waits for that as long as asked.
    pub async fn resume_tenant(
        &self,
        tenant: &TenantRef,
        resume: &ResumeTenant,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithSubtree, ClientError> {
        self.send(Call::post(&[&"tenants", tenant, &"resume"]).json(resume)?.wait(wait)).await
    }

    /// `POST /v1/tenants/{tenant}/rotate-credentials`: begins to change its passwords, and waits for it as long as asked.
    pub async fn rotate_credentials(
        &self,
        tenant: &TenantRef,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithOperation, ClientError> {
        self.send(Call::post(&[&"tenants", tenant, &"rotate-credentials"]).wait(wait)).await
    }

    /// `POST /v1/tenants/{tenant}/migrate-down`: begins to take its schema back, and waits for it as long as asked.
    pub async fn migrate_tenant_down(
        &self,
        tenant: &TenantRef,
        down: &MigrateDown,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithOperation, ClientError> {
        self.send(Call::post(&[&"tenants", tenant, &"migrate-down"]).json(down)?.wait(wait)).await
    }

    /// `GET /v1/tenants/{tenant}/health`: looks at it from every side, which takes a few seconds at most.
    pub async fn tenant_health(&self, tenant: &TenantRef) -> Result<TenantHealth, ClientError> {
        self.send(Call::get(&[&"tenants", tenant, &"health"])).await
    }

    /// `GET /v1/tenants/{tenant}/explain`: what is intended, what is observed, and where the two differ.
    pub async fn explain_tenant(&self, tenant: &TenantRef) -> Result<Explanation, ClientError> {
        self.send(Call::get(&[&"tenants", tenant, &"explain"])).await
    }

    /// `POST /v1/tenants/{tenant}/purge`: forgets a deleted tenant, which frees its slug.
    pub async fn purge_tenant(&self, tenant: &TenantRef) -> Result<(), ClientError> {
        self.send_for_nothing(Call::post(&[&"tenants", tenant, &"purge"])).await
    }

    /// `GET /v1/tenants/{tenant}/operations`: one page, the newest first. The filter on the tenant is the path's.
    pub async fn list_tenant_operations(
        &self,
        tenant: &TenantRef,
        list: &ListOperations,
    ) -> Result<Page<Operation>, ClientError> {
        self.send(Call::get(&[&"tenants", tenant, &"operations"]).query(list)?).await
    }
}
