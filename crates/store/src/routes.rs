//! The tables `route` and `feed_clock`, and the cluster rows as routers see them.
//!
//! `route` is a compacted log: the newest change of each tenant under the version of that change. Versions are drawn by
//! [`Tx::commit`] with the clock's row locked up to the commit, so they become visible in their order: whoever sees one
//! has seen, or can read, every change below it.

use tenantry_domain::{
    ClusterId, Credential, DatabaseName, Endpoint, FeedVersion, Generation, HomeId, HomeNames, HostName, Limits,
    Overrides, RoleName, Route, RouteTarget, SchemaVersion, SharedAccess, Slug, TenantId, TlsMode,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::cluster_replicas::{ROUTES as REPLICAS, ReplicaRoute, read_routes};
use crate::clusters::read_endpoint;
use crate::connection::Connection;
use crate::error::StoreError;
use crate::homes::parse_slot;
use crate::hosts::read_hosts;
use crate::row::{get, json, parsed, query, query_one, query_opt};
use crate::secrets::{OpenKeys, columns, open_secret};
use crate::store::Store;
/// How somebody names the route that they want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteRef {
    /// By the tenant's id.
    Id(TenantId),
    /// By the tenant's slug.
    Slug(Slug),
    /// By one of the tenant's hosts.
    Host(HostName),
}

/// Where the feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedClock {
    /// The newest version.
    pub current: FeedVersion,
    /// The lowest version after which the feed can be resumed; below it removals were forgotten.
    pub oldest: FeedVersion,
}

/// A cluster as routers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRoute {
    /// The change that made it what it is.
    pub version: FeedVersion,
    /// Which cluster.
    pub cluster: ClusterId,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections are protected.
    pub tls_mode: TlsMode,
    /// PEM of the authority; absent means the system's.
    pub tls_ca: Option<String>,
    /// Its standbys, oldest first.
    pub replicas: Vec<ReplicaRoute>,
}

/// One change of what routers know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// The tenant's route is this now.
    Route(Box<Route>),
    /// The tenant has no route any more.
    Removed {
        /// Whose.
        tenant: TenantId,
        /// The change.
        version: FeedVersion,
    },
    /// The cluster is there now.
    Cluster(ClusterRoute),
}

impl RouteChange {
    /// The change's place in the order.
    pub fn version(&self) -> FeedVersion {
        match self {
            Self::Route(route) => route.version,
            Self::Removed { version, .. } => *version,
            Self::Cluster(cluster) => cluster.version,
        }
    }
}

/// Some changes in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The changes.
    pub items: Vec<RouteChange>,
    /// Nothing up to and with this version is missing.
    pub upto: FeedVersion,
    /// Whoever had read less than this when these were read may have missed removals, and needs a snapshot.
    pub oldest: FeedVersion,
}

impl Store {
    /// Where the feed stands.
    pub async fn feed_version(&self) -> Result<FeedClock, StoreError> {
        clock(&*self.client().await?).await
    }

    /// The changes after one version, in order, up to and with another that was seen. Of a tenant that changed again
    /// since, the older change is left out: the newer one follows above `upto`.
    pub async fn routes_after(
        &self,
        after: FeedVersion,
        upto: FeedVersion,
        limit: i64,
        with_secrets: bool,
    ) -> Result<Changes, StoreError> {
        let limit = limit.clamp(1, 10_000);
        let client = self.client().await?;
        let sql =
            select_routes(Whose::All, with_secrets, "r.version > $1 AND r.version <= $2 ORDER BY r.version LIMIT $3");
        let routes = query(&client, &sql, &[&after.0, &upto.0, &limit]).await?;
        let clusters = query(
            &client,
            &select_clusters("version > $1 AND version <= $2 AND retired_at IS NULL ORDER BY version LIMIT $3"),
            &[&after.0, &upto.0, &limit],
        )
        .await?;
        let is_cut = |rows: &[Row]| i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let mut complete = upto;
        for rows in [&routes, &clusters] {
            if let (true, Some(last)) = (is_cut(rows), rows.last()) {
                complete = complete.min(FeedVersion(get(last, "version")?));
            }
        }
        let mut items = Vec::with_capacity(routes.len() + clusters.len());
        for row in &clusters {
            items.push(RouteChange::Cluster(read_cluster(row)?));
        }
        let keys = self.route_keys(&routes, with_secrets).await?;
        for row in &routes {
            items.push(read_change(keys.as_ref(), row)?);
        }
        items.retain(|item| item.version() <= complete);
        items.sort_by_key(RouteChange::version);
        // Looked at last: what was forgotten before the changes were read is seen here.
        let oldest = clock(&client).await?.oldest;
        Ok(Changes { items, upto: complete, oldest })
    }

