//! The table `webhook_delivery`: one event for one webhook, claimed with a lease while it is sent.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tenantry_domain::{DeliveryId, DeliveryState, EventId, EventKind, Secret, TenantId, WebhookId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::row::{execute, get, parsed, query, query_one, query_opt, time};
use crate::secrets::{OpenKeys, columns, open_secret};
use crate::store::Store;
use crate::transaction::Tx;

/// A delivery as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryRecord {
    /// Its id, the same however often it is sent.
    pub id: DeliveryId,
    /// For which webhook.
    pub webhook: WebhookId,
    /// Of which event.
    pub event: EventId,
    /// What happened.
    pub kind: EventKind,
    /// To which tenant.
    pub tenant: Option<TenantId>,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was sent since it was queued.
    pub attempts: u32,
    /// Queued, by the event or by a person, at.
    pub queued_at: Timestamp,
    /// When it is sent next, while it is pending.
    pub next_attempt_at: Timestamp,
    /// Last sent at.
    pub attempted_at: Option<Timestamp>,
    /// HTTP status of the last answer.
    pub status: Option<u16>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The beginning of the last answer.
    pub response: Option<String>,
    /// How long the last attempt took.
    pub duration_ms: Option<u64>,
    /// Delivered or given up at.
    pub finished_at: Option<Timestamp>,
}

/// How many deliveries may be taken at once, and which wait for others.
#[derive(Debug, Clone)]
pub struct ClaimRules<'a> {
    /// In whose name.
    pub owner: Uuid,
    /// For how long.
    pub lease: Duration,
    /// How many at most.
    pub most: usize,
    /// How many of one webhook may be on their way from here.
    pub per_webhook: usize,
    /// How many are on their way from here now.
    pub under_way: &'a [(WebhookId, usize)],
    /// A delivery with fewer attempts than this holds back those of the same tenant behind it.
    pub ordered_attempts: u32,
}

/// A delivery that may be sent until its lease runs out, with all that it takes.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// For which webhook.
    pub webhook: WebhookId,
    /// In whose name it was claimed.
    pub owner: Uuid,
    /// Where to.
    pub url: String,
    /// What it is signed with: the newest first, and one that still overlaps.
    pub secrets: Vec<Secret>,
    /// Which attempt this is, from one.
    pub attempt: u32,
    /// Queued at.
    pub queued_at: Timestamp,
    /// The event's id.
    pub event: EventId,
    /// Rises with every event.
    pub sequence: i64,
    /// What happened.
    pub kind: EventKind,
    /// When it happened.
    pub at: Timestamp,
    /// Whom it is about, as they were then.
    pub about: Value,
    /// What else there is to know.
    pub detail: Value,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What is to become of the delivery.
    pub end: AttemptEnd,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub response: Option<String>,
    /// How long it took.
    pub duration: Duration,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It was taken.
    Delivered,
    /// It is sent again, not before this time.
    Again(Timestamp),
    /// It is given up.
    Failed,
}

impl AttemptEnd {
    fn state(self) -> DeliveryState {
        match self {
            Self::Delivered => DeliveryState::Delivered,
            Self::Again(_) => DeliveryState::Pending,
            Self::Failed => DeliveryState::Failed,
        }
    }
}

const SELECT: &str =
    "SELECT * FROM (SELECT d.*, e.kind FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event) AS delivery";

impl Store {
    /// A page of a webhook's deliveries, newest first; no state given means all.
    pub async fn deliveries(
        &self,
        webhook: WebhookId,
        states: &[DeliveryState],
        page: &PageRequest,
    ) -> Result<Page<DeliveryRecord>, StoreError> {
        let mut conditions = Filter::default();
        conditions.and("webhook = ?", webhook.as_uuid(), Type::UUID);
        if !states.is_empty() {
            let states: Vec<&'static str> = states.iter().map(|state| state.as_str()).collect();
            conditions.and("state = ANY (?)", states, Type::TEXT_ARRAY);
        }
        if let Some(before) = page.after_number()? {
            conditions.and("number < ?", before, Type::INT8);
        }
        let rows = conditions.query(&*self.client().await?, SELECT, "ORDER BY number DESC", page.probe()).await?;
        let numbered =
            rows.iter().map(|row| Ok((get::<i64>(row, "number")?, read(row)?))).collect::<Result<_, StoreError>>()?;
        Ok(page.page(numbered, |(number, _): &(i64, _)| number.to_string()).map(|(_, delivery)| delivery))
    }

    /// One delivery of a webhook.
    pub async fn delivery(&self, webhook: WebhookId, id: DeliveryId) -> Result<DeliveryRecord, StoreError> {
        let sql = format!("{SELECT} WHERE id = $1 AND webhook = $2");
        let row = query_opt(&*self.client().await?, &sql, &[&id.as_uuid(), &webhook.as_uuid()]).await?;
        row.as_ref().map_or_else(|| Err(not_found(id)), read)
    }

