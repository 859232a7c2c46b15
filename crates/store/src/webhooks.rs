//! The table `webhook`: who wants to be told of what, and the upkeep of what was sent.

use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{EventKind, Secret, WebhookId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::keyring::KeyOwner;
use crate::row::{count, execute, get, query, query_one, query_opt, time};
use crate::secrets::insert_secrets;
use crate::store::Store;
use crate::transaction::Tx;

/// What a webhook's secret is sealed for.
const PURPOSE: &str = "webhook";
/// Rows that one statement of the upkeep removes.
const SWEEP: i64 = 5_000;
/// How long a deleted webhook's row stays. Longer than any transaction that may still add a delivery to it.
const DELETED_KEPT_SECONDS: f64 = 600.0;

/// A webhook to be recorded.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Its id.
    pub id: WebhookId,
    /// Where events are sent.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// What it wants to hear of; none means everything.
    pub events: Vec<EventKind>,
    /// What its events are signed with.
    pub secret: Secret,
}

/// A webhook without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRecord {
    /// Its id.
    pub id: WebhookId,
    /// Where events are sent.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// What it wants to hear of; none means everything.
    pub events: Vec<EventKind>,
    /// Whether events are queued and sent.
    pub enabled: bool,
    /// Why it is not, unless a person said so.
    pub disabled_reason: Option<String>,
    /// Since when no event was taken.
    pub failing_since: Option<Timestamp>,
    /// Until when events are signed with the secret before the last rotation too.
    pub previous_secret_until: Option<Timestamp>,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at; also its version for conditional updates.
    pub updated_at: Timestamp,
}

/// What changes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookChange {
    /// Another URL.
    pub url: Option<String>,
    /// Another description.
    pub description: Option<String>,
    /// Other events.
    pub events: Option<Vec<EventKind>>,
    /// Begin or stop sending. Beginning forgets why it was stopped.
    pub enabled: Option<bool>,
}

/// How the webhooks fare, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookFigures {
    /// Deliveries that wait to be sent.
    pub pending: u32,
    /// Enabled webhooks that take nothing.
    pub failing: u32,
    /// Webhooks that were disabled because they took nothing.
    pub disabled: u32,
}

impl Tx {
    /// Records a webhook.
    pub async fn insert_webhook(&self, new: &NewWebhook) -> Result<WebhookRecord, StoreError> {
        let [secret] =
            insert_secrets(self.client()?, self.keyring(), KeyOwner::Platform, [(PURPOSE, &new.secret)]).await?;
        let row = query_one(
            self.client()?,
            "INSERT INTO webhook (id, url, description, events, secret) VALUES ($1, $2, $3, $4, $5) RETURNING *",
            &[&new.id.as_uuid(), &new.url, &new.description, &words(&new.events), &secret],
        )
        .await?;
        read(&row)
    }

    /// How many webhooks there are. Nobody adds one until the transaction ends.
    pub async fn count_webhooks(&self) -> Result<u32, StoreError> {
        query_one(self.client()?, "SELECT pg_advisory_xact_lock(hashtextextended('tenantry.webhook', 0))", &[]).await?;
        let sql = "SELECT count(*) AS webhooks FROM webhook WHERE deleted_at IS NULL";
        count(&query_one(self.client()?, sql, &[]).await?, "webhooks")
    }

    /// One webhook, which nobody else changes until the end of the transaction.
    pub async fn lock_webhook(&self, id: WebhookId) -> Result<WebhookRecord, StoreError> {
        let sql = "SELECT * FROM webhook WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE";
        query_opt(self.client()?, sql, &[&id.as_uuid()]).await?.as_ref().map_or_else(|| Err(not_found(id)), read)
    }