    /// Where a snapshot begins: the newest version, and how many tenants have a route by then.
    pub async fn count_routes(&self) -> Result<(FeedVersion, u64), StoreError> {
        let sql = "SELECT version, (SELECT count(*) FROM route WHERE state <> 'removed') AS routes FROM feed_clock";
        let row = query_one(&*self.client().await?, sql, &[]).await?;
        let routes = u64::try_from(get::<i64>(&row, "routes")?).map_err(StoreError::internal)?;
        Ok((FeedVersion(get(&row, "version")?), routes))
    }

    /// Every cluster, as it is now.
    pub async fn cluster_routes(&self) -> Result<Vec<ClusterRoute>, StoreError> {
        let sql = select_clusters("retired_at IS NULL ORDER BY id");
        query(&*self.client().await?, &sql, &[]).await?.iter().map(read_cluster).collect()
    }

    /// One cluster, as routers see it.
    pub async fn cluster_route(&self, id: ClusterId) -> Result<ClusterRoute, StoreError> {
        let row = query_opt(&*self.client().await?, &select_clusters("id = $1"), &[&id.as_uuid()]).await?;
        let missing = || StoreError::NotFound { what: "cluster", name: id.to_string() };
        row.as_ref().map(read_cluster).transpose()?.ok_or_else(missing)
    }

    /// The routes that follow a tenant's (the first ones when none is named), as they are now, by tenant. Fewer than
    /// `limit` only at the end.
    pub async fn routes_page(
        &self,
        after: Option<TenantId>,
        limit: i64,
        with_secrets: bool,
    ) -> Result<Vec<Route>, StoreError> {
        let sql = select_routes(
            Whose::Present,
            with_secrets,
            "r.state <> 'removed' AND r.tenant > $1 ORDER BY r.tenant LIMIT $2",
        );
        let after = after.map_or_else(Uuid::nil, TenantId::as_uuid);
        let rows = query(&*self.client().await?, &sql, &[&after, &limit.clamp(1, 10_000)]).await?;
        let mut routes = Vec::with_capacity(rows.len());
        let keys = self.route_keys(&rows, with_secrets).await?;
        for row in &rows {
            if let RouteChange::Route(route) = read_change(keys.as_ref(), row)? {
                routes.push(*route);
            }
        }
        Ok(routes)
    }

    /// The route of one tenant.
    pub async fn resolve(&self, by: &RouteRef, with_secrets: bool) -> Result<Route, StoreError> {
        let not_found = |name: &dyn std::fmt::Display| StoreError::NotFound { what: "route", name: name.to_string() };
        let client = self.client().await?;
        let select = |condition: &str| {
            select_routes(Whose::Present, with_secrets, &format!("r.state <> 'removed' AND {condition}"))
        };
        let (row, missing) = match by {
            RouteRef::Id(id) => (query_opt(&client, &select("r.tenant = $1"), &[&id.as_uuid()]).await?, not_found(id)),
            RouteRef::Slug(slug) => {
                (query_opt(&client, &select("t.slug = $1"), &[&slug.as_str()]).await?, not_found(slug))
            }
            RouteRef::Host(host) => {
                let condition = "t.id = (SELECT tenant FROM host WHERE name = $1)";
                (query_opt(&client, &select(condition), &[&host.as_str()]).await?, not_found(host))
            }
        };
        let keys = self.route_keys(row.as_slice(), with_secrets).await?;
        match row.as_ref().map(|row| read_change(keys.as_ref(), row)).transpose()? {
            Some(RouteChange::Route(route)) => Ok(*route),
            Some(RouteChange::Removed { .. } | RouteChange::Cluster(_)) | None => Err(missing),
        }
    }
}

impl Store {
    /// What opens the passwords of these rows, where they are wanted.
    async fn route_keys(&self, rows: &[Row], with_secrets: bool) -> Result<Option<OpenKeys<'_>>, StoreError> {
        if !with_secrets {
            return Ok(None);
        }
        OpenKeys::of(self.keyring(), rows, &["login", "read_only", "pool"]).await.map(Some)
    }
}

async fn clock(client: &Connection) -> Result<FeedClock, StoreError> {
    let row = query_one(client, "SELECT version, oldest FROM feed_clock", &[]).await?;
    Ok(FeedClock { current: FeedVersion(get(&row, "version")?), oldest: FeedVersion(get(&row, "oldest")?) })
}

