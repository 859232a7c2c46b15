//! The tables `rollout` and `rollout_target`.

use jiff::Timestamp;
use serde_json::json;
use tenantry_domain::{MigrationSetId, RolloutId, RolloutState, SchemaVersion};
use tokio_postgres::Row;

use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{count, execute, get, parsed, query, query_one, query_opt};
use crate::store::Store;
use crate::transaction::Tx;
/// A rollout to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRollout {
    /// Its id.
    pub id: RolloutId,
    /// The set that the fleet is brought to.
    pub migration_set: MigrationSetId,
    /// How many tenants at the same time.
    pub concurrency: u32,
}

/// How many targets there are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolloutCounts {
    /// Not begun.
    pub pending: u32,
    /// A worker has it.
    pub running: u32,
    /// Migrated in this rollout.
    pub applied: u32,
    /// Was there before.
    pub already: u32,
    /// Could not be migrated.
    pub failed: u32,
    /// Set aside for a person.
    pub parked: u32,
    /// The tenant went away, or the rollout ended first.
    pub skipped: u32,
}

/// A rollout with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Its id.
    pub id: RolloutId,
    /// The set that the fleet is brought to.
    pub migration_set: MigrationSetId,
    /// That set's highest version.
    pub target_version: SchemaVersion,
    /// Where it stands.
    pub state: RolloutState,
    /// How many tenants at the same time.
    pub concurrency: u32,
    /// Its targets by state.
    pub counts: RolloutCounts,
    /// Begun at.
    pub created_at: Timestamp,
    /// Ended at.
    pub finished_at: Option<Timestamp>,
}

/// Whether a rollout has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutEnd {
    /// There are targets to migrate, or tenants being born that will be.
    Open,
    /// It ended in this state.
    Ended(RolloutState),
}

const SELECT: &str = "
    SELECT rollout.id, rollout.migration_set, rollout.state, (rollout.limits->>'concurrency')::bigint AS concurrency,
           rollout.created_at, rollout.finished_at, migration_set.latest_version,
           counts.pending, counts.running, counts.applied, counts.already, counts.failed, counts.parked, counts.skipped
      FROM rollout
      JOIN migration_set ON migration_set.id = rollout.migration_set
     CROSS JOIN LATERAL (
           SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'running') AS running,
                  count(*) FILTER (WHERE state = 'applied') AS applied, count(*) FILTER (WHERE state = 'already') AS already,
                  count(*) FILTER (WHERE state = 'failed') AS failed, count(*) FILTER (WHERE state = 'parked') AS parked,
                  count(*) FILTER (WHERE state = 'skipped') AS skipped
             FROM rollout_target WHERE rollout = rollout.id) AS counts";

impl Tx {
    /// Records a rollout without targets. `Conflict` while another is unfinished.
    pub async fn insert_rollout(&self, rollout: &NewRollout) -> Result<(), StoreError> {
        let client = self.client()?;
        let limits = json!({ "concurrency": rollout.concurrency });
        let sql = "INSERT INTO rollout (id, migration_set, limits) VALUES ($1, $2, $3)";
        execute(client, sql, &[&rollout.id.as_uuid(), &rollout.migration_set.as_str(), &limits]).await?;
        announce(client, rollout.id).await
    }

    /// One rollout, which nobody else changes until the end of the transaction.
    pub async fn lock_rollout(&self, id: RolloutId) -> Result<RolloutRecord, StoreError> {
        let client = self.client()?;
        query_opt(client, "SELECT FROM rollout WHERE id = $1 FOR UPDATE", &[&id.as_uuid()]).await?;
        rollout(client, id).await
    }

    /// Changes where a rollout stands. Queued again after a failure, its failed targets are taken up; aborted, those
    /// that were not begun are skipped.
    pub async fn change_rollout(&self, id: RolloutId, state: RolloutState) -> Result<(), StoreError> {
        let client = self.client()?;
        let changed = execute(
            client,
            "UPDATE rollout SET state = $2, finished_at = CASE WHEN $3 THEN now() END WHERE id = $1",
            &[&id.as_uuid(), &state.as_str(), &state.is_finished()],
        )
        .await?;
        if changed == 0 {
            return Err(StoreError::NotFound { what: "rollout", name: id.to_string() });
        }
        match state {
            RolloutState::Queued => {
                let sql =
                    "UPDATE rollout_target SET state = 'pending', error = NULL WHERE rollout = $1 AND state = 'failed'";
                execute(client, sql, &[&id.as_uuid()]).await?;
            }
            RolloutState::Aborted => {
                let sql = "UPDATE rollout_target SET state = 'skipped' WHERE rollout = $1 AND state = 'pending'";
                execute(client, sql, &[&id.as_uuid()]).await?;
            }
            RolloutState::Running | RolloutState::Paused | RolloutState::Succeeded | RolloutState::Failed => {}
        }
        announce(client, id).await
    }

