//! Routes as routers and services see them.

use std::collections::VecDeque;
use std::time::Duration;

use futures::stream::{self, Stream};
use tenantry_domain::{FeedVersion, HostName, Route, Scope, Slug, TenantId};
use tenantry_store::{ClusterRoute, RouteChange, RouteRef};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// A router hears something at least this often, so that it can tell silence from a dead connection.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// Changes that come closer together than this are told together.
const COALESCE: Duration = Duration::from_millis(10);
/// Most changes that one look into the catalog brings. A reader costs as much memory as these, however many routes there
/// are.
const BATCH: i64 = 1_000;

/// How a service names the tenant whose route it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveBy {
    /// By id.
    Id(TenantId),
    /// By slug.
    Slug(Slug),
    /// By host.
    Host(HostName),
}

/// A route as one caller may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The route.
    pub route: Route,
    /// Where its cluster is; absent as long as the route has no target.
    pub cluster: Option<ClusterRoute>,
    /// Whether passwords are in it, where it has any.
    pub has_secrets: bool,
}

/// The route of one tenant, whatever its state; with passwords for a caller that may see them.
pub async fn resolve(control: &Control, caller: &Caller, by: &ResolveBy) -> Result<Resolved, ControlError> {
    caller.require(Scope::RoutesRead)?;
    let has_secrets = caller.scopes.allows(Scope::RoutesSecrets);
    let (by, name) = match by {
        ResolveBy::Id(id) => (RouteRef::Id(*id), id.to_string()),
        ResolveBy::Slug(slug) => (RouteRef::Slug(slug.clone()), slug.to_string()),
        ResolveBy::Host(host) => (RouteRef::Host(host.clone()), host.to_string()),
    };
    let route = control.store().resolve(&by, has_secrets).await?;
    if !caller.sees(route.tenant) {
        return Err(ControlError::NotFound { what: "route", name });
    }
    let cluster = match &route.target {
        Some(target) => Some(control.store().cluster_route(target.cluster).await?),
        None => None,
    };
    Ok(Resolved { route, cluster, has_secrets })
}

/// One item of the feed.
#[derive(Debug, Clone)]
pub enum FeedItem {
    /// Everything that a router knew is void; what follows up to the end is all there is as of this version.
    SnapshotBegin(FeedVersion),
    /// A route, a cluster, or a removal.
    Change(RouteChange),
    /// The snapshot is complete.
    SnapshotEnd(FeedVersion),
    /// Nothing new; this is the newest version.
    Heartbeat(FeedVersion),
}

/// Changes in commit order from `after` on; a snapshot first when `after` is absent or too old. Endless; ends with an
/// error when the catalog does not answer, and the router comes back with what it has.
pub fn feed(
    control: &Control,
    caller: &Caller,
    after: Option<FeedVersion>,
) -> Result<impl Stream<Item = Result<FeedItem, ControlError>> + Send + use<>, ControlError> {
    caller.require_fleet_wide(Scope::RoutesRead)?;
    let follower = Follower {
        control: control.clone(),
        with_secrets: caller.scopes.allows(Scope::RoutesSecrets),
        version: after,
        snapshot: None,
        ready: VecDeque::new(),
        news: control.signals().feed(),
        silent_since: Instant::now(),
        failed: false,
    };
    Ok(stream::unfold(follower, |mut follower| async move {
        if follower.failed {
            return None;
        }
        let item = follower.next().await;
        follower.failed = item.is_err();
        Some((item, follower))
    }))
}

/// A snapshot that is being told.
///
/// It is read page by page, as fast as its reader takes it, and nothing is held in the catalog meanwhile. So a page may
/// be newer than `version`; whatever changed since is told once more after the end, and readers drop what they know.
#[derive(Clone, Copy)]
struct Snapshot {
    /// The version of its beginning.
    version: FeedVersion,
    /// The last tenant told.
    after: Option<TenantId>,
}

/// One router's place in the feed.
struct Follower {
    control: Control,
    with_secrets: bool,
    version: Option<FeedVersion>,
    snapshot: Option<Snapshot>,
    ready: VecDeque<FeedItem>,
    news: watch::Receiver<FeedVersion>,
    silent_since: Instant,
    failed: bool,
}

impl Follower {
    async fn next(&mut self) -> Result<FeedItem, ControlError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                self.silent_since = Instant::now();
                return Ok(item);
            }
            if let Some(snapshot) = self.snapshot.take() {
                self.read_page(snapshot).await?;
                continue;
            }
            let clock = self.control.store().feed_version().await?;
            match self.version {
                Some(version) if version >= clock.oldest && version <= clock.current => {
                    if version < clock.current {
                        self.read_changes(version, clock.current).await?;
                        continue;
                    }
                    if self.silent_since.elapsed() >= HEARTBEAT {
                        self.ready.push_back(FeedItem::Heartbeat(clock.current));
                        continue;
                    }
                    self.wait_for_news(clock.current).await;
                }
                // Absent, too old, or from another catalog's future.
                _ => self.begin_snapshot(clock.current).await?,
            }
        }
    }

    async fn read_changes(&mut self, after: FeedVersion, upto: FeedVersion) -> Result<(), ControlError> {
        let changes = self.control.store().routes_after(after, upto, BATCH, self.with_secrets).await?;
        self.version = Some(changes.upto);
        self.ready.extend(changes.items.into_iter().map(FeedItem::Change));
        Ok(())
    }

    async fn begin_snapshot(&mut self, version: FeedVersion) -> Result<(), ControlError> {
        let clusters = self.control.store().cluster_routes().await?;
        self.ready.push_back(FeedItem::SnapshotBegin(version));
        self.ready.extend(clusters.into_iter().map(|cluster| FeedItem::Change(RouteChange::Cluster(cluster))));
        self.snapshot = Some(Snapshot { version, after: None });
        Ok(())
    }

    async fn read_page(&mut self, snapshot: Snapshot) -> Result<(), ControlError> {
        let routes = self.control.store().routes_page(snapshot.after, BATCH, self.with_secrets).await?;
        if let Some(last) = routes.last() {
            self.snapshot = Some(Snapshot { after: Some(last.tenant), ..snapshot });
        } else {
            // Routes told above may lead to clusters that came since the beginning.
            let mut clusters = self.control.store().cluster_routes().await?;
            clusters.retain(|cluster| cluster.version > snapshot.version);
            self.ready.extend(clusters.into_iter().map(|cluster| FeedItem::Change(RouteChange::Cluster(cluster))));
            self.ready.push_back(FeedItem::SnapshotEnd(snapshot.version));
            self.version = Some(snapshot.version);
        }
        self.ready.extend(routes.into_iter().map(|route| FeedItem::Change(RouteChange::Route(Box::new(route)))));
        Ok(())
    }

    async fn wait_for_news(&mut self, known: FeedVersion) {
        let patience = HEARTBEAT.saturating_sub(self.silent_since.elapsed());
        let news = async {
            // A closed channel means that this replica stops; the heartbeat's time ends the wait then.
            if self.news.wait_for(|version| *version > known).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(COALESCE).await;
        };
        // Running out of patience is an answer too: a heartbeat follows.
        let _ = tokio::time::timeout(patience, news).await;
    }
}
