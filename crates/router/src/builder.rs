//! Setting a router up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tenantry_api::{Client, ClientConfig, FeedCluster};
use tenantry_domain::{FeedVersion, Limits, Route, Secret, router_application_name};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::error::RouterError;
use crate::freshness::Freshness;
use crate::inner::{FeedState, Inner, Meters};
use crate::limits::Admissions;
use crate::pool::pools::Pools;
use crate::router::{RouteSource, Router};
use crate::snapshot::{Loaded, Mark, SnapshotFile, SnapshotKey};
use crate::table::{Prepared, Table};
use crate::tenant::Access;
use crate::{evict, feed, report, snapshot};

/// Limits on time and number. Every wait of a router has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// Connections per tenant, access and server, where the tenant's limits do not say.
    pub pool_size: u32,
    /// The most connections per tenant, access and server, whatever its limits say.
    pub pool_size_max: u32,
    /// Most connections to one cluster, over all tenants, even where the control plane leases more; and to each replica, of
    /// whose connections none are leased. When all are in use, each tenant comes to a share in proportion to its pool size.
    pub cluster_connections_max: u32,
    /// Connections to one database, on each server, that those of its tenants share whose pooling is `shared`; one at least.
    /// A tenant has no more of them at a time than its pool size. They count among `cluster_connections_max`.
    pub shared_pool_size: u32,
    /// How long a caller waits for one of the tenant's connections to be given back, for one that tenants share, or for the
    /// next that its `connections_per_second` allows.
    pub wait_timeout: Duration,
    /// How long a caller waits for a connection that was given back and is being cleaned, before another is opened. Well
    /// above a round trip: it keeps a caller that asks again at once from needing two connections.
    pub return_patience: Duration,
    /// How long opening a connection may take, from resolving the name to the check of the placement.
    pub connect_timeout: Duration,
    /// How long opening a connection to a replica may take, and the question how far it is behind: after that it counts as
    /// one that does not answer, and another server is tried. No longer than `connect_timeout`.
    pub replica_timeout: Duration,
    /// How long a caller that prefers a replica ([`crate::ReadFrom::PreferReplica`]) waits for one of its connections where
    /// all are in use; then it reads from the primary. Longer keeps more of what is too much for the replicas away from the
    /// primary; up to `wait_timeout` it is waited for there as well.
    pub replica_patience: Duration,
    /// A connection that was given back and does not answer for so long counts as busy with a query that nobody waits
    /// for; the query is cancelled and the connection closed. Well above a round trip to a busy server, or connections
    /// are closed when they are needed most.
    pub abandoned_after: Duration,
    /// After so long a connection that cannot be cancelled is given up.
    pub reset_timeout: Duration,
    /// Connections, and then pools, that were idle for so long end.
    pub idle_timeout: Duration,
    /// Connections that were open for so long end when they are next idle.
    pub connection_lifetime: Duration,
    /// How long callers are held while their tenant moves.
    pub pause_budget: Duration,
    /// How long callers are held whose home refuses the route that is known, in case a newer one is on its way.
    pub stale_patience: Duration,
    /// How long a request waits for others of its tenant to end, where the tenant has `concurrent_requests`.
    pub admission_timeout: Duration,
    /// The most requests of a tenant that wait so, whatever its `queued_requests` say.
    pub queued_requests_max: u32,
    /// How long [`RouterBuilder::build`] waits for the first routes, and for the control plane's word that it has told
    /// everything.
    pub start_timeout: Duration,
    /// How long the feed may be silent before it is opened anew.
    pub feed_idle_timeout: Duration,
    /// How often the router tells the control plane what it applied and needs.
    pub report_interval: Duration,
    /// Past this age the routes are not used any more: lookups and checkouts fail with [`RouterError::TooStale`] until the
    /// control plane is heard again, which is every five seconds where nothing changes. Off unless set: known routes go on
    /// serving, and every home checks that they are right.
    pub staleness_max: Option<Duration>,
    /// How often a snapshot is written at most, see [`RouterBuilder::snapshot_file`].
    pub snapshot_interval: Duration,
    /// Past this age a snapshot file is not used. Off unless set.
    pub snapshot_age_max: Option<Duration>,
    /// How long a router that starts with a snapshot waits for the control plane before it serves from the snapshot. One
    /// that cannot be reached is not waited for.
    pub snapshot_patience: Duration,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            pool_size: 8,
            pool_size_max: 100,
            cluster_connections_max: 100,
            shared_pool_size: 20,
            wait_timeout: Duration::from_secs(5),
            return_patience: Duration::from_millis(100),
            connect_timeout: Duration::from_secs(5),
            replica_timeout: Duration::from_secs(1),
            replica_patience: Duration::from_millis(100),
            abandoned_after: Duration::from_millis(500),
            reset_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(1),
            connection_lifetime: Duration::from_hours(1),
            pause_budget: Duration::from_secs(5),
            stale_patience: Duration::from_secs(2),
            admission_timeout: Duration::from_secs(5),
            queued_requests_max: 1_000,
            start_timeout: Duration::from_secs(15),
            feed_idle_timeout: Duration::from_secs(30),
            report_interval: Duration::from_secs(10),
            staleness_max: None,
            snapshot_interval: Duration::from_secs(30),
            snapshot_age_max: None,
            snapshot_patience: Duration::from_secs(2),
        }
    }
}

