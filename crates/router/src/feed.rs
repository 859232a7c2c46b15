//! Following the feed: connect, take the snapshot or the changes, and resume after every disconnect.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tenantry_api::{Client, ClientError, FeedEvent, RouteLine};
use tenantry_domain::{ClusterId, FeedVersion, TenantId};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::inner::Inner;
use crate::router::RouteSource;
use crate::table::{ClusterChange, Prepared, Table, UnusableRoute};

/// The first pause after a failure; it doubles up to [`PAUSE_MAX`], and each is drawn between half and all of it, so
/// that a thousand routers do not come back at the same moment.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Routes for which room is made at once, because somebody says that they will come; more get theirs as they come.
const RESERVED_MAX: usize = 4_000_000;
/// Most events that are taken before those who wait hear of them; fewer where no more are there.
const EVENTS_MAX: usize = 256;
/// How many times as many are parsed before they are taken.
const AHEAD_MAX: usize = 4;

/// An event with its route ready for the table.
type Event = FeedEvent<Arrival>;
/// Events that came together.
type Events = Vec<Result<Event, ClientError>>;

/// A route that has come.
enum Arrival {
    Usable(Prepared),
    Unusable { tenant: TenantId, version: FeedVersion, error: UnusableRoute },
}

impl From<RouteLine<'_>> for Arrival {
    fn from(line: RouteLine<'_>) -> Self {
        let (tenant, version) = (line.tenant, line.version);
        Prepared::try_from(&line).map_or_else(|error| Self::Unusable { tenant, version, error }, Self::Usable)
    }
}

