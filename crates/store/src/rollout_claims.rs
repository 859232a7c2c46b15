//! Targets of a rollout in the hands of workers: claimed with a lease, renewed, given back.

use std::time::Duration;

use tenantry_domain::{ClusterId, HomeId, RolloutId, SchemaVersion, TenantId};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::error::StoreError;
use crate::rollout_targets::ClaimedTarget;
use crate::rollouts::announce;
use crate::row::{execute, get, query, query_opt};
use crate::store::Store;

/// Whatever the planner thinks of the table, which may look empty to it, or as it was some rollouts ago: what is claimed
/// is few, and found by indexes.
const BY_INDEX: &str = "SELECT set_config(name, 'off', true)
       FROM unnest('{enable_seqscan,enable_bitmapscan,enable_sort,enable_hashjoin,enable_mergejoin,jit}'::text[]) AS name";

/// A tenant that moves waits until it has arrived. While another owner has said lately that it has nothing, nobody claims ahead, has more than half of the places, or takes
/// the last one.
const CLAIM: &str = "
    WITH plan AS (
        SELECT wave, (limits->>'concurrency')::bigint AS concurrency,
               coalesce((limits->>'per_cluster')::bigint, 9223372036854775807) AS per_cluster,
               coalesce((limits->>'per_database')::bigint, 9223372036854775807) AS per_database,
               limits->>'per_cluster' IS NULL AND limits->>'per_database' IS NULL AS is_simple,
               coalesce(crowded_out <> $2 AND crowded_out_at > now() - interval '2 s', false) AS is_crowded
          FROM rollout WHERE id = $1 AND state IN ('queued', 'running') AND stop IS NULL
    ), busy AS (
        SELECT cluster, database_name, count(*) AS targets, count(*) FILTER (WHERE lease_owner <> $2) AS others
          FROM rollout_target
         WHERE rollout = $1 AND state = 'running' AND lease_until >= now() AND NOT tenant = ANY ($5)
         GROUP BY cluster, database_name
    ), total AS (
        SELECT coalesce(sum(targets), 0)::bigint AS targets, coalesce(sum(others), 0)::bigint AS others FROM busy
    ), room AS (
        SELECT greatest(0, least($4, concurrency - targets,
                                 CASE WHEN is_crowded AND concurrency > 1
                                      THEN least((concurrency + 1) / 2 - (targets - others), concurrency - targets - 1) END))
                   AS places,
               CASE WHEN is_simple AND NOT is_crowded AND others = 0 AND concurrency - targets >= $4 THEN $6::bigint ELSE 0 END
                   AS ahead
          FROM plan, total
    ), free AS (
        SELECT target.* FROM plan, room, cluster
         CROSS JOIN LATERAL (
               SELECT rollout, tenant, wave, cluster, database_name FROM rollout_target
                WHERE rollout = $1 AND cluster = cluster.id AND wave <= plan.wave
                  AND (state = 'pending' AND (due_at IS NULL OR due_at <= now())
                       OR state = 'running' AND lease_until < now())
                  AND NOT EXISTS (SELECT FROM tenant WHERE tenant.id = rollout_target.tenant AND status = 'moving')
                ORDER BY wave, tenant
                LIMIT greatest(0, least(room.places + room.ahead, plan.per_cluster - coalesce(
                      (SELECT sum(targets)::bigint FROM busy WHERE busy.cluster = cluster.id), 0)))
                  FOR UPDATE SKIP LOCKED) AS target
    ), ranked AS (
        SELECT free.*, row_number() OVER (PARTITION BY free.cluster, free.database_name ORDER BY free.wave, free.tenant)
                   + coalesce(busy.targets, 0) AS in_database
          FROM free LEFT JOIN busy ON busy.cluster = free.cluster AND busy.database_name = free.database_name
    ), chosen AS (
        SELECT ranked.rollout, ranked.tenant FROM ranked, plan WHERE in_database <= plan.per_database
         ORDER BY ranked.wave, ranked.tenant
         LIMIT (SELECT places + ahead FROM room)
    ), place AS (
        SELECT chosen.rollout, chosen.tenant, home.id AS home, home.cluster
          FROM chosen
          LEFT JOIN placement ON placement.tenant = chosen.tenant AND placement.until IS NULL
          LEFT JOIN home ON home.id = placement.home
    )
    UPDATE rollout_target
       SET state = CASE WHEN home IS NULL THEN 'skipped' ELSE 'running' END,
           lease_owner = CASE WHEN home IS NULL THEN NULL ELSE $2::uuid END,
           lease_until = CASE WHEN home IS NULL THEN NULL ELSE now() + make_interval(secs => $3) END,
           updated_at = now()
      FROM place
     WHERE rollout_target.rollout = place.rollout AND rollout_target.tenant = place.tenant
    RETURNING rollout_target.tenant, home, place.cluster, from_version, deferrals";

/// Notes that an owner who works on nothing found nothing although somebody is due: others hold all the places.
const CROWDED_OUT: &str = "
    UPDATE rollout SET crowded_out = $2, crowded_out_at = now()
     WHERE id = $1
       AND EXISTS (SELECT FROM rollout_target AS due WHERE due.rollout = $1 AND due.state = 'pending'
                      AND due.wave <= rollout.wave AND (due.due_at IS NULL OR due.due_at <= now())
                      AND NOT EXISTS (SELECT FROM tenant WHERE tenant.id = due.tenant AND tenant.status = 'moving'))
       AND NOT EXISTS (SELECT FROM rollout_target AS own WHERE own.rollout = $1 AND own.state = 'running'
                          AND own.lease_owner = $2 AND own.lease_until >= now())";

