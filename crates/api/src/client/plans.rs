//! Plans.

use tenantry_domain::PlanName;

use super::request::{Call, Tagged};
use super::{Client, ClientError};
use crate::{CreatePlan, EffectivePlan, ListQuery, Page, Plan, TenantRef, UpdatePlan};

impl Client {
    /// `POST /v1/plans`.
    pub async fn create_plan(&self, create: &CreatePlan) -> Result<Plan, ClientError> {
        self.send(Call::post(&[&"plans"]).json(create)?).await
    }

    /// `GET /v1/plans`: one page.
    pub async fn list_plans(&self, list: &ListQuery) -> Result<Page<Plan>, ClientError> {
        self.send(Call::get(&[&"plans"]).query(list)?).await
    }

    /// `GET /v1/plans/{plan}`, with its version for a conditional update.
    pub async fn show_plan(&self, plan: &PlanName) -> Result<Tagged<Plan>, ClientError> {
        self.send_tagged(Call::get(&[&"plans", plan])).await
    }

    /// `PATCH /v1/plans/{plan}`; with an etag only if the plan has not changed since.
    pub async fn update_plan(
        &self,
        plan: &PlanName,
        update: &UpdatePlan,
        etag: Option<&str>,
    ) -> Result<Tagged<Plan>, ClientError> {
        self.send_tagged(Call::patch(&[&"plans", plan]).json(update)?.if_match(etag)).await
    }

    /// `DELETE /v1/plans/{plan}`: forgets a plan that no tenant has.
    pub async fn delete_plan(&self, plan: &PlanName) -> Result<(), ClientError> {
        self.send_for_nothing(Call::delete(&[&"plans", plan])).await
    }

    /// `GET /v1/tenants/{tenant}/effective-plan`: every value that holds for a tenant, and where it comes from.
    pub async fn effective_plan(&self, tenant: &TenantRef) -> Result<EffectivePlan, ClientError> {
        self.send(Call::get(&[&"tenants", tenant, &"effective-plan"])).await
    }
}
