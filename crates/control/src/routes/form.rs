//! What is kept for those who may see passwords, and the same for those who may not; each while somebody reads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenantry_domain::FeedVersion;
use tokio::time::Instant;

use super::feed::Inner;
use super::ring::{Piece, Place, Ring};
use super::snapshot::{Reading, Snapshot};

/// How long it is kept after its last reader left, who mostly comes back at once.
const KEPT: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Form {
    pub(super) with_secrets: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    readers: usize,
    /// When the last reader left.
    left_at: Instant,
    ring: Option<Ring>,
    snapshot: Option<Arc<Snapshot>>,
    /// When the snapshot was last given to somebody.
    snapshot_used_at: Instant,
}

impl Form {
    pub(super) fn new(with_secrets: bool) -> Self {
        let now = Instant::now();
        let state = State { readers: 0, left_at: now, ring: None, snapshot: None, snapshot_used_at: now };
        Self { with_secrets, state: Mutex::new(state) }
    }

    /// Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn come(&self) {
        self.state().readers += 1;
    }

    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.readers -= 1;
        state.left_at = Instant::now();
    }

    /// Drops what nobody needs any more; says whether changes are to be read for it.
    pub(super) fn tidy(&self) -> bool {
        let mut state = self.state();
        let is_wanted = state.readers > 0 || (state.ring.is_some() && state.left_at.elapsed() < KEPT);
        if !is_wanted {
            state.ring = None;
        }
        let start = state.ring.as_ref().map(Ring::start);
        let is_useful = |snapshot: &Arc<Snapshot>| start.is_some_and(|start| snapshot.leads_to(start));
        let is_over = state.snapshot.as_ref().is_some_and(|snapshot| {
            !is_useful(snapshot) || (snapshot.is_complete() && state.snapshot_used_at.elapsed() >= KEPT)
        });
        if is_over {
            state.snapshot = None;
        }
        is_wanted
    }

    /// Sees that there is a ring that ends at a version; what another one held is dropped.
    pub(super) fn begin_at(&self, version: FeedVersion) {
        let mut state = self.state();
        if state.ring.as_ref().is_none_or(|ring| ring.end() != version) {
            state.ring = Some(Ring::new(version));
        }
    }

    pub(super) fn push(&self, pieces: Vec<Piece>) {
        if let Some(ring) = &mut self.state().ring {
            for piece in pieces {
                ring.push(piece);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.state().ring.as_ref().map_or(0, Ring::bytes)
    }

    /// Where a reader is; `None` where nothing was read for this form yet.
    pub(super) fn place(&self, version: FeedVersion) -> Option<Place> {
        self.state().ring.as_ref().map(|ring| ring.place(version))
    }

    /// Whether nothing newer was read than a reader has.
    pub(super) fn is_at_end(&self, version: FeedVersion) -> bool {
        matches!(self.place(version), Some(Place::End))
    }

    /// What was read last.
    pub(super) fn end(&self) -> Option<FeedVersion> {
        self.state().ring.as_ref().map(Ring::end)
    }

    /// A snapshot from which the ring leads on: the one that is there, or a new one.
    pub(super) fn snapshot(&self, feed: &Arc<Inner>) -> Reading {
        let mut state = self.state();
        let start = state.ring.as_ref().map(Ring::start).unwrap_or_default();
        let known = state.snapshot.as_ref().filter(|snapshot| snapshot.leads_to(start)).cloned();
        let snapshot = known.unwrap_or_else(|| Arc::new(Snapshot::begin(Arc::clone(feed), self.with_secrets)));
        state.snapshot_used_at = Instant::now();
        let reading = snapshot.read();
        state.snapshot = Some(snapshot);
        reading
    }
}
