//! The table `cluster_replica`: standbys of clusters, and what the last look at each found.

use serde::Deserialize;
use tenantry_domain::{
    ClusterId, ClusterReplica, ClusterReplicaId, Endpoint, LagMax, ReplicaHealth, ReplicaState, TlsMode,
};
use tokio_postgres::Row;

use crate::clusters::read_endpoint;
use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{count, execute, get, parsed, query, query_one, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;

/// A replica to be recorded, as it was just seen.
#[derive(Debug, Clone)]
pub struct NewClusterReplica {
    /// Its id.
    pub id: ClusterReplicaId,
    /// Whose standby it is.
    pub cluster: ClusterId,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections are protected; absent means as the cluster's.
    pub tls_mode: Option<TlsMode>,
    /// PEM of the authority; absent means the cluster's.
    pub tls_ca: Option<String>,
    /// How far it may be behind.
    pub lag_max: LagMax,
    /// How far it is behind; absent where nobody can tell.
    pub lag_ms: Option<u64>,
}

/// What one look at a replica came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaLook {
    /// It answered, as a standby of its cluster.
    Standby {
        /// How far it was behind; absent where nobody can tell.
        lag_ms: Option<u64>,
    },
    /// It answered, as something else.
    NotStandby {
        /// As what.
        error: String,
    },
    /// It did not answer.
    Silent {
        /// Why not, without secrets.
        error: String,
    },
}

/// A replica as routers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRoute {
    /// Which one.
    pub id: ClusterReplicaId,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections are protected.
    pub tls_mode: TlsMode,
    /// PEM of the authority; absent means the system's.
    pub tls_ca: Option<String>,
    /// How far it may be behind.
    pub lag_max: LagMax,
}

const SELECT: &str = "SELECT r.*, coalesce(r.tls_mode, c.tls_mode) AS own_tls_mode, \
     coalesce(r.tls_ca, c.tls_ca) AS own_tls_ca FROM cluster_replica r JOIN cluster c ON c.id = r.cluster";

impl Store {
    /// A page of a cluster's replicas, oldest first.
    pub async fn cluster_replicas(
        &self,
        cluster: ClusterId,
        page: &PageRequest,
    ) -> Result<Page<ClusterReplica>, StoreError> {
        let sql = format!("{SELECT} WHERE r.cluster = $1 AND ($2::uuid IS NULL OR r.id > $2) ORDER BY r.id LIMIT $3");
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&cluster.as_uuid(), &page.after_id()?, &page.probe()];
        let rows = query(&*self.client().await?, &sql, &parameters).await?;
        let replicas = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(replicas, |replica: &ClusterReplica| replica.id.to_string()))
    }

    /// Keeps what a look found. Routers hear of it where the replica is no standby of its cluster any more, or is one again.
    pub async fn record_replica_look(&self, id: ClusterReplicaId, look: &ReplicaLook) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let known = "SELECT cluster, is_standby FROM cluster_replica WHERE id = $1 FOR NO KEY UPDATE";
        // Forgotten meanwhile.
        let Some(known) = query_opt(tx.client()?, known, &[&id.as_uuid()]).await? else { return Ok(()) };
        let was_standby: bool = get(&known, "is_standby")?;
        let (is_standby, lag_ms, error, is_silent) = match look {
            ReplicaLook::Standby { lag_ms } => (true, *lag_ms, None, false),
            ReplicaLook::NotStandby { error } => (false, None, Some(error), false),
            ReplicaLook::Silent { error } => (was_standby, None, Some(error), true),
        };
        execute(
            tx.client()?,
            "UPDATE cluster_replica
                SET is_standby = $2, error = $4, checked_at = clock_timestamp(),
                    failures = CASE WHEN $5 THEN failures + 1 ELSE 0 END, lag_ms = CASE WHEN $5 THEN lag_ms ELSE $3 END,
                    seen_at = CASE WHEN $5 THEN seen_at ELSE clock_timestamp() END
              WHERE id = $1",
            &[&id.as_uuid(), &is_standby, &lag_ms.map(milliseconds), &error, &is_silent],
        )
        .await?;
        if is_standby != was_standby {
            let cluster = ClusterId::new(get(&known, "cluster")?);
            tx.feed().cluster(cluster);
        }
        tx.commit().await
    }
}

