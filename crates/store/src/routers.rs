//! The table `router`: what each router last said of itself, and who follows the feed now.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tenantry_domain::{ClusterId, FeedVersion};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection_leases::ConnectionDemand;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::master_keys::ALIVE;
use crate::row::{execute, get, json, query};
use crate::store::Store;

/// What a router says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterReport {
    /// Its name.
    pub name: String,
    /// The last feed version that it applied.
    pub applied_version: FeedVersion,
    /// Routes, pools and demands, as it reports them.
    pub detail: Value,
    /// What it holds and needs on each cluster that it uses.
    pub demands: Vec<ConnectionDemand>,
}

/// A router that has begun to follow the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConnection {
    /// Its name.
    pub name: String,
    /// This connection and no other of the same name.
    pub connection: Uuid,
    /// The version that it came with.
    pub applied_version: FeedVersion,
    /// Since when.
    pub connected_at: Timestamp,
}

/// A router's last report, and whether it is there.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterRecord {
    /// Its name.
    pub name: String,
    /// The last feed version that it applied.
    pub applied_version: FeedVersion,
    /// How many versions it is behind the newest.
    pub lag: i64,
    /// When it reported; when it first connected, where it has not reported yet.
    pub reported_at: Timestamp,
    /// Since when it follows the feed; absent where it does not, or where its replica is silent.
    pub connected_at: Option<Timestamp>,
    /// The replica that it follows the feed of.
    pub replica: Option<Uuid>,
    /// Routes, pools and demands, as it reported them.
    pub detail: Value,
    /// What it may hold on each cluster that it uses.
    pub leases: Vec<RouterLease>,
}

/// What a router may hold on one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct RouterLease {
    /// The cluster.
    pub cluster: ClusterId,
    /// Most connections, as it was last told; absent where it was told of none.
    pub granted: Option<u32>,
    /// Connections that it may hold until it acknowledges that.
    pub held: u32,
    /// Connections that it would use.
    pub wanted: u32,
}

impl Store {
    /// Takes reports down, each in place of the one before; of several by one name the last.
    pub async fn report_routers(&self, reports: &[RouterReport]) -> Result<(), StoreError> {
        let is_named = |report: &RouterReport| (1..=200).contains(&report.name.chars().count());
        if !reports.iter().all(is_named) {
            return Err(StoreError::Invalid { reason: "a router's name has 1 to 200 characters".to_owned() });
        }
        let names: Vec<&str> = reports.iter().map(|report| report.name.as_str()).collect();
        let versions: Vec<i64> = reports.iter().map(|report| report.applied_version.0).collect();
        let details: Vec<&Value> = reports.iter().map(|report| &report.detail).collect();
        execute(
            &*self.client().await?,
            "INSERT INTO router (name, applied_version, detail)
             SELECT DISTINCT ON (name) name, version, detail
               FROM unnest($1::text[], $2::bigint[], $3::jsonb[]) WITH ORDINALITY
                    AS report (name, version, detail, position) ORDER BY name, position DESC
             ON CONFLICT (name) DO UPDATE
                SET applied_version = excluded.applied_version, detail = excluded.detail, reported_at = now()",
            &[&names, &versions, &details],
        )
        .await?;
        Ok(())
    }

    /// Takes down who has begun to follow this replica's feed, and which connections have ended. Names are told once.
    pub async fn record_router_connections(
        &self,
        replica: Uuid,
        begun: &[RouterConnection],
        ended: &[Uuid],
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let names: Vec<&str> = begun.iter().map(|router| router.name.as_str()).collect();
        let connections: Vec<Uuid> = begun.iter().map(|router| router.connection).collect();
        let versions: Vec<i64> = begun.iter().map(|router| router.applied_version.0).collect();
        let times: Vec<Timestamp> = begun.iter().map(|router| router.connected_at).collect();
        if !begun.is_empty() {
            execute(
                &client,
                "INSERT INTO router (name, applied_version, replica, connection, connected_at)
                 SELECT name, version, $1, connection, at
                   FROM unnest($2::text[], $3::bigint[], $4::uuid[], $5::timestamptz[])
                        AS begun (name, version, connection, at) ORDER BY name
                 ON CONFLICT (name) DO UPDATE
                    SET replica = excluded.replica, connection = excluded.connection,
                        connected_at = excluded.connected_at",
                &[&replica, &names, &versions, &connections, &times],
            )
            .await?;
        }
        if !ended.is_empty() {
            let sql = "UPDATE router SET replica = NULL, connection = NULL, connected_at = NULL
                        WHERE connection = ANY ($1)";
            execute(&client, sql, &[&ended]).await?;
        }
        Ok(())
    }

    /// A page of routers, by name; of those alone that follow the feed now or do not, where that is said.
    pub async fn routers(&self, connected: Option<bool>, page: &PageRequest) -> Result<Page<RouterRecord>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT router.name, applied_version, detail, reported_at, greatest(version - applied_version, 0) AS lag,
                    (SELECT coalesce(jsonb_agg(jsonb_build_object('cluster', l.cluster, 'granted', l.granted,
                                                                  'held', l.held, 'wanted', l.wanted)
                                               ORDER BY l.cluster), '[]')
                       FROM connection_lease l WHERE l.router = router.name) AS leases,
                    alive.id AS replica, CASE WHEN alive.id IS NOT NULL THEN connected_at END AS connected_at
               FROM router CROSS JOIN feed_clock
               LEFT JOIN replica alive ON alive.id = router.replica
                     AND alive.seen_at >= now() - make_interval(secs => $4)
              WHERE ($1::text IS NULL OR router.name > $1) AND ($3::bool IS NULL OR (alive.id IS NOT NULL) = $3)
              ORDER BY router.name LIMIT $2",
            &[&page.after_name(), &page.probe(), &connected, &ALIVE.as_secs_f64()],
        )
        .await?;
        let routers = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(routers, |router: &RouterRecord| router.name.clone()))
    }

    /// Forgets routers that were silent for longer than this, do not follow the feed and hold no lease; says how many.
    pub async fn forget_routers(&self, silent_for: Duration) -> Result<u64, StoreError> {
        execute(
            &*self.client().await?,
            "DELETE FROM router WHERE reported_at < now() - make_interval(secs => $1)
                AND NOT EXISTS (SELECT FROM replica WHERE replica.id = router.replica)
                AND NOT EXISTS (SELECT FROM connection_lease l
                                 WHERE l.router = router.name AND (l.granted > 0 OR l.held > 0))",
            &[&silent_for.as_secs_f64()],
        )
        .await
    }
}

fn read(row: &Row) -> Result<RouterRecord, StoreError> {
    Ok(RouterRecord {
        name: get(row, "name")?,
        applied_version: FeedVersion(get(row, "applied_version")?),
        lag: get(row, "lag")?,
        reported_at: get(row, "reported_at")?,
        connected_at: get(row, "connected_at")?,
        replica: get(row, "replica")?,
        detail: get(row, "detail")?,
        leases: json(row, "leases")?,
    })
}
