//! The table `rollout`.

use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenantry_domain::{
    ErrorBudget, FailureStreak, Hours, MigrationSetId, RolloutId, RolloutState, RolloutStop, SchemaVersion, WaveTally,
    Waves,
};
use tokio_postgres::Row;

use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::rollout_waves::count_targets;
use crate::row::{count, execute, get, json, parsed, query, query_one, query_opt, to_json};
use crate::store::Store;
use crate::transaction::Tx;

/// A rollout to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRollout {
    /// Its id.
    pub id: RolloutId,
    /// The set that the fleet is brought to.
    pub migration_set: MigrationSetId,
    /// In which order.
    pub waves: Waves,
    /// How hard it may work.
    pub limits: RolloutLimits,
    /// How many failures it bears, over all waves.
    pub error_budget: ErrorBudget,
    /// After how many targets in a row with the same SQLSTATE it stops.
    pub breaker: Option<u32>,
    /// Whether tenants that have the version as far as the catalog knows are asked, too.
    pub verify: bool,
    /// Among those that wait, the highest begins first.
    pub priority: i32,
    /// It does not begin before.
    pub not_before: Option<Timestamp>,
    /// Within which hours it begins targets; absent means at any time.
    pub hours: Option<Hours>,
}

/// How many targets are migrated at the same time, by all replicas together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutLimits {
    /// In all.
    pub concurrency: u32,
    /// On one cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_cluster: Option<u32>,
    /// In one database, which matters to tenants that share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_database: Option<u32>,
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

impl RolloutCounts {
    /// What error budgets are about.
    pub fn tally(&self) -> WaveTally {
        let finished = self.applied + self.already + self.failed + self.parked + self.skipped;
        WaveTally {
            targets: (self.pending + self.running + finished).into(),
            failed: (self.failed + self.parked).into(),
        }
    }

    /// Together with others.
    pub(crate) fn add(&mut self, other: &Self) {
        self.pending += other.pending;
        self.running += other.running;
        self.applied += other.applied;
        self.already += other.already;
        self.failed += other.failed;
        self.parked += other.parked;
        self.skipped += other.skipped;
    }
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
    /// Its waves, in order.
    pub waves: Waves,
    /// The wave under way, from 0.
    pub wave: u32,
    /// Since when the wave under way has nothing left to do.
    pub wave_through_at: Option<Timestamp>,
    /// How hard it may work.
    pub limits: RolloutLimits,
    /// How many failures it bears, over all waves.
    pub error_budget: ErrorBudget,
    /// After how many targets in a row with the same SQLSTATE it stops.
    pub breaker: Option<u32>,
    /// Whether tenants that have the version as far as the catalog knows are asked, too.
    pub verify: bool,
    /// Among those that wait, the highest begins first.
    pub priority: i32,
    /// It does not begin before.
    pub not_before: Option<Timestamp>,
    /// Within which hours it begins targets; absent means at any time.
    pub hours: Option<Hours>,
    /// Since when it has targets; until then it waits its turn.
    pub began_at: Option<Timestamp>,
    /// Why it begins no more targets.
    pub stop: Option<RolloutStop>,
    /// Its targets by state, and the tenants that had the version and are none.
    pub counts: RolloutCounts,
    /// The same for each wave; those that are no targets count in the last.
    pub wave_counts: Vec<RolloutCounts>,
    /// Made at.
    pub created_at: Timestamp,
    /// Ended at.
    pub finished_at: Option<Timestamp>,
}

impl RolloutRecord {
    /// Where the wave under way is through and bakes: when the next one begins.
    pub fn bakes_until(&self) -> Option<Timestamp> {
        let wave = self.waves.as_slice().get(usize::try_from(self.wave).ok()?)?;
        Some(self.wave_through_at? + Duration::from_secs(wave.bake_seconds.into()))
    }
}

