//! How many connections a router may have open on one server, and who gets them.
//!
//! Whoever opens a connection needs a [`Permit`]. When all are out, idle connections of those who hold the most are closed
//! first. Then callers wait, and what becomes free goes to the one who holds the least for its weight: so each comes to a
//! share in proportion to its weight, one who needs less leaves the rest to others, and one who holds nothing is never
//! behind one who holds something. Within one pool callers are served in their order, see [`crate::pool::queue`].
//!
//! A connection that is given back while somebody is worse off is closed rather than kept, or those who ask often would
//! keep what they have. (Max-min fairness: Bertsekas and Gallager, "Data Networks", 6.5.2.)

use std::cmp::Ordering as Order;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{Notify, oneshot};

use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// What a budget asks of a pool that holds some of it.
pub(crate) trait Holder: Send + Sync {
    /// Closes one idle connection, the one that was idle longest; says whether there was one.
    fn close_one(&self) -> bool;
}

/// Which of the holders. Numbers are never used twice.
type ShareId = u64;

/// The connections of one server that this router may have.
#[derive(Default)]
pub(crate) struct Budget {
    state: Mutex<State>,
    /// Whether a connection that is given back may have to be closed: those who wait, and one where the ceiling has come
    /// down. Looked at on each return, so it is kept outside.
    pressure: AtomicUsize,
    /// Rung when somebody begins to wait, and when no more are open than may be.
    alarm: Option<Arc<Notify>>,
}

#[derive(Default)]
struct State {
    /// Absent for no limit.
    ceiling: Option<usize>,
    open: usize,
    next: ShareId,
    shares: HashMap<ShareId, Entry>,
    waiters: Vec<Waiter>,
    arrivals: u64,
}

struct Entry {
    weight: usize,
    held: usize,
    holder: Option<Weak<dyn Holder>>,
}

struct Waiter {
    share: ShareId,
    arrival: u64,
    grant: oneshot::Sender<Permit>,
}

/// One pool's part in a budget.
pub(crate) struct Share {
    budget: Arc<Budget>,
    id: ShareId,
}

/// Leave to have one connection open; given back when it is dropped.
pub(crate) struct Permit {
    budget: Arc<Budget>,
    share: ShareId,
}

/// A place among those who wait for a permit.
pub(crate) struct Wait<'s> {
    share: &'s Share,
    arrival: u64,
    granted: oneshot::Receiver<Permit>,
}

impl Budget {
    pub(crate) fn with_alarm(alarm: Arc<Notify>) -> Self {
        Self { alarm: Some(alarm), ..Self::default() }
    }

    fn ring(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.notify_one();
        }
    }

    /// Whether more are open than may be.
    pub(crate) fn is_above(&self) -> bool {
        self.state().is_above()
    }

    /// Sets the ceiling; `None` for no limit. Where more are open, idle ones are closed now and others when they are
    /// given back.
    pub(crate) fn set_ceiling(self: &Arc<Self>, ceiling: Option<usize>) {
        {
            let mut state = self.state();
            state.ceiling = ceiling;
            self.show(&state);
        }
        self.hand_out();
        while self.state().is_above() && self.close_idle(None) {}
    }

    /// The ceiling; absent for none.
    pub(crate) fn ceiling(&self) -> Option<usize> {
        self.state().ceiling
    }

    /// Whether anybody ever had a part in it.
    pub(crate) fn was_used(&self) -> bool {
        self.state().next > 0
    }

    /// Permits that are out.
    pub(crate) fn open(&self) -> usize {
        self.state().open
    }

    /// Pools that wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiters.len()
    }

    fn show(&self, state: &State) {
        self.pressure.store(state.waiters.len() + usize::from(state.is_above()), Ordering::Relaxed);
    }

    /// A part in it, of this weight.
    pub(crate) fn join(self: &Arc<Self>, weight: usize) -> Share {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.shares.insert(id, Entry { weight: weight.max(1), held: 0, holder: None });
        Share { budget: Arc::clone(self), id }
    }

    /// Nothing panics while it holds the lock, and no permit is dropped.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free permits to those who are worst off.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            let Some(waiter) = state.next_served() else { return };
            state.take(waiter.share);
            self.show(&state);
            drop(state);
            // Whoever has gone meanwhile drops it, which hands it on.
            drop(waiter.grant.send(Permit { budget: Arc::clone(self), share: waiter.share }));
        }
    }

    /// Closes an idle connection of whoever holds the most for its weight, but not one of those who hold no more than
    /// somebody else would have with one more.
    fn close_idle(&self, wanted_by: Option<ShareId>) -> bool {
        let mut holders: Vec<(f64, Arc<dyn Holder>)> = {
            let state = self.state();
            let needy = wanted_by.and_then(|share| state.shares.get(&share));
            let holders = state.shares.iter().filter(|(id, _)| Some(**id) != wanted_by).map(|(_, entry)| entry);
            holders
                .filter(|entry| entry.held > 0 && needy.is_none_or(|needy| entry.may_yield_to(needy)))
                .filter_map(|entry| Some((entry.part(entry.held), entry.holder.as_ref()?.upgrade()?)))
                .collect()
        };
        holders.sort_by(|one, other| other.0.total_cmp(&one.0));
        holders.iter().any(|(_, holder)| holder.close_one())
    }
}

