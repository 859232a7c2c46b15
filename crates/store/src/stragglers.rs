//! The table `straggler`: tenants that came back behind the promoted set, after the rollout that brought the others.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{ClusterId, EventKind, HomeId, MigrationSetId, SchemaVersion, TenantId};
use uuid::Uuid;

use crate::error::StoreError;
use crate::events::NewEvent;
use crate::rollout_targets::{ClaimedTarget, TargetResult, raise_versions};
use crate::row::{count, execute, get, query, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;

/// A tenant that is behind the promoted set, and what was done about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Straggler {
    /// The version that it has.
    pub version: SchemaVersion,
    /// The version of the promoted set.
    pub promoted_version: SchemaVersion,
    /// Attempts so far.
    pub attempts: u32,
    /// Why the last one failed.
    pub error: Option<Value>,
    /// When the next one is due.
    pub due_at: Timestamp,
}

impl Tx {
    /// Has a tenant brought to the promoted set, if it is behind that. To be called before the tenant is served, in the
    /// same transaction: a rollout that ends meanwhile waits and finds the tenant, or has ended, and this finds its set.
    pub async fn note_straggler(&self, tenant: TenantId) -> Result<(), StoreError> {
        let Some(promoted) = self.promoted().await? else { return Ok(()) };
        let sql = "INSERT INTO straggler (tenant)
                   SELECT tenant.id FROM tenant, migration_set AS promoted
                    WHERE tenant.id = $1 AND promoted.id = $2
                      AND is_behind(tenant.schema_version, tenant.repeatables, latest_version, promoted.repeatables)
                   ON CONFLICT (tenant) DO UPDATE SET attempts = 0, error = NULL, due_at = now()";
        execute(self.client()?, sql, &[&tenant.as_uuid(), &promoted.id.as_str()]).await?;
        Ok(())
    }
}

impl Store {
    /// How a tenant is behind, if it is and is to be brought to the promoted set.
    pub async fn straggler(&self, tenant: TenantId) -> Result<Option<Straggler>, StoreError> {
        let sql = "SELECT straggler.*, tenant.schema_version, promoted.latest_version
                     FROM straggler JOIN tenant ON tenant.id = straggler.tenant
                     CROSS JOIN promotion JOIN migration_set AS promoted ON promoted.id = promotion.migration_set
                    WHERE straggler.tenant = $1
                      AND is_behind(tenant.schema_version, tenant.repeatables, latest_version, promoted.repeatables)";
        let row = query_opt(&*self.client().await?, sql, &[&tenant.as_uuid()]).await?;
        row.map(|row| {
            Ok(Straggler {
                version: SchemaVersion(get(&row, "schema_version")?),
                promoted_version: SchemaVersion(get(&row, "latest_version")?),
                attempts: count(&row, "attempts")?,
                error: get(&row, "error")?,
                due_at: time(&row, "due_at")?,
            })
        })
        .transpose()
    }

    /// Forgets those who have caught up, by whatever way, and those who are gone.
    pub async fn forget_stragglers(&self) -> Result<u64, StoreError> {
        let sql = "DELETE FROM straggler USING tenant
                    WHERE tenant.id = straggler.tenant
                      AND (tenant.status IN ('deleted', 'failed')
                           OR NOT (SELECT is_behind(tenant.schema_version, tenant.repeatables, latest_version, promoted.repeatables)
                                     FROM promotion JOIN migration_set AS promoted ON promoted.id = promotion.migration_set))";
        execute(&*self.client().await?, sql, &[]).await
    }

    /// Takes up to `most` of those that are due and live in a home, for this owner. One that a rollout has in hand at this
    /// moment is left to that.
    pub async fn claim_stragglers(
        &self,
        owner: Uuid,
        lease: Duration,
        most: usize,
    ) -> Result<Vec<ClaimedTarget>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "WITH due AS (
                 SELECT straggler.tenant, home.id AS home, home.cluster, tenant.schema_version
                   FROM straggler JOIN tenant ON tenant.id = straggler.tenant
                   JOIN placement ON placement.tenant = tenant.id AND placement.until IS NULL
                   JOIN home ON home.id = placement.home
                   CROSS JOIN promotion JOIN migration_set AS promoted ON promoted.id = promotion.migration_set
                  WHERE tenant.status IN ('active', 'suspended')
                    AND is_behind(tenant.schema_version, tenant.repeatables, latest_version, promoted.repeatables)
                    AND straggler.due_at <= now() AND (straggler.lease_until IS NULL OR straggler.lease_until < now())
                    AND NOT EXISTS (SELECT FROM rollout JOIN rollout_target AS target ON target.rollout = rollout.id
                                     WHERE rollout.finished_at IS NULL AND target.tenant = tenant.id
                                       AND target.state = 'running')
                  ORDER BY straggler.due_at, straggler.tenant LIMIT $3
                    FOR UPDATE OF straggler SKIP LOCKED
             )
             UPDATE straggler SET lease_owner = $1, lease_until = now() + make_interval(secs => $2)
               FROM due WHERE straggler.tenant = due.tenant
             RETURNING due.*",
            &[&owner, &lease.as_secs_f64(), &i64::try_from(most).unwrap_or(i64::MAX)],
        )
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ClaimedTarget {
                    tenant: TenantId::new(get(row, "tenant")?),
                    home: HomeId::new(get(row, "home")?),
                    cluster: ClusterId::new(get(row, "cluster")?),
                    from_version: SchemaVersion(get(row, "schema_version")?),
                    deferrals: 0,
                })
            })
            .collect()
    }

    /// Holds on to everyone whom the owner has claimed and not finished.
    pub async fn renew_stragglers(&self, owner: Uuid, lease: Duration) -> Result<u64, StoreError> {
        let sql = "UPDATE straggler SET lease_until = now() + make_interval(secs => $2) WHERE lease_owner = $1";
        execute(&*self.client().await?, sql, &[&owner, &lease.as_secs_f64()]).await
    }

    /// Writes what came of one, with news for routers, if the owner still has it. After a failure the next attempt waits
    /// longer each time, an hour at most.
    pub async fn finish_straggler(
        &self,
        owner: Uuid,
        set: &MigrationSetId,
        result: &TargetResult,
    ) -> Result<(), StoreError> {
        let tenant = result.tenant.as_uuid();
        let mut tx = self.begin().await?;
        let taken = execute(
            tx.client()?,
            "UPDATE straggler
                SET lease_owner = NULL, lease_until = NULL, attempts = attempts + 1, error = $3,
                    due_at = now() + least(interval '1 hour', interval '15 seconds' * 2 ^ least(attempts, 10))
              WHERE tenant = $1 AND lease_owner = $2",
            &[&tenant, &owner, &result.error],
        )
        .await?;
        if taken == 0 {
            return Ok(());
        }
        let changed = raise_versions(tx.client()?, std::slice::from_ref(result), &[tenant]).await?;
        let event = NewEvent {
            kind: EventKind::TenantMigrated,
            tenant: None,
            cluster: None,
            operation: None,
            detail: json!({ "migration_set": set }),
        };
        tx.emit_to_all(&event, &changed).await?;
        for tenant in changed {
            tx.touch_route(tenant).await?;
        }
        tx.commit().await
    }
}