impl Tx {
    /// How many replicas the cluster has.
    pub async fn count_cluster_replicas(&self, cluster: ClusterId) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) AS replicas FROM cluster_replica WHERE cluster = $1";
        count(&query_one(self.client()?, sql, &[&cluster.as_uuid()]).await?, "replicas")
    }

    /// Records a replica; routers hear of it at the commit. `Conflict` where the cluster has one at that address.
    pub async fn insert_cluster_replica(&mut self, new: &NewClusterReplica) -> Result<ClusterReplica, StoreError> {
        let inserted = execute(
            self.client()?,
            "INSERT INTO cluster_replica (id, cluster, host, port, tls_mode, tls_ca, lag_max_ms, lag_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT ON CONSTRAINT cluster_replica_endpoint DO NOTHING",
            &[
                &new.id.as_uuid(),
                &new.cluster.as_uuid(),
                &new.endpoint.host(),
                &i32::from(new.endpoint.port()),
                &new.tls_mode.map(TlsMode::as_str),
                &new.tls_ca,
                &i32::try_from(new.lag_max.as_ms()).map_err(StoreError::internal)?,
                &new.lag_ms.map(milliseconds),
            ],
        )
        .await?;
        if inserted == 0 {
            let reason = format!("the cluster has a replica at {} already", new.endpoint);
            return Err(StoreError::Conflict { reason });
        }
        self.feed().cluster(new.cluster);
        select(self.client()?, new.cluster, new.id).await
    }

    /// Forgets a replica of the cluster, which is answered with as it was; routers hear of it at the commit.
    pub async fn delete_cluster_replica(
        &mut self,
        cluster: ClusterId,
        id: ClusterReplicaId,
    ) -> Result<ClusterReplica, StoreError> {
        let replica = select(self.client()?, cluster, id).await?;
        execute(self.client()?, "DELETE FROM cluster_replica WHERE id = $1", &[&id.as_uuid()]).await?;
        self.feed().cluster(cluster);
        Ok(replica)
    }
}

async fn select(client: &Connection, cluster: ClusterId, id: ClusterReplicaId) -> Result<ClusterReplica, StoreError> {
    let sql = format!("{SELECT} WHERE r.cluster = $1 AND r.id = $2");
    let row = query_opt(client, &sql, &[&cluster.as_uuid(), &id.as_uuid()]).await?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::NotFound { what: "replica", name: id.to_string() })
}

fn read(row: &Row) -> Result<ClusterReplica, StoreError> {
    let lag_max = LagMax::from_ms(u32::try_from(get::<i32>(row, "lag_max_ms")?).map_err(StoreError::internal)?)
        .map_err(StoreError::internal)?;
    let failures = u32::try_from(get::<i32>(row, "failures")?).map_err(StoreError::internal)?;
    let lag_ms = get::<Option<i64>>(row, "lag_ms")?.map(i64::unsigned_abs);
    let state = match (failures, get::<bool>(row, "is_standby")?) {
        (1.., _) => ReplicaState::Unreachable,
        (0, false) => ReplicaState::NotStandby,
        (0, true) if lag_ms.is_some_and(|lag| lag <= u64::from(lag_max.as_ms())) => ReplicaState::Healthy,
        (0, true) => ReplicaState::Lagging,
    };
    Ok(ClusterReplica {
        id: ClusterReplicaId::new(get(row, "id")?),
        cluster: ClusterId::new(get(row, "cluster")?),
        endpoint: read_endpoint(row)?,
        tls_mode: parsed(row, "own_tls_mode")?,
        tls_ca: get(row, "own_tls_ca")?,
        lag_max,
        health: ReplicaHealth {
            state,
            lag_ms,
            seen_at: time(row, "seen_at")?,
            checked_at: time(row, "checked_at")?,
            failures,
            error: get(row, "error")?,
        },
        created_at: time(row, "created_at")?,
    })
}

/// PostgreSQL has no unsigned numbers; no lag is as long as what is cut off here.
fn milliseconds(lag_ms: u64) -> i64 {
    i64::try_from(lag_ms).unwrap_or(i64::MAX)
}

/// For a row of `cluster`: its standbys, as [`read_routes`] reads them.
pub(crate) const ROUTES: &str =
    "coalesce((SELECT jsonb_agg(jsonb_build_object('id', r.id, 'host', r.host, 'port', r.port,
             'tls_mode', coalesce(r.tls_mode, cluster.tls_mode), 'tls_ca', coalesce(r.tls_ca, cluster.tls_ca),
             'lag_max_ms', r.lag_max_ms) ORDER BY r.id)
           FROM cluster_replica r WHERE r.cluster = cluster.id AND r.is_standby), '[]') AS replicas";

#[derive(Deserialize)]
struct RouteJson {
    id: ClusterReplicaId,
    host: String,
    port: u16,
    tls_mode: TlsMode,
    tls_ca: Option<String>,
    lag_max_ms: LagMax,
}

/// The replicas in the column [`ROUTES`].
pub(crate) fn read_routes(row: &Row) -> Result<Vec<ReplicaRoute>, StoreError> {
    let routes: Vec<RouteJson> = crate::row::json(row, "replicas")?;
    let route = |route: RouteJson| {
        Ok(ReplicaRoute {
            id: route.id,
            endpoint: Endpoint::new(&route.host, route.port).map_err(StoreError::internal)?,
            tls_mode: route.tls_mode,
            tls_ca: route.tls_ca,
            lag_max: route.lag_max_ms,
        })
    };
    routes.into_iter().map(route).collect()
}
