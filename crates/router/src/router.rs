//! The router as programs see it.

use std::fmt;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tenantry_domain::{FeedVersion, Generation, Route, RouteState, SchemaVersion, TenantId};

use crate::builder::RouterBuilder;
use crate::error::RouterError;
use crate::handle::Handles;
use crate::health::RouterHealth;
use crate::inner::{Inner, count, ready};
use crate::name::TenantName;
use crate::pause::hold;
use crate::table::{Found, Prepared};
use crate::tenant::Tenant;

/// Where a router has its routes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteSource {
    /// From the control plane's feed, in this process.
    #[default]
    Feed,
    /// From the snapshot file; the control plane has not said all that is new since.
    Snapshot,
    /// They were given when the router was set up.
    Fixed,
}

/// How a router stands, for health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterStatus {
    /// The last feed version that was applied.
    pub applied_version: FeedVersion,
    /// Whether the feed is connected now.
    pub is_connected: bool,
    /// Where the routes came from.
    pub source: RouteSource,
    /// How old the routes may be: the time since the control plane last said something, to this router or to the one that
    /// wrote the snapshot; absent for fixed routes.
    pub age: Option<Duration>,
    /// Routes in the table.
    pub routes: usize,
    /// Pools in use: one for each tenant, access and server that was asked for lately.
    pub pools: usize,
}

/// What a router knows of a tenant without asking anybody: a copy, as it was when it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantSummary {
    /// Its id.
    pub tenant: TenantId,
    /// Whether it can be reached.
    pub state: RouteState,
    /// Of its placement.
    pub generation: Generation,
    /// The version of its schema.
    pub schema_version: SchemaVersion,
    /// The change that made it so.
    pub version: FeedVersion,
}

impl From<Found> for TenantSummary {
    fn from(found: Found) -> Self {
        let Found { tenant, state, generation, schema_version, version, .. } = found;
        Self { tenant, state, generation, schema_version, version }
    }
}

/// Finds tenants and hands out their connections. Cheap to clone; when the last clone and the last [`Tenant`] are
/// dropped, its tasks end.
#[derive(Clone)]
pub struct Router {
    handles: Arc<Handles>,
}

impl Router {
    /// Sets a router up.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    pub(crate) fn of(inner: &Arc<Inner>) -> Self {
        Self { handles: Arc::new(Handles::of(inner)) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.handles
    }

    /// Finds a tenant by id, slug or host. A tenant that moves is waited for, up to the pause budget.
    pub async fn tenant<'a>(&self, name: impl Into<TenantName<'a>>) -> Result<Tenant, RouterError> {
        let name = name.into();
        let outcome = match self.handles.find(name) {
            Some(found) if ready(&found).is_ok() => self.handles.fresh().map(|()| found),
            Some(found) => self.handles.reachable(&found).await,
            None => self.handles.fresh().and_then(|()| Err(RouterError::unknown(name))),
        };
        outcome.map(|found| Tenant::new(self.handles.share(), found)).inspect_err(count)
    }

    /// Finds a tenant without waiting: one that moves is an error at once.
    pub fn lookup<'a>(&self, name: impl Into<TenantName<'a>>) -> Result<Tenant, RouterError> {
        let name = name.into();
        let found = self.handles.fresh().map(|()| self.handles.find(name));
        found
            .and_then(|found| found.ok_or_else(|| RouterError::unknown(name)))
            .and_then(|found| ready(&found).map(|()| found))
            .map(|found| Tenant::new(self.handles.share(), found))
            .inspect_err(count)
    }

    /// What is known of a tenant, whatever its state, for programs that only need to tell tenants apart. Takes no lock,
    /// allocates nothing, and writes to no memory that is shared: it costs two memory accesses.
    #[inline]
    pub fn summary<'a>(&self, name: impl Into<TenantName<'a>>) -> Option<TenantSummary> {
        self.handles.find(name.into()).map(TenantSummary::from)
    }

    /// Takes a changed route over, as the feed would bring it; for routers with fixed routes. Says whether it was news: a
    /// version orders all changes, and a generation never falls.
    pub fn apply(&self, route: &Route) -> bool {
        let is_news = self.handles.table.apply(Prepared::from(route));
        if is_news {
            self.handles.follow(route.tenant);
            self.handles.feed.send_modify(|feed| feed.applied = feed.applied.max(Some(route.version)));
        }
        is_news
    }

    /// Waits until a tenant exists and can be served, for a program that has just created it.
    pub async fn await_tenant<'a>(
        &self,
        name: impl Into<TenantName<'a>>,
        time_limit: Duration,
    ) -> Result<Tenant, RouterError> {
        let name = name.into();
        let look = || {
            let found = self.handles.find(name).ok_or_else(|| RouterError::unknown(name))?;
            self.handles.fresh()?;
            ready(&found).map(|()| Tenant::new(self.handles.share(), found))
        };
        let until = tokio::time::Instant::now() + time_limit;
        hold(self.handles.feed.subscribe(), until, || future::ready(look()), |_| true).await
    }

    /// Waits until everything up to a version is applied; says whether that happened in time.
    pub async fn await_version(&self, version: FeedVersion, time_limit: Duration) -> bool {
        let mut changes = self.handles.feed.subscribe();
        let reached = changes.wait_for(|feed| feed.applied.is_some_and(|applied| applied >= version));
        matches!(tokio::time::timeout(time_limit, reached).await, Ok(Ok(_)))
    }

    /// How it stands.
    pub fn status(&self) -> RouterStatus {
        let feed = self.handles.feed.borrow();
        RouterStatus {
            applied_version: feed.applied.unwrap_or_default(),
            is_connected: feed.is_connected,
            source: feed.source,
            age: self.handles.freshness.age(),
            routes: self.handles.table.len(),
            pools: self.handles.pools.len(),
        }
    }

    /// Whether it can do its work, for the health check of the service.
    ///
    /// ```
    /// # #[cfg(feature = "axum")]
    /// # async fn example(router: tenantry_router::Router) {
    /// let routes = axum::Router::<()>::new().route("/readyz", axum::routing::get(move || async move { router.health() }));
    /// # drop(routes);
    /// # }
    /// ```
    pub fn health(&self) -> RouterHealth {
        RouterHealth::of(self.status(), self.handles.shutdown.is_cancelled(), self.handles.fresh().is_err())
    }

    /// Ends its tasks and its idle connections now, and borrowed ones when they are given back. Checkouts fail from
    /// then on. The last snapshot is written afterwards, see [`Self::closed`].
    pub fn close(&self) {
        self.handles.shutdown.cancel();
        self.handles.pools.close();
    }

    /// Closes it and waits for its last snapshot, where it has a snapshot file: about a second for a million routes. A
    /// program that ends without waiting leaves the one before, which is whole, too.
    pub async fn closed(&self) {
        self.close();
        self.handles.snapshot_kept.cancelled().await;
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status().fmt(formatter)
    }
}
