//! Homes in the table `home` that have no tenant: prepared, warm, claimed, retired, forgotten.

use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{
    ClusterId, ClusterLimits, ClusterName, ClusterUsage, HomeId, MigrationSetId, SchemaVersion, TenantId,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::{count, execute, get, json, parsed, query, query_one, query_opt};
use crate::store::Store;
use crate::transaction::Tx;

/// Attempts at preparing a home that are looked back at.
const ATTEMPTS: i64 = 8;

/// What a cluster holds for tenants to come, and what tenants ask of it.
#[derive(Debug, Clone, PartialEq)]
pub struct WarmPool {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub name: ClusterName,
    /// Of its data directory.
    pub system_identifier: String,
    /// Whether it takes homes of several tenants now: shared and active.
    pub takes_homes: bool,
    /// How much it takes.
    pub limits: ClusterLimits,
    /// What lives on it.
    pub usage: ClusterUsage,
    /// Warm homes of the set that was asked for, oldest first.
    pub warm: Vec<HomeId>,
    /// Warm homes of any other set.
    pub stale: Vec<HomeId>,
    /// Homes that are being made for nobody yet.
    pub preparing: u32,
    /// Homes of isolation `database` that tenants got within the window that was asked for.
    pub demand: u32,
    /// Provisions on the cluster that wait for a worker or have one.
    pub provisions: u32,
    /// When the attempts at preparing a home ended that failed since the last good one, newest first; eight at most.
    pub failures: Vec<Timestamp>,
}

/// A warm home that has its tenant now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedHome {
    /// Which.
    pub home: HomeId,
    /// The version of its schema.
    pub schema_version: SchemaVersion,
}

impl Store {
    /// Every cluster that takes homes of several tenants or has homes without one, with the homes of `set` (or of none)
    /// told apart from others, and the demand of the time `window` up to now.
    pub async fn warm_pools(
        &self,
        set: Option<&MigrationSetId>,
        window: Duration,
    ) -> Result<Vec<WarmPool>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT c.id, c.name, c.system_identifier, c.limits, c.homes, c.databases, c.warm_homes,
                    c.state = 'active' AND c.tenancy = 'shared' AND c.claimed_by IS NULL AS takes_homes,
                    unclaimed.warm, unclaimed.stale, unclaimed.preparing, demand.homes AS demand,
                    coalesce(provisions.count, 0) AS provisions, attempts.failed, attempts.ended
               FROM cluster c
               CROSS JOIN LATERAL (
                   SELECT coalesce(array_agg(id ORDER BY created_at) FILTER (WHERE state = 'warm' AND is_wanted), '{}') AS warm,
                          coalesce(array_agg(id ORDER BY created_at) FILTER (WHERE state = 'warm' AND NOT is_wanted), '{}')
                              AS stale,
                          count(*) FILTER (WHERE state = 'planned') AS preparing
                     FROM (SELECT id, state, created_at, migration_set IS NOT DISTINCT FROM $1 AS is_wanted
                             FROM home WHERE cluster = c.id AND tenant IS NULL AND state <> 'released') AS home
               ) AS unclaimed
               CROSS JOIN LATERAL (
                   SELECT count(*) AS homes FROM home
                    WHERE cluster = c.id AND isolation = 'database'
                      AND claimed_at > clock_timestamp() - $2 * interval '1 second'
               ) AS demand
               LEFT JOIN (
                   SELECT h.cluster, count(*) FROM operation o
                     JOIN home h ON h.tenant = o.tenant AND h.state IN ('planned', 'claimed')
                    WHERE o.kind = 'provision' AND o.state IN ('queued', 'running') GROUP BY h.cluster
               ) AS provisions ON provisions.cluster = c.id
               CROSS JOIN LATERAL (
                   SELECT coalesce(array_agg(state IN ('failed', 'parked') ORDER BY id DESC), '{}') AS failed,
                          coalesce(array_agg(updated_at ORDER BY id DESC), '{}') AS ended
                     FROM (SELECT id, state, updated_at FROM operation
                            WHERE cluster = c.id AND kind = 'prepare_home'
                              AND state IN ('failed', 'parked', 'succeeded')
                            ORDER BY id DESC LIMIT $3) AS attempt
               ) AS attempts
              WHERE c.retired_at IS NULL AND (c.tenancy = 'shared' OR c.warm_homes > 0)
              ORDER BY c.name",
            &[&set.map(MigrationSetId::as_str), &window.as_secs_f64(), &ATTEMPTS],
        )
        .await?;
        rows.iter().map(read).collect()
    }
}

