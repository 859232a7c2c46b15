//! Looking tenants up, and checking connections out.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenantry_api::ClientError;
use tenantry_domain::{FeedVersion, Route, RouteState, TenantId};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::builder::{RouterBuilder, RouterConfig};
use crate::connection::Connection;
use crate::connector::Tls;
use crate::error::RouterError;
use crate::name::TenantName;
use crate::pool::{PoolKey, Pools, checkout_error};
use crate::reset::ResetTimes;
use crate::table::Table;
use crate::tenant::{Access, Tenant};
use crate::tls::SystemRoots;
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
    pub(crate) heard_at: Option<Instant>,
    /// Why the last connection to the feed failed.
    pub(crate) failure: Option<Arc<ClientError>>,
}

/// What the tasks and the handles share.
pub(crate) struct Inner {
    pub(crate) config: Arc<RouterConfig>,
    pub(crate) base_domain: Option<String>,
    pub(crate) table: Table,
    pub(crate) pools: Pools,
    pub(crate) feed: watch::Sender<FeedState>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) runtime: Handle,
    pub(crate) system_roots: SystemRoots,
}

/// How a router stands, for health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterStatus {
    /// The last feed version that was applied.
    pub applied_version: FeedVersion,
    /// Whether the feed is connected now.
    pub is_connected: bool,
    /// Since when nothing was heard from the control plane; absent for fixed routes.
    pub silence: Option<Duration>,
    /// Routes in the table.
    pub routes: usize,
    /// Pools in use: one for each tenant and access that was asked for lately.
    pub pools: usize,
}

/// Finds tenants and hands out their connections. Cheap to clone; when the last clone and the last [`Tenant`] are
/// dropped, its tasks end.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
    _tasks: Arc<DropGuard>,
}

