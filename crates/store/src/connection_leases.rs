//! The table `connection_lease`: what each router may hold of a cluster's connections, and what it said that it needs.
//!
//! Every change holds the row of `lease_clock` up to its commit, so serials become visible in their order, and no two
//! divisions of one cluster cross.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tenantry_domain::{
    ClusterId, ClusterLimits, ClusterObservation, LeaseHolder, LeaseSerial, connections_for_routers, divide_connections,
};
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::row::{execute, get, query, query_one};
use crate::store::Store;

/// A router that has not reported for so long is silent: its leases stay as they are.
pub const ROUTER_SILENT: Duration = Duration::from_secs(30);
/// The connections of a cluster that nobody has looked at yet: PostgreSQL's own default for `max_connections`, less three.
const USABLE_UNSEEN: u32 = 97;

/// What a router holds and needs on one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionDemand {
    /// The router.
    pub router: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// Connections that are open.
    pub open: u32,
    /// Connections in use, and callers that wait for one.
    pub wanted: u32,
    /// The lease that it keeps to; absent where it knows of none or still holds more.
    pub acknowledged: Option<LeaseSerial>,
}

/// What a router may hold on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedLease {
    /// The router.
    pub router: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// Most connections; absent where what it had was taken back, and it is as one that was leased nothing yet.
    pub connections: Option<u32>,
    /// Its place in the order of all.
    pub serial: LeaseSerial,
}

