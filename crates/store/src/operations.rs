//! The tables `operation` and `operation_event`: durable work under leases.

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{ClusterId, OperationId, OperationKind, OperationState, TenantId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::connection::Connection;
use crate::cursor::{PAGE_MAX, Page, PageRequest};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::row::{execute, get, parsed, query, query_one, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;
/// Durable work on one tenant or cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The version of the code that began it.
    pub code_version: i32,
    /// Whose it is.
    pub tenant: Option<TenantId>,
    /// Where it works, if that was known when it began.
    pub cluster: Option<ClusterId>,
    /// What was asked for.
    pub input: Value,
    /// What it remembers from step to step.
    pub progress: Value,
    /// The step that comes next; absent before the first.
    pub step: Option<String>,
    /// Where it stands.
    pub state: OperationState,
    /// Failed attempts at the step so far.
    pub attempt: u32,
    /// Why it waits, is parked, or failed: `reason` and what else is known.
    pub error: Option<Value>,
    /// Whether somebody asked for it to be walked back.
    pub cancel_requested: bool,
    /// The operation that must finish before this one goes on.
    pub held_by: Option<OperationId>,
    /// When it is due.
    pub next_run_at: Timestamp,
    /// Past it, it is walked back, or parked behind its pivot; absent before a worker first had it.
    pub deadline_at: Option<Timestamp>,
    /// Asked for at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
    /// Ended at.
    pub finished_at: Option<Timestamp>,
}

impl Operation {
    /// Until when it waits for nothing but that time; absent where it is at work, held, or tries something again.
    pub fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        let rests = self.state == OperationState::Waiting
            && self.error.is_none()
            && self.held_by.is_none()
            && !self.cancel_requested
            && self.next_run_at > now;
        rests.then_some(self.next_run_at)
    }
}

/// An operation to be inserted as `queued`.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// Whose it is.
    pub tenant: Option<TenantId>,
    /// Where it works.
    pub cluster: Option<ClusterId>,
    /// What was asked for.
    pub input: Value,
    /// What it remembers at its start.
    pub progress: Value,
    /// A key that no other operation has, if one was given.
    pub idempotency_key: Option<String>,
    /// The version of the code that begins it.
    pub code_version: i32,
}

/// What happened in an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationEvent {
    /// Rises with time.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// `queued`, `step_done`, `step_failed`, ….
    pub kind: String,
    /// At which step.
    pub step: Option<String>,
    /// What else is known.
    pub detail: Value,
}

/// Which operations are wanted; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// On this cluster.
    pub cluster: Option<ClusterId>,
    /// Of this kind.
    pub kind: Option<OperationKind>,
    /// In one of these states; none given means all.
    pub state: Vec<OperationState>,
    /// Asked for then or later.
    pub since: Option<Timestamp>,
}

impl Store {
    /// One operation.
    pub async fn operation(&self, id: OperationId) -> Result<Operation, StoreError> {
        select(&*self.client().await?, id, "").await
    }

    /// The operation that was begun under this key, if one was.
    pub async fn operation_by_idempotency_key(&self, key: &str) -> Result<Option<Operation>, StoreError> {
        let sql = "SELECT * FROM operation WHERE idempotency_key = $1";
        query_opt(&*self.client().await?, sql, &[&key]).await?.as_ref().map(read).transpose()
    }