impl Store {
    /// Takes up to `most` targets for this owner: pending ones of the waves that have begun, and those whose worker's lease
    /// ran out, as far as the rollout's limits over all replicas leave room. `done` are those of this owner that are finished
    /// although that is not written yet: they need no room. A queued rollout runs from its first claim on; of a rollout that
    /// is stopped, or neither queued nor running, there is nothing to claim. A tenant that moves waits; one that lives in no
    /// home any more is skipped.
    ///
    /// Where no other owner works and nothing but the concurrency is limited, up to `ahead` more come along. The owner
    /// begins one of them only in the place of one that it has finished, and gives them back when they are not wanted any
    /// more. They take the room of others like those that run.
    pub async fn claim_targets(
        &self,
        rollout: RolloutId,
        owner: Uuid,
        lease: Duration,
        most: usize,
        ahead: usize,
        done: &[TenantId],
    ) -> Result<Vec<ClaimedTarget>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX).min(i64::MAX - most);
        let done: Vec<Uuid> = done.iter().map(|tenant| tenant.as_uuid()).collect();
        let tx = self.begin().await?;
        let client = tx.client()?;
        let (id, lease) = (rollout.as_uuid(), lease.as_secs_f64());
        let parameters: [&(dyn ToSql + Sync); 6] = [&id, &owner, &lease, &most, &done, &ahead];
        // Claims of one rollout follow each other, so that its limits hold over all replicas: what the last statement sees
        // is what those before have committed.
        let lock =
            "SELECT state = 'queued' AS is_queued, crowded_out IS NOT DISTINCT FROM $2 AS was_crowded_out FROM rollout
                     WHERE id = $1 AND state IN ('queued', 'running') AND stop IS NULL FOR NO KEY UPDATE";
        let (_, locked, rows) = futures::try_join!(
            query(client, BY_INDEX, &[]),
            query_opt(client, lock, &parameters[..2]),
            query(client, CLAIM, &parameters)
        )?;
        let Some(locked) = locked else { return Ok(Vec::new()) };
        if rows.is_empty() {
            execute(client, CROWDED_OUT, &parameters[..2]).await?;
        }
        if get(&locked, "is_queued")? || get(&locked, "was_crowded_out")? && !rows.is_empty() {
            let sql = "UPDATE rollout SET state = 'running', crowded_out = nullif(crowded_out, $2) WHERE id = $1";
            execute(client, sql, &parameters[..2]).await?;
        }
        tx.commit().await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(home) = get::<Option<Uuid>>(row, "home")? {
                claimed.push(ClaimedTarget {
                    tenant: TenantId::new(get(row, "tenant")?),
                    home: HomeId::new(home),
                    cluster: ClusterId::new(get(row, "cluster")?),
                    from_version: SchemaVersion(get(row, "from_version")?),
                    deferrals: u32::try_from(get::<i32>(row, "deferrals")?).map_err(StoreError::internal)?,
                });
            }
        }
        Ok(claimed)
    }

    /// Holds on to every target of the rollout that the owner has claimed and not finished.
    pub async fn renew_targets(&self, rollout: RolloutId, owner: Uuid, lease: Duration) -> Result<u64, StoreError> {
        execute(
            &*self.client().await?,
            "UPDATE rollout_target SET lease_until = now() + make_interval(secs => $3)
              WHERE rollout = $1 AND lease_owner = $2 AND state = 'running'",
            &[&rollout.as_uuid(), &owner, &lease.as_secs_f64()],
        )
        .await
    }

    /// Whether the owner may still begin targets that it has claimed ahead: the rollout goes on, and no other owner is
    /// without work for them.
    pub async fn may_begin_claimed(&self, rollout: RolloutId, owner: Uuid) -> Result<bool, StoreError> {
        let sql = "SELECT FROM rollout WHERE id = $1 AND state IN ('queued', 'running') AND stop IS NULL
                      AND NOT coalesce(crowded_out <> $2 AND crowded_out_at > now() - interval '2 s', false)";
        let row = query_opt(&*self.client().await?, sql, &[&rollout.as_uuid(), &owner]).await?;
        Ok(row.is_some())
    }

    /// Gives targets back that the owner has claimed and not begun: they are as before, and in a rollout that was aborted
    /// they are skipped like all that were not begun. Those that are not its own any more stay as they are.
    pub async fn give_targets_back(
        &self,
        rollout: RolloutId,
        owner: Uuid,
        targets: &[TenantId],
    ) -> Result<(), StoreError> {
        let targets: Vec<Uuid> = targets.iter().map(|tenant| tenant.as_uuid()).collect();
        let tx = self.begin().await?;
        let client = tx.client()?;
        // An abort at the same time comes before or after, not in between.
        query_opt(client, "SELECT FROM rollout WHERE id = $1 FOR NO KEY UPDATE", &[&rollout.as_uuid()]).await?;
        execute(
            client,
            "UPDATE rollout_target AS target
                SET state = CASE WHEN rollout.state = 'aborted' THEN 'skipped' ELSE 'pending' END,
                    lease_owner = NULL, lease_until = NULL, updated_at = now()
               FROM rollout
              WHERE rollout.id = $1 AND target.rollout = $1 AND target.lease_owner = $2 AND target.tenant = ANY ($3)",
            &[&rollout.as_uuid(), &owner, &targets],
        )
        .await?;
        announce(client, rollout).await?;
        tx.commit().await
    }
}
