//! Rollouts.

use futures::stream::BoxStream;
use tenantry_domain::RolloutId;

use super::lines::Lines;
use super::operations::server_sent_events;
use super::request::Call;
use super::{Client, ClientError};
use crate::{CreateRollout, FleetVersions, ListQuery, ListTargets, Page, Rollout, RolloutTarget};

impl Client {
    /// `POST /v1/rollouts`: starts one.
    pub async fn create_rollout(&self, create: &CreateRollout) -> Result<Rollout, ClientError> {
        self.send(Call::post(&[&"rollouts"]).json(create)?).await
    }

    /// `GET /v1/rollouts`: one page, the newest first.
    pub async fn list_rollouts(&self, list: &ListQuery) -> Result<Page<Rollout>, ClientError> {
        self.send(Call::get(&[&"rollouts"]).query(list)?).await
    }

    /// `GET /v1/rollouts/{rollout}`.
    pub async fn show_rollout(&self, rollout: RolloutId) -> Result<Rollout, ClientError> {
        self.send(Call::get(&[&"rollouts", &rollout])).await
    }

    /// `GET /v1/rollouts/{rollout}/targets`: one page.
    pub async fn list_rollout_targets(
        &self,
        rollout: RolloutId,
        list: &ListTargets,
    ) -> Result<Page<RolloutTarget>, ClientError> {
        self.send(Call::get(&[&"rollouts", &rollout, &"targets"]).query(list)?).await
    }

    /// `GET /v1/rollouts/{rollout}/versions`: at which versions the fleet is.
    pub async fn show_fleet_versions(&self, rollout: RolloutId) -> Result<FleetVersions, ClientError> {
        self.send(Call::get(&[&"rollouts", &rollout, &"versions"])).await
    }

    /// `POST /v1/rollouts/{rollout}/pause`: takes up no more targets.
    pub async fn pause_rollout(&self, rollout: RolloutId) -> Result<Rollout, ClientError> {
        self.send(Call::post(&[&"rollouts", &rollout, &"pause"])).await
    }

    /// `POST /v1/rollouts/{rollout}/resume`: goes on.
    pub async fn resume_rollout(&self, rollout: RolloutId) -> Result<Rollout, ClientError> {
        self.send(Call::post(&[&"rollouts", &rollout, &"resume"])).await
    }

    /// `POST /v1/rollouts/{rollout}/abort`: ends it; what is applied stays.
    pub async fn abort_rollout(&self, rollout: RolloutId) -> Result<Rollout, ClientError> {
        self.send(Call::post(&[&"rollouts", &rollout, &"abort"])).await
    }

    /// `POST /v1/rollouts/{rollout}/retry`: takes the failed targets up again, and only those.
    pub async fn retry_rollout(&self, rollout: RolloutId) -> Result<Rollout, ClientError> {
        self.send(Call::post(&[&"rollouts", &rollout, &"retry"])).await
    }

    /// `GET /v1/rollouts/{rollout}/events`: the rollout whenever it has changed, until it is finished.
    pub async fn rollout_events(
        &self,
        rollout: RolloutId,
    ) -> Result<BoxStream<'static, Result<Rollout, ClientError>>, ClientError> {
        let call = Call::get(&[&"rollouts", &rollout, &"events"]).accept("text/event-stream");
        let response = self.open(call).await?;
        Ok(server_sent_events(Lines::new(self.clone(), response)?))
    }
}
