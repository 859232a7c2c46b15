//! News from the catalog, fanned out in memory: one listening connection per replica, however many wait.
//!
//! Nothing depends on a piece of news arriving. Whoever waits also looks again after a while, so a lost notification
//! costs time, never correctness.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenantry_domain::{FeedVersion, LeaseSerial, OperationId, RolloutId};
use tenantry_store::{Listener, Notice, Store};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How many pieces of news a slow waiter may lag behind before it is told to look for itself.
const BACKLOG: usize = 1024;

/// A change that somebody may be waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The operation changed.
    Operation(OperationId),
    /// The rollout changed.
    Rollout(RolloutId),
    /// News may have been missed: look for yourself.
    Anything,
}

/// Where news arrives and is waited for.
#[derive(Debug)]
pub struct Signals {
    news: broadcast::Sender<News>,
    feed: watch::Sender<FeedVersion>,
    leases: watch::Sender<LeaseSerial>,
    operations_wake: Notify,
    /// Operations that this replica works on.
    claimed: Mutex<HashSet<OperationId>>,
    rollouts_wake: Notify,
    reconcilers_wake: HashMap<&'static str, Notify>,
}

impl Signals {
    /// `reconcilers` are the names of those that may be woken.
    pub(crate) fn new(reconcilers: impl Iterator<Item = &'static str>) -> Self {
        Self {
            news: broadcast::channel(BACKLOG).0,
            feed: watch::channel(FeedVersion::default()).0,
            leases: watch::channel(LeaseSerial::default()).0,
            operations_wake: Notify::new(),
            claimed: Mutex::new(HashSet::new()),
            rollouts_wake: Notify::new(),
            reconcilers_wake: reconcilers.map(|name| (name, Notify::new())).collect(),
        }
    }

    /// All news from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// The newest feed version that this replica has heard of.
    pub fn feed(&self) -> watch::Receiver<FeedVersion> {
        self.feed.subscribe()
    }

    /// The last lease of connections that this replica has heard of.
    pub(crate) fn leases(&self) -> watch::Receiver<LeaseSerial> {
        self.leases.subscribe()
    }

    /// Tells this replica of leases, ahead of the catalog's own notification.
    pub(crate) fn raise_leases(&self, serial: LeaseSerial) {
        // A lower one is news, too: the catalog may have been restored.
        self.leases.send_if_modified(|current| std::mem::replace(current, serial) != serial);
    }

    /// Tells this replica's workers that an operation may be due, ahead of the catalog's own notification.
    pub(crate) fn wake_operations(&self) {
        self.operations_wake.notify_one();
    }

    /// Notes that this replica works on the operation, as long as the answer lives.
    pub(crate) fn claim(&self, operation: OperationId) -> Claim<'_> {
        self.claimed().insert(operation);
        Claim { signals: self, operation }
    }

    /// Nothing panics while it holds the lock.
    fn claimed(&self) -> MutexGuard<'_, HashSet<OperationId>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake_rollouts(&self) {
        self.rollouts_wake.notify_one();
    }

    pub(crate) async fn operations_woken(&self) {
        self.operations_wake.notified().await;
    }

    pub(crate) async fn rollouts_woken(&self) {
        self.rollouts_wake.notified().await;
    }

    pub(crate) fn wake_reconciler(&self, name: &str) {
        if let Some(wake) = self.reconcilers_wake.get(name) {
            wake.notify_one();
        }
    }

    /// Waits until a pass of the reconciler is wanted at once; without end for a name that is not known.
    pub(crate) async fn reconciler_woken(&self, name: &str) {
        match self.reconcilers_wake.get(name) {
            Some(wake) => wake.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Receives from the catalog until told to stop.
    pub(crate) async fn run(&self, store: &Store, stop: &CancellationToken) {
        let mut listener: Listener = store.listen();
        loop {
            let notice = tokio::select! {
                () = stop.cancelled() => return,
                notice = listener.recv() => notice,
            };
            match notice {
                // Who began it here was told ahead of the catalog, and may be at it already.
                Notice::Queued(id) if self.claimed().contains(&id) => {}
                Notice::Queued(id) | Notice::Operation(id) => {
                    self.tell(News::Operation(id));
                    self.wake_operations();
                }
                // What was held back by it has news of its own.
                Notice::Ended(id) => self.tell(News::Operation(id)),
                Notice::Rollout(id) => {
                    self.tell(News::Rollout(id));
                    self.wake_rollouts();
                }
                Notice::Feed(version) => self.raise_feed(version),
                Notice::Leases(serial) => self.raise_leases(serial),
                Notice::Reconciler(name) => self.wake_reconciler(&name),
                Notice::Reconnected => {
                    match store.feed_version().await {
                        Ok(clock) => self.raise_feed(clock.current),
                        Err(error) => warn!(%error, "could not read the feed version after reconnecting"),
                    }
                    self.tell(News::Anything);
                    self.wake_operations();
                    self.wake_rollouts();
                    for wake in self.reconcilers_wake.values() {
                        wake.notify_one();
                    }
                }
            }
        }
    }

    /// Waits for news that `concerns`, or until `patience` is over, whichever comes first.
    pub async fn wait_for(
        receiver: &mut broadcast::Receiver<News>,
        patience: Duration,
        concerns: impl Fn(News) -> bool,
    ) {
        let wait = async {
            loop {
                match receiver.recv().await {
                    Ok(news) if !concerns(news) && news != News::Anything => {}
                    Ok(_) | Err(_) => return,
                }
            }
        };
        // Running out of patience is an answer too: the caller looks for itself.
        let _ = tokio::time::timeout(patience, wait).await;
    }

    /// Tells those who wait in this replica.
    pub(crate) fn tell(&self, news: News) {
        // Nobody waiting is no error.
        let _ = self.news.send(news);
    }

    fn raise_feed(&self, version: FeedVersion) {
        self.feed.send_if_modified(|current| {
            let rises = version > *current;
            if rises {
                *current = version;
            }
            rises
        });
    }
}

/// An operation that this replica works on.
pub(crate) struct Claim<'s> {
    signals: &'s Signals,
    operation: OperationId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.signals.claimed().remove(&self.operation);
    }
}
