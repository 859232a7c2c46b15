//! `tenantry webhook`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tenantry_api::{
    CommaSeparated, CreateWebhook, ListDeliveries, ListQuery, RotateWebhookSecret, UpdateWebhook, WaitSeconds, Webhook,
    WebhookDelivery, WebhookWithSecret,
};
use tenantry_domain::{DeliveryId, DeliveryState, EventKind, WebhookId};

use super::arguments::{duration, words};
use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// How long `test` and `redeliver` wait for the first attempt.
const WAIT_SECONDS: u64 = 30;

/// Who is told of what happens.
#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Record a URL that is told of events; its secret is shown this once
    #[command(after_help = examples!(
        "tenantry webhook create https://example.com/hooks/tenantry",
        "tenantry webhook create https://example.com/billing --event tenant.activated,tenant.deleted",
        "tenantry webhook create https://example.com/hooks --secret-only > webhook.secret",
        "",
        "Every request bears Tenantry-Signature: t=<unix seconds>,v1=<hex>. To verify one by hand, with the body as it",
        "came in body.json:",
        "  (printf '%s.' \"$t\"; cat body.json) | openssl dgst -sha256 -hmac \"$(cat webhook.secret)\"",
        "In Python:",
        "  want = hmac.new(secret, t.encode() + b'.' + body, hashlib.sha256).hexdigest()",
        "  ok = any(hmac.compare_digest(want, v1) for v1 in given) and abs(time.time() - int(t)) < 300",
        "Events come at least once: remember the ids in Tenantry-Delivery. Answer 2xx within 15 seconds.",
    ))]
    Create(CreateArguments),
    /// List webhooks
    #[command(after_help = examples!("tenantry webhook list"))]
    List(ListOptions),
    /// Show a webhook
    #[command(after_help = examples!("tenantry webhook show 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506"))]
    Show {
        /// Its id
        webhook: WebhookId,
    },
    /// Change a webhook: URL, events, whether it is sent anything
    #[command(after_help = examples!(
        "tenantry webhook update 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506 --disable",
        "tenantry webhook update 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506 --enable --event tenant.activated",
        "tenantry webhook update 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506 --all-events --receiver https://example.com/new",
    ))]
    Update(UpdateArguments),
    /// Delete a webhook: nothing more is sent to it
    #[command(after_help = examples!("tenantry webhook delete 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506"))]
    Delete {
        /// Its id
        webhook: WebhookId,
    },
    /// Give a webhook another secret; both sign for a while
    #[command(after_help = examples!(
        "tenantry webhook rotate-secret 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506 --overlap 2d",
    ))]
    RotateSecret(RotateArguments),
    /// Send the event webhook.test and show what became of it
    #[command(after_help = examples!("tenantry webhook test 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506"))]
    Test {
        /// Its id
        webhook: WebhookId,
    },
    /// List what was sent to a webhook, and what is to be sent
    #[command(after_help = examples!(
        "tenantry webhook deliveries 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506 --state failed",
    ))]
    Deliveries(DeliveriesArguments),
    /// Send an event again, under the same delivery id
    #[command(after_help = examples!(
        "tenantry webhook redeliver 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506 0e0c4a5e-2f55-4d51-8e3b-0a3a5c7ad6b1",
    ))]
    Redeliver {
        /// The webhook's id
        webhook: WebhookId,
        /// The delivery's id
        delivery: DeliveryId,
    },
}

/// A URL, and what it wants to hear of.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// The URL that events are sent to, by POST
    receiver: String,
    /// What it is told of; may be repeated, or separated by commas; everything unless given
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', value_parser = words::<EventKind>(events()))]
    events: Vec<EventKind>,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
    /// Print the secret and nothing else, for scripts
    #[arg(long)]
    secret_only: bool,
}

/// What changes; the rest stays.
#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true, args = ["receiver", "events", "all_events", "description", "enable", "disable"])]
pub(crate) struct UpdateArguments {
    /// Its id
    webhook: WebhookId,
    /// Another URL to send to
    #[arg(long, value_name = "URL")]
    receiver: Option<String>,
    /// Other events in place of those that it has
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', value_parser = words::<EventKind>(events()))]
    events: Vec<EventKind>,
    /// Tell it of everything
    #[arg(long, conflicts_with = "events")]
    all_events: bool,
    /// Another description
    #[arg(long)]
    description: Option<String>,
    /// Begin to send
    #[arg(long)]
    enable: bool,
    /// Stop sending
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
}

/// Which, and how long both secrets sign.
#[derive(Debug, Args)]
pub(crate) struct RotateArguments {
    /// Its id
    webhook: WebhookId,
    /// How long events are signed with the old secret too, seven days at most
    #[arg(long, value_name = "SPAN", default_value = "1d", value_parser = duration)]
    overlap: Duration,
    /// Print the secret and nothing else, for scripts
    #[arg(long)]
    secret_only: bool,
}

/// Which deliveries.
#[derive(Debug, Args)]
pub(crate) struct DeliveriesArguments {
    /// The webhook's id
    webhook: WebhookId,
    /// Only in these states; may be repeated, or separated by commas
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = words::<DeliveryState>(states()))]
    states: Vec<DeliveryState>,
    #[command(flatten)]
    options: ListOptions,
}