    /// A page of operations, newest first.
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        page: &PageRequest,
    ) -> Result<Page<Operation>, StoreError> {
        let mut conditions = Filter::default();
        if let Some(before) = page.after_id()? {
            conditions.and("id < ?", before, Type::UUID);
        }
        if let Some(tenant) = filter.tenant {
            conditions.and("tenant = ?", tenant.as_uuid(), Type::UUID);
        }
        if let Some(cluster) = filter.cluster {
            conditions.and("cluster = ?", cluster.as_uuid(), Type::UUID);
        }
        if let Some(kind) = filter.kind {
            conditions.and("kind = ?", kind.as_str(), Type::TEXT);
        }
        if !filter.state.is_empty() {
            let states: Vec<&'static str> = filter.state.iter().map(|state| state.as_str()).collect();
            conditions.and("state = ANY (?)", states, Type::TEXT_ARRAY);
        }
        if let Some(since) = filter.since {
            conditions.and("created_at >= ?", since, Type::TIMESTAMPTZ);
        }
        let client = self.client().await?;
        let rows = conditions.query(&client, "SELECT * FROM operation", "ORDER BY id DESC", page.probe()).await?;
        let operations = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(operations, |operation: &Operation| operation.id.to_string()))
    }

    /// How many operations of each kind are parked; kinds without one are left out.
    pub async fn count_parked(&self) -> Result<Vec<(OperationKind, i64)>, StoreError> {
        let sql = "SELECT kind, count(*) AS parked FROM operation WHERE state = 'parked' GROUP BY kind";
        let rows = query(&*self.client().await?, sql, &[]).await?;
        rows.iter().map(|row| Ok((parsed(row, "kind")?, get(row, "parked")?))).collect()
    }

    /// What happened, oldest first, after the event of that id.
    pub async fn operation_events(
        &self,
        id: OperationId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<OperationEvent>, StoreError> {
        let sql = "SELECT * FROM operation_event WHERE operation = $1 AND id > $2 ORDER BY id LIMIT $3";
        let limit = limit.clamp(1, i64::from(PAGE_MAX));
        let rows = query(&*self.client().await?, sql, &[&id.as_uuid(), &after, &limit]).await?;
        rows.iter()
            .map(|row| {
                Ok(OperationEvent {
                    id: get(row, "id")?,
                    at: time(row, "at")?,
                    kind: get(row, "kind")?,
                    step: get(row, "step")?,
                    detail: get(row, "detail")?,
                })
            })
            .collect()
    }
}

impl Tx {
    /// A new operation, as it is then; workers hear of it at the commit.
    pub async fn insert_operation(&self, new: &NewOperation) -> Result<Operation, StoreError> {
        self.insert(new, None).await
    }

    /// A new operation that begins once another one of the same tenant is done.
    pub async fn insert_held_operation(&self, new: &NewOperation, by: OperationId) -> Result<Operation, StoreError> {
        self.insert(new, Some(by)).await
    }