impl State {
    fn is_above(&self) -> bool {
        self.ceiling.is_some_and(|ceiling| self.open > ceiling)
    }

    fn has_room(&self) -> bool {
        self.ceiling.is_none_or(|ceiling| self.open < ceiling)
    }

    fn take(&mut self, share: ShareId) {
        self.open += 1;
        if let Some(entry) = self.shares.get_mut(&share) {
            entry.held += 1;
        }
    }

    /// The waiter who is next, where there is a permit for one.
    fn next_served(&mut self) -> Option<Waiter> {
        if !self.has_room() {
            return None;
        }
        let compare = |one: &Waiter, other: &Waiter| self.compare(one, other);
        let (position, _) = self.waiters.iter().enumerate().min_by(|(_, one), (_, other)| compare(one, other))?;
        Some(self.waiters.swap_remove(position))
    }

    fn compare(&self, one: &Waiter, other: &Waiter) -> Order {
        let part = |waiter: &Waiter| self.shares.get(&waiter.share).map_or(0.0, |entry| entry.part(entry.held));
        part(one).total_cmp(&part(other)).then(one.arrival.cmp(&other.arrival))
    }
}

impl Entry {
    /// What so many connections are for its weight.
    #[allow(clippy::cast_precision_loss, reason = "far fewer connections than a double counts exactly")]
    fn part(&self, held: usize) -> f64 {
        held as f64 / self.weight as f64
    }

    /// Whether taking one from this share for another makes the two more equal: the other is not better off with one more
    /// than this one is now.
    fn may_yield_to(&self, other: &Self) -> bool {
        other.part(other.held + 1) <= self.part(self.held)
            // One who has nothing comes before weights.
            || (other.held == 0 && self.held > 1)
    }
}

impl Share {
    /// Where its idle connections are to be found.
    pub(crate) fn held_by(&self, holder: Weak<dyn Holder>) {
        if let Some(entry) = self.budget.state().shares.get_mut(&self.id) {
            entry.holder = Some(holder);
        }
    }

    /// Takes another weight.
    pub(crate) fn weigh(&self, weight: usize) {
        if let Some(entry) = self.budget.state().shares.get_mut(&self.id) {
            entry.weight = weight.max(1);
        }
    }

    /// A permit, where there is one and nobody waits.
    pub(crate) fn permit(&self) -> Option<Permit> {
        let mut state = self.budget.state();
        if !state.waiters.is_empty() || !state.has_room() {
            return None;
        }
        state.take(self.id);
        Some(Permit { budget: Arc::clone(&self.budget), share: self.id })
    }

    /// Waits for a permit. An idle connection of somebody else is closed for it, if there is one.
    pub(crate) fn wait(&self) -> Wait<'_> {
        let (grant, granted) = oneshot::channel();
        let arrival = {
            let mut state = self.budget.state();
            state.arrivals += 1;
            let arrival = state.arrivals;
            state.waiters.push(Waiter { share: self.id, arrival, grant });
            self.budget.show(&state);
            arrival
        };
        self.budget.hand_out();
        if self.budget.waiting() > 0 && !self.budget.close_idle(Some(self.id)) {
            self.budget.ring();
        }
        Wait { share: self, arrival, granted }
    }

    /// Whether a connection that is given back is to be closed: somebody waits who is worse off without it than this share
    /// is, or the ceiling has come down.
    #[inline]
    pub(crate) fn yields(&self) -> bool {
        self.budget.pressure.load(Ordering::Relaxed) > 0 && self.is_better_off()
    }

    fn is_better_off(&self) -> bool {
        let state = self.budget.state();
        if state.is_above() {
            return true;
        }
        let Some(own) = state.shares.get(&self.id) else { return true };
        let others = state.waiters.iter().filter(|waiter| waiter.share != self.id);
        let mut others = others.filter_map(|waiter| state.shares.get(&waiter.share));
        others.any(|other| own.may_yield_to(other))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        // What it still holds is counted until it is closed.
        state.shares.remove(&self.id);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.budget.state();
            let was_above = state.is_above();
            state.open -= 1;
            if was_above && !state.is_above() {
                self.budget.ring();
            }
            if let Some(entry) = state.shares.get_mut(&self.share) {
                entry.held -= 1;
            }
            self.budget.show(&state);
        }
        self.budget.hand_out();
    }
}

impl Wait<'_> {
    /// The permit, when it is granted.
    pub(crate) async fn granted(&mut self) -> Option<Permit> {
        (&mut self.granted).await.ok()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut state = self.share.budget.state();
        state.waiters.retain(|waiter| waiter.arrival != self.arrival);
        self.share.budget.show(&state);
        drop(state);
        // Granted in the last moment: it goes to the next one.
        self.granted.close();
        drop(self.granted.try_recv());
    }
}

#[cfg(test)]
mod tests;