/// What decides whether a rollout goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutPlan {
    /// Its waves, in order.
    pub waves: Waves,
    /// How many failures it bears, over all waves.
    pub error_budget: ErrorBudget,
    /// After how many targets in a row with the same SQLSTATE it stops.
    pub breaker: Option<u32>,
    /// What came last.
    pub streak: FailureStreak,
    /// Why it begins no more targets.
    pub stop: Option<RolloutStop>,
}

/// What is left to do before a rollout has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutRest {
    /// There are targets to migrate, or tenants being born that will be.
    pub is_open: bool,
    /// Some target could not be migrated.
    pub has_failed: bool,
}

const SELECT: &str = "
    SELECT rollout.*, migration_set.latest_version
      FROM rollout JOIN migration_set ON migration_set.id = rollout.migration_set";

impl Tx {
    /// Records a rollout, which waits its turn.
    pub async fn insert_rollout(&self, rollout: &NewRollout) -> Result<(), StoreError> {
        let client = self.client()?;
        execute(
            client,
            "INSERT INTO rollout (id, migration_set, waves, limits, error_budget, breaker, verify, priority, not_before, hours)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                &rollout.id.as_uuid(),
                &rollout.migration_set.as_str(),
                &to_json(&rollout.waves)?,
                &to_json(&rollout.limits)?,
                &to_json(&rollout.error_budget)?,
                &rollout.breaker.map(i32::try_from).transpose().map_err(StoreError::internal)?,
                &rollout.verify,
                &rollout.priority,
                &rollout.not_before,
                &rollout.hours.as_ref().map(Hours::to_string),
            ],
        )
        .await?;
        announce(client, rollout.id).await
    }

    /// One rollout, which nobody else changes until the end of the transaction.
    pub async fn lock_rollout(&self, id: RolloutId) -> Result<RolloutRecord, StoreError> {
        let client = self.client()?;
        query_opt(client, "SELECT FROM rollout WHERE id = $1 FOR UPDATE", &[&id.as_uuid()]).await?;
        rollout(client, id).await
    }

    /// The same without looking at its targets.
    pub async fn lock_rollout_plan(&self, id: RolloutId) -> Result<RolloutPlan, StoreError> {
        let sql = "SELECT waves, error_budget, breaker, streak, stop FROM rollout WHERE id = $1 FOR UPDATE";
        let row = query_opt(self.client()?, sql, &[&id.as_uuid()]).await?;
        let row = row.ok_or_else(|| StoreError::NotFound { what: "rollout", name: id.to_string() })?;
        Ok(RolloutPlan {
            waves: json(&row, "waves")?,
            error_budget: json(&row, "error_budget")?,
            breaker: breaker(&row)?,
            streak: known(&row, "streak")?.unwrap_or_default(),
            stop: known(&row, "stop")?,
        })
    }

    /// Changes where a rollout stands. Queued again after a failure, its failed targets are taken up; aborted, those
    /// that were not begun are skipped. Failed, those whose worker is gone count as not begun.
    pub async fn change_rollout(&self, id: RolloutId, state: RolloutState) -> Result<(), StoreError> {
        let client = self.client()?;
        let changed = execute(
            client,
            "UPDATE rollout SET state = $2, finished_at = CASE WHEN $3 THEN now() END,
                    stop = CASE WHEN $2 <> 'queued' THEN stop END,
                    streak = CASE WHEN $2 <> 'queued' THEN streak END
              WHERE id = $1",
            &[&id.as_uuid(), &state.as_str(), &state.is_finished()],
        )
        .await?;
        if changed == 0 {
            return Err(StoreError::NotFound { what: "rollout", name: id.to_string() });
        }
        match state {
            RolloutState::Queued => {
                let sql = "UPDATE rollout_target SET state = 'pending', error = NULL, due_at = NULL, deferrals = 0
                      WHERE rollout = $1 AND state = 'failed'";
                execute(client, sql, &[&id.as_uuid()]).await?;
            }
            RolloutState::Aborted => {
                let sql = "UPDATE rollout_target SET state = 'skipped' WHERE rollout = $1 AND state = 'pending'";
                execute(client, sql, &[&id.as_uuid()]).await?;
            }
            RolloutState::Failed => {
                let sql = "UPDATE rollout_target SET state = 'pending', lease_owner = NULL, lease_until = NULL
                            WHERE rollout = $1 AND state = 'running' AND lease_until < now()";
                execute(client, sql, &[&id.as_uuid()]).await?;
            }
            // Those born meanwhile with the set.
            RolloutState::Succeeded => self.count_already(id).await?,
            RolloutState::Running | RolloutState::Paused => {}
        }
        announce(client, id).await
    }

    /// Notes what came last, and why no more targets are begun, if that is so.
    pub async fn note_failures(
        &self,
        id: RolloutId,
        streak: &FailureStreak,
        stop: Option<&RolloutStop>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE rollout SET streak = $2, stop = $3 WHERE id = $1";
        execute(self.client()?, sql, &[&id.as_uuid(), &to_json(streak)?, &stop.map(to_json).transpose()?]).await?;
        Ok(())
    }

    /// What is left to do, new tenants included. The promoted set stays locked to the end of the transaction, so that no
    /// provision that begins meanwhile starts with an older one. A provision that is parked does not hold the end up: its
    /// tenant is not served, and is behind when it comes.
    pub async fn rest_of_rollout(&self, id: RolloutId) -> Result<RolloutRest, StoreError> {
        let client = self.client()?;
        self.lock_promotion().await?;
        self.add_targets(id).await?;
        let row = query_one(
            client,
            "SELECT EXISTS (SELECT FROM rollout_target WHERE rollout = $1 AND state IN ('pending', 'running'))
                    OR EXISTS (SELECT FROM tenant
                                 JOIN operation ON operation.id = tenant.operation AND operation.state NOT IN ('parked', 'failed')
                                 JOIN home ON home.tenant = tenant.id AND home.state IN ('planned', 'claimed')
                                 LEFT JOIN migration_set AS its ON its.id = home.migration_set
                                WHERE tenant.status = 'provisioning'
                                  AND is_behind(coalesce(its.latest_version, 0), coalesce(its.repeatables, ''),
                                                target.latest_version, target.repeatables)) AS is_open,
                    EXISTS (SELECT FROM rollout_target WHERE rollout = $1 AND state IN ('failed', 'parked')) AS has_failed
               FROM rollout JOIN migration_set AS target ON target.id = rollout.migration_set
              WHERE rollout.id = $1",
            &[&id.as_uuid()],
        )
        .await?;
        Ok(RolloutRest { is_open: get(&row, "is_open")?, has_failed: get(&row, "has_failed")? })
    }

    /// Lets new tenants start with the rollout's set, unless they start with a later one already.
    pub async fn promote_set_of_rollout(&self, id: RolloutId) -> Result<(), StoreError> {
        self.lock_promotion().await?;
        let row = query_one(
            self.client()?,
            "SELECT rollout.migration_set,
                    coalesce((SELECT latest_version FROM promotion
                                JOIN migration_set AS now ON now.id = promotion.migration_set), -1)
                        <= target.latest_version AS is_ahead
               FROM rollout JOIN migration_set AS target ON target.id = rollout.migration_set
              WHERE rollout.id = $1",
            &[&id.as_uuid()],
        )
        .await?;
        if get::<bool>(&row, "is_ahead")? {
            self.promote(&parsed(&row, "migration_set")?).await?;
        }
        Ok(())
    }
}

