//! The waves of a rollout: who is in which, and how they stand.

use tenantry_domain::{RolloutId, TargetState};
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::rollout_plans::ProspectiveTarget;
use crate::rollouts::{RolloutCounts, RolloutRecord, announce};
use crate::row::{count, execute, get, parsed, query, query_one};
use crate::transaction::Tx;

impl Tx {
    /// Puts the pending targets, which must all be in the last wave, into the waves that [`Tx::rollout_prospect`] has found.
    pub async fn assign_waves(&self, id: RolloutId, targets: &[ProspectiveTarget]) -> Result<(), StoreError> {
        let tenants: Vec<Uuid> = targets.iter().map(|target| target.tenant.as_uuid()).collect();
        let waves = targets.iter().map(|target| number(target.wave)).collect::<Result<Vec<i32>, _>>()?;
        let sql = "UPDATE rollout_target AS target SET wave = assigned.wave
                     FROM unnest($2::uuid[], $3::integer[]) AS assigned (tenant, wave)
                    WHERE target.rollout = $1 AND target.state = 'pending' AND target.tenant = assigned.tenant
                      AND target.wave <> assigned.wave";
        execute(self.client()?, sql, &[&id.as_uuid(), &tenants, &waves]).await?;
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