impl RouterConfig {
    /// How long a caller is kept by a replica that does not answer.
    pub(crate) fn replica_time_limit(&self) -> Duration {
        self.replica_timeout.min(self.connect_timeout)
    }

    /// How many connections a tenant with these limits gets: one at least, so that it can be served at all. More than its
    /// role may have are never tried.
    pub(crate) fn size_of(&self, limits: &Limits, access: Access) -> usize {
        let wanted = limits.pool_size.unwrap_or(self.pool_size);
        let shares = limits.connection_shares();
        let share = match access {
            Access::ReadWrite => shares.login,
            Access::ReadOnly => shares.read_only,
        };
        let most = self.pool_size_max.min(share.unwrap_or(u32::MAX)).max(1);
        wanted.clamp(1, most) as usize
    }
}

/// Where the routes come from.
enum Source {
    ControlPlane { url: String, token: Secret },
    Fixed { routes: Vec<Route>, clusters: Vec<FeedCluster> },
}

/// Sets a router up. It needs either a control plane or fixed routes.
#[derive(Default)]
pub struct RouterBuilder {
    source: Option<Source>,
    authority: Option<String>,
    name: Option<String>,
    base_domain: Option<String>,
    snapshot: Option<(PathBuf, SnapshotKey)>,
    config: RouterConfig,
}

impl RouterBuilder {
    /// Follows the feed of a control plane. The token needs the scope `routes:secrets`; it is sent over TLS or to this
    /// machine only.
    #[must_use]
    pub fn control_plane(mut self, url: impl Into<String>, token: Secret) -> Self {
        self.source = Some(Source::ControlPlane { url: url.into(), token });
        self
    }

    /// PEM of the only certificate authorities that the control plane may have; the system's unless given.
    #[must_use]
    pub fn control_plane_ca(mut self, pem: impl Into<String>) -> Self {
        self.authority = Some(pem.into());
        self
    }

    /// Uses routes that never change, without a control plane: for tests and tools.
    #[must_use]
    pub fn fixed(mut self, routes: Vec<Route>, clusters: Vec<FeedCluster>) -> Self {
        self.source = Some(Source::Fixed { routes, clusters });
        self
    }

    /// The name under which it reports; a random one unless given. Two routers must not share one.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The domain under which every tenant has the host `<slug>.<base domain>`.
    #[must_use]
    pub fn base_domain(mut self, domain: impl Into<String>) -> Self {
        self.base_domain = Some(domain.into().trim_matches('.').to_ascii_lowercase());
        self
    }