impl Store {
    /// Takes down what routers hold and need, and divides the connections anew of each cluster where that matters. The
    /// routers are known. Answers the newest serial, where anybody was granted another lease.
    pub async fn take_demands(&self, demands: &[ConnectionDemand]) -> Result<Option<LeaseSerial>, StoreError> {
        if demands.is_empty() {
            return Ok(None);
        }
        let tx = self.begin().await?;
        let client = tx.client()?;
        let mut clock = Clock::lock(client).await?;
        let routers: Vec<&str> = demands.iter().map(|demand| demand.router.as_str()).collect();
        let clusters: Vec<Uuid> = demands.iter().map(|demand| demand.cluster.as_uuid()).collect();
        let number = |of: fn(&ConnectionDemand) -> u32| demands.iter().map(|it| small(of(it))).collect::<Vec<i32>>();
        let acknowledged: Vec<Option<i64>> = demands.iter().map(|it| it.acknowledged.map(|serial| serial.0)).collect();
        // Who holds what it may and wants no more changes nothing for anybody.
        let rows = query(
            client,
            "WITH demand AS (
                 SELECT DISTINCT ON (d.router, d.cluster) d.* FROM
                    unnest($1::text[], $2::uuid[], $3::int[], $4::int[], $5::bigint[]) WITH ORDINALITY
                    AS d (router, cluster, open, wanted, acknowledged, position)
                    JOIN cluster ON cluster.id = d.cluster AND cluster.retired_at IS NULL
                    JOIN router ON router.name = d.router
                  ORDER BY d.router, d.cluster, d.position DESC),
             known AS (
                 SELECT l.* FROM connection_lease l JOIN demand USING (router, cluster)),
             changed AS (
                 INSERT INTO connection_lease AS l (router, cluster, held, wanted)
                 SELECT d.router, d.cluster,
                        CASE WHEN d.acknowledged = k.serial THEN d.open ELSE greatest(k.held, d.open) END, d.wanted
                   FROM demand d LEFT JOIN known k USING (router, cluster)
                  WHERE k.router IS NOT NULL OR d.open > 0 OR d.wanted > 0
                 ON CONFLICT (router, cluster) DO UPDATE SET held = excluded.held, wanted = excluded.wanted
                 RETURNING router, cluster, granted, held, wanted)
             SELECT DISTINCT c.cluster FROM changed c LEFT JOIN known k USING (router, cluster)
              WHERE k.router IS NULL OR c.wanted > coalesce(c.granted, 0)
                 OR k.held > coalesce(k.granted, 0) AND c.held < k.held",
            &[&routers, &clusters, &number(|it| it.open), &number(|it| it.wanted), &acknowledged],
        )
        .await?;
        let mattering = rows.iter().map(|row| Ok(ClusterId::new(get(row, "cluster")?)));
        let mattering = mattering.collect::<Result<Vec<_>, StoreError>>()?;
        clock.divide(client, &mattering).await?;
        let granted = clock.finish(client).await?;
        tx.commit().await?;
        Ok(granted)
    }

    /// Divides anew what is leased of every cluster: ceilings may have changed, and routers fallen silent.
    pub async fn divide_all_connections(&self) -> Result<Option<LeaseSerial>, StoreError> {
        let tx = self.begin().await?;
        let client = tx.client()?;
        let mut clock = Clock::lock(client).await?;
        let rows = query(client, "SELECT DISTINCT cluster FROM connection_lease", &[]).await?;
        let clusters = rows.iter().map(|row| Ok(ClusterId::new(get(row, "cluster")?)));
        clock.divide(client, &clusters.collect::<Result<Vec<_>, StoreError>>()?).await?;
        let granted = clock.finish(client).await?;
        tx.commit().await?;
        Ok(granted)
    }

    /// Routers that are silent and may hold connections, by cluster.
    pub async fn silent_holders(&self) -> Result<BTreeMap<ClusterId, Vec<String>>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT l.cluster, l.router FROM connection_lease l JOIN router ON router.name = l.router
              WHERE (l.granted > 0 OR l.held > 0) AND router.reported_at < now() - make_interval(secs => $1)
              ORDER BY 1, 2",
            &[&ROUTER_SILENT.as_secs_f64()],
        )
        .await?;
        let mut silent: BTreeMap<ClusterId, Vec<String>> = BTreeMap::new();
        for row in &rows {
            silent.entry(ClusterId::new(get(row, "cluster")?)).or_default().push(get(row, "router")?);
        }
        Ok(silent)
    }

    /// Takes back what routers had on a cluster whose connections there are gone, where they are silent still. Says how
    /// many leases.
    pub async fn take_leases_back(&self, cluster: ClusterId, routers: &[String]) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let client = tx.client()?;
        let mut clock = Clock::lock(client).await?;
        let taken = execute(
            client,
            "UPDATE connection_lease l SET granted = NULL, held = 0, wanted = 0, serial = $4
               FROM router WHERE router.name = l.router AND l.cluster = $1 AND l.router = ANY ($2)
                AND router.reported_at < now() - make_interval(secs => $3)",
            &[&cluster.as_uuid(), &routers, &ROUTER_SILENT.as_secs_f64(), &(clock.serial + 1)],
        )
        .await?;
        if taken > 0 {
            clock.rise();
            clock.divide(client, &[cluster]).await?;
        }
        clock.finish(client).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// The leases that were granted after one, in their order, and the newest serial; all of them when none is named.
    pub async fn leases_after(&self, serial: LeaseSerial) -> Result<(Vec<GrantedLease>, LeaseSerial), StoreError> {
        let client = self.client().await?;
        // In this order: what is committed in between is read again.
        let newest = LeaseSerial(get(&query_one(&client, "SELECT serial FROM lease_clock", &[]).await?, "serial")?);
        let sql = "SELECT router, cluster, granted, serial FROM connection_lease WHERE serial > $1 ORDER BY serial";
        let rows = query(&client, sql, &[&serial.0]).await?;
        let leases = rows.iter().map(|row| {
            Ok(GrantedLease {
                router: get(row, "router")?,
                cluster: ClusterId::new(get(row, "cluster")?),
                connections: get::<Option<i32>>(row, "granted")?.map(i32::unsigned_abs),
                serial: LeaseSerial(get(row, "serial")?),
            })
        });
        Ok((leases.collect::<Result<_, StoreError>>()?, newest))
    }
}

/// The lease clock, locked until the transaction ends.
struct Clock {
    serial: i64,
    risen: bool,
}

impl Clock {
    async fn lock(client: &Connection) -> Result<Self, StoreError> {
        let row = query_one(client, "SELECT serial FROM lease_clock FOR UPDATE", &[]).await?;
        Ok(Self { serial: get(&row, "serial")?, risen: false })
    }

    fn rise(&mut self) {
        self.serial += 1;
        self.risen = true;
    }