    /// Takes deliveries that are due, of each webhook the longest due first. Of one tenant's events, the later wait for
    /// the earlier, until those have failed often.
    pub async fn claim_deliveries(&self, rules: &ClaimRules<'_>) -> Result<Vec<ClaimedDelivery>, StoreError> {
        let (busy, counts): (Vec<Uuid>, Vec<i64>) = rules
            .under_way
            .iter()
            .map(|(webhook, sends)| (webhook.as_uuid(), i64::try_from(*sends).unwrap_or(i64::MAX)))
            .unzip();
        let sql = format!(
            "WITH free AS (
                 SELECT due.id
                   FROM webhook w LEFT JOIN unnest($3::uuid[], $4::bigint[]) AS busy (webhook, sends) ON busy.webhook = w.id
                  CROSS JOIN LATERAL (
                        SELECT d.id FROM webhook_delivery d
                         WHERE d.webhook = w.id AND d.state = 'pending' AND d.next_attempt_at <= clock_timestamp()
                           AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
                           AND NOT EXISTS (SELECT FROM webhook_delivery earlier
                                            WHERE earlier.webhook = d.webhook AND earlier.tenant = d.tenant
                                              AND earlier.sequence < d.sequence AND earlier.state = 'pending'
                                              AND earlier.attempts < $7)
                         ORDER BY d.next_attempt_at, d.sequence
                         LIMIT greatest(0, $5 - coalesce(busy.sends, 0)) FOR UPDATE SKIP LOCKED) AS due
                  WHERE w.enabled LIMIT $6
             ), claimed AS (
                 UPDATE webhook_delivery d
                    SET lease_owner = $1, lease_until = clock_timestamp() + make_interval(secs => $2),
                        attempts = attempts + 1, attempted_at = clock_timestamp()
                  WHERE d.id IN (SELECT id FROM free) RETURNING d.*
             )
             SELECT claimed.*, e.kind, e.at, e.about, e.detail, w.url, {}, {}
               FROM claimed JOIN webhook_event e ON e.id = claimed.event JOIN webhook w ON w.id = claimed.webhook
               JOIN sealed_secret newest ON newest.id = w.secret
               LEFT JOIN sealed_secret previous ON previous.id = w.previous_secret AND w.previous_until > now()
              ORDER BY claimed.sequence",
            columns("newest"),
            columns("previous"),
        );
        let rows = query(
            &*self.client().await?,
            &sql,
            &[
                &rules.owner,
                &rules.lease.as_secs_f64(),
                &busy,
                &counts,
                &i64::try_from(rules.per_webhook).unwrap_or(i64::MAX),
                &i64::try_from(rules.most).unwrap_or(i64::MAX),
                &i32::try_from(rules.ordered_attempts).unwrap_or(i32::MAX),
            ],
        )
        .await?;
        let keys = OpenKeys::of(self.keyring(), &rows, &["newest", "previous"]).await?;
        rows.iter().map(|row| read_claimed(&keys, row, rules.owner)).collect()
    }

    /// When the next delivery becomes due that is not due yet.
    pub async fn next_delivery_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = query_one(
            &*self.client().await?,
            "SELECT min(next.at) AS at FROM webhook w CROSS JOIN LATERAL (
                 SELECT next_attempt_at AS at FROM webhook_delivery d
                  WHERE d.webhook = w.id AND d.state = 'pending' AND d.next_attempt_at > clock_timestamp()
                  ORDER BY d.next_attempt_at LIMIT 1) AS next
              WHERE w.enabled",
            &[],
        )
        .await?;
        get(&row, "at")
    }

    /// Writes what came of an attempt, unless somebody else has the delivery by now; says whether it was written.
    pub async fn finish_delivery(&self, claimed: &ClaimedDelivery, attempt: &Attempt) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let again = match attempt.end {
            AttemptEnd::Again(at) => Some(at),
            AttemptEnd::Delivered | AttemptEnd::Failed => None,
        };
        let written = execute(
            tx.client()?,
            "UPDATE webhook_delivery
                SET state = $4, lease_owner = NULL, lease_until = NULL, status = $5, error = $6, response = $7,
                    duration_ms = $8, next_attempt_at = coalesce($9, next_attempt_at),
                    finished_at = CASE WHEN $4 <> 'pending' THEN clock_timestamp() END
              WHERE id = $1 AND lease_owner = $2 AND attempts = $3",
            &[
                &claimed.id.as_uuid(),
                &claimed.owner,
                &i32::try_from(claimed.attempt).unwrap_or(i32::MAX),
                &attempt.end.state().as_str(),
                &attempt.status.map(i32::from),
                &attempt.error,
                &attempt.response,
                &i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX),
                &again,
            ],
        )
        .await?;
        if written == 0 {
            return Ok(false);
        }
        let fares = if attempt.end == AttemptEnd::Delivered {
            "UPDATE webhook SET failing_since = NULL WHERE id = $1 AND failing_since IS NOT NULL"
        } else {
            "UPDATE webhook SET failing_since = clock_timestamp() WHERE id = $1 AND failing_since IS NULL"
        };
        execute(tx.client()?, fares, &[&claimed.webhook.as_uuid()]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Gives a claimed delivery back, to be sent at once by whoever takes it.
    pub async fn release_delivery(&self, claimed: &ClaimedDelivery) -> Result<(), StoreError> {
        let sql = "UPDATE webhook_delivery SET lease_owner = NULL, lease_until = NULL
                    WHERE id = $1 AND lease_owner = $2 AND attempts = $3";
        let attempt = i32::try_from(claimed.attempt).unwrap_or(i32::MAX);
        execute(&*self.client().await?, sql, &[&claimed.id.as_uuid(), &claimed.owner, &attempt]).await?;
        Ok(())
    }

    /// Gives up what waits since longer than that for a webhook that is disabled. Some thousands at a time.
    pub async fn fail_stale_deliveries(&self, older_than: Duration) -> Result<u64, StoreError> {
        execute(
            &*self.client().await?,
            "UPDATE webhook_delivery SET state = 'failed', finished_at = clock_timestamp(), lease_owner = NULL,
                    lease_until = NULL, error = 'the webhook is disabled'
              WHERE id = ANY (ARRAY(
                    SELECT d.id FROM webhook w JOIN webhook_delivery d ON d.webhook = w.id
                     WHERE NOT w.enabled AND w.deleted_at IS NULL AND d.state = 'pending'
                       AND d.queued_at < now() - make_interval(secs => $1) LIMIT 5000))",
            &[&older_than.as_secs_f64()],
        )
        .await
    }
}

