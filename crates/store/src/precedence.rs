//! Which of a tenant's operations goes first. One at a time is at work; others are held by it until it is done.
//!
//! Locks are taken in one order everywhere: operations (the one at work before those it holds), then their tenant.

use serde_json::json;
use tenantry_domain::{OperationId, OperationKind, TenantId};

use crate::error::StoreError;
use crate::operations::{Operation, read};
use crate::row::{execute, get, query};
use crate::transaction::Tx;

impl Tx {
    /// The tenant's unfinished operations, which nobody else changes until the end of the transaction: the one at work
    /// first, if there is one, then those that are held. Before the tenant itself is locked.
    pub async fn lock_open_operations(&self, tenant: TenantId) -> Result<Vec<Operation>, StoreError> {
        let sql = "SELECT * FROM operation WHERE tenant = $1 AND finished_at IS NULL
                   ORDER BY held_by IS NOT NULL, id FOR UPDATE";
        query(self.client()?, sql, &[&tenant.as_uuid()]).await?.iter().map(read).collect()
    }

    /// Their ids in the same order, without locking them: whether new ones came while the tenant was waited for.
    pub async fn open_operations(&self, tenant: TenantId) -> Result<Vec<OperationId>, StoreError> {
        let sql = "SELECT id FROM operation WHERE tenant = $1 AND finished_at IS NULL ORDER BY held_by IS NOT NULL, id";
        let rows = query(self.client()?, sql, &[&tenant.as_uuid()]).await?;
        rows.iter().map(|row| get(row, "id").map(OperationId::new)).collect()
    }

    /// Holds an operation until another is done, which may be inserted later in this transaction. Whoever works on it
    /// loses the lease at once. It goes on from its last commit.
    pub async fn hold(&self, id: OperationId, by: OperationId) -> Result<(), StoreError> {
        execute(
            self.client()?,
            "UPDATE operation SET held_by = $2, lease_owner = NULL, lease_until = NULL, deadline_at = NULL,
                    updated_at = clock_timestamp(),
                    state = CASE WHEN state IN ('queued', 'running') THEN 'waiting' ELSE state END
             WHERE id = $1",
            &[&id.as_uuid(), &by.as_uuid()],
        )
        .await?;
        self.record_event(id, "held", None, &json!({ "by": by })).await?;
        self.notify_operation(id).await
    }

    /// Ends an operation whose aim another one has replaced, and hands on to that one what it held. Whoever works on it
    /// loses the lease at once.
    pub async fn supersede(&self, id: OperationId, by: OperationId) -> Result<(), StoreError> {
        let client = self.client()?;
        let hand_on = "UPDATE operation SET held_by = $2 WHERE held_by = $1";
        execute(client, hand_on, &[&id.as_uuid(), &by.as_uuid()]).await?;
        let detail = json!({ "message": "another operation took its place", "by": by });
        execute(
            client,
            "UPDATE operation SET state = 'cancelled', finished_at = clock_timestamp(), updated_at = clock_timestamp(),
                    lease_owner = NULL, lease_until = NULL, held_by = NULL, error = $2
             WHERE id = $1",
            &[&id.as_uuid(), &detail],
        )
        .await?;
        self.record_event(id, "superseded", None, &detail).await?;
        self.notify_operation(id).await
    }

    /// Makes an operation due now and its worker look anew: whoever works on it loses the lease and claims it again.
    pub async fn hasten(&self, id: OperationId) -> Result<(), StoreError> {
        execute(
            self.client()?,
            "UPDATE operation SET next_run_at = clock_timestamp(), updated_at = clock_timestamp(),
                    lease_owner = NULL, lease_until = NULL,
                    state = CASE WHEN state IN ('running', 'waiting') THEN 'queued' ELSE state END
             WHERE id = $1 AND finished_at IS NULL",
            &[&id.as_uuid()],
        )
        .await?;
        self.record_event(id, "hastened", None, &json!({})).await?;
        self.notify_operation(id).await
    }

    /// The newest operation of a kind on a tenant, if there ever was one.
    pub async fn latest_operation(
        &self,
        tenant: TenantId,
        kind: OperationKind,
    ) -> Result<Option<Operation>, StoreError> {
        let sql = "SELECT * FROM operation WHERE tenant = $1 AND kind = $2 ORDER BY id DESC LIMIT 1";
        let rows = query(self.client()?, sql, &[&tenant.as_uuid(), &kind.as_str()]).await?;
        rows.first().map(read).transpose()
    }
}
