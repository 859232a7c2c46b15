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
        Inbox { leases: Arc::clone(self), name: name.to_string(), told: Some(told), passed_on: Told::default() }
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
        let (mut granted, newest) = control.store().leases_after(after).await?;
        let is_void = newest < after;
        if is_void {
            granted = control.store().leases_after(LeaseSerial::default()).await?.0;
        }
        let mut state = self.state();
        let mut changed = Vec::new();
        if is_void {
            // From another catalog's future: what was known is void, also to those of whom nothing is known now.
            changed.extend(state.followers.keys().cloned());
            *state = State { followers: std::mem::take(&mut state.followers), ..State::default() };
        }
        for lease in granted {
            let name = lease.router.clone();
            state.read = state.read.max(lease.serial);
            Arc::make_mut(state.known.entry(name.clone()).or_default()).insert(lease.cluster, lease);
            changed.push(name);
        }
        for name in changed {
            if let Some(follower) = state.followers.get(&name) {
                follower.send_replace(state.known.get(&name).cloned().unwrap_or_default());
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
    /// What the follower was told.
    passed_on: Told,
}

impl Inbox {
    /// What it was not told yet, in order.
    pub(super) fn news(&mut self) -> Vec<GrantedLease> {
        let Some(told) = &mut self.told else { return Vec::new() };
        let known = Arc::clone(&told.borrow_and_update());
        if Arc::ptr_eq(&known, &self.passed_on) {
            return Vec::new();
        }
        let news = news(&self.passed_on, &known);
        self.passed_on = known;
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

/// What changed, in order. Where a catalog was restored serials begin anew, and what is leased no more is as if it never was.
fn news(before: &BTreeMap<ClusterId, GrantedLease>, now: &BTreeMap<ClusterId, GrantedLease>) -> Vec<GrantedLease> {
    let gone = before.values().filter(|lease| !now.contains_key(&lease.cluster));
    let gone = gone.map(|lease| GrantedLease { connections: None, serial: LeaseSerial::default(), ..lease.clone() });
    let granted = now.values().filter(|lease| before.get(&lease.cluster) != Some(lease)).cloned();
    let mut news: Vec<GrantedLease> = gone.chain(granted).collect();
    news.sort_by_key(|lease| lease.serial);
    news
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn lease(cluster: u128, connections: Option<u32>, serial: i64) -> GrantedLease {
        let cluster = ClusterId::new(Uuid::from_u128(cluster));
        GrantedLease { router: "one".to_owned(), cluster, connections, serial: LeaseSerial(serial) }
    }

    fn told(leases: &[GrantedLease]) -> BTreeMap<ClusterId, GrantedLease> {
        leases.iter().map(|lease| (lease.cluster, lease.clone())).collect()
    }

    #[test]
    fn news_is_what_changed_in_the_order_of_its_serials() {
        let before = told(&[lease(1, Some(9), 3), lease(2, Some(4), 8)]);
        assert_eq!(news(&before, &before), []);
        let now = told(&[lease(1, Some(7), 12), lease(2, Some(4), 8), lease(3, Some(5), 11)]);
        assert_eq!(news(&before, &now), [lease(3, Some(5), 11), lease(1, Some(7), 12)]);
    }

    #[test]
    fn a_catalog_that_was_restored_says_what_it_knows_whatever_its_serials() {
        let before = told(&[lease(1, Some(9), 300), lease(2, Some(4), 800), lease(3, Some(1), 5)]);
        let restored = told(&[lease(1, Some(6), 4), lease(3, Some(2), 5)]);
        assert_eq!(news(&before, &restored), [lease(2, None, 0), lease(1, Some(6), 4), lease(3, Some(2), 5)]);
    }
}