    /// Ends the rollout if nothing is left to migrate, and promotes its set if nothing failed. The promoted set stays
    /// locked to the end of the transaction, so that no provision that begins meanwhile starts with an older one.
    /// A provision that is parked does not hold the end up: its tenant is not served, and is behind when it comes.
    pub async fn end_rollout(&self, id: RolloutId) -> Result<RolloutEnd, StoreError> {
        let client = self.client()?;
        self.lock_promotion().await?;
        self.add_targets(id).await?;
        let row = query_one(
            client,
            "SELECT rollout.migration_set, target.latest_version,
                    EXISTS (SELECT FROM rollout_target WHERE rollout = $1 AND state IN ('pending', 'running')) AS is_open,
                    EXISTS (SELECT FROM rollout_target WHERE rollout = $1 AND state IN ('failed', 'parked')) AS has_failed,
                    EXISTS (SELECT FROM tenant
                              JOIN operation ON operation.id = tenant.operation AND operation.state NOT IN ('parked', 'failed')
                              JOIN home ON home.tenant = tenant.id AND home.state IN ('planned', 'claimed')
                              LEFT JOIN migration_set AS its ON its.id = home.migration_set
                             WHERE tenant.status = 'provisioning'
                               AND coalesce(its.latest_version, 0) < target.latest_version) AS is_awaited,
                    coalesce((SELECT latest_version FROM promotion JOIN migration_set AS now ON now.id = promotion.migration_set), -1)
                        <= target.latest_version AS is_ahead
               FROM rollout JOIN migration_set AS target ON target.id = rollout.migration_set
              WHERE rollout.id = $1",
            &[&id.as_uuid()],
        )
        .await?;
        if get::<bool>(&row, "is_open")? || get::<bool>(&row, "is_awaited")? {
            return Ok(RolloutEnd::Open);
        }
        let state = if get::<bool>(&row, "has_failed")? { RolloutState::Failed } else { RolloutState::Succeeded };
        if state == RolloutState::Succeeded && get::<bool>(&row, "is_ahead")? {
            self.promote(&parsed(&row, "migration_set")?).await?;
        }
        self.change_rollout(id, state).await?;
        Ok(RolloutEnd::Ended(state))
    }
}

impl Store {
    /// One rollout with its counts.
    pub async fn rollout(&self, id: RolloutId) -> Result<RolloutRecord, StoreError> {
        rollout(&*self.client().await?, id).await
    }

    /// The rollout that workers carry out now, if there is one.
    pub async fn open_rollout(&self) -> Result<Option<RolloutRecord>, StoreError> {
        let sql = format!("{SELECT} WHERE rollout.finished_at IS NULL AND rollout.state IN ('queued', 'running')");
        query_opt(&*self.client().await?, &sql, &[]).await?.as_ref().map(read).transpose()
    }

    /// A page of rollouts, newest first.
    pub async fn rollouts(&self, page: &PageRequest) -> Result<Page<RolloutRecord>, StoreError> {
        let sql = format!("{SELECT} WHERE $1::uuid IS NULL OR rollout.id < $1 ORDER BY rollout.id DESC LIMIT $2");
        let rows = query(&*self.client().await?, &sql, &[&page.after_id()?, &page.probe()]).await?;
        let rollouts = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(rollouts, |rollout: &RolloutRecord| rollout.id.to_string()))
    }
}

pub(crate) async fn announce(client: &Connection, id: RolloutId) -> Result<(), StoreError> {
    query_one(client, "SELECT pg_notify('tenantry', $1)", &[&format!("rollout:{id}")]).await.map(drop)
}

async fn rollout(client: &Connection, id: RolloutId) -> Result<RolloutRecord, StoreError> {
    let row = query_opt(client, &format!("{SELECT} WHERE rollout.id = $1"), &[&id.as_uuid()]).await?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::NotFound { what: "rollout", name: id.to_string() })
}

fn read(row: &Row) -> Result<RolloutRecord, StoreError> {
    Ok(RolloutRecord {
        id: RolloutId::new(get(row, "id")?),
        migration_set: parsed(row, "migration_set")?,
        target_version: SchemaVersion(get(row, "latest_version")?),
        state: parsed(row, "state")?,
        concurrency: count(row, "concurrency")?,
        counts: RolloutCounts {
            pending: count(row, "pending")?,
            running: count(row, "running")?,
            applied: count(row, "applied")?,
            already: count(row, "already")?,
            failed: count(row, "failed")?,
            parked: count(row, "parked")?,
            skipped: count(row, "skipped")?,
        },
        created_at: get(row, "created_at")?,
        finished_at: get(row, "finished_at")?,
    })
}
