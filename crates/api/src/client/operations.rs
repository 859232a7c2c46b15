//! Operations, their events, and waiting for them.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tenantry_domain::{OperationId, OperationState};

use super::lines::Lines;
use super::request::Call;
use super::{Client, ClientError};
use crate::{DecideOperation, ListOperationEvents, ListOperations, Operation, OperationEvent, Page};

impl Client {
    /// `GET /v1/operations`: one page, the newest first.
    pub async fn list_operations(&self, list: &ListOperations) -> Result<Page<Operation>, ClientError> {
        self.send(Call::get(&[&"operations"]).query(list)?).await
    }

    /// `GET /v1/operations/{operation}`.
    pub async fn show_operation(&self, operation: OperationId) -> Result<Operation, ClientError> {
        self.send(Call::get(&[&"operations", &operation])).await
    }

    /// `POST /v1/operations/{operation}/cancel`: walks it back, where that is still possible.
    pub async fn cancel_operation(&self, operation: OperationId) -> Result<Operation, ClientError> {
        self.decide_operation(operation, "cancel", &DecideOperation::default()).await
    }

    /// The same, with a reason.
    pub async fn cancel_operation_because(
        &self,
        operation: OperationId,
        decision: &DecideOperation,
    ) -> Result<Operation, ClientError> {
        self.decide_operation(operation, "cancel", decision).await
    }

    /// `POST /v1/operations/{operation}/retry`: lets a parked operation try again.
    pub async fn retry_operation(&self, operation: OperationId) -> Result<Operation, ClientError> {
        self.decide_operation(operation, "retry", &DecideOperation::default()).await
    }

    /// The same, with a reason.
    pub async fn retry_operation_because(
        &self,
        operation: OperationId,
        decision: &DecideOperation,
    ) -> Result<Operation, ClientError> {
        self.decide_operation(operation, "retry", decision).await
    }

    /// `POST /v1/operations/{operation}/skip`: lets a parked operation go on past its step.
    pub async fn skip_operation(&self, operation: OperationId) -> Result<Operation, ClientError> {
        self.decide_operation(operation, "skip", &DecideOperation::default()).await
    }

    /// The same, with a reason.
    pub async fn skip_operation_because(
        &self,
        operation: OperationId,
        decision: &DecideOperation,
    ) -> Result<Operation, ClientError> {
        self.decide_operation(operation, "skip", decision).await
    }

    /// `POST /v1/operations/{operation}/abandon`: gives a parked operation up.
    pub async fn abandon_operation(&self, operation: OperationId) -> Result<Operation, ClientError> {
        self.decide_operation(operation, "abandon", &DecideOperation::default()).await
    }

    /// The same, with a reason.
    pub async fn abandon_operation_because(
        &self,
        operation: OperationId,
        decision: &DecideOperation,
    ) -> Result<Operation, ClientError> {
        self.decide_operation(operation, "abandon", decision).await
    }

    async fn decide_operation(
        &self,
        operation: OperationId,
        verb: &'static str,
        decision: &DecideOperation,
    ) -> Result<Operation, ClientError> {
        self.send(Call::post(&[&"operations", &operation, &verb]).json(decision)?).await
    }

    /// `GET /v1/operations/{operation}/timeline`: a page of its log, the oldest entry first.
    pub async fn list_operation_events(
        &self,
        operation: OperationId,
        list: &ListOperationEvents,
    ) -> Result<Page<OperationEvent>, ClientError> {
        self.send(Call::get(&[&"operations", &operation, &"timeline"]).query(list)?).await
    }

    /// `GET /v1/operations/{operation}/events`: its log from after the given entry on, until it is finished.
    pub async fn operation_events(
        &self,
        operation: OperationId,
        after: Option<i64>,
    ) -> Result<BoxStream<'static, Result<OperationEvent, ClientError>>, ClientError> {
        let call = Call::get(&[&"operations", &operation, &"events"]).accept("text/event-stream").last_event_id(after);
        let response = self.open(call).await?;
        Ok(server_sent_events(Lines::new(self.clone(), response)?))
    }

    /// Asks again and again, ever more slowly, until the operation is finished, parked or waits until a time to come, or
    /// the time is up; answers with the operation as last seen.
    pub async fn wait_for_operation(
        &self,
        operation: OperationId,
        time_limit: Duration,
    ) -> Result<Operation, ClientError> {
        let deadline = tokio::time::Instant::now() + time_limit;
        let mut pause = Duration::from_millis(20);
        loop {
            let seen = self.show_operation(operation).await?;
            let rests = seen.state == OperationState::Parked || seen.waits_until.is_some();
            let is_settled = seen.state.is_finished() || rests;
            let now = tokio::time::Instant::now();
            if is_settled || now >= deadline {
                return Ok(seen);
            }
            tokio::time::sleep(pause.min(deadline - now)).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(1));
        }
    }
}

/// Server-sent events whose data is JSON of one kind.
pub(super) fn server_sent_events<T>(lines: Lines) -> BoxStream<'static, Result<T, ClientError>>
where
    T: serde::de::DeserializeOwned + Send + 'static,
{
    stream::try_unfold(lines, |mut lines| async move {
        let Some(event) = lines.next_event().await? else {
            return Ok(None);
        };
        let value = serde_json::from_str(&event.data).map_err(|error| lines.unexpected(&error.to_string()))?;
        Ok(Some((value, lines)))
    })
    .boxed()
}
