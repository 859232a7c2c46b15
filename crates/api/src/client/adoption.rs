//! Adopting what is there already.

use super::request::Call;
use super::{Client, ClientError};
use crate::{AdoptQuery, AdoptTenant, AdoptionReport, DecideOperation, TenantRef, TenantWithOperation, WaitSeconds};

impl Client {
    /// `POST /v1/tenants/adopt?dry_run=true`: looks, and changes nothing.
    pub async fn preview_adoption(&self, adopt: &AdoptTenant) -> Result<AdoptionReport, ClientError> {
        let query = AdoptQuery { dry_run: true, wait: None };
        self.send(Call::post(&[&"tenants", &"adopt"]).query(&query)?.json(adopt)?.repeatable()).await
    }

    /// `POST /v1/tenants/adopt`: begins to adopt, and waits for it as long as asked.
    pub async fn adopt_tenant(
        &self,
        adopt: &AdoptTenant,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithOperation, ClientError> {
        self.send(Call::post(&[&"tenants", &"adopt"]).json(adopt)?.wait(wait)).await
    }

    /// `POST /v1/tenants/{tenant}/adopt-confirm`: makes the adoption final.
    pub async fn confirm_adoption(
        &self,
        tenant: &TenantRef,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithOperation, ClientError> {
        self.send(Call::post(&[&"tenants", tenant, &"adopt-confirm"]).wait(wait)).await
    }

    /// `POST /v1/tenants/{tenant}/adopt-cancel`: puts everything back and leaves no tenant.
    pub async fn cancel_adoption(
        &self,
        tenant: &TenantRef,
        decision: &DecideOperation,
        wait: Option<WaitSeconds>,
    ) -> Result<TenantWithOperation, ClientError> {
        self.send(Call::post(&[&"tenants", tenant, &"adopt-cancel"]).json(decision)?.wait(wait)).await
    }
}
