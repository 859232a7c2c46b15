//! Plans.

use tenantry_domain::PlanName;

use super::request::Call;
use super::{Client, ClientError};
use crate::{ListQuery, Page, Plan};

impl Client {
    /// `GET /v1/plans`: one page.
    pub async fn list_plans(&self, list: &ListQuery) -> Result<Page<Plan>, ClientError> {
        self.send(Call::get(&[&"plans"]).query(list)?).await
    }

    /// `GET /v1/plans/{plan}`.
    pub async fn show_plan(&self, plan: &PlanName) -> Result<Plan, ClientError> {
        self.send(Call::get(&[&"plans", plan])).await
    }
}
