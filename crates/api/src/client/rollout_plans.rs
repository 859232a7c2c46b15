//! What a rollout would do.

use super::json_lines::JsonLines;
use super::lines::Lines;
use super::request::Call;
use super::{Client, ClientError};
use crate::{CreateRollout, DryRunLine, RolloutDryRun, RolloutPlan};

impl Client {
    /// `POST /v1/rollouts/plan`: what a rollout would do now.
    pub async fn plan_rollout(&self, create: &CreateRollout) -> Result<RolloutPlan, ClientError> {
        self.send(Call::post(&[&"rollouts", &"plan"]).json(create)?.repeatable()).await
    }

    /// `POST /v1/rollouts/dry-run`: tries a set on a few tenants, and undoes everything.
    pub async fn dry_run(&self, dry_run: &RolloutDryRun) -> Result<JsonLines<DryRunLine>, ClientError> {
        let call = Call::post(&[&"rollouts", &"dry-run"]).json(dry_run)?;
        Ok(JsonLines::new(Lines::new(self.clone(), self.open(call).await?)?))
    }
}
