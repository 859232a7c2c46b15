//! Webhooks: who is told of what happens, and what became of telling them.
//!
//! Events come from the transactions of the changes they tell of (`Tx::emit`). Every replica takes deliveries that are
//! due (`dispatch`), signs them (`signature`) and sends them (`send`) to nowhere but where its settings allow
//! (`address`). A receiver gets each event at least once, always under the same delivery id.

mod address;
mod body;
pub(crate) mod dispatch;
mod send;
mod signature;

use std::time::Duration;

use jiff::Timestamp;
use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use tenantry_domain::{Access, DeliveryId, DeliveryState, EventKind, Scope, Secret, WebhookId};
use tenantry_store::{
    AuditEntry, DeliveryRecord, NewEvent, NewWebhook, Page, PageRequest, WEBHOOKS_WAKE, WebhookChange, WebhookRecord,
};
use tokio::time::Instant;

use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;

/// What every webhook secret begins with, so that people and scanners recognise one.
const SECRET_PREFIX: &str = "tenantry_webhook_";
/// Webhooks at most: every event is sent to each that wants it.
const WEBHOOKS_MAX: u32 = 50;
/// Characters of a URL at most.
const URL_MAX: usize = 2_000;
/// Characters of a description at most.
const DESCRIPTION_MAX: usize = 500;
/// How long the secret before a rotation goes on signing, unless the caller says otherwise.
pub const OVERLAP: Duration = Duration::from_hours(24);
/// How long it may at most.
pub const OVERLAP_MAX: Duration = Duration::from_hours(24 * 7);
/// Waiters for a delivery look this often.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The longest that a caller may wait for a delivery in one call.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How deliveries are made.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Deliveries that this replica makes at the same time.
    pub concurrency: usize,
    /// Of those, to one webhook.
    pub concurrency_per_webhook: usize,
    /// For one attempt, from resolving the name to the end of the answer. Beyond three times that, another replica takes
    /// over.
    pub timeout: Duration,
    /// The pause after a first failed attempt; it doubles with each, up to four hours.
    pub backoff: Duration,
    /// How long after it was queued a delivery is given up.
    pub give_up_after: Duration,
    /// How long nothing is taken until a webhook is disabled.
    pub disable_after: Duration,
    /// How long what has ended is kept for looking at.
    pub kept: Duration,
    /// Whether receivers may be on this machine, without encryption even.
    pub allow_loopback: bool,
    /// Whether receivers may have private addresses.
    pub allow_private_networks: bool,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            concurrency: 16,
            concurrency_per_webhook: 4,
            timeout: Duration::from_secs(15),
            backoff: Duration::from_secs(5),
            give_up_after: Duration::from_hours(24),
            disable_after: Duration::from_hours(24 * 5),
            kept: Duration::from_hours(24 * 7),
            allow_loopback: false,
            allow_private_networks: false,
        }
    }
}

/// The wish for a webhook.
#[derive(Debug, Clone)]
pub struct CreateWebhook {
    /// Where events are sent.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// What it wants to hear of; none means everything.
    pub events: Vec<EventKind>,
}

/// Records a webhook. The secret that signs its events is returned here and never again.
pub async fn create(
    control: &Control,
    caller: &Caller,
    wish: CreateWebhook,
) -> Result<(WebhookRecord, Secret), ControlError> {
    caller.require_fleet_wide(Scope::Webhooks(Access::Write))?;
    let url = check_url(control, &wish.url)?;
    check_description(&wish.description)?;
    let events = check_events(wish.events)?;
    let secret = random_secret()?;
    let tx = control.store().begin().await?;
    if tx.count_webhooks().await? >= WEBHOOKS_MAX {
        return Err(ControlError::LimitExceeded {
            reason: format!("there are {WEBHOOKS_MAX} webhooks, which is the most; delete one first"),
        });
    }
    let id = WebhookId::new(new_id());
    let new = NewWebhook { id, url, description: wish.description, events, secret: secret.clone() };
    let webhook = tx.insert_webhook(&new).await?;
    tx.audit(&AuditEntry { after: Some(summary(&webhook)), ..caller.does("webhook.create", target(id)) }).await?;
    tx.commit().await?;
    Ok((webhook, secret))
}

