//! The waves of a rollout: who is in which, and how they stand.

use tenantry_domain::{RolloutId, TargetState, WaveSelection, Waves};
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::rollouts::{RolloutCounts, RolloutRecord, announce};
use crate::row::{count, execute, get, parsed, query, query_one};
use crate::transaction::Tx;

impl Tx {
    /// Spreads the pending targets, which must all be in the last wave, over the waves. Who comes first where a wave takes
    /// a number or a share is drawn by the hash of tenant and rollout: spread over the fleet, and others in each rollout.
    pub async fn assign_waves(&self, id: RolloutId, waves: &Waves) -> Result<(), StoreError> {
        let client = self.client()?;
        let last = number(waves.last())?;
        let pending = "SELECT count(*) AS pending FROM rollout_target WHERE rollout = $1 AND state = 'pending'";
        let total: i64 = get(&query_one(client, pending, &[&id.as_uuid()]).await?, "pending")?;
        let mut assigned = 0;
        for (wave, selection) in waves.as_slice()[..waves.last()].iter().map(|wave| &wave.select).enumerate() {
            let (most, label, plan, region) = match selection {
                WaveSelection::Tenants(tenants) => (i64::from(*tenants), None, None, None),
                WaveSelection::Percent(percent) => {
                    let share = (total * i64::from(*percent) + 99) / 100;
                    ((share - assigned).max(0), None, None, None)
                }
                WaveSelection::Label { key, value } => {
                    (i64::MAX, Some(serde_json::json!({ key.as_str(): value })), None, None)
                }
                WaveSelection::Plan(plan) => (i64::MAX, None, Some(plan.as_str()), None),
                WaveSelection::Region(region) => (i64::MAX, None, None, Some(region.as_str())),
                WaveSelection::All => (i64::MAX, None, None, None),
            };
            let moved = execute(
                client,
                "UPDATE rollout_target SET wave = $3
                   FROM (SELECT target.tenant FROM rollout_target AS target JOIN tenant ON tenant.id = target.tenant
                          WHERE target.rollout = $1 AND target.wave = $2 AND target.state = 'pending'
                            AND ($5::jsonb IS NULL OR tenant.labels @> $5) AND ($6::text IS NULL OR tenant.plan = $6)
                            AND ($7::text IS NULL OR tenant.region = $7)
                          ORDER BY md5(target.rollout::text || target.tenant::text) LIMIT $4) AS chosen
                  WHERE rollout_target.rollout = $1 AND rollout_target.tenant = chosen.tenant",
                &[&id.as_uuid(), &last, &number(wave)?, &most, &label, &plan, &region],
            )
            .await?;
            assigned += i64::try_from(moved).map_err(StoreError::internal)?;
        }
        Ok(())
    }

    /// Whether anybody works on a target of the rollout: one whose lease is over has lost its worker.
    pub async fn has_targets_in_hand(&self, id: RolloutId) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT FROM rollout_target
                                   WHERE rollout = $1 AND state = 'running' AND lease_until >= now()) AS in_hand";
        get(&query_one(self.client()?, sql, &[&id.as_uuid()]).await?, "in_hand")
    }

    /// Notes that the wave under way has nothing left to do: its bake time begins.
    pub async fn bake(&self, id: RolloutId) -> Result<(), StoreError> {
        let client = self.client()?;
        execute(client, "UPDATE rollout SET wave_through_at = now() WHERE id = $1", &[&id.as_uuid()]).await?;
        announce(client, id).await
    }

    /// Begins a wave.
    pub async fn begin_wave(&self, id: RolloutId, wave: u32) -> Result<(), StoreError> {
        let client = self.client()?;
        let wave = i32::try_from(wave).map_err(StoreError::internal)?;
        let sql = "UPDATE rollout SET wave = $2, wave_through_at = NULL WHERE id = $1";
        execute(client, sql, &[&id.as_uuid(), &wave]).await?;
        announce(client, id).await
    }
}

/// Fills in how the targets of rollouts stand.
pub(crate) async fn count_targets(client: &Connection, rollouts: &mut [RolloutRecord]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = rollouts.iter().map(|rollout| rollout.id.as_uuid()).collect();
    let rows = query(
        client,
        "SELECT rollout, wave, state, count(*) AS targets FROM rollout_target WHERE rollout = ANY ($1)
          GROUP BY rollout, wave, state",
        &[&ids],
    )
    .await?;
    for row in &rows {
        let id = RolloutId::new(get(row, "rollout")?);
        let Some(rollout) = rollouts.iter_mut().find(|rollout| rollout.id == id) else { continue };
        let counts = RolloutCounts::of(parsed(row, "state")?, count(row, "targets")?);
        rollout.counts.add(&counts);
        if let Some(wave) = rollout.wave_counts.get_mut(index(row)?) {
            wave.add(&counts);
        }
    }
    Ok(())
}

impl RolloutCounts {
    fn of(state: TargetState, targets: u32) -> Self {
        let none = Self::default();
        match state {
            TargetState::Pending => Self { pending: targets, ..none },
            TargetState::Running => Self { running: targets, ..none },
            TargetState::Applied => Self { applied: targets, ..none },
            TargetState::Already => Self { already: targets, ..none },
            TargetState::Failed => Self { failed: targets, ..none },
            TargetState::Parked => Self { parked: targets, ..none },
            TargetState::Skipped => Self { skipped: targets, ..none },
        }
    }
}

fn index(row: &tokio_postgres::Row) -> Result<usize, StoreError> {
    usize::try_from(get::<i32>(row, "wave")?).map_err(StoreError::internal)
}

fn number(wave: usize) -> Result<i32, StoreError> {
    i32::try_from(wave).map_err(StoreError::internal)
}
