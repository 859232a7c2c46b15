//! All deliveries: takes what is due, sends a bounded number at the same time, records what came of each.
//!
//! Events of one tenant reach a webhook in their order, as long as the earlier ones are taken within their first
//! attempts. One that is refused for longer no longer holds up the later ones; their `sequence` tells the order.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tenantry_domain::{RequestId, WebhookId};
use tenantry_store::{Attempt, AttemptEnd, AuditEntry, ClaimRules, ClaimedDelivery, StoreError, WEBHOOKS_WAKE};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::send::{Outcome, Sender};
use super::{WebhookConfig, target};
use crate::backoff::backoff;
use crate::caller::Caller;
use crate::control::{Control, new_id};

/// Looks at least this often, in case news was lost.
const POLL: Duration = Duration::from_secs(5);
/// The shortest pause between two looks that found nothing.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Attempts within which a delivery holds back later ones of the same tenant.
const ORDERED_ATTEMPTS: u32 = 6;
/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_hours(4);

/// Delivers until told to stop. What is on its way then is given up and sent again by whoever takes it next.
pub(crate) async fn run(control: &Control, stop: &CancellationToken) {
    let config = &control.config().webhooks;
    let sender = match Sender::new(config) {
        Ok(sender) => sender,
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "no webhook can be served by this replica");
            return;
        }
    };
    let mut tasks: JoinSet<WebhookId> = JoinSet::new();
    let mut under_way: HashMap<WebhookId, usize> = HashMap::new();
    loop {
        while let Some(ended) = tasks.try_join_next() {
            settle(&mut under_way, ended);
        }
        let room = config.concurrency.saturating_sub(tasks.len());
        let claimed = if room == 0 { Ok(Vec::new()) } else { claim(control, room, &under_way).await };
        let pause = match claimed {
            Ok(claimed) if claimed.is_empty() => until_due(control, room).await,
            Ok(claimed) => {
                for delivery in claimed {
                    *under_way.entry(delivery.webhook).or_default() += 1;
                    let (control, sender, stop) = (control.clone(), sender.clone(), stop.clone());
                    tasks.spawn(async move { deliver(&control, &sender, delivery, &stop).await });
                }
                continue;
            }
            Err(error) => {
                warn!(%error, "could not look for deliveries; trying again");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next() => settle(&mut under_way, ended),
            () = control.signals().reconciler_woken(WEBHOOKS_WAKE) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

fn settle(under_way: &mut HashMap<WebhookId, usize>, ended: Result<WebhookId, tokio::task::JoinError>) {
    match ended {
        Ok(webhook) => {
            if let Some(sends) = under_way.get_mut(&webhook) {
                *sends = sends.saturating_sub(1);
                if *sends == 0 {
                    under_way.remove(&webhook);
                }
            }
        }
        // Nobody knows whose it was; counting begins anew, and the lease of that delivery runs out.
        Err(error) => {
            warn!(%error, "a delivery failed inside");
            under_way.clear();
        }
    }
}

async fn claim(
    control: &Control,
    room: usize,
    under_way: &HashMap<WebhookId, usize>,
) -> Result<Vec<ClaimedDelivery>, StoreError> {
    let config = &control.config().webhooks;
    let under_way: Vec<(WebhookId, usize)> = under_way.iter().map(|(webhook, sends)| (*webhook, *sends)).collect();
    let rules = ClaimRules {
        owner: control.config().replica,
        lease: config.timeout * 3,
        most: room,
        per_webhook: config.concurrency_per_webhook,
        under_way: &under_way,
        ordered_attempts: ORDERED_ATTEMPTS,
    };
    control.store().claim_deliveries(&rules).await
}

/// How long nothing becomes due, as far as the catalog knows.
async fn until_due(control: &Control, room: usize) -> Duration {
    if room == 0 {
        return POLL;
    }
    match control.store().next_delivery_due().await {
        Ok(Some(at)) => {
            let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            wait.clamp(PAUSE_MIN, POLL)
        }
        Ok(None) | Err(_) => POLL,
    }
}

async fn deliver(control: &Control, sender: &Sender, delivery: ClaimedDelivery, stop: &CancellationToken) -> WebhookId {
    let outcome = tokio::select! {
        outcome = sender.send(&delivery) => outcome,
        () = stop.cancelled() => {
            if let Err(error) = control.store().release_delivery(&delivery).await {
                debug!(%error, "a delivery was not handed back; its lease will run out");
            }
            return delivery.webhook;
        }
    };
    let is_gone = outcome.is_gone;
    let attempt = judge(&control.config().webhooks, &delivery, outcome, Timestamp::now());
    report(&delivery, &attempt);
    match control.store().finish_delivery(&delivery, &attempt).await {
        Ok(true) => {}
        Ok(false) => debug!(delivery_id = %delivery.id, "another replica has this delivery by now"),
        Err(error) => warn!(%error, delivery_id = %delivery.id, "an attempt was not recorded; the event is sent again"),
    }
    if is_gone {
        disable(control, delivery.webhook, "its receiver answered 410: gone").await;
    }
    delivery.webhook
}

/// What becomes of a delivery after an attempt that ended `now`.
fn judge(config: &WebhookConfig, delivery: &ClaimedDelivery, outcome: Outcome, now: Timestamp) -> Attempt {
    let end = if outcome.is_taken() {
        AttemptEnd::Delivered
    } else {
        let pause = backoff(config.backoff, BACKOFF_MAX, delivery.attempt).max(outcome.retry_after.unwrap_or_default());
        let next = now + pause;
        if next > delivery.queued_at + config.give_up_after { AttemptEnd::Failed } else { AttemptEnd::Again(next) }
    };
    Attempt {
        end,
        status: outcome.status,
        error: outcome.error,
        response: outcome.response,
        duration: outcome.duration,
    }
}

fn report(delivery: &ClaimedDelivery, attempt: &Attempt) {
    let outcome = match attempt.end {
        AttemptEnd::Delivered => "delivered",
        AttemptEnd::Again(_) => "again",
        AttemptEnd::Failed => "failed",
    };
    metrics::counter!("tenantry_webhook_attempts_total", "outcome" => outcome).increment(1);
    metrics::histogram!("tenantry_webhook_attempt_seconds").record(attempt.duration.as_secs_f64());
    let reason = attempt.error.as_deref().unwrap_or_default();
    match attempt.end {
        AttemptEnd::Delivered => debug!(webhook_id = %delivery.webhook, delivery_id = %delivery.id, "delivered"),
        AttemptEnd::Again(next) => info!(
            webhook_id = %delivery.webhook, delivery_id = %delivery.id, attempt = delivery.attempt, reason, %next,
            "a webhook did not take an event; it is sent again"
        ),
        AttemptEnd::Failed => warn!(
            webhook_id = %delivery.webhook, delivery_id = %delivery.id, attempt = delivery.attempt, reason,
            "a webhook did not take an event in time; redeliver it by hand"
        ),
    }
}

/// Stops sending to a webhook and says so. Whether somebody else was first does not matter.
pub(crate) async fn disable(control: &Control, webhook: WebhookId, reason: &str) {
    let disabling = async {
        let tx = control.store().begin().await?;
        let is_new = tx.disable_webhook(webhook, reason).await?;
        if is_new {
            let caller = Caller::system("tenantry", RequestId::new(new_id()));
            let after = Some(json!({ "enabled": false, "reason": reason }));
            tx.audit(&AuditEntry { after, ..caller.does("webhook.disable", target(webhook)) }).await?;
        }
        tx.commit().await?;
        Ok::<bool, StoreError>(is_new)
    };
    match disabling.await {
        Ok(true) => {
            warn!(webhook_id = %webhook, reason, "a webhook was disabled; mend its receiver and enable it");
            metrics::counter!("tenantry_webhooks_disabled_total").increment(1);
        }
        Ok(false) => {}
        Err(error) => warn!(%error, webhook_id = %webhook, "a webhook could not be disabled"),
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::{DeliveryId, EventId, EventKind};
    use uuid::Uuid;

    use super::*;

    fn delivery(attempt: u32, queued_at: Timestamp) -> ClaimedDelivery {
        ClaimedDelivery {
            id: DeliveryId::new(Uuid::nil()),
            webhook: WebhookId::new(Uuid::nil()),
            owner: Uuid::nil(),
            url: "https://example.com".to_owned(),
            secrets: Vec::new(),
            attempt,
            queued_at,
            event: EventId::new(Uuid::nil()),
            sequence: 1,
            kind: EventKind::WebhookTest,
            at: queued_at,
            about: json!({}),
            detail: json!({}),
        }
    }

    fn refused(retry_after: Option<Duration>) -> Outcome {
        Outcome {
            status: Some(503),
            error: Some("it answered 503".to_owned()),
            response: None,
            duration: Duration::ZERO,
            retry_after,
            is_gone: false,
        }
    }

    #[test]
    fn waits_grow_are_bounded_and_reach_over_a_day() {
        let config = WebhookConfig::default();
        let mut waited = Duration::ZERO;
        for attempt in 1..60 {
            let wait = backoff(config.backoff, BACKOFF_MAX, attempt);
            assert!(wait >= config.backoff / 2 && wait <= BACKOFF_MAX, "attempt {attempt}: {wait:?}");
            waited += wait;
        }
        assert!(waited > config.give_up_after);
    }

    #[test]
    fn a_delivery_is_given_up_when_its_next_attempt_would_come_too_late() {
        let config = WebhookConfig::default();
        let now = Timestamp::UNIX_EPOCH + Duration::from_hours(48);
        let fresh = judge(&config, &delivery(1, now), refused(None), now);
        assert!(matches!(fresh.end, AttemptEnd::Again(next) if next > now));
        let old = judge(&config, &delivery(20, now - config.give_up_after), refused(None), now);
        assert_eq!(old.end, AttemptEnd::Failed);
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause() {
        let now = Timestamp::UNIX_EPOCH + Duration::from_hours(1);
        let pause = Duration::from_mins(10);
        let judged = judge(&WebhookConfig::default(), &delivery(1, now), refused(Some(pause)), now);
        assert_eq!(judged.end, AttemptEnd::Again(now + pause));
    }
}