/// Whose routes a query is about.
#[derive(Clone, Copy)]
enum Whose {
    /// Every tenant's, purged ones included, of which only the removal is left.
    All,
    /// Of tenants that are there. Lets a range of routes be a range of tenants, so that a page costs a page.
    Present,
}

/// Everything that a route tells, from five tables.
fn select_routes(whose: Whose, with_secrets: bool, condition: &str) -> String {
    let tenants = match whose {
        Whose::All => "LEFT JOIN tenant",
        Whose::Present => "JOIN tenant",
    };
    let (secrets, join) = if with_secrets {
        (
            format!(", {}, {}, {}", columns("login"), columns("read_only"), columns("pool")),
            "LEFT JOIN sealed_secret login ON login.id = h.login_secret
             LEFT JOIN sealed_secret read_only ON read_only.id = h.read_only_secret
             LEFT JOIN shared_database s ON s.id = h.shared_database AND h.is_pooled
             LEFT JOIN sealed_secret pool ON pool.id = s.pool_secret",
        )
    } else {
        (String::new(), "")
    };
    format!(
        "SELECT r.tenant, r.version, r.state, r.generation, t.slug, t.overrides, t.schema_version, p.limits,
                ARRAY(SELECT name FROM host WHERE host.tenant = r.tenant ORDER BY name) AS hosts,
                h.id AS home, h.cluster, h.database_name, h.schema_name, h.login_slot, h.is_pooled {secrets}
           FROM route r
           {tenants} t ON t.id = r.tenant LEFT JOIN plan p ON p.name = t.plan
           LEFT JOIN home h ON h.id = r.home {join}
          WHERE {condition}"
    )
}

/// Everything that routers know of a cluster.
fn select_clusters(condition: &str) -> String {
    format!("SELECT id, version, host, port, tls_mode, tls_ca, {REPLICAS} FROM cluster WHERE {condition}")
}

fn read_cluster(row: &Row) -> Result<ClusterRoute, StoreError> {
    Ok(ClusterRoute {
        version: FeedVersion(get(row, "version")?),
        cluster: ClusterId::new(get(row, "id")?),
        endpoint: read_endpoint(row)?,
        tls_mode: parsed(row, "tls_mode")?,
        tls_ca: get(row, "tls_ca")?,
        replicas: read_routes(row)?,
    })
}

fn read_change(keys: Option<&OpenKeys<'_>>, row: &Row) -> Result<RouteChange, StoreError> {
    let version = FeedVersion(get(row, "version")?);
    let tenant = TenantId::new(get(row, "tenant")?);
    if get::<&str>(row, "state")? == "removed" {
        return Ok(RouteChange::Removed { tenant, version });
    }
    let limits: Limits = json(row, "limits")?;
    Ok(RouteChange::Route(Box::new(Route {
        version,
        tenant,
        slug: parsed(row, "slug")?,
        hosts: read_hosts(row)?,
        state: parsed(row, "state")?,
        generation: Generation(get(row, "generation")?),
        target: read_target(keys, row)?,
        limits: limits.overridden_by(json::<Overrides>(row, "overrides")?.limits),
        schema_version: SchemaVersion(get(row, "schema_version")?),
    })))
}

fn read_target(keys: Option<&OpenKeys<'_>>, row: &Row) -> Result<Option<RouteTarget>, StoreError> {
    let Some(home) = get::<Option<Uuid>>(row, "home")?.map(HomeId::new) else { return Ok(None) };
    let names = HomeNames::of(home);
    let slot = parse_slot(get(row, "login_slot")?)?;
    let password = |alias| keys.map_or(Ok(None), |keys| open_secret(keys, row, alias));
    let database: DatabaseName = get::<String>(row, "database_name")?.try_into().map_err(StoreError::internal)?;
    let shared = if get(row, "is_pooled")? {
        let credential = Credential { role: RoleName::shared_pool(&database), password: password("pool")? };
        Some(SharedAccess { credential, app: names.app.clone() })
    } else {
        None
    };
    Ok(Some(RouteTarget {
        cluster: ClusterId::new(get(row, "cluster")?),
        database,
        schema: get::<String>(row, "schema_name")?.try_into().map_err(StoreError::internal)?,
        credential: Credential { role: names.login(slot).clone(), password: password("login")? },
        read_only_credential: Credential { role: names.read_only, password: password("read_only")? },
        shared,
    }))
}