    /// Keeps the routes in a file, sealed with a key, and starts from it where the control plane is away or slow: the
    /// router serves what the file says, and the feed goes on from there. A control plane that refuses the token is not
    /// away, and [`Self::build`] fails as without a file.
    ///
    /// The file is written after changes (at most every [`RouterConfig::snapshot_interval`]), every ten minutes without
    /// any, and when the router is closed; always as a whole, beside the old one and then in its place. Its folder must
    /// exist and be writable, and each router needs a file of its own. It holds the passwords that the routes have, under
    /// AES-256-GCM and with mode 0600: keep the key elsewhere.
    ///
    /// A file that is damaged, of another key, of another control plane's address or too old is not used, and the log says
    /// so. Whoever can write to the folder can put an older file of this router back; [`RouterConfig::snapshot_age_max`]
    /// bounds how old, and the homes refuse routes of an older generation and passwords that were rotated away.
    ///
    /// A million routes make a file of about 150 MB. Writing them takes no memory to speak of, happens on a thread of its
    /// own, blocks no lookup, and after it the writer rests twenty times as long as it took.
    #[must_use]
    pub fn snapshot_file(mut self, path: impl Into<PathBuf>, key: SnapshotKey) -> Self {
        self.snapshot = Some((path.into(), key));
        self
    }

    /// Limits on time and number.
    #[must_use]
    pub fn config(mut self, config: RouterConfig) -> Self {
        self.config = config;
        self
    }

    /// Starts it. With a control plane it returns once it knows every route that was there when it was called. Where the
    /// control plane cannot say that it has told everything, because the catalog does not answer it, the router starts after
    /// the start timeout with what it was told; where no routes came until then it fails, and at once where the token is
    /// refused.
    pub async fn build(self) -> Result<Router, RouterError> {
        let source = self.source.ok_or_else(|| RouterError::Refused {
            reason: "a router needs routes: call `control_plane` or `fixed`".to_owned(),
            source: None,
        })?;
        let file = self.snapshot.map(|(path, key)| snapshot_file(path, key, &source, &self.config)).transpose()?;
        let config = Arc::new(self.config);
        let loaded = match &file {
            Some(file) => loaded(file, &config).await?,
            None => None,
        };
        let (table, known) = match loaded {
            Some(loaded) => (loaded.table, Some((loaded.version, loaded.age))),
            None => (Table::new(config.cluster_connections_max), None),
        };
        let name = self.name.unwrap_or_else(|| format!("router-{}", uuid::Uuid::now_v7().simple()));
        let inner = Arc::new(Inner {
            base_domain: self.base_domain,
            table,
            pools: Pools::new(Arc::clone(&config), router_application_name(&name), Handle::current()),
            admissions: Admissions::new(),
            feed: watch::Sender::default(),
            freshness: Freshness::default(),
            shutdown: CancellationToken::new(),
            snapshot_kept: CancellationToken::new(),
            system_roots: OnceCell::new(),
            meters: Meters::default(),
            config,
        });
        // From here on an early return drops the router, which ends the tasks.
        let router = Router::of(&inner);
        tokio::spawn(evict::sweep(Arc::clone(&inner)));
        if let Some((version, age)) = known {
            inner.freshness.hear_ago(age);
            let source = RouteSource::Snapshot;
            inner.feed.send_replace(FeedState { applied: Some(version), source, ..FeedState::default() });
        }
        match file {
            Some(file) => {
                let ended = inner.snapshot_kept.clone();
                tokio::spawn(snapshot::keep(Arc::clone(&inner), file, Mark::of(&inner), ended));
            }
            None => inner.snapshot_kept.cancel(),
        }
        match source {
            Source::Fixed { routes, clusters } => fill(&inner, routes, clusters)?,
            Source::ControlPlane { url, token } => {
                let refuse = |source| RouterError::refused("the control plane cannot be called", source);
                let mut client = ClientConfig::new(&url, Some(token)).map_err(refuse)?;
                client.ca = self.authority;
                client.idle_timeout = inner.config.feed_idle_timeout;
                let client = Client::new(client).map_err(refuse)?;
                tokio::spawn(feed::follow(Arc::clone(&inner), client.clone(), name.clone()));
                started(&inner).await?;
                tokio::spawn(report::report(Arc::clone(&inner), client, name));
            }
        }
        Ok(router)
    }
}