    /// Changes what the change names.
    pub async fn update_webhook(&self, id: WebhookId, change: &WebhookChange) -> Result<WebhookRecord, StoreError> {
        let row = query_opt(
            self.client()?,
            "UPDATE webhook SET url = coalesce($2, url), description = coalesce($3, description),
                    events = coalesce($4, events), enabled = coalesce($5, enabled),
                    disabled_reason = CASE WHEN $5 IS NULL THEN disabled_reason END,
                    failing_since = CASE WHEN $5 IS NULL THEN failing_since END,
                    updated_at = clock_timestamp()
              WHERE id = $1 AND deleted_at IS NULL RETURNING *",
            &[&id.as_uuid(), &change.url, &change.description, &change.events.as_deref().map(words), &change.enabled],
        )
        .await?;
        row.as_ref().map_or_else(|| Err(not_found(id)), read)
    }

    /// Gives the webhook another secret; the one that it had signs along for `overlap`.
    pub async fn rotate_webhook_secret(
        &self,
        id: WebhookId,
        secret: &Secret,
        overlap: Duration,
    ) -> Result<WebhookRecord, StoreError> {
        let client = self.client()?;
        let [secret] = insert_secrets(client, self.keyring(), KeyOwner::Platform, [(PURPOSE, secret)]).await?;
        let held = "SELECT previous_secret FROM webhook WHERE id = $1";
        let dropped: Option<Uuid> = query_opt(client, held, &[&id.as_uuid()])
            .await?
            .as_ref()
            .map_or(Ok(None), |row| get(row, "previous_secret"))?;
        let row = query_opt(
            client,
            "UPDATE webhook SET previous_secret = secret, secret = $2,
                    previous_until = clock_timestamp() + make_interval(secs => $3), updated_at = clock_timestamp()
              WHERE id = $1 AND deleted_at IS NULL RETURNING *",
            &[&id.as_uuid(), &secret, &overlap.as_secs_f64()],
        )
        .await?;
        execute(client, "DELETE FROM secret WHERE id = $1", &[&dropped]).await?;
        row.as_ref().map_or_else(|| Err(not_found(id)), read)
    }

    /// Takes a webhook away: nothing more is queued or sent. What was sent is forgotten by the upkeep.
    pub async fn delete_webhook(&self, id: WebhookId) -> Result<(), StoreError> {
        let sql = "UPDATE webhook SET enabled = false, deleted_at = clock_timestamp()
                    WHERE id = $1 AND deleted_at IS NULL";
        match execute(self.client()?, sql, &[&id.as_uuid()]).await? {
            0 => Err(not_found(id)),
            _ => Ok(()),
        }
    }

    /// Stops sending to a webhook for a reason of its own or ours.
    pub async fn disable_webhook(&self, id: WebhookId, reason: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE webhook SET enabled = false, disabled_reason = $2, updated_at = clock_timestamp()
                    WHERE id = $1 AND enabled";
        Ok(execute(self.client()?, sql, &[&id.as_uuid(), &reason]).await? > 0)
    }
}

impl Store {
    /// One webhook.
    pub async fn webhook(&self, id: WebhookId) -> Result<WebhookRecord, StoreError> {
        let sql = "SELECT * FROM webhook WHERE id = $1 AND deleted_at IS NULL";
        let row = query_opt(&*self.client().await?, sql, &[&id.as_uuid()]).await?;
        row.as_ref().map_or_else(|| Err(not_found(id)), read)
    }

