//! Who follows this replica's feed, told to the catalog when it changes.
//!
//! Nothing is written while nobody comes or goes. Those of a replica that crashed count as gone once it is silent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{DisplayName, FeedVersion};
use tenantry_store::RouterConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::control::{Control, new_id};

/// Comings and goings that are closer together than this are told together.
const COALESCE: Duration = Duration::from_millis(500);
/// The pause after the catalog did not take them.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Presence {
    untold: Mutex<Untold>,
    changed: Notify,
}

/// What the catalog was not told yet.
#[derive(Debug, Default)]
struct Untold {
    begun: HashMap<String, RouterConnection>,
    ended: Vec<Uuid>,
}

impl Presence {
    /// Notes that a router follows the feed, as long as the answer lives.
    pub(crate) fn enter(self: &Arc<Self>, name: &DisplayName, applied_version: FeedVersion) -> Present {
        let (connection, name) = (new_id(), name.to_string());
        let begun =
            RouterConnection { name: name.clone(), connection, applied_version, connected_at: Timestamp::now() };
        self.untold().begun.insert(name.clone(), begun);
        self.changed.notify_one();
        Present { presence: Arc::clone(self), name, connection }
    }

    /// Nothing panics while it holds the lock.
    fn untold(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the catalog until told to stop. A replica that stops says so, and with it that nobody follows it.
    pub(crate) async fn run(&self, control: &Control, stop: &CancellationToken) {
        let (store, replica) = (control.store(), control.config().replica);
        let mut pause = COALESCE;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let untold = std::mem::take(&mut *self.untold());
            let begun: Vec<RouterConnection> = untold.begun.values().cloned().collect();
            pause = match store.record_router_connections(replica, &begun, &untold.ended).await {
                Ok(()) => COALESCE,
                Err(error) => {
                    warn!(%error, "could not write which routers are connected; trying again");
                    self.put_back(untold);
                    RETRY
                }
            };
        }
    }

    fn put_back(&self, earlier: Untold) {
        let mut untold = self.untold();
        for (name, router) in earlier.begun {
            if !untold.ended.contains(&router.connection) {
                untold.begun.entry(name).or_insert(router);
            }
        }
        untold.ended.extend(earlier.ended);
        drop(untold);
        self.changed.notify_one();
    }
}

/// A router that follows the feed.
#[derive(Debug)]
pub(crate) struct Present {
    presence: Arc<Presence>,
    name: String,
    connection: Uuid,
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut untold = self.presence.untold();
        if untold.begun.get(&self.name).is_some_and(|begun| begun.connection == self.connection) {
            untold.begun.remove(&self.name);
        }
        untold.ended.push(self.connection);
        drop(untold);
        self.presence.changed.notify_one();
    }
}