impl Store {
    /// One rollout with its counts.
    pub async fn rollout(&self, id: RolloutId) -> Result<RolloutRecord, StoreError> {
        rollout(&*self.client().await?, id).await
    }

    /// Where a rollout stands, without looking at its targets.
    pub async fn rollout_state(&self, id: RolloutId) -> Result<RolloutState, StoreError> {
        let sql = "SELECT state FROM rollout WHERE id = $1";
        let row = query_opt(&*self.client().await?, sql, &[&id.as_uuid()]).await?;
        let row = row.ok_or_else(|| StoreError::NotFound { what: "rollout", name: id.to_string() })?;
        parsed(&row, "state")
    }

    /// The rollout that workers carry out now, if there is one.
    pub async fn open_rollout(&self) -> Result<Option<RolloutRecord>, StoreError> {
        let client = self.client().await?;
        let sql = format!(
            "{SELECT} WHERE rollout.finished_at IS NULL AND rollout.began_at IS NOT NULL
                                   AND rollout.state IN ('queued', 'running')"
        );
        let Some(row) = query_opt(&client, &sql, &[]).await? else { return Ok(None) };
        counted(&client, &[row]).await.map(|mut rollouts| rollouts.pop())
    }

    /// A page of rollouts, newest first.
    pub async fn rollouts(&self, page: &PageRequest) -> Result<Page<RolloutRecord>, StoreError> {
        let sql = format!("{SELECT} WHERE $1::uuid IS NULL OR rollout.id < $1 ORDER BY rollout.id DESC LIMIT $2");
        let client = self.client().await?;
        let rows = query(&client, &sql, &[&page.after_id()?, &page.probe()]).await?;
        let rollouts = counted(&client, &rows).await?;
        Ok(page.page(rollouts, |rollout: &RolloutRecord| rollout.id.to_string()))
    }
}