    async fn insert(&self, new: &NewOperation, held_by: Option<OperationId>) -> Result<Operation, StoreError> {
        let row = query_one(
            self.client()?,
            "WITH queued AS (
                 INSERT INTO operation (id, kind, code_version, tenant, cluster, input, progress, idempotency_key,
                                        held_by, state)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                         CASE WHEN $9::uuid IS NULL THEN 'queued' ELSE 'waiting' END)
                 RETURNING *
             ), told AS (
                 INSERT INTO operation_event (operation, kind, detail) SELECT id, 'queued', '{}' FROM queued
             )
             SELECT queued.*, pg_notify('tenantry', 'queued:' || id) FROM queued",
            &[
                &new.id.as_uuid(),
                &new.kind.as_str(),
                &new.code_version,
                &new.tenant.map(TenantId::as_uuid),
                &new.cluster.map(ClusterId::as_uuid),
                &new.input,
                &new.progress,
                &new.idempotency_key,
                &held_by.map(OperationId::as_uuid),
            ],
        )
        .await?;
        read(&row)
    }

    /// One operation, which nobody else changes until the end of the transaction.
    pub async fn lock_operation(&self, id: OperationId) -> Result<Operation, StoreError> {
        select(self.client()?, id, "FOR UPDATE").await
    }

    /// What it remembers, before any worker has it.
    pub async fn set_progress(&self, id: OperationId, progress: &Value) -> Result<(), StoreError> {
        let sql = "UPDATE operation SET progress = $2 WHERE id = $1";
        execute(self.client()?, sql, &[&id.as_uuid(), progress]).await?;
        Ok(())
    }

    /// Adds to the operation's history.
    pub async fn record_event(
        &self,
        operation: OperationId,
        kind: &str,
        step: Option<&str>,
        detail: &Value,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO operation_event (operation, kind, step, detail) VALUES ($1, $2, $3, $4)";
        execute(self.client()?, sql, &[&operation.as_uuid(), &kind, &step, detail]).await?;
        Ok(())
    }

    /// Notes that the operation is to be walked back; a worker does it at the next step. A parked one is taken up for it.
    pub async fn request_cancel(&self, id: OperationId) -> Result<(), StoreError> {
        execute(
            self.client()?,
            "UPDATE operation SET cancel_requested = true, updated_at = clock_timestamp(), next_run_at = clock_timestamp(),
                    state = CASE WHEN state <> 'parked' THEN state WHEN undoing THEN 'undoing' ELSE 'queued' END
             WHERE id = $1",
            &[&id.as_uuid()],
        )
        .await?;
        self.record_event(id, "cancel_requested", None, &json!({})).await?;
        self.notify_operation(id).await
    }

    /// Takes an operation up again: where it stands, walking back if it was, or, with new progress, from its first step.
    pub async fn requeue(&self, id: OperationId, progress: Option<&Value>) -> Result<(), StoreError> {
        execute(
            self.client()?,
            "UPDATE operation SET attempt = 0, next_run_at = clock_timestamp(), finished_at = NULL, lease_owner = NULL,
                    deadline_at = NULL, lease_until = NULL, undoing = undoing AND $2::jsonb IS NULL,
                    state = CASE WHEN undoing AND $2 IS NULL THEN 'undoing' ELSE 'queued' END,
                    error = CASE WHEN undoing AND $2 IS NULL THEN error END,
                    cancel_requested = cancel_requested AND undoing AND $2 IS NULL,
                    step = CASE WHEN $2 IS NULL THEN step END, progress = coalesce($2, progress),
                    updated_at = clock_timestamp()
             WHERE id = $1",
            &[&id.as_uuid(), &progress],
        )
        .await?;
        self.record_event(id, "retried", None, &json!({})).await?;
        self.notify_operation(id).await
    }

    /// Takes a parked operation up at a later step.
    pub async fn skip_to(&self, id: OperationId, step: &str) -> Result<(), StoreError> {
        let skipped = execute(
            self.client()?,
            "UPDATE operation SET state = 'queued', step = $2, attempt = 0, error = NULL, deadline_at = NULL,
                    next_run_at = clock_timestamp(), updated_at = clock_timestamp()
             WHERE id = $1 AND state = 'parked' AND NOT undoing",
            &[&id.as_uuid(), &step],
        )
        .await?;
        if skipped == 0 {
            return Err(StoreError::Conflict {
                reason: "only a parked operation that is not walking back can skip a step; retry or abandon it"
                    .to_owned(),
            });
        }
        self.record_event(id, "skipped", Some(step), &json!({})).await?;
        self.notify_operation(id).await
    }

    /// Ends a parked operation as failed.
    pub async fn abandon(&self, id: OperationId) -> Result<(), StoreError> {
        execute(
            self.client()?,
            "UPDATE operation SET state = 'failed', finished_at = clock_timestamp(), updated_at = clock_timestamp()
             WHERE id = $1",
            &[&id.as_uuid()],
        )
        .await?;
        self.record_event(id, "abandoned", None, &json!({})).await?;
        self.notify_operation(id).await
    }

    pub(crate) async fn notify_operation(&self, id: OperationId) -> Result<(), StoreError> {
        execute(self.client()?, "SELECT pg_notify('tenantry', $1)", &[&format!("operation:{id}")]).await?;
        Ok(())
    }
}

async fn select(client: &Connection, id: OperationId, lock: &str) -> Result<Operation, StoreError> {
    let sql = format!("SELECT * FROM operation WHERE id = $1 {lock}");
    let row = query_opt(client, &sql, &[&id.as_uuid()]).await?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::NotFound { what: "operation", name: id.to_string() })
}

pub(crate) fn read(row: &Row) -> Result<Operation, StoreError> {
    Ok(Operation {
        id: OperationId::new(get(row, "id")?),
        kind: parsed(row, "kind")?,
        code_version: get(row, "code_version")?,
        tenant: get::<Option<Uuid>>(row, "tenant")?.map(TenantId::new),
        cluster: get::<Option<Uuid>>(row, "cluster")?.map(ClusterId::new),
        input: get(row, "input")?,
        progress: get::<Option<Value>>(row, "progress")?.unwrap_or(Value::Null),
        step: get(row, "step")?,
        state: parsed(row, "state")?,
        attempt: u32::try_from(get::<i32>(row, "attempt")?).map_err(StoreError::internal)?,
        error: get(row, "error")?,
        cancel_requested: get(row, "cancel_requested")?,
        held_by: get::<Option<Uuid>>(row, "held_by")?.map(OperationId::new),
        next_run_at: time(row, "next_run_at")?,
        deadline_at: get(row, "deadline_at")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        finished_at: get(row, "finished_at")?,
    })
}
