//! Webhooks: who is told of what happens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{DeliveryId, DeliveryState, EventId, EventKind, TenantId, WebhookId};
use utoipa::{IntoParams, ToSchema};

use crate::patch::never_null;
use crate::query::{CommaSeparated, PageLimit};
use crate::schema;
use crate::secret::SecretText;

/// A receiver of events, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: WebhookId,
    /// Where events are sent, by POST.
    #[schema(example = "https://example.com/hooks/tenantry")]
    pub url: String,
    /// What it is for.
    pub description: String,
    /// What it is told of; empty means everything.
    #[schema(schema_with = schema::events)]
    pub events: Vec<EventKind>,
    /// Whether events are queued for it and sent.
    pub enabled: bool,
    /// Why it is not, where nobody asked for that.
    pub disabled_reason: Option<String>,
    /// Since when it has taken nothing; null while it takes events.
    pub failing_since: Option<Timestamp>,
    /// Until when events are signed with the secret before the last rotation too.
    pub previous_secret_until: Option<Timestamp>,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
}

/// A webhook with its new secret: the one answer that bears it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookWithSecret {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// What its events are signed with. Shown this once.
    #[schema(value_type = String, format = Password)]
    pub secret: SecretText,
}

/// Records a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// Where events are to be sent. `https`; at most 2000 characters.
    #[schema(example = "https://example.com/hooks/tenantry", max_length = 2000)]
    pub url: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 500)]
    pub description: String,
    /// What it is to be told of; everything unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = schema::events)]
    pub events: Vec<EventKind>,
}

/// Changes a webhook. Absent fields stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateWebhook {
    /// Another URL.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "never_null")]
    #[schema(max_length = 2000)]
    pub url: Option<String>,
    /// Another description.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "never_null")]
    #[schema(max_length = 500)]
    pub description: Option<String>,
    /// Other events; an empty list means everything.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "never_null")]
    #[schema(schema_with = schema::events)]
    pub events: Option<Vec<EventKind>>,
    /// Begin or stop sending.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "never_null")]
    pub enabled: Option<bool>,
}

/// Gives a webhook another secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateWebhookSecret {
    /// How long events are signed with the one before too, in seconds; a day unless given, seven days at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 604_800)]
    pub overlap_seconds: Option<u32>,
}

/// One event for one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookDelivery {
    /// Its id: the header `Tenantry-Delivery`, the same however often the event is sent.
    #[schema(value_type = Uuid)]
    pub id: DeliveryId,
    /// For which webhook.
    #[schema(value_type = Uuid)]
    pub webhook: WebhookId,
    /// Of which event: `id` in what is sent.
    #[schema(value_type = Uuid)]
    pub event: EventId,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(schema_with = schema::event)]
    pub kind: EventKind,
    /// To which tenant.
    #[schema(value_type = Option<Uuid>)]
    pub tenant: Option<TenantId>,
    /// Where it stands.
    #[schema(schema_with = schema::delivery_state)]
    pub state: DeliveryState,
    /// How often it was sent since it was queued.
    pub attempts: u32,
    /// Queued, by the event or by a redelivery, at.
    pub queued_at: Timestamp,
    /// When it is sent next; null once it is delivered or failed.
    pub next_attempt_at: Option<Timestamp>,
    /// Last sent at.
    pub attempted_at: Option<Timestamp>,
    /// HTTP status of the last answer.
    pub status: Option<u16>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The beginning of the last answer.
    pub response: Option<String>,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Delivered or given up at.
    pub finished_at: Option<Timestamp>,
}

/// Which deliveries of a webhook to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListDeliveries {
    /// States, separated by commas.
    #[serde(skip_serializing_if = "CommaSeparated::is_empty")]
    #[param(value_type = Option<String>, example = "pending,failed")]
    pub state: CommaSeparated<DeliveryState>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