impl Tx {
    /// The newest delivery of a webhook that this transaction has queued.
    pub async fn last_delivery(&self, webhook: WebhookId) -> Result<DeliveryId, StoreError> {
        let sql = "SELECT id FROM webhook_delivery WHERE webhook = $1 AND xmin = pg_current_xact_id()::xid
                    ORDER BY number DESC LIMIT 1";
        let row = query_opt(self.client()?, sql, &[&webhook.as_uuid()]).await?;
        let row = row.ok_or_else(|| StoreError::Conflict {
            reason: "the webhook is disabled, so nothing is sent to it; enable it first".to_owned(),
        })?;
        Ok(DeliveryId::new(get(&row, "id")?))
    }

    /// Sends a delivery again, at once and under the same id, as if it had just been queued.
    pub async fn requeue_delivery(&self, webhook: WebhookId, id: DeliveryId) -> Result<(), StoreError> {
        let requeued = execute(
            self.client()?,
            "UPDATE webhook_delivery
                SET state = 'pending', attempts = CASE WHEN lease_until > clock_timestamp() THEN attempts ELSE 0 END,
                    queued_at = clock_timestamp(), next_attempt_at = clock_timestamp(), finished_at = NULL
              WHERE id = $1 AND webhook = $2",
            &[&id.as_uuid(), &webhook.as_uuid()],
        )
        .await?;
        if requeued == 0 {
            return Err(not_found(id));
        }
        let wake = format!("reconciler:{}", crate::events::WEBHOOKS_WAKE);
        query_one(self.client()?, "SELECT pg_notify('tenantry', $1)", &[&wake]).await?;
        Ok(())
    }
}

fn not_found(id: DeliveryId) -> StoreError {
    StoreError::NotFound { what: "delivery", name: id.to_string() }
}

fn attempts(row: &Row) -> Result<u32, StoreError> {
    u32::try_from(get::<i32>(row, "attempts")?).map_err(StoreError::internal)
}

fn read(row: &Row) -> Result<DeliveryRecord, StoreError> {
    let status = get::<Option<i32>>(row, "status")?.map(u16::try_from).transpose().map_err(StoreError::internal)?;
    let duration = get::<Option<i64>>(row, "duration_ms")?.map(u64::try_from).transpose();
    Ok(DeliveryRecord {
        id: DeliveryId::new(get(row, "id")?),
        webhook: WebhookId::new(get(row, "webhook")?),
        event: EventId::new(get(row, "event")?),
        kind: parsed(row, "kind")?,
        tenant: get::<Option<Uuid>>(row, "tenant")?.map(TenantId::new),
        state: parsed(row, "state")?,
        attempts: attempts(row)?,
        queued_at: time(row, "queued_at")?,
        next_attempt_at: time(row, "next_attempt_at")?,
        attempted_at: get(row, "attempted_at")?,
        status,
        error: get(row, "error")?,
        response: get(row, "response")?,
        duration_ms: duration.map_err(StoreError::internal)?,
        finished_at: get(row, "finished_at")?,
    })
}

fn read_claimed(keys: &OpenKeys<'_>, row: &Row, owner: Uuid) -> Result<ClaimedDelivery, StoreError> {
    let secrets = [open_secret(keys, row, "newest")?, open_secret(keys, row, "previous")?];
    Ok(ClaimedDelivery {
        id: DeliveryId::new(get(row, "id")?),
        webhook: WebhookId::new(get(row, "webhook")?),
        owner,
        url: get(row, "url")?,
        secrets: secrets.into_iter().flatten().collect(),
        attempt: attempts(row)?,
        queued_at: time(row, "queued_at")?,
        event: EventId::new(get(row, "event")?),
        sequence: get(row, "sequence")?,
        kind: parsed(row, "kind")?,
        at: time(row, "at")?,
        about: get(row, "about")?,
        detail: get(row, "detail")?,
    })
}
