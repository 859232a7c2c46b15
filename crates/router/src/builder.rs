//! Setting a router up.

use std::sync::Arc;
use std::time::Duration;

use tenantry_api::{Client, ClientConfig, FeedCluster};
use tenantry_domain::{FeedVersion, Limits, Route, Secret};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::error::RouterError;
use crate::inner::{FeedState, Inner, Meters};
use crate::limits::Admissions;
use crate::pools::Pools;
use crate::router::Router;
use crate::table::Table;
use crate::tenant::Access;
use crate::{evict, feed, report};

/// Limits on time and number. Every wait of a router has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// Connections per tenant, access and server, where the tenant's limits do not say.
    pub pool_size: u32,
    /// The most connections per tenant, access and server, whatever its limits say.
    pub pool_size_max: u32,
    /// Connections to one cluster, over all tenants, where the control plane leases none; and to each replica. When all are in use, each tenant
    /// comes to a share in proportion to its pool size.
    pub cluster_connections_max: u32,
    /// How long a caller waits for one of the tenant's connections to be given back.
    pub wait_timeout: Duration,
    /// How long a caller waits for a connection that was given back and is being cleaned, before another is opened. Well
    /// above a round trip: it keeps a caller that asks again at once from needing two connections.
    pub return_patience: Duration,
    /// How long opening a connection may take, from resolving the name to the check of the placement.
    pub connect_timeout: Duration,
    /// How long opening a connection to a replica may take, and the question how far it is behind: after that it counts as
    /// one that does not answer, and another server is tried. No longer than `connect_timeout`.
    pub replica_timeout: Duration,
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
    /// How long [`RouterBuilder::build`] waits for the first routes.
    pub start_timeout: Duration,
    /// How long the feed may be silent before it is opened anew.
    pub feed_idle_timeout: Duration,
    /// How often the router tells the control plane what it applied and needs.
    pub report_interval: Duration,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            pool_size: 8,
            pool_size_max: 100,
            cluster_connections_max: 100,
            wait_timeout: Duration::from_secs(5),
            return_patience: Duration::from_millis(100),
            connect_timeout: Duration::from_secs(5),
            replica_timeout: Duration::from_secs(1),
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

    /// Limits on time and number.
    #[must_use]
    pub fn config(mut self, config: RouterConfig) -> Self {
        self.config = config;
        self
    }

    /// Starts it. With a control plane it returns once the first routes are there, or fails after the start timeout,
    /// or at once where the token is refused.
    pub async fn build(self) -> Result<Router, RouterError> {
        let source = self.source.ok_or_else(|| RouterError::Refused {
            reason: "a router needs routes: call `control_plane` or `fixed`".to_owned(),
            source: None,
        })?;
        let config = Arc::new(self.config);
        let inner = Arc::new(Inner {
            base_domain: self.base_domain,
            table: Table::new(config.cluster_connections_max as usize),
            pools: Pools::new(Arc::clone(&config), Handle::current()),
            admissions: Admissions::new(),
            feed: watch::Sender::default(),
            shutdown: CancellationToken::new(),
            system_roots: OnceCell::new(),
            meters: Meters::default(),
            config,
        });
        // From here on an early return drops the router, which ends the tasks.
        let router = Router::of(&inner);
        tokio::spawn(evict::sweep(Arc::clone(&inner)));
        match source {
            Source::Fixed { routes, clusters } => fill(&inner, routes, clusters)?,
            Source::ControlPlane { url, token } => {
                let refuse = |source| RouterError::refused("the control plane cannot be called", source);
                let mut client = ClientConfig::new(&url, Some(token)).map_err(refuse)?;
                client.ca = self.authority;
                client.idle_timeout = inner.config.feed_idle_timeout;
                let client = Client::new(client).map_err(refuse)?;
                let name = self.name.unwrap_or_else(|| format!("router-{}", uuid::Uuid::now_v7().simple()));
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
        inner.table.apply_route(&route);
    }
    inner.feed.send_replace(FeedState { applied: Some(version), ..FeedState::default() });
    Ok(())
}

async fn started(inner: &Inner) -> Result<(), RouterError> {
    let mut changes = inner.feed.subscribe();
    let settled = changes.wait_for(|feed| {
        // A refusal does not mend itself by waiting.
        feed.applied.is_some() || feed.failure.as_ref().is_some_and(|failure| !failure.is_retryable())
    });
    let _ = tokio::time::timeout(inner.config.start_timeout, settled).await;
    let feed = inner.feed.borrow();
    if feed.applied.is_some() {
        return Ok(());
    }
    Err(RouterError::NotStarted { source: feed.failure.clone().map(Into::into) })
}
