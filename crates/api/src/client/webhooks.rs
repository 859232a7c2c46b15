//! Webhooks.

use tenantry_domain::{DeliveryId, WebhookId};

use super::request::Call;
use super::{Client, ClientError};
use crate::{
    CreateWebhook, ListDeliveries, ListQuery, Page, RotateWebhookSecret, UpdateWebhook, WaitSeconds, Webhook,
    WebhookDelivery, WebhookWithSecret,
};

impl Client {
    /// `POST /v1/webhooks`: the answer bears the secret, this once.
    pub async fn create_webhook(&self, create: &CreateWebhook) -> Result<WebhookWithSecret, ClientError> {
        self.send(Call::post(&[&"webhooks"]).json(create)?).await
    }

    /// `GET /v1/webhooks`: one page.
    pub async fn list_webhooks(&self, list: &ListQuery) -> Result<Page<Webhook>, ClientError> {
        self.send(Call::get(&[&"webhooks"]).query(list)?).await
    }

    /// `GET /v1/webhooks/{webhook}`.
    pub async fn show_webhook(&self, webhook: WebhookId) -> Result<Webhook, ClientError> {
        self.send(Call::get(&[&"webhooks", &webhook])).await
    }

    /// `PATCH /v1/webhooks/{webhook}`.
    pub async fn update_webhook(&self, webhook: WebhookId, update: &UpdateWebhook) -> Result<Webhook, ClientError> {
        self.send(Call::patch(&[&"webhooks", &webhook]).json(update)?).await
    }

    /// `DELETE /v1/webhooks/{webhook}`.
    pub async fn delete_webhook(&self, webhook: WebhookId) -> Result<(), ClientError> {
        self.send_for_nothing(Call::delete(&[&"webhooks", &webhook])).await
    }

    /// `POST /v1/webhooks/{webhook}/rotate-secret`: the answer bears the new secret, this once.
    pub async fn rotate_webhook_secret(
        &self,
        webhook: WebhookId,
        rotate: RotateWebhookSecret,
    ) -> Result<WebhookWithSecret, ClientError> {
        self.send(Call::post(&[&"webhooks", &webhook, &"rotate-secret"]).json(&rotate)?).await
    }

    /// `POST /v1/webhooks/{webhook}/test`: sends the event `webhook.test`.
    pub async fn test_webhook(
        &self,
        webhook: WebhookId,
        wait: Option<WaitSeconds>,
    ) -> Result<WebhookDelivery, ClientError> {
        self.send(Call::post(&[&"webhooks", &webhook, &"test"]).wait(wait)).await
    }

    /// `GET /v1/webhooks/{webhook}/deliveries`: one page.
    pub async fn list_deliveries(
        &self,
        webhook: WebhookId,
        list: &ListDeliveries,
    ) -> Result<Page<WebhookDelivery>, ClientError> {
        self.send(Call::get(&[&"webhooks", &webhook, &"deliveries"]).query(list)?).await
    }

    /// `POST /v1/webhooks/{webhook}/deliveries/{delivery}/redeliver`.
    pub async fn redeliver(
        &self,
        webhook: WebhookId,
        delivery: DeliveryId,
        wait: Option<WaitSeconds>,
    ) -> Result<WebhookDelivery, ClientError> {
        self.send(Call::post(&[&"webhooks", &webhook, &"deliveries", &delivery, &"redeliver"]).wait(wait)).await
    }
}
