//! Rollouts that wait their turn, and how far the fleet is from their sets.

use tenantry_domain::{RolloutId, SchemaVersion};

use crate::error::StoreError;
use crate::rollouts::{RolloutRecord, announce, rollout};
use crate::row::{count, execute, get, query, query_one, query_opt};
use crate::store::Store;
use crate::transaction::Tx;

/// The live tenants that are at one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetVersion {
    /// The version, as the catalog knows it.
    pub version: SchemaVersion,
    /// How many tenants.
    pub tenants: u32,
    /// How many of the set's migrations they lack.
    pub behind: u32,
}

impl Store {
    /// At which versions the live tenants are, the highest first, and how far that is from the rollout's set.
    pub async fn fleet_versions(&self, id: RolloutId) -> Result<Vec<FleetVersion>, StoreError> {
        let client = self.client().await?;
        let sql = "SELECT at.schema_version, at.tenants, (
                          SELECT count(*) FROM migration JOIN rollout USING (migration_set)
                           WHERE rollout.id = $1 AND migration.version > at.schema_version) AS behind
                     FROM (SELECT schema_version, count(*) AS tenants FROM tenant
                            WHERE status IN ('active', 'suspended', 'moving') GROUP BY schema_version) AS at
                    ORDER BY at.schema_version DESC";
        let rows = query(&client, sql, &[&id.as_uuid()]).await?;
        let read = |row| {
            Ok(FleetVersion {
                version: SchemaVersion(get(row, "schema_version")?),
                tenants: count(row, "tenants")?,
                behind: count(row, "behind")?,
            })
        };
        rows.iter().map(read).collect()
    }
}

impl Tx {
    /// The rollout that has begun and not ended, paused or not.
    pub async fn rollout_under_way(&self) -> Result<Option<RolloutId>, StoreError> {
        let sql = "SELECT id FROM rollout WHERE finished_at IS NULL AND began_at IS NOT NULL";
        let row = query_opt(self.client()?, sql, &[]).await?;
        row.map(|row| get(&row, "id").map(RolloutId::new)).transpose()
    }

    /// How many rollouts wait.
    pub async fn count_waiting_rollouts(&self) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) AS waiting FROM rollout WHERE finished_at IS NULL AND began_at IS NULL";
        count(&query_one(self.client()?, sql, &[]).await?, "waiting")
    }

    /// Whose turn it is, if no other rollout is under way: the oldest of those with the highest priority whose time has
    /// come. Nobody else takes it, or changes it, until the end of the transaction.
    pub async fn next_rollout(&self) -> Result<Option<RolloutRecord>, StoreError> {
        let client = self.client()?;
        let sql = "SELECT id FROM rollout
                    WHERE finished_at IS NULL AND began_at IS NULL AND state = 'queued'
                      AND (not_before IS NULL OR not_before <= now())
                      AND NOT EXISTS (SELECT FROM rollout WHERE finished_at IS NULL AND began_at IS NOT NULL)
                    ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED";
        let Some(row) = query_opt(client, sql, &[]).await? else { return Ok(None) };
        rollout(client, RolloutId::new(get(&row, "id")?)).await.map(Some)
    }

    /// Gives a rollout that waited its targets, and spreads them over its waves. `Conflict` while another is under way.
    pub async fn start_rollout(&self, id: RolloutId) -> Result<(), StoreError> {
        let client = self.client()?;
        let sql = "UPDATE rollout SET began_at = now() WHERE id = $1 AND began_at IS NULL";
        if execute(client, sql, &[&id.as_uuid()]).await? == 0 {
            return Err(StoreError::internal("a rollout that was to begin has begun before"));
        }
        let RolloutRecord { migration_set, waves, verify, .. } = rollout(client, id).await?;
        let added = self.add_targets(id).await?;
        self.count_already(id).await?;
        // All are in the last wave so far. Where nobody is to be migrated, nobody is drawn.
        if added > 0 && waves.last() > 0 {
            let prospect = self.rollout_prospect(&migration_set, &waves, verify).await?;
            self.assign_waves(id, &prospect.tenants).await?;
        }
        announce(client, id).await
    }
}