/// Follows the feed until the router ends. Whatever happens to it, the table stays and goes on serving.
pub(crate) async fn follow(inner: Arc<Inner>, client: Client, name: String) {
    let shutdown = inner.shutdown.clone();
    // What a snapshot file brought is known, and the feed tells the rest.
    let mut progress = Progress { applied: inner.feed.borrow().applied, ..Progress::default() };
    let mut pause = PAUSE_FIRST;
    loop {
        let began = progress.events;
        let Some(outcome) = shutdown.run_until_cancelled(read(&inner, &client, &name, &mut progress)).await else {
            return;
        };
        if progress.events > began {
            pause = PAUSE_FIRST;
        }
        match &outcome {
            Ok(()) => tracing::info!(after = ?progress.applied, "the control plane closed the feed; it is opened anew"),
            Err(error) => {
                tracing::warn!(%error, after = ?progress.applied, "the feed is interrupted; known routes go on serving");
            }
        }
        inner.feed.send_modify(|feed| {
            feed.is_connected = false;
            feed.failure = outcome.err().map(Arc::new);
        });
        let drawn = pause.mul_f64(rand::random_range(0.5..1.0));
        if shutdown.run_until_cancelled(tokio::time::sleep(drawn)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Reads one connection to its end.
async fn read(inner: &Inner, client: &Client, name: &str, progress: &mut Progress) -> Result<(), ClientError> {
    // What an interrupted snapshot named is known, but the snapshot counts only as a whole.
    progress.snapshot = None;
    let (mut events, _reading) =
        read_ahead(client.feed_as(name, progress.applied, |event| event.map_route(Arrival::from)).await?);
    inner.feed.send_modify(|feed| {
        feed.is_connected = true;
        feed.failure = None;
    });
    while let Some(events) = events.recv().await {
        inner.freshness.hear();
        let outcome = take(inner, progress, events);
        metrics::gauge!("tenantry_router_feed_version").set(version_gauge(progress.applied));
        outcome?;
    }
    Ok(())
}

/// Takes what has come, and what comes next meanwhile: while the router applies some events, others are unpacked and
/// parsed. The task ends with its handle.
fn read_ahead(
    events: BoxStream<'static, Result<Event, ClientError>>,
) -> (mpsc::Receiver<Events>, AbortOnDropHandle<()>) {
    let (sender, receiver) = mpsc::channel(AHEAD_MAX);
    let mut events = events.ready_chunks(EVENTS_MAX);
    let reading = tokio::spawn(async move {
        while let Some(some) = events.next().await {
            if sender.send(some).await.is_err() {
                return;
            }
        }
    });
    (receiver, AbortOnDropHandle::new(reading))
}

/// Applies events up to the first failure, and then tells those who wait: not of each, because a snapshot would wake them
/// a million times.
fn take(inner: &Inner, progress: &mut Progress, events: Events) -> Result<(), ClientError> {
    let mut is_current = false;
    let outcome = events.into_iter().try_for_each(|event| {
        let changed = progress.apply(event?, &inner.table);
        for tenant in changed.tenant.into_iter().chain(changed.gone) {
            inner.follow(tenant);
        }
        if let Some(cluster) = changed.moved
            && let Some(entry) = inner.table.clusters.get(cluster)
        {
            inner.pools.follow_cluster(cluster, &entry);
        }
        is_current |= changed.is_current;
        Ok(())
    });
    inner.feed.send_modify(|feed| {
        feed.applied = progress.applied;
        if is_current {
            feed.is_current = true;
            feed.source = RouteSource::Feed;
        }
    });
    outcome
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 2^53")]
fn version_gauge(version: Option<FeedVersion>) -> f64 {
    version.unwrap_or_default().0 as f64
}

/// How far the feed was applied.
#[derive(Default)]
struct Progress {
    /// Everything up to this version is in the table; the feed resumes after it.
    applied: Option<FeedVersion>,
    snapshot: Option<Snapshot>,
    /// Events so far, to see whether a connection got anywhere.
    events: u64,
}

/// A snapshot that is not complete yet.
struct Snapshot {
    version: FeedVersion,
    clusters: HashSet<ClusterId>,
}

/// Whose pools need a look.
#[derive(Default)]
struct Changed {
    tenant: Option<TenantId>,
    /// Those that a snapshot does not name any more.
    gone: Vec<TenantId>,
    moved: Option<ClusterId>,
    /// The feed says that it has told everything up to now.
    is_current: bool,
}

impl Progress {
    /// Applies one event. Changes that are known already, after a resume or by repetition, change nothing.
    fn apply(&mut self, event: Event, table: &Table) -> Changed {
        self.events += 1;
        let mut changed = Changed::default();
        match event {
            FeedEvent::SnapshotBegin { version, routes } => {
                if self.applied.is_some_and(|applied| version < applied) {
                    tracing::error!(%version, applied = ?self.applied, "a snapshot is older than what is known, which stays; if the catalog was restored, take the snapshot file away, if there is one, and restart this program");
                }
                table.reserve(
                    routes.map_or(0, |routes| usize::try_from(routes).unwrap_or(usize::MAX)).min(RESERVED_MAX),
                );
                table.begin_snapshot();
                self.snapshot = Some(Snapshot { version, clusters: HashSet::new() });
            }
            FeedEvent::Cluster(cluster) => {
                let (id, version) = (cluster.cluster, cluster.version);
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.clusters.insert(id);
                }
                match table.clusters.apply(cluster) {
                    Ok(ClusterChange::None) => {}
                    Ok(ClusterChange::Moved) => changed.moved = Some(id),
                    Err(error) => tracing::error!(cluster = %id, %error, "a cluster of the feed cannot be used"),
                }
                self.reach(version);
            }
            FeedEvent::Route(arrival) => {
                let version = match *arrival {
                    Arrival::Usable(route) => {
                        let (tenant, version) = (route.tenant, route.version);
                        changed.tenant = table.apply(route).then_some(tenant);
                        version
                    }
                    Arrival::Unusable { tenant, version, error } => {
                        tracing::error!(tenant_id = %tenant, %error, "a route of the feed cannot be used");
                        version
                    }
                };
                self.reach(version);
            }
            FeedEvent::Removed { tenant, version } => {
                if table.remove(tenant, version) {
                    changed.tenant = Some(tenant);
                }
                self.reach(version);
            }
            FeedEvent::SnapshotEnd { version } => {
                if let Some(snapshot) = self.snapshot.take().filter(|snapshot| snapshot.version == version) {
                    table.clusters.keep_only(&snapshot.clusters, version);
                    changed.gone = table.end_snapshot(version);
                    self.applied = Some(self.applied.map_or(version, |applied| applied.max(version)));
                } else {
                    tracing::error!(%version, "a snapshot ends that did not begin; it is not used");
                }
            }
            FeedEvent::Heartbeat { version } => {
                self.reach(version);
                // The end of a snapshot says nothing of what is newer.
                changed.is_current = self.snapshot.is_none();
            }
            FeedEvent::Lease(lease) => table.clusters.lease(lease),
        }
        changed
    }

    /// Notes that everything up to a version is applied. Before the first snapshot, and within one, only its end says
    /// so.
    fn reach(&mut self, version: FeedVersion) {
        if self.snapshot.is_none() {
            self.applied = self.applied.map(|applied| applied.max(version));
        }
    }
}
