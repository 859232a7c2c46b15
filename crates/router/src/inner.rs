//! What the tasks and the handles of a router share: looking tenants up, and checking connections out.

use std::future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};
use tenantry_api::ClientError;
use tenantry_domain::{FeedVersion, RouteState, TenantId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::builder::RouterConfig;
use crate::connect::{Place, SystemRoots, Tls};
use crate::error::RouterError;
use crate::freshness::Freshness;
use crate::limits::Admissions;
use crate::name::TenantName;
use crate::pause::hold;
use crate::pool::connection::Connection;
use crate::pool::pools::{Pools, checkout_error};
use crate::pool::{PoolKey, TenantPool};
use crate::router::RouteSource;
use crate::spans;
use crate::table::{ClusterEntry, Found, Table};
use crate::versions::SchemaVersions;

/// How often a checkout looks again when the pool that it found was retired meanwhile.
const LOOKS_MAX: usize = 16;
/// How soon callers come back to a tenant that is being provisioned, moved or migrated.
pub(crate) const CHANGING_RETRY: Duration = Duration::from_secs(1);

/// How the feed stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct FeedState {
    /// The last version that was applied; absent before the first snapshot.
    pub(crate) applied: Option<FeedVersion>,
    pub(crate) is_connected: bool,
    /// Whether the control plane said, in this process, that it has told everything.
    pub(crate) is_current: bool,
    pub(crate) source: RouteSource,
    /// Why the last connection to the feed failed.
    pub(crate) failure: Option<Arc<ClientError>>,
}

pub(crate) struct Inner {
    pub(crate) config: Arc<RouterConfig>,
    pub(crate) base_domain: Option<String>,
    pub(crate) table: Table,
    pub(crate) pools: Pools,
    pub(crate) admissions: Admissions,
    pub(crate) feed: watch::Sender<FeedState>,
    pub(crate) freshness: Freshness,
    pub(crate) shutdown: CancellationToken,
    /// Ends with the task that writes snapshots, where there is one.
    pub(crate) snapshot_kept: CancellationToken,
    pub(crate) system_roots: SystemRoots,
    pub(crate) meters: Meters,
}

/// Metrics of the path that every request takes, looked up once.
pub(crate) struct Meters {
    checkouts: Counter,
    wait: Histogram,
    pub(crate) reads: ReadMeters,
}

/// What became of checkouts that asked for a replica.
pub(crate) struct ReadMeters {
    pub(crate) replica: Counter,
    pub(crate) primary: Counter,
    pub(crate) refused: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            checkouts: metrics::counter!("tenantry_router_checkouts_total"),
            wait: metrics::histogram!("tenantry_router_wait_seconds"),
            reads: ReadMeters {
                replica: replica_reads("replica"),
                primary: replica_reads("primary"),
                refused: replica_reads("refused"),
            },
        }
    }
}

fn replica_reads(outcome: &'static str) -> Counter {
    metrics::counter!("tenantry_router_replica_reads_total", "outcome" => outcome)
}

impl Inner {
    /// Whether what is known is fresh enough to be used.
    #[inline]
    pub(crate) fn fresh(&self) -> Result<(), RouterError> {
        let Some(most) = self.config.staleness_max else { return Ok(()) };
        match self.freshness.age() {
            Some(age) if age > most => Err(RouterError::TooStale { age }),
            Some(_) | None => Ok(()),
        }
    }

    #[inline]
    pub(crate) fn find(&self, name: TenantName<'_>) -> Option<Found> {
        match name {
            TenantName::Id(id) => self.table.by_id(id),
            TenantName::Slug(slug) => self.table.by_slug(slug),
            TenantName::Host(host) => match self.slug_in(host) {
                Some(slug) => self.table.by_slug(slug),
                None => self.table.by_host(host),
            },
        }
    }