pub(crate) async fn announce(client: &Connection, id: RolloutId) -> Result<(), StoreError> {
    query_one(client, "SELECT pg_notify('tenantry', $1)", &[&format!("rollout:{id}")]).await.map(drop)
}

pub(crate) async fn rollout(client: &Connection, id: RolloutId) -> Result<RolloutRecord, StoreError> {
    let row = query_opt(client, &format!("{SELECT} WHERE rollout.id = $1"), &[&id.as_uuid()]).await?;
    let row = row.ok_or_else(|| StoreError::NotFound { what: "rollout", name: id.to_string() })?;
    let counted = counted(client, &[row]).await?.pop();
    counted.ok_or_else(|| StoreError::internal("a rollout was lost while it was counted"))
}

/// Rollouts with the counts of their targets.
async fn counted(client: &Connection, rows: &[Row]) -> Result<Vec<RolloutRecord>, StoreError> {
    let mut rollouts = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    count_targets(client, &mut rollouts).await?;
    Ok(rollouts)
}

fn read(row: &Row) -> Result<RolloutRecord, StoreError> {
    let waves: Waves = json(row, "waves")?;
    let already = RolloutCounts { already: count(row, "already")?, ..RolloutCounts::default() };
    let mut wave_counts = vec![RolloutCounts::default(); waves.as_slice().len()];
    if let Some(last) = wave_counts.last_mut() {
        *last = already;
    }
    Ok(RolloutRecord {
        id: RolloutId::new(get(row, "id")?),
        migration_set: parsed(row, "migration_set")?,
        target_version: SchemaVersion(get(row, "latest_version")?),
        state: parsed(row, "state")?,
        wave: u32::try_from(get::<i32>(row, "wave")?).map_err(StoreError::internal)?,
        wave_through_at: get(row, "wave_through_at")?,
        limits: json(row, "limits")?,
        error_budget: json(row, "error_budget")?,
        breaker: breaker(row)?,
        verify: get(row, "verify")?,
        priority: get(row, "priority")?,
        not_before: get(row, "not_before")?,
        hours: get::<Option<&str>>(row, "hours")?.map(str::parse).transpose().map_err(StoreError::internal)?,
        began_at: get(row, "began_at")?,
        stop: known(row, "stop")?,
        counts: already,
        wave_counts,
        waves,
        created_at: get(row, "created_at")?,
        finished_at: get(row, "finished_at")?,
    })
}

fn breaker(row: &Row) -> Result<Option<u32>, StoreError> {
    get::<Option<i32>>(row, "breaker")?.map(u32::try_from).transpose().map_err(StoreError::internal)
}

/// A `jsonb` column that may be null.
fn known<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Option<T>, StoreError> {
    get::<Option<Value>>(row, column)?.map(serde_json::from_value).transpose().map_err(StoreError::internal)
}