fn fill(inner: &Inner, routes: Vec<Route>, clusters: Vec<FeedCluster>) -> Result<(), RouterError> {
    let mut version = FeedVersion::default();
    for cluster in clusters {
        version = version.max(cluster.version);
        let refuse = |source| RouterError::refused("a fixed cluster has no valid endpoint", source);
        inner.table.clusters.apply(cluster).map_err(refuse)?;
    }
    inner.table.reserve(routes.len());
    for route in routes {
        version = version.max(route.version);
        inner.table.apply(Prepared::from(&route));
    }
    let source = RouteSource::Fixed;
    inner.feed.send_replace(FeedState { applied: Some(version), source, ..FeedState::default() });
    Ok(())
}

/// What a snapshot file needs to be kept and read.
fn snapshot_file(
    path: PathBuf,
    key: SnapshotKey,
    source: &Source,
    config: &RouterConfig,
) -> Result<Arc<SnapshotFile>, RouterError> {
    let refused = |reason: String| RouterError::Refused { reason, source: None };
    let Source::ControlPlane { url, .. } = source else {
        return Err(refused("fixed routes need no snapshot file; leave it out".to_owned()));
    };
    let folder = snapshot::folder_of(&path);
    if path.file_name().is_none() || path.is_dir() || !folder.is_dir() {
        return Err(refused(format!(
            "`{}` is no place for a snapshot: it needs the name of a file in a folder that exists",
            path.display()
        )));
    }
    let plane = url.trim_end_matches('/').to_owned();
    Ok(Arc::new(SnapshotFile { path, key, plane, age_max: config.snapshot_age_max }))
}

/// Reads the snapshot off the threads that serve others.
async fn loaded(file: &Arc<SnapshotFile>, config: &Arc<RouterConfig>) -> Result<Option<Loaded>, RouterError> {
    let (file, connections_max) = (Arc::clone(file), config.cluster_connections_max);
    let reading = tokio::task::spawn_blocking(move || snapshot::load(&file, connections_max));
    reading.await.map_err(|source| RouterError::refused("the snapshot cannot be read", source))
}

/// Waits until all routes are there; for those that are newer than a snapshot file's only shortly, and not where the control
/// plane is away.
async fn started(inner: &Inner) -> Result<(), RouterError> {
    let mut changes = inner.feed.subscribe();
    let has_snapshot = changes.borrow().source == RouteSource::Snapshot;
    let patience = if has_snapshot { inner.config.snapshot_patience } else { inner.config.start_timeout };
    // A refusal does not mend itself by waiting.
    let is_refused = |feed: &FeedState| feed.failure.as_ref().is_some_and(|failure| !failure.is_retryable());
    let is_there = |feed: &FeedState| feed.applied.is_some() && feed.is_current;
    let settled =
        changes.wait_for(|feed| is_there(feed) || is_refused(feed) || (has_snapshot && feed.failure.is_some()));
    let _ = tokio::time::timeout(patience.min(inner.config.start_timeout), settled).await;
    let feed = inner.feed.borrow();
    if is_there(&feed) {
        return Ok(());
    }
    if feed.applied.is_some() && !is_refused(&feed) {
        if has_snapshot {
            tracing::warn!(failure = ?feed.failure, "the control plane is away or slow; tenants are served from the snapshot");
        } else {
            tracing::warn!(failure = ?feed.failure, "the control plane does not say that it told all; some routes may be old");
        }
        return Ok(());
    }
    Err(RouterError::NotStarted { source: feed.failure.clone().map(Into::into) })
}
