//! Drift.

use super::request::Call;
use super::{Client, ClientError};
use crate::{CheckDrift, CheckedDrift, Drift, ListDrift, Page, TenantRef, WaitSeconds};

impl Client {
    /// `GET /v1/drift`: one page of what the last looks found, the oldest tenants first.
    pub async fn list_drift(&self, list: &ListDrift) -> Result<Page<Drift>, ClientError> {
        self.send(Call::get(&[&"drift"]).query(list)?).await
    }

    /// `GET /v1/drift/{tenant}`: what the last look at a tenant found, with the objects that differ.
    pub async fn show_drift(&self, tenant: &TenantRef) -> Result<Drift, ClientError> {
        self.send(Call::get(&[&"drift", tenant])).await
    }

    /// `POST /v1/drift`: looks at tenants now, and begins with no more of them once it has taken so long.
    pub async fn check_drift(
        &self,
        check: &CheckDrift,
        wait: Option<WaitSeconds>,
    ) -> Result<CheckedDrift, ClientError> {
        self.send(Call::post(&[&"drift"]).json(check)?.wait(wait).repeatable()).await
    }
}