    /// The slug that a host under the base domain begins with.
    pub(crate) fn slug_in<'h>(&self, host: &'h str) -> Option<&'h str> {
        host.strip_suffix(self.base_domain.as_deref()?)?.strip_suffix('.')
    }

    /// A route that was found before, as it is now and if it can be served; held for while it moves.
    pub(crate) async fn reachable(&self, found: &Found) -> Result<Found, RouterError> {
        let look = || {
            self.fresh()?;
            let found = self.table.again(found).ok_or_else(|| RouterError::unknown(found.tenant))?;
            ready(&found).map(|()| found)
        };
        let is_moving = |error: &RouterError| matches!(error, RouterError::Moving { .. });
        match look() {
            Err(error) if is_moving(&error) => {}
            decided => return decided,
        }
        let until = tokio::time::Instant::now() + self.config.pause_budget;
        hold(self.feed.subscribe(), until, || future::ready(look()), is_moving).await
    }

    /// The tenant's route as it is now, if its schema will do.
    pub(crate) async fn reachable_within(&self, found: &Found, versions: SchemaVersions) -> Result<Found, RouterError> {
        let found = self.reachable(found).await;
        found.and_then(|found| versions.check(&found).map(|()| found)).inspect_err(count)
    }

    /// Waits until the tenant's schema will do.
    pub(crate) async fn await_versions(
        &self,
        found: &Found,
        versions: SchemaVersions,
        time_limit: Duration,
    ) -> Result<Found, RouterError> {
        let look = || async { self.reachable(found).await.and_then(|found| versions.check(&found).map(|()| found)) };
        let until = tokio::time::Instant::now() + time_limit;
        hold(self.feed.subscribe(), until, look, RouterError::is_retryable).await.inspect_err(count)
    }

    /// A connection that is there, to a tenant about which nothing is out of the ordinary.
    #[inline]
    pub(crate) fn checkout_now(&self, key: PoolKey, found: &Found, versions: SchemaVersions) -> Option<Connection> {
        let found = self.table.again(found)?;
        if self.fresh().is_err() || ready(&found).is_err() || versions.check(&found).is_err() {
            return None;
        }
        let pool = self.pools.find(key, &found)?;
        let object = pool.idle()?;
        self.meters.checkouts.increment(1);
        Some(Connection::new(object, pool))
    }

    /// A connection, however long it takes within the limits.
    pub(crate) async fn checkout(
        &self,
        key: PoolKey,
        found: &Found,
        versions: SchemaVersions,
    ) -> Result<Connection, RouterError> {
        let (began, span) = (Instant::now(), spans::checkout(found, key.access));
        let outcome = self.checkout_unmeasured(key, found, versions, self.patience()).instrument(span.clone()).await;
        self.measure(began, &span, outcome)
    }

    /// Counts and times a checkout that has ended.
    pub(crate) fn measure(
        &self,
        began: Instant,
        span: &Span,
        outcome: Result<Connection, RouterError>,
    ) -> Result<Connection, RouterError> {
        spans::checked_out(span, &outcome);
        self.meters.checkouts.increment(1);
        self.meters.wait.record(began.elapsed());
        outcome.inspect_err(count)
    }

    /// Until when a caller that comes now waits for a connection where all are in use.
    pub(crate) fn patience(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.config.wait_timeout
    }

    /// A connection; where all are in use one is waited for until then.
    pub(crate) async fn checkout_unmeasured(
        &self,
        key: PoolKey,
        found: &Found,
        versions: SchemaVersions,
        until: tokio::time::Instant,
    ) -> Result<Connection, RouterError> {
        for _ in 0..LOOKS_MAX {
            if self.shutdown.is_cancelled() {
                return Err(RouterError::Closed);
            }
            let found = self.reachable(found).await?;
            versions.check(&found)?;
            let Some(pool) = self.pool(key, &found).await? else { continue };
            match pool.get(until).await {
                Ok(object) => return Ok(Connection::new(object, pool)),
                Err(error) => {
                    // Without an error the route has changed or the pool was idle: look again. Where the home refuses what
                    // the route says, a newer route has come meanwhile, or is on its way.
                    if let Some(error) = checkout_error(key.tenant, error) {
                        // What a replica refuses, it may not have replayed yet; another is asked meanwhile.
                        let is_stale = matches!(error, RouterError::Stale { .. }) && key.replica.is_none();
                        if !is_stale || !self.changes_from(&found).await {
                            return Err(error);
                        }
                    }
                }
            }
        }
        Err(RouterError::Unavailable { tenant: key.tenant, retry_after: CHANGING_RETRY, source: None })
    }

    /// The pool for a route, made if need be; `None` where something changed meanwhile.
    async fn pool(&self, key: PoolKey, found: &Found) -> Result<Option<Arc<TenantPool>>, RouterError> {
        if let Some(pool) = self.pools.find(key, found) {
            return Ok(Some(pool));
        }
        let unavailable = || RouterError::Unavailable { tenant: key.tenant, retry_after: CHANGING_RETRY, source: None };
        let Some(route) = self.table.route(found).filter(|route| route.version == found.version) else {
            return Ok(None);
        };
        let target = route.target.as_ref().ok_or_else(unavailable)?;
        let cluster = self.table.clusters.get(target.cluster).ok_or_else(unavailable)?;
        let server = cluster.server(key.replica).ok_or_else(unavailable)?;
        let tls = server.tls.get_or_try_init(|| Tls::of(server, &self.system_roots)).await?;
        let replica = cluster.replicas.iter().find(|replica| Some(replica.id) == key.replica);
        let pool = self.pools.make(key, &route, &Place { target, server, replica, tls })?;
        // What went through the pools when the cluster or the route changed may have missed it.
        let is_there = |now: &ClusterEntry| now.server(key.replica).is_some_and(|now| now.is_same_place(server));
        if self.table.clusters.get(target.cluster).is_some_and(|now| is_there(&now)) {
            return Ok(Some(pool));
        }
        self.pools.retire(key.tenant, |other| !std::ptr::eq(other, &raw const *pool));
        Ok(None)
    }

    /// Waits until a tenant's route is another than this one; says whether that happened in time. Without a feed no route
    /// will come.
    async fn changes_from(&self, found: &Found) -> bool {
        let is_other = || self.table.again(found).is_none_or(|known| known.version != found.version);
        let mut changes = self.feed.subscribe();
        let deadline = tokio::time::Instant::now() + self.config.stale_patience;
        loop {
            changes.mark_unchanged();
            if is_other() {
                return true;
            }
            if !self.feed.borrow().is_connected {
                return false;
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return is_other(),
            }
        }
    }

    /// Tells the tenant's gate and its pools what became of its route.
    pub(crate) fn follow(&self, tenant: TenantId) {
        self.admissions.follow(tenant, || self.table.by_id(tenant).and_then(|found| self.table.limits(&found)));
        if !self.pools.has_any(tenant) {
            return;
        }
        match self.table.by_id(tenant).and_then(|found| self.table.route(&found)) {
            Some(route) => {
                let cluster = route.target.as_ref().and_then(|target| self.table.clusters.get(target.cluster));
                self.pools.follow_route(&route, cluster.as_ref());
            }
            None => self.pools.retire(tenant, |_| false),
        }
    }
}

/// Whether a route can be served; nothing fails open, so an active route without a target is not there yet.
pub(crate) fn ready(found: &Found) -> Result<(), RouterError> {
    let tenant = found.tenant;
    match (found.state, found.has_target) {
        (RouteState::Active, true) => Ok(()),
        (RouteState::Provisioning, _) | (RouteState::Active, false) => {
            Err(RouterError::Provisioning { tenant, retry_after: CHANGING_RETRY })
        }
        (RouteState::Suspended, _) => Err(RouterError::Suspended { tenant }),
        (RouteState::Moving, _) => Err(RouterError::Moving { tenant, retry_after: CHANGING_RETRY }),
    }
}

pub(crate) fn count(error: &RouterError) {
    metrics::counter!("tenantry_router_refused_total", "reason" => error.kind()).increment(1);
}