/// A page of webhooks, oldest first, without their secrets.
pub async fn list(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Page<WebhookRecord>, ControlError> {
    caller.require_fleet_wide(Scope::Webhooks(Access::Read))?;
    Ok(control.store().webhooks(page).await?)
}

/// One webhook, without its secret.
pub async fn show(control: &Control, caller: &Caller, id: WebhookId) -> Result<WebhookRecord, ControlError> {
    caller.require_fleet_wide(Scope::Webhooks(Access::Read))?;
    Ok(control.store().webhook(id).await?)
}

/// Changes URL, description or events, or begins or stops sending. What is pending while it is disabled is sent when it is
/// enabled again in time.
pub async fn update(
    control: &Control,
    caller: &Caller,
    id: WebhookId,
    change: WebhookChange,
    if_match: Option<Timestamp>,
) -> Result<WebhookRecord, ControlError> {
    caller.require_fleet_wide(Scope::Webhooks(Access::Write))?;
    let url = change.url.as_deref().map(|url| check_url(control, url)).transpose()?;
    if let Some(description) = &change.description {
        check_description(description)?;
    }
    let events = change.events.map(check_events).transpose()?;
    let change = WebhookChange { url, events, ..change };
    let tx = control.store().begin().await?;
    let before = tx.lock_webhook(id).await?;
    if if_match.is_some_and(|expected| expected != before.updated_at) {
        return Err(ControlError::PreconditionFailed);
    }
    let after = tx.update_webhook(id, &change).await?;
    let entry = AuditEntry {
        before: Some(summary(&before)),
        after: Some(summary(&after)),
        ..caller.does("webhook.update", target(id))
    };
    tx.audit(&entry).await?;
    tx.commit().await?;
    control.signals().wake_reconciler(WEBHOOKS_WAKE);
    Ok(after)
}

/// Takes a webhook away at once, with what was to be sent to it.
pub async fn delete(control: &Control, caller: &Caller, id: WebhookId) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Webhooks(Access::Write))?;
    let tx = control.store().begin().await?;
    let before = tx.lock_webhook(id).await?;
    tx.delete_webhook(id).await?;
    tx.audit(&AuditEntry { before: Some(summary(&before)), ..caller.does("webhook.delete", target(id)) }).await?;
    tx.commit().await?;
    Ok(())
}

/// Gives a webhook another secret, which is returned here and never again. For `overlap` events are signed with the one
/// before too, so that a receiver can change over without missing one.
pub async fn rotate_secret(
    control: &Control,
    caller: &Caller,
    id: WebhookId,
    overlap: Option<Duration>,
) -> Result<(WebhookRecord, Secret), ControlError> {
    caller.require_fleet_wide(Scope::Webhooks(Access::Write))?;
    let overlap = overlap.unwrap_or(OVERLAP);
    if overlap > OVERLAP_MAX {
        return Err(ControlError::invalid("/overlap_seconds", "use at most 604800 seconds, which are seven days"));
    }
    let secret = random_secret()?;
    let tx = control.store().begin().await?;
    let before = tx.lock_webhook(id).await?;
    let webhook = tx.rotate_webhook_secret(id, &secret, overlap).await?;
    let overlap = |webhook: &WebhookRecord| Some(json!({ "previous_secret_until": webhook.previous_secret_until }));
    let entry = AuditEntry {
        before: overlap(&before),
        after: overlap(&webhook),
        ..caller.does("webhook.rotate_secret", target(id))
    };
    tx.audit(&entry).await?;
    tx.commit().await?;
    Ok((webhook, secret))
}

/// Sends the event `webhook.test` to one webhook, whatever it wants to hear of.
pub async fn test(control: &Control, caller: &Caller, id: WebhookId) -> Result<DeliveryRecord, ControlError> {
    caller.require_fleet_wide(Scope::Webhooks(Access::Write))?;
    let tx = control.store().begin().await?;
    if !tx.lock_webhook(id).await?.enabled {
        return Err(disabled());
    }
    let event = NewEvent {
        kind: EventKind::WebhookTest,
        tenant: None,
        cluster: None,
        operation: None,
        detail: json!({ "webhook": id }),
    };
    tx.emit_only_to(&event, id).await?;
    let delivery = tx.last_delivery(id).await?;
    let after = Some(json!({ "delivery": delivery }));
    tx.audit(&AuditEntry { after, ..caller.does("webhook.test", target(id)) }).await?;
    tx.commit().await?;
    control.signals().wake_reconciler(WEBHOOKS_WAKE);
    Ok(control.store().delivery(id, delivery).await?)
}