impl WebhookCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        match self {
            Self::Create(CreateArguments { receiver, events, description, secret_only }) => {
                let created = client.create_webhook(&CreateWebhook { url: receiver, description, events }).await?;
                show_secret(context, &created, secret_only)
            }
            Self::List(options) => {
                let fetch = async |limit, cursor| client.list_webhooks(&ListQuery { limit: Some(limit), cursor }).await;
                context.output.list(&paging::gather(&options, fetch).await?)
            }
            Self::Show { webhook } => context.output.object(&client.show_webhook(webhook).await?),
            Self::Update(arguments) => {
                let (webhook, update) = arguments.change();
                context.output.object(&client.update_webhook(webhook, &update).await?)
            }
            Self::Delete { webhook } => {
                client.delete_webhook(webhook).await?;
                context.output.done(&json!({ "deleted": webhook }), &format!("Webhook {webhook} is sent nothing more."))
            }
            Self::RotateSecret(RotateArguments { webhook, overlap, secret_only }) => {
                let overlap_seconds = Some(u32::try_from(overlap.as_secs()).unwrap_or(u32::MAX));
                let rotated = client.rotate_webhook_secret(webhook, RotateWebhookSecret { overlap_seconds }).await?;
                show_secret(context, &rotated, secret_only)
            }
            Self::Test { webhook } => show_delivery(context, &client.test_webhook(webhook, wait()).await?),
            Self::Deliveries(DeliveriesArguments { webhook, states, options }) => {
                let fetch = async |limit, cursor| {
                    let state = CommaSeparated(states.clone());
                    client.list_deliveries(webhook, &ListDeliveries { state, limit: Some(limit), cursor }).await
                };
                context.output.list(&paging::gather(&options, fetch).await?)
            }
            Self::Redeliver { webhook, delivery } => {
                show_delivery(context, &client.redeliver(webhook, delivery, wait()).await?)
            }
        }
    }
}

impl UpdateArguments {
    fn change(self) -> (WebhookId, UpdateWebhook) {
        let events = (self.all_events || !self.events.is_empty()).then_some(self.events);
        let enabled = match (self.enable, self.disable) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        (self.webhook, UpdateWebhook { url: self.receiver, description: self.description, events, enabled })
    }
}

fn wait() -> Option<WaitSeconds> {
    WaitSeconds::new(WAIT_SECONDS).ok()
}

fn show_secret(context: &Context, created: &WebhookWithSecret, secret_only: bool) -> Result<(), CliError> {
    let secret = created.secret.as_secret().expose();
    if secret_only {
        return context.output.raw(&format!("{secret}\n"));
    }
    context.output.composed(created, |composition| {
        let mut fields = created.webhook.fields();
        fields.push(("secret", Cell::new(secret)));
        composition.fields(fields);
    })?;
    if !context.output.is_json() {
        context.output.note("The secret is shown this once; the receiver checks signatures with it (see --help).");
    }
    Ok(())
}

/// An event that was not taken is the command's failure, though it is tried again.
fn show_delivery(context: &Context, delivery: &WebhookDelivery) -> Result<(), CliError> {
    context.output.object(delivery)?;
    if delivery.state == DeliveryState::Delivered {
        return Ok(());
    }
    let reason = delivery.error.as_deref().unwrap_or("it was not sent yet");
    Err(CliError::Unsuccessful { message: format!("the event was not taken: {reason}") })
}

fn events() -> impl Iterator<Item = &'static str> {
    EventKind::ALL.iter().map(|kind| kind.as_str())
}

fn states() -> impl Iterator<Item = &'static str> {
    DeliveryState::ALL.iter().map(|state| state.as_str())
}

fn events_of(webhook: &Webhook) -> Cell {
    if webhook.events.is_empty() { Cell::new("all") } else { Cell::joined(webhook.events.iter()) }
}

impl Tabular for Webhook {
    const COLUMNS: &'static [&'static str] = &["id", "url", "events", "enabled", "failing since", "description"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(self.id),
            Cell::new(&self.url),
            events_of(self),
            Cell::verdict(if self.enabled { "yes" } else { "no" }, self.enabled),
            Cell::optional_time(self.failing_since),
            Cell::new(&self.description),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(self.id)),
            ("url", Cell::new(&self.url)),
            ("description", Cell::new(&self.description)),
            ("events", events_of(self)),
            ("enabled", Cell::verdict(if self.enabled { "yes" } else { "no" }, self.enabled)),
            ("disabled because", Cell::optional(self.disabled_reason.as_ref())),
            ("failing since", Cell::optional_time(self.failing_since)),
            ("old secret until", Cell::optional_time(self.previous_secret_until)),
            ("created", Cell::time(self.created_at)),
            ("updated", Cell::time(self.updated_at)),
        ]
    }
}

impl Tabular for WebhookDelivery {
    const COLUMNS: &'static [&'static str] =
        &["id", "event", "tenant", "state", "attempts", "status", "queued", "next attempt", "error"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(self.id),
            Cell::new(self.kind),
            Cell::optional(self.tenant),
            Cell::state(self.state),
            Cell::new(self.attempts),
            Cell::optional(self.status),
            Cell::time(self.queued_at),
            Cell::optional_time(self.next_attempt_at),
            Cell::optional(self.error.as_ref()),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(self.id)),
            ("event", Cell::new(self.kind)),
            ("event id", Cell::new(self.event)),
            ("tenant", Cell::optional(self.tenant)),
            ("state", Cell::state(self.state)),
            ("attempts", Cell::new(self.attempts)),
            ("status", Cell::optional(self.status)),
            ("error", Cell::optional(self.error.as_ref())),
            ("answer", Cell::optional(self.response.as_ref())),
            ("took", Cell::optional(self.duration_ms.map(|took| format!("{took} ms")))),
            ("queued", Cell::time(self.queued_at)),
            ("last attempt", Cell::optional_time(self.attempted_at)),
            ("next attempt", Cell::optional_time(self.next_attempt_at)),
            ("finished", Cell::optional_time(self.finished_at)),
        ]
    }
}
