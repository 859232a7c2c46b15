//! The lease columns of the table `operation`: who may do the work, and the writes of whoever does.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tenantry_domain::{OperationId, OperationState};
use uuid::Uuid;

use crate::error::StoreError;
use crate::operations::{Operation, read};
use crate::row::{execute, get, query_one, query_opt};
use crate::store::Store;
use crate::transaction::Tx;

/// The right to work on an operation, until it runs out or somebody else claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Of which operation.
    pub operation: OperationId,
    /// Held by which replica.
    pub owner: Uuid,
    /// Rises with every claim of any operation; whoever has a lower one has lost.
    pub epoch: i64,
}

/// What a worker learns when its lease still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// Whether somebody has asked, by now, for the operation to be walked back.
    pub cancel_requested: bool,
}

/// An operation with the lease on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The work.
    pub operation: Operation,
    /// The right to do it.
    pub lease: Lease,
}

impl Store {
    /// Takes up the operation that has been due longest, suspensions before all others, if one is: queued, waiting past
    /// its time, or left behind by a worker whose lease ran out. What nobody waits for (homes for tenants to come) waits
    /// for everything else. It gets no deadline.
    pub async fn claim_operation(&self, owner: Uuid, lease: Duration) -> Result<Option<Claimed>, StoreError> {
        self.claim_operation_within(owner, lease, &Value::Null).await
    }

    /// The same. An operation that is taken up for the first time gets a deadline: `deadlines` maps its kind to
    /// milliseconds from now; a kind that is not named has none.
    pub async fn claim_operation_within(
        &self,
        owner: Uuid,
        lease: Duration,
        deadlines: &Value,
    ) -> Result<Option<Claimed>, StoreError> {
        let row = query_opt(
            &*self.client().await?,
            "UPDATE operation SET lease_owner = $1, lease_epoch = nextval('lease_epoch'),
                    lease_until = clock_timestamp() + $2 * interval '1 millisecond',
                    deadline_at = coalesce(deadline_at, clock_timestamp()
                                           + ($3::jsonb ->> kind)::float8 * interval '1 millisecond'),
                    state = CASE state WHEN 'undoing' THEN 'undoing' ELSE 'running' END,
                    updated_at = clock_timestamp()
             WHERE id = coalesce(
                       (SELECT id FROM operation
                         WHERE state IN ('queued', 'running', 'waiting', 'undoing') AND held_by IS NULL
                           AND next_run_at <= clock_timestamp()
                           AND (lease_until IS NULL OR lease_until < clock_timestamp())
                           AND kind NOT IN ('prepare_home', 'drop_home')
                         ORDER BY (kind = 'suspend') DESC, next_run_at LIMIT 1 FOR UPDATE SKIP LOCKED),
                       (SELECT id FROM operation
                         WHERE state IN ('queued', 'running', 'waiting', 'undoing') AND held_by IS NULL
                           AND next_run_at <= clock_timestamp()
                           AND (lease_until IS NULL OR lease_until < clock_timestamp())
                         ORDER BY (kind = 'suspend') DESC, next_run_at LIMIT 1 FOR UPDATE SKIP LOCKED))
             RETURNING *",
            &[&owner, &milliseconds(lease), deadlines],
        )
        .await?;
        row.as_ref()
            .map(|row| {
                let operation = read(row)?;
                let lease = Lease { operation: operation.id, owner, epoch: get(row, "lease_epoch")? };
                Ok(Claimed { operation, lease })
            })
            .transpose()
    }

    /// Keeps a lease for longer.
    pub async fn renew_lease(&self, lease: &Lease, length: Duration) -> Result<(), StoreError> {
        let renewed = execute(
            &*self.client().await?,
            "UPDATE operation SET lease_until = clock_timestamp() + $4 * interval '1 millisecond'
             WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 AND lease_until IS NOT NULL",
            &[&lease.operation.as_uuid(), &lease.owner, &lease.epoch, &milliseconds(length)],
        )
        .await?;
        if renewed == 1 { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    /// Whether a lease still holds.
    pub async fn check_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let sql = "SELECT 1 FROM operation
                    WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 AND lease_until IS NOT NULL";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&lease.operation.as_uuid(), &lease.owner, &lease.epoch];
        query_opt(&*self.client().await?, sql, &parameters).await?.map(drop).ok_or(StoreError::LeaseLost)
    }

    /// When the next operation is due that nobody works on.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = query_one(
            &*self.client().await?,
            "SELECT min(greatest(next_run_at, coalesce(lease_until, next_run_at))) AS due FROM operation
             WHERE state IN ('queued', 'running', 'waiting', 'undoing') AND held_by IS NULL",
            &[],
        )
        .await?;
        get(&row, "due")
    }
}