/// A page of a webhook's deliveries, newest first; no state given means all.
pub async fn deliveries(
    control: &Control,
    caller: &Caller,
    id: WebhookId,
    states: &[DeliveryState],
    page: &PageRequest,
) -> Result<Page<DeliveryRecord>, ControlError> {
    show(control, caller, id).await?;
    Ok(control.store().deliveries(id, states, page).await?)
}

/// One delivery of a webhook.
pub async fn delivery(
    control: &Control,
    caller: &Caller,
    id: WebhookId,
    delivery: DeliveryId,
) -> Result<DeliveryRecord, ControlError> {
    show(control, caller, id).await?;
    Ok(control.store().delivery(id, delivery).await?)
}

/// Sends an event again at once, under the same delivery id, whether it was taken, given up or is still being tried.
pub async fn redeliver(
    control: &Control,
    caller: &Caller,
    id: WebhookId,
    delivery: DeliveryId,
) -> Result<DeliveryRecord, ControlError> {
    caller.require_fleet_wide(Scope::Webhooks(Access::Write))?;
    let tx = control.store().begin().await?;
    if !tx.lock_webhook(id).await?.enabled {
        return Err(disabled());
    }
    tx.requeue_delivery(id, delivery).await?;
    let after = Some(json!({ "delivery": delivery }));
    tx.audit(&AuditEntry { after, ..caller.does("webhook.redeliver", target(id)) }).await?;
    tx.commit().await?;
    control.signals().wake_reconciler(WEBHOOKS_WAKE);
    Ok(control.store().delivery(id, delivery).await?)
}

/// The delivery as it is once an attempt was made, or once `patience` (a minute at most) is over.
pub async fn wait(
    control: &Control,
    caller: &Caller,
    id: WebhookId,
    delivery: DeliveryId,
    patience: Duration,
) -> Result<DeliveryRecord, ControlError> {
    let deadline = Instant::now() + patience.min(WAIT_MAX);
    loop {
        let record = self::delivery(control, caller, id, delivery).await?;
        let was_tried = record.state != DeliveryState::Pending || record.next_attempt_at > Timestamp::now();
        if was_tried || Instant::now() >= deadline {
            return Ok(record);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn disabled() -> ControlError {
    ControlError::InvalidState { reason: "the webhook is disabled; enable it first".to_owned() }
}

fn check_url(control: &Control, text: &str) -> Result<String, ControlError> {
    if text.chars().count() > URL_MAX {
        return Err(ControlError::invalid("/url", format!("use at most {URL_MAX} characters")));
    }
    let policy = address::Policy::of(&control.config().webhooks);
    address::check(text, policy).map(String::from).map_err(|refusal| ControlError::invalid("/url", refusal.to_string()))
}

fn check_description(text: &str) -> Result<(), ControlError> {
    if text.chars().count() > DESCRIPTION_MAX || text.chars().any(char::is_control) {
        let reason = format!("use at most {DESCRIPTION_MAX} characters, none of them a control character");
        return Err(ControlError::invalid("/description", reason));
    }
    Ok(())
}

fn check_events(mut events: Vec<EventKind>) -> Result<Vec<EventKind>, ControlError> {
    if events.contains(&EventKind::WebhookTest) {
        let reason = "every webhook gets `webhook.test` when it is tested; name other events, or none for all of them";
        return Err(ControlError::invalid("/events", reason));
    }
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn random_secret() -> Result<Secret, ControlError> {
    let mut bytes = [0_u8; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(ControlError::internal)?;
    Ok(Secret::new(format!("{SECRET_PREFIX}{}", hex::encode(bytes))))
}

fn target(id: WebhookId) -> String {
    format!("webhook/{id}")
}

/// What the audit log keeps of a webhook.
fn summary(webhook: &WebhookRecord) -> Value {
    json!({
        "url": webhook.url,
        "description": webhook.description,
        "events": webhook.events,
        "enabled": webhook.enabled,
    })
}
