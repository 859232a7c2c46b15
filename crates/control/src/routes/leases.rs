//! What routers may hold of clusters' connections, read once for all who follow this replica's feed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenantry_domain::{ClusterId, DisplayName, LeaseSerial};
use tenantry_store::GrantedLease;
use tokio::sync::watch;

use crate::control::Control;
use crate::error::ControlError;

/// What one router may hold, by cluster.
type Told = Arc<BTreeMap<ClusterId, GrantedLease>>;

/// Read while named routers follow; nothing is kept otherwise.
#[derive(Debug, Default)]
pub(super) struct Leases {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Everything up to this was read.
    read: LeaseSerial,
    known: HashMap<String, Told>,
    followers: HashMap<String, watch::Sender<Told>>,
}

impl Leases {
    /// A router's leases, as they are and will be while it follows. They may not be read yet.
    pub(super) fn follow(self: &Arc<Self>, name: &DisplayName) -> Inbox {
        let mut state = self.state();
        let known = state.known.get(name.as_str()).cloned().unwrap_or_default();
        let told = state.followers.entry(name.to_string()).or_insert_with(|| watch::Sender::new(known)).subscribe();
        Inbox { leases: Arc::clone(self), name: name.to_string(), told: Some(told), serial: LeaseSerial::default() }
    }

    /// Reads what was granted since the last time, where somebody wants to know.
    pub(super) async fn read(&self, control: &Control) -> Result<(), ControlError> {
        let after = {
            let mut state = self.state();
            if state.followers.is_empty() {
                *state = State::default();
                return Ok(());
            }
            state.read
        };
        let (granted, newest) = control.store().leases_after(after).await?;
        let mut state = self.state();
        if newest < after {
            // From another catalog's future: what was known is void.
            *state = State { followers: std::mem::take(&mut state.followers), ..State::default() };
            return Ok(());
        }
        let mut changed = Vec::new();
        for lease in granted {
            let name = lease.router.clone();
            state.read = state.read.max(lease.serial);
            Arc::make_mut(state.known.entry(name.clone()).or_default()).insert(lease.cluster, lease);
            changed.push(name);
        }
        for name in changed {
            if let (Some(follower), Some(known)) = (state.followers.get(&name), state.known.get(&name)) {
                follower.send_replace(Arc::clone(known));
            }
        }
        Ok(())
    }

    /// Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a follower finds its leases.
#[derive(Debug)]
pub(super) struct Inbox {
    leases: Arc<Leases>,
    name: String,
    /// Taken out by `drop` alone.
    told: Option<watch::Receiver<Told>>,
    /// The newest that the follower was told.
    serial: LeaseSerial,
}

impl Inbox {
    /// What it was not told yet, in order.
    pub(super) fn news(&mut self) -> Vec<GrantedLease> {
        let Some(told) = &mut self.told else { return Vec::new() };
        let known = Arc::clone(&told.borrow_and_update());
        let mut news: Vec<GrantedLease> = known.values().filter(|lease| lease.serial > self.serial).cloned().collect();
        news.sort_by_key(|lease| lease.serial);
        self.serial = news.last().map_or(self.serial, |lease| lease.serial);
        news
    }

    /// Waits for more.
    pub(super) async fn changed(&mut self) {
        let Some(told) = &mut self.told else { return std::future::pending().await };
        // The sender lives as long as somebody listens.
        if told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.leases.state();
        self.told = None;
        if state.followers.get(&self.name).is_some_and(|follower| follower.receiver_count() == 0) {
            state.followers.remove(&self.name);
        }
    }
}