impl Tx {
    /// Gives the oldest warm home of the cluster and the set (or of none) to the tenant, if there is one that nobody else
    /// is taking. The operation that made it becomes the tenant's too.
    pub async fn claim_warm_home(
        &self,
        cluster: ClusterId,
        set: Option<&MigrationSetId>,
        tenant: TenantId,
    ) -> Result<Option<ClaimedHome>, StoreError> {
        let row = query_opt(
            self.client()?,
            "WITH claimed AS (
                 UPDATE home SET state = 'claimed', tenant = $3, claimed_at = clock_timestamp()
                  WHERE id = (SELECT id FROM home
                               WHERE cluster = $1 AND tenant IS NULL AND state <> 'released' AND state = 'warm'
                                 AND isolation = 'database' AND migration_set IS NOT DISTINCT FROM $2
                               ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
                 RETURNING id, schema_version
             ), made AS (
                 UPDATE operation SET tenant = $3
                  WHERE id IN (SELECT operation FROM resource JOIN claimed ON claimed.id = resource.home)
                    AND finished_at IS NOT NULL
             )
             SELECT id, schema_version FROM claimed",
            &[&cluster.as_uuid(), &set.map(MigrationSetId::as_str), &tenant.as_uuid()],
        )
        .await?;
        row.map(|row| {
            Ok(ClaimedHome {
                home: HomeId::new(get(&row, "id")?),
                schema_version: SchemaVersion(get(&row, "schema_version")?),
            })
        })
        .transpose()
    }

    /// A prepared home, with everything that was planned for it, waits for its tenant from now on.
    pub async fn home_warm(&self, id: HomeId, version: SchemaVersion) -> Result<(), StoreError> {
        let sql = "UPDATE home SET state = 'warm', schema_version = $2
                   WHERE id = $1 AND state = 'planned' AND tenant IS NULL";
        execute(self.client()?, sql, &[&id.as_uuid(), &version.0]).await?;
        self.resources_of_home_created(id).await
    }

    /// Takes a warm home out of the pool for good; false where somebody else has claimed or retired it.
    pub async fn retire_warm_home(&self, id: HomeId) -> Result<bool, StoreError> {
        let sql = "UPDATE home SET state = 'retired' WHERE id = $1 AND state = 'warm'";
        Ok(execute(self.client()?, sql, &[&id.as_uuid()]).await? == 1)
    }

    /// Forgets homes that no tenant ever had and that were released longer than `age` ago, at most `limit` of them, and
    /// the finished operations that made and dropped such homes. Returns how many homes.
    pub async fn forget_unclaimed_homes(&self, age: Duration, limit: i64) -> Result<u64, StoreError> {
        let client = self.client()?;
        let age = age.as_secs_f64();
        let rows = query(
            client,
            "SELECT id FROM home WHERE tenant IS NULL AND state = 'released'
                AND released_at < now() - $1 * interval '1 second' ORDER BY released_at LIMIT $2",
            &[&age, &limit],
        )
        .await?;
        let homes: Vec<Uuid> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        execute(client, "DELETE FROM resource WHERE home = ANY ($1)", &[&homes]).await?;
        let forgotten = execute(client, "DELETE FROM home WHERE id = ANY ($1)", &[&homes]).await?;
        // One of the two exceptions of the events' append-only trigger, for this transaction.
        query_one(client, "SELECT set_config('tenantry.purge', 'homes never claimed', true)", &[]).await?;
        let rows = query(
            client,
            "SELECT id FROM operation o
              WHERE tenant IS NULL AND kind IN ('prepare_home', 'drop_home')
                AND finished_at < now() - $1 * interval '1 second'
                AND NOT EXISTS (SELECT FROM home h WHERE h.id = (o.input ->> 'home')::uuid)
              ORDER BY finished_at LIMIT $2",
            &[&age, &(limit * 2)],
        )
        .await?;
        let operations: Vec<Uuid> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        execute(client, "DELETE FROM operation_event WHERE operation = ANY ($1)", &[&operations]).await?;
        execute(client, "DELETE FROM operation WHERE id = ANY ($1)", &[&operations]).await?;
        Ok(forgotten)
    }
}

fn read(row: &Row) -> Result<WarmPool, StoreError> {
    let homes = |column| -> Result<Vec<HomeId>, StoreError> {
        Ok(get::<Vec<Uuid>>(row, column)?.into_iter().map(HomeId::new).collect())
    };
    let failed: Vec<bool> = get(row, "failed")?;
    let ended: Vec<Timestamp> = get(row, "ended")?;
    Ok(WarmPool {
        cluster: ClusterId::new(get(row, "id")?),
        name: parsed(row, "name")?,
        system_identifier: get(row, "system_identifier")?,
        takes_homes: get(row, "takes_homes")?,
        limits: json(row, "limits")?,
        usage: ClusterUsage {
            homes: count(row, "homes")?,
            databases: count(row, "databases")?,
            warm: count(row, "warm_homes")?,
            ..ClusterUsage::default()
        },
        warm: homes("warm")?,
        stale: homes("stale")?,
        preparing: count(row, "preparing")?,
        demand: count(row, "demand")?,
        provisions: count(row, "provisions")?,
        failures: failed.into_iter().zip(ended).take_while(|(failed, _)| *failed).map(|(_, ended)| ended).collect(),
    })
}