    /// A page of webhooks, oldest first.
    pub async fn webhooks(&self, page: &PageRequest) -> Result<Page<WebhookRecord>, StoreError> {
        let sql =
            "SELECT * FROM webhook WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2";
        let rows = query(&*self.client().await?, sql, &[&page.after_id()?, &page.probe()]).await?;
        let webhooks = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(webhooks, |webhook: &WebhookRecord| webhook.id.to_string()))
    }

    /// Enabled webhooks that have taken nothing for so long.
    pub async fn webhooks_failing_for(&self, long: Duration) -> Result<Vec<WebhookRecord>, StoreError> {
        let sql = "SELECT * FROM webhook WHERE enabled AND failing_since < now() - make_interval(secs => $1)
                    ORDER BY id LIMIT 100";
        query(&*self.client().await?, sql, &[&long.as_secs_f64()]).await?.iter().map(read).collect()
    }

    /// How the webhooks fare.
    pub async fn webhook_figures(&self) -> Result<WebhookFigures, StoreError> {
        let row = query_one(
            &*self.client().await?,
            "SELECT (SELECT count(*) FROM webhook_delivery WHERE state = 'pending') AS pending,
                    (SELECT count(*) FROM webhook WHERE enabled AND failing_since IS NOT NULL) AS failing,
                    (SELECT count(*) FROM webhook WHERE disabled_reason IS NOT NULL AND deleted_at IS NULL) AS disabled",
            &[],
        )
        .await?;
        Ok(WebhookFigures {
            pending: count(&row, "pending")?,
            failing: count(&row, "failing")?,
            disabled: count(&row, "disabled")?,
        })
    }

    /// Forgets what is over: secrets whose overlap has ended, deliveries that ended longer than `kept` ago, those of
    /// deleted webhooks, events that nobody is told of any more. Some thousands at a time; says how many rows went.
    pub async fn sweep_webhooks(&self, kept: Duration) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let kept = kept.as_secs_f64();
        execute(
            &client,
            "WITH over AS (
                 UPDATE webhook SET previous_secret = NULL, previous_until = NULL
                   FROM webhook AS held WHERE held.id = webhook.id AND webhook.previous_until < now()
                 RETURNING held.previous_secret AS id
             ) DELETE FROM secret WHERE id IN (SELECT id FROM over)",
            &[],
        )
        .await?;
        let deliveries = execute(
            &client,
            "DELETE FROM webhook_delivery WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM webhook_delivery
                  WHERE state <> 'pending' AND finished_at < now() - make_interval(secs => $1)
                  ORDER BY finished_at LIMIT $2))",
            &[&kept, &SWEEP],
        )
        .await?;
        let orphaned = execute(
            &client,
            "DELETE FROM webhook_delivery WHERE ctid = ANY (ARRAY(
                 SELECT d.ctid FROM webhook w JOIN webhook_delivery d ON d.webhook = w.id
                  WHERE w.deleted_at IS NOT NULL LIMIT $1))",
            &[&SWEEP],
        )
        .await?;
        let events = execute(
            &client,
            "DELETE FROM webhook_event WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM webhook_event e WHERE at < now() - make_interval(secs => $1)
                    AND NOT EXISTS (SELECT FROM webhook_delivery d WHERE d.event = e.id)
                  ORDER BY at LIMIT $2))",
            &[&DELETED_KEPT_SECONDS.max(kept), &SWEEP],
        )
        .await?;
        let webhooks = execute(
            &client,
            "WITH gone AS (
                 DELETE FROM webhook w WHERE deleted_at < now() - make_interval(secs => $1)
                    AND NOT EXISTS (SELECT FROM webhook_delivery d WHERE d.webhook = w.id)
                 RETURNING secret, previous_secret
             ) DELETE FROM secret USING gone WHERE secret.id IN (gone.secret, gone.previous_secret)",
            &[&DELETED_KEPT_SECONDS],
        )
        .await?;
        Ok(deliveries + orphaned + events + webhooks)
    }
}

fn words(events: &[EventKind]) -> Vec<&'static str> {
    events.iter().map(|event| event.as_str()).collect()
}

fn not_found(id: WebhookId) -> StoreError {
    StoreError::NotFound { what: "webhook", name: id.to_string() }
}

fn read(row: &Row) -> Result<WebhookRecord, StoreError> {
    let events = get::<Vec<&str>>(row, "events")?;
    Ok(WebhookRecord {
        id: WebhookId::new(get(row, "id")?),
        url: get(row, "url")?,
        description: get(row, "description")?,
        events: events.into_iter().map(str::parse).collect::<Result<_, _>>().map_err(StoreError::internal)?,
        enabled: get(row, "enabled")?,
        disabled_reason: get(row, "disabled_reason")?,
        failing_since: get(row, "failing_since")?,
        previous_secret_until: get(row, "previous_until")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