impl Router {
    /// Sets a router up.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        let tasks = Arc::new(inner.shutdown.clone().drop_guard());
        Self { inner, _tasks: tasks }
    }

    /// Finds a tenant by id, slug or host. A tenant that moves is waited for, up to the pause budget.
    pub async fn tenant<'a>(&self, name: impl Into<TenantName<'a>>) -> Result<Tenant, RouterError> {
        let name = name.into();
        let found = self.find(name).ok_or_else(|| RouterError::unknown(name));
        let outcome = match found {
            Ok(route) => self.reachable(route.tenant).await,
            Err(error) => Err(error),
        };
        outcome.map(|route| Tenant::new(self.clone(), route)).inspect_err(count)
    }

    /// Finds a tenant without waiting: one that moves is an error at once.
    pub fn lookup<'a>(&self, name: impl Into<TenantName<'a>>) -> Result<Tenant, RouterError> {
        let name = name.into();
        let outcome = self.find(name).ok_or_else(|| RouterError::unknown(name));
        outcome
            .and_then(|route| ready(&route).map(|()| route))
            .map(|route| Tenant::new(self.clone(), route))
            .inspect_err(count)
    }

    /// Waits until a tenant exists and can be served, for a program that has just created it.
    pub async fn await_tenant<'a>(
        &self,
        name: impl Into<TenantName<'a>>,
        time_limit: Duration,
    ) -> Result<Tenant, RouterError> {
        let name = name.into();
        let mut changes = self.inner.feed.subscribe();
        let deadline = tokio::time::Instant::now() + time_limit;
        loop {
            changes.mark_unchanged();
            let refused = match self.find(name).map(|route| (ready(&route), route)) {
                Some((Ok(()), route)) => return Ok(Tenant::new(self.clone(), route)),
                Some((Err(error), _)) => error,
                None => RouterError::unknown(name),
            };
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(refused),
            }
        }
    }

    /// Waits until everything up to a version is applied; says whether that happened in time.
    pub async fn await_version(&self, version: FeedVersion, time_limit: Duration) -> bool {
        let mut changes = self.inner.feed.subscribe();
        let reached = changes.wait_for(|feed| feed.applied.is_some_and(|applied| applied >= version));
        matches!(tokio::time::timeout(time_limit, reached).await, Ok(Ok(_)))
    }

    /// How it stands.
    pub fn status(&self) -> RouterStatus {
        let feed = self.inner.feed.borrow();
        RouterStatus {
            applied_version: feed.applied.unwrap_or_default(),
            is_connected: feed.is_connected,
            silence: feed.heard_at.map(|heard_at| heard_at.elapsed()),
            routes: self.inner.table.len(),
            pools: self.inner.pools.len(),
        }
    }

    /// Ends its tasks and its idle connections now, and borrowed ones when they are given back. Checkouts fail from
    /// then on.
    pub fn close(&self) {
        self.inner.shutdown.cancel();
        self.inner.pools.close();
    }

    pub(crate) fn find(&self, name: TenantName<'_>) -> Option<Arc<Route>> {
        match name {
            TenantName::Id(id) => self.inner.table.by_id(id),
            TenantName::Slug(slug) => self.inner.table.by_slug(slug),
            TenantName::Host(host) => match self.slug_in(host) {
                Some(slug) => self.inner.table.by_slug(slug),
                None => self.inner.table.by_host(host),
            },
        }
    }

    /// The slug that a host under the base domain begins with.
    pub(crate) fn slug_in<'h>(&self, host: &'h str) -> Option<&'h str> {
        host.strip_suffix(self.inner.base_domain.as_deref()?)?.strip_suffix('.')
    }

    #[cfg(feature = "axum")]
    pub(crate) fn is_base_domain(&self, host: &str) -> bool {
        self.inner.base_domain.as_deref() == Some(host)
    }

    /// A route that can be served, held for while it moves.
    async fn reachable(&self, tenant: TenantId) -> Result<Arc<Route>, RouterError> {
        let look = || {
            let route = self.inner.table.by_id(tenant).ok_or_else(|| RouterError::unknown(tenant))?;
            ready(&route).map(|()| route)
        };
        let is_moving = |outcome: &Result<_, RouterError>| matches!(outcome, Err(RouterError::Moving { .. }));
        let outcome = look();
        if !is_moving(&outcome) {
            return outcome;
        }
        let mut changes = self.inner.feed.subscribe();
        let deadline = tokio::time::Instant::now() + self.inner.config.pause_budget;
        loop {
            // Looking comes after marking: a change in between wakes the wait.
            changes.mark_unchanged();
            let outcome = look();
            if !is_moving(&outcome) {
                return outcome;
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return look(),
            }
        }
    }

    /// The tenant's route as it is now, if its schema will do.
    pub(crate) async fn reachable_within(
        &self,
        tenant: TenantId,
        versions: SchemaVersions,
    ) -> Result<Arc<Route>, RouterError> {
        let route = self.reachable(tenant).await;
        route.and_then(|route| versions.check(&route).map(|()| route)).inspect_err(count)
    }

    /// Waits until the tenant's schema will do.
    pub(crate) async fn await_versions(
        &self,
        tenant: TenantId,
        versions: SchemaVersions,
        time_limit: Duration,
    ) -> Result<Arc<Route>, RouterError> {
        let mut changes = self.inner.feed.subscribe();
        let deadline = tokio::time::Instant::now() + time_limit;
        loop {
            changes.mark_unchanged();
            let refused = match self.reachable(tenant).await.and_then(|route| versions.check(&route).map(|()| route)) {
                Err(error) if error.is_retryable() => error,
                decided => return decided.inspect_err(count),
            };
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(refused).inspect_err(count),
            }
        }
    }

    pub(crate) async fn checkout(
        &self,
        tenant: TenantId,
        access: Access,
        versions: SchemaVersions,
    ) -> Result<Connection, RouterError> {
        let began = Instant::now();
        let outcome = self.checkout_unmeasured(tenant, access, versions).await.inspect_err(count);
        metrics::histogram!("tenantry_router_checkout_seconds").record(began.elapsed());
        outcome
    }

    async fn checkout_unmeasured(
        &self,
        tenant: TenantId,
        access: Access,
        versions: SchemaVersions,
    ) -> Result<Connection, RouterError> {
        let inner = &self.inner;
        let key = PoolKey { tenant, access };
        let full_until = tokio::time::Instant::now() + inner.config.wait_timeout;
        for _ in 0..LOOKS_MAX {
            if inner.shutdown.is_cancelled() {
                return Err(RouterError::Closed);
            }
            let route = self.reachable(tenant).await?;
            versions.check(&route)?;
            let unavailable = || RouterError::Unavailable { tenant, retry_after: CHANGING_RETRY, source: None };
            let target = route.target.as_ref().ok_or_else(unavailable)?;
            let cluster = inner.table.cluster(target.cluster).ok_or_else(unavailable)?;
            let pool = if let Some(pool) = inner.pools.find(key, &route, target, &cluster) {
                pool
            } else {
                let tls = cluster.tls.get_or_try_init(|| Tls::of(&cluster, &inner.system_roots)).await?;
                inner.pools.make(key, &route, target, &cluster, tls)?
            };
            match pool.get(full_until).await {
                Ok(object) => {
                    let times = ResetTimes {
                        abandoned_after: inner.config.abandoned_after,
                        give_up_after: inner.config.reset_timeout,
                    };
                    return Ok(Connection::new(object, pool, times, inner.runtime.clone()));
                }
                Err(error) => {
                    // Without an error the route has changed or the pool was idle: look again. Where the home refuses what
                    // the route says, a newer route has come meanwhile, or is on its way.
                    if let Some(error) = checkout_error(tenant, error) {
                        let is_stale = matches!(error, RouterError::Stale { .. });
                        if !is_stale || !self.changes_from(&route).await {
                            return Err(error);
                        }
                    }
                }
            }
        }
        Err(RouterError::Unavailable { tenant, retry_after: CHANGING_RETRY, source: None })
    }

    /// Waits until a tenant's route is another than this one; says whether that happened in time. Without a feed no route
    /// will come.
    async fn changes_from(&self, route: &Route) -> bool {
        let is_other = || self.inner.table.by_id(route.tenant).is_none_or(|known| known.version != route.version);
        let mut changes = self.inner.feed.subscribe();
        let deadline = tokio::time::Instant::now() + self.inner.config.stale_patience;
        loop {
            changes.mark_unchanged();
            if is_other() {
                return true;
            }
            if !self.inner.feed.borrow().is_connected {
                return false;
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return is_other(),
            }
        }
    }
}

/// Whether a route can be served; nothing fails open, so an active route without a target is not there yet.
fn ready(route: &Route) -> Result<(), RouterError> {
    let tenant = route.tenant;
    match (route.state, &route.target) {
        (RouteState::Active, Some(_)) => Ok(()),
        (RouteState::Provisioning, _) | (RouteState::Active, None) => {
            Err(RouterError::Provisioning { tenant, retry_after: CHANGING_RETRY })
        }
        (RouteState::Suspended, _) => Err(RouterError::Suspended { tenant }),
        (RouteState::Moving, _) => Err(RouterError::Moving { tenant, retry_after: CHANGING_RETRY }),
    }
}

fn count(error: &RouterError) {
    metrics::counter!("tenantry_router_refused_total", "reason" => error.kind()).increment(1);
}

impl fmt::Debug for Router {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status().fmt(formatter)
    }
}