    async fn divide(&mut self, client: &Connection, clusters: &[ClusterId]) -> Result<(), StoreError> {
        if clusters.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
        let routers = living_routers(client).await?;
        let ceilings = ceilings(client, &ids).await?;
        let rows = query(
            client,
            "SELECT router, cluster, granted, held, wanted FROM connection_lease WHERE cluster = ANY ($1)
              ORDER BY cluster, router",
            &[&ids],
        )
        .await?;
        let mut by_cluster: BTreeMap<ClusterId, Vec<Held>> = BTreeMap::new();
        for row in &rows {
            let router: String = get(row, "router")?;
            let granted = get::<Option<i32>>(row, "granted")?.map(i32::unsigned_abs);
            let holder = LeaseHolder {
                granted: granted.unwrap_or_default(),
                held: get::<i32>(row, "held")?.unsigned_abs(),
                wanted: get::<i32>(row, "wanted")?.unsigned_abs(),
                is_silent: !routers.contains(&router),
            };
            let held = Held { router, granted, holder };
            by_cluster.entry(ClusterId::new(get(row, "cluster")?)).or_default().push(held);
        }
        for (cluster, held) in by_cluster {
            let Some(ceiling) = ceilings.get(&cluster) else { continue };
            let with_lease = held.iter().filter(|it| it.granted.is_some() && !it.holder.is_silent).count();
            let newcomers = u32::try_from(routers.len() - with_lease).unwrap_or(u32::MAX);
            let holders: Vec<LeaseHolder> = held.iter().map(|it| it.holder).collect();
            let leases = divide_connections(*ceiling, newcomers, &holders);
            for (held, lease) in held.iter().zip(leases) {
                self.grant(client, cluster, held, lease).await?;
            }
        }
        Ok(())
    }

    async fn grant(
        &mut self,
        client: &Connection,
        cluster: ClusterId,
        of: &Held,
        lease: u32,
    ) -> Result<(), StoreError> {
        let LeaseHolder { wanted, is_silent, .. } = of.holder;
        // Who uses nothing any more is as one that was leased nothing yet.
        let lease = (lease > 0 || wanted > 0).then_some(lease);
        if is_silent || lease == of.granted {
            return Ok(());
        }
        self.rise();
        // What it had counts until it acknowledges less.
        execute(
            client,
            "UPDATE connection_lease SET granted = $3, serial = $4, held = greatest(held, granted)
              WHERE router = $1 AND cluster = $2",
            &[&of.router, &cluster.as_uuid(), &lease.map(small), &self.serial],
        )
        .await?;
        Ok(())
    }

    /// Writes how far it has come, and tells the replicas at the commit.
    async fn finish(self, client: &Connection) -> Result<Option<LeaseSerial>, StoreError> {
        if !self.risen {
            return Ok(None);
        }
        let sql = "WITH risen AS (UPDATE lease_clock SET serial = $1 RETURNING serial)
                   SELECT pg_notify('tenantry', 'leases:' || serial) FROM risen";
        query(client, sql, &[&self.serial]).await?;
        Ok(Some(LeaseSerial(self.serial)))
    }
}

/// One router's row.
struct Held {
    router: String,
    granted: Option<u32>,
    holder: LeaseHolder,
}

/// Routers that have reported lately.
async fn living_routers(client: &Connection) -> Result<BTreeSet<String>, StoreError> {
    let sql = "SELECT name FROM router WHERE reported_at >= now() - make_interval(secs => $1)";
    let rows = query(client, sql, &[&ROUTER_SILENT.as_secs_f64()]).await?;
    rows.iter().map(|row| get(row, "name")).collect()
}

/// What all routers may hold together on each cluster: what its limits say, or what its server has less a reserve.
async fn ceilings(client: &Connection, clusters: &[Uuid]) -> Result<BTreeMap<ClusterId, u32>, StoreError> {
    let sql = "SELECT c.id, c.limits, h.observed FROM cluster c LEFT JOIN cluster_health h ON h.cluster = c.id
                WHERE c.id = ANY ($1)";
    let rows = query(client, sql, &[&clusters]).await?;
    rows.iter()
        .map(|row| {
            let limits: ClusterLimits = crate::row::json(row, "limits")?;
            let observed = get::<Option<serde_json::Value>>(row, "observed")?;
            let observed: Option<ClusterObservation> =
                observed.map(serde_json::from_value).transpose().map_err(StoreError::internal)?;
            let usable = observed.map_or(USABLE_UNSEEN, |observed| observed.connections_usable());
            let ceiling = limits.router_connections.unwrap_or_else(|| connections_for_routers(usable));
            Ok((ClusterId::new(get(row, "id")?), ceiling))
        })
        .collect()
}

/// More connections than a server has are as many.
fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
