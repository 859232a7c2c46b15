//! The table `cluster_health`: what the last look at each cluster found.

use jiff::Timestamp;
use serde_json::json as object;
use tenantry_domain::{Check, ClusterHealth, ClusterId, ClusterObservation, EventKind, HealthState};
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::events::NewEvent;
use crate::row::{execute, get, json, query, query_one, query_opt, to_json};
use crate::store::Store;

/// What one look at a cluster came to.
#[derive(Debug, Clone)]
pub enum ClusterLook {
    /// It answered.
    Answered {
        /// Its figures.
        observed: ClusterObservation,
        /// What was checked.
        checks: Vec<Check>,
    },
    /// It did not.
    Silent {
        /// Why not, without secrets.
        error: String,
    },
}

impl Store {
    /// Keeps what a look found, and tells of it where a cluster falls silent or answers again. Silence leaves the figures
    /// of the last answer.
    pub async fn record_cluster_look(&self, id: ClusterId, look: &ClusterLook) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let client = tx.client()?;
        let known = "SELECT reachable FROM cluster_health WHERE cluster = $1 FOR UPDATE";
        let known = query_opt(client, known, &[&id.as_uuid()]).await?;
        let was_reachable = known.map_or(Ok(true), |row| get::<bool>(&row, "reachable"))?;
        match look {
            ClusterLook::Answered { observed, checks } => {
                execute(
                    client,
                    "INSERT INTO cluster_health (cluster, reachable, seen_at, observed, checks)
                     SELECT id, true, clock_timestamp(), $2, $3 FROM cluster WHERE id = $1 AND retired_at IS NULL
                     ON CONFLICT (cluster) DO UPDATE
                        SET reachable = true, failures = 0, error = NULL, observed = excluded.observed,
                            checks = excluded.checks, seen_at = excluded.seen_at, checked_at = clock_timestamp()",
                    &[&id.as_uuid(), &to_json(observed)?, &to_json(checks)?],
                )
                .await?;
                // Only where it is news: the row is what placements wait for.
                let version = "UPDATE cluster SET server_version = $2 WHERE id = $1 AND server_version <> $2";
                execute(client, version, &[&id.as_uuid(), &observed.server_version]).await?;
            }
            ClusterLook::Silent { error } => {
                execute(
                    client,
                    "INSERT INTO cluster_health AS known (cluster, reachable, failures, error)
                     SELECT id, false, 1, $2 FROM cluster WHERE id = $1 AND retired_at IS NULL
                     ON CONFLICT (cluster) DO UPDATE
                        SET reachable = false, failures = known.failures + 1, error = excluded.error,
                            checked_at = clock_timestamp()",
                    &[&id.as_uuid(), &error],
                )
                .await?;
            }
        }
        match look {
            ClusterLook::Silent { error } if was_reachable => {
                let event = NewEvent::of_cluster(EventKind::ClusterUnhealthy, id).with(object!({ "reason": error }));
                tx.emit(&event).await?;
            }
            ClusterLook::Answered { .. } if !was_reachable => {
                tx.emit(&NewEvent::of_cluster(EventKind::ClusterRecovered, id)).await?;
            }
            ClusterLook::Answered { .. } | ClusterLook::Silent { .. } => {}
        }
        tx.commit().await
    }

    /// Every cluster that is not retired, for upkeep.
    pub async fn living_clusters(&self) -> Result<Vec<ClusterId>, StoreError> {
        let sql = "SELECT id FROM cluster WHERE retired_at IS NULL ORDER BY id";
        let rows = query(&*self.client().await?, sql, &[]).await?;
        rows.iter().map(|row| Ok(ClusterId::new(get(row, "id")?))).collect()
    }

    /// Counts the ceilings of tenants anew where plans or overrides changed them, `most` homes in one call; returns how
    /// many were wrong. A ceiling that rose past its cluster's limit is counted: its tenant lives there already.
    pub async fn recount_connections(&self, most: u32) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let client = tx.client()?;
        query_one(client, "SELECT set_config('tenantry.recount', 'on', true)", &[]).await?;
        let changed = execute(
            client,
            "WITH ceiling AS (
                 SELECT h.id, coalesce((t.overrides ->> 'connections')::bigint, (p.limits ->> 'connections')::bigint, 0)
                            AS connections
                   FROM placement l JOIN home h ON h.id = l.home
                   JOIN tenant t ON t.id = l.tenant JOIN plan p ON p.name = t.plan
                  WHERE l.until IS NULL AND h.state <> 'released'),
                  wrong AS (SELECT c.* FROM ceiling c JOIN home h USING (id) WHERE h.connections <> c.connections
                             ORDER BY id LIMIT $1)
             UPDATE home SET connections = wrong.connections FROM wrong WHERE home.id = wrong.id",
            &[&i64::from(most)],
        )
        .await?;
        tx.commit().await?;
        Ok(changed)
    }
}

/// The health in a row of clusters.
pub(crate) fn read_health(row: &Row) -> Result<ClusterHealth, StoreError> {
    let observed: Option<serde_json::Value> = get(row, "health_observed")?;
    let observed: Option<ClusterObservation> =
        observed.map(serde_json::from_value).transpose().map_err(StoreError::internal)?;
    let reachable: Option<bool> = get(row, "health_reachable")?;
    let state = match (reachable, &observed) {
        (None, _) => HealthState::Unknown,
        (Some(false), _) => HealthState::Unreachable,
        (Some(true), Some(observed)) if observed.in_recovery => HealthState::ReadOnly,
        (Some(true), _) => HealthState::Healthy,
    };
    let registered: Option<Timestamp> = get(row, "seen_at")?;
    Ok(ClusterHealth {
        state,
        seen_at: get::<Option<Timestamp>>(row, "health_seen_at")?.or(registered),
        checked_at: get(row, "health_checked_at")?,
        failures: u32::try_from(get::<Option<i32>>(row, "health_failures")?.unwrap_or(0))
            .map_err(StoreError::internal)?,
        error: get(row, "health_error")?,
        observed,
        checks: match get::<Option<serde_json::Value>>(row, "health_checks")? {
            Some(checks) => serde_json::from_value(checks).map_err(StoreError::internal)?,
            None => Vec::new(),
        },
        findings: json(row, "findings")?,
    })
}