impl Tx {
    /// Locks the operation and makes sure that the lease still holds, notes that a step is done, and moves the cursor on.
    /// Without a next step the operation has succeeded, and the lease is given back. Where somebody has asked for the
    /// operation to be walked back and it `can_be_walked_back`, nothing is written and the answer is false. First in a
    /// transaction, and one round trip, because every step of every operation ends with it.
    pub async fn complete_step(
        &self,
        lease: &Lease,
        step: &str,
        next: Option<&str>,
        progress: &Value,
        can_be_walked_back: bool,
    ) -> Result<bool, StoreError> {
        let row = query_one(
            self.client()?,
            "WITH moved AS (
                 UPDATE operation SET step = coalesce($5::text, $4::text), progress = $6, attempt = 0, error = NULL,
                        state = CASE WHEN $5::text IS NULL THEN 'succeeded' ELSE state END,
                        finished_at = CASE WHEN $5::text IS NULL THEN clock_timestamp() END,
                        lease_owner = CASE WHEN $5::text IS NOT NULL THEN lease_owner END,
                        lease_until = CASE WHEN $5::text IS NOT NULL THEN lease_until END,
                        updated_at = clock_timestamp()
                  WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 AND NOT (cancel_requested AND $7)
                 RETURNING id
             ), told AS (
                 INSERT INTO operation_event (operation, kind, step, detail)
                 SELECT moved.id, event.kind, event.step, '{}'
                   FROM moved
                   CROSS JOIN (VALUES (1, 'step_done', $4::text), (2, 'succeeded', NULL)) AS event (number, kind, step)
                  WHERE number = 1 OR $5::text IS NULL ORDER BY number
             )
             SELECT count(*) AS moved,
                    count(CASE WHEN $5::text IS NULL THEN pg_notify('tenantry', 'ended:' || id) END) AS notified
               FROM moved",
            &[&lease.operation.as_uuid(), &lease.owner, &lease.epoch, &step, &next, progress, &can_be_walked_back],
        )
        .await?;
        if get::<i64>(&row, "moved")? == 1 {
            return Ok(true);
        }
        // One of two reasons, and the row as it was when it was waited for does not tell which.
        self.guard(lease).await.map(|_| false)
    }

    /// Locks the operation and makes sure that the lease still holds. First in every transaction of a worker.
    pub async fn guard(&self, lease: &Lease) -> Result<Guarded, StoreError> {
        let sql =
            "SELECT cancel_requested FROM operation WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 FOR UPDATE";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&lease.operation.as_uuid(), &lease.owner, &lease.epoch];
        let row = query_opt(self.client()?, sql, &parameters).await?.ok_or(StoreError::LeaseLost)?;
        Ok(Guarded { cancel_requested: get(&row, "cancel_requested")? })
    }

    /// Moves the cursor on.
    pub async fn advance(&self, lease: &Lease, next: Option<&str>, progress: &Value) -> Result<(), StoreError> {
        let sql =
            "UPDATE operation SET step = $4, progress = $5, attempt = 0, error = NULL, updated_at = clock_timestamp()
                   WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3";
        let changed =
            execute(self.client()?, sql, &[&lease.operation.as_uuid(), &lease.owner, &lease.epoch, &next, progress])
                .await?;
        held(changed)
    }

    /// Gives the lease back until a later time. An operation that walks back goes on walking back.
    pub async fn retry_later(
        &self,
        lease: &Lease,
        at: Timestamp,
        error: &Value,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let changed = execute(
            self.client()?,
            "UPDATE operation SET state = CASE state WHEN 'undoing' THEN 'undoing' ELSE 'waiting' END,
                    next_run_at = $4, error = $5, attempt = $6, lease_owner = NULL, lease_until = NULL,
                    updated_at = clock_timestamp()
             WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3",
            &[
                &lease.operation.as_uuid(),
                &lease.owner,
                &lease.epoch,
                &at,
                error,
                &i32::try_from(attempt).unwrap_or(i32::MAX),
            ],
        )
        .await?;
        held(changed)?;
        self.notify_operation(lease.operation).await
    }

    /// Gives the lease back until a time before which there is nothing to do, and clears what went wrong before. The
    /// deadline is drawn anew then: waiting for a time is no delay.
    pub async fn wait_until(&self, lease: &Lease, at: Timestamp) -> Result<(), StoreError> {
        let changed = execute(
            self.client()?,
            "UPDATE operation SET state = CASE state WHEN 'undoing' THEN 'undoing' ELSE 'waiting' END,
                    next_run_at = $4, error = NULL, attempt = 0, lease_owner = NULL, lease_until = NULL,
                    deadline_at = NULL, updated_at = clock_timestamp()
             WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3",
            &[&lease.operation.as_uuid(), &lease.owner, &lease.epoch, &at],
        )
        .await?;
        held(changed)?;
        self.notify_operation(lease.operation).await
    }

    /// Changes the state; one that ends or parks the operation gives the lease back.
    pub async fn set_state(
        &self,
        lease: &Lease,
        state: OperationState,
        error: Option<Value>,
    ) -> Result<(), StoreError> {
        let keeps_lease = matches!(state, OperationState::Running | OperationState::Undoing);
        let changed = execute(
            self.client()?,
            "UPDATE operation SET state = $4, error = $5, attempt = 0, undoing = undoing OR $4 = 'undoing',
                    finished_at = CASE WHEN $6 THEN clock_timestamp() END,
                    lease_owner = CASE WHEN $7 THEN lease_owner END,
                    lease_until = CASE WHEN $7 THEN lease_until END,
                    updated_at = clock_timestamp()
             WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3",
            &[
                &lease.operation.as_uuid(),
                &lease.owner,
                &lease.epoch,
                &state.as_str(),
                &error,
                &state.is_finished(),
                &keeps_lease,
            ],
        )
        .await?;
        held(changed)?;
        self.notify_operation(lease.operation).await
    }

    /// Hands the work to whoever claims it next, at once.
    pub async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let changed = execute(
            self.client()?,
            "UPDATE operation SET lease_owner = NULL, lease_until = NULL, next_run_at = clock_timestamp()
             WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3",
            &[&lease.operation.as_uuid(), &lease.owner, &lease.epoch],
        )
        .await?;
        held(changed)?;
        self.notify_operation(lease.operation).await
    }
}

fn held(changed: u64) -> Result<(), StoreError> {
    if changed == 1 { Ok(()) } else { Err(StoreError::LeaseLost) }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
