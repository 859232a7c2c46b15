//! Callers of a tenant that moves, while its route goes on changing.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::pause::hold;
use crate::sync::{AtomicU64, Ordering};
use crate::table::version_lock::VersionLock;

pub(crate) const MODELS: &[(&str, fn())] = &[
    ("pausing::callers_are_held_until_the_move_is_over", callers_are_held_until_the_move_is_over),
    ("pausing::nobody_is_held_once_the_feed_has_ended", nobody_is_held_once_the_feed_has_ended),
];

const MOVING: u64 = 1;
const ACTIVE: u64 = 2;

/// A route, as the table keeps one: words under its lock.
#[derive(Default)]
struct Route {
    lock: VersionLock,
    version: AtomicU64,
    state: AtomicU64,
}

impl Route {
    fn moving() -> Arc<Self> {
        let route = Self::default();
        route.put(1, MOVING);
        Arc::new(route)
    }

    fn put(&self, version: u64, state: u64) {
        self.lock.change(|| {
            self.version.store(version, Ordering::Relaxed);
            self.state.store(state, Ordering::Relaxed);
        });
    }

    /// What a caller goes on with: the version of a route that can be served, or of one that still moves.
    fn call(&self, changes: watch::Receiver<u32>) -> Result<u64, u64> {
        let look = || async {
            let words = || (self.version.load(Ordering::Relaxed), self.state.load(Ordering::Relaxed));
            let (version, state) = self.lock.read(words);
            // It may have changed before the caller does anything with what it saw.
            thread::yield_now();
            if state == MOVING { Err(version) } else { Ok(version) }
        };
        block_on(hold(changes, Instant::now(), look, |_| true))
    }
}

fn callers_are_held_until_the_move_is_over() {
    let (route, told) = (Route::moving(), watch::Sender::new(0));
    let call = |_| {
        let (route, changes) = (Arc::clone(&route), told.subscribe());
        thread::spawn(move || route.call(changes))
    };
    let callers: Vec<_> = (0..2).map(call).collect();
    // A step of the move, its end, and another move.
    for (version, state) in [(2, MOVING), (3, ACTIVE), (4, MOVING), (5, ACTIVE)] {
        // As the feed does: the table first, then those who wait.
        route.put(version, state);
        told.send_modify(|changes| *changes += 1);
        thread::yield_now();
    }
    for caller in callers {
        let version = caller.join().expect("no panic").expect("held until it can be served");
        assert!([3, 5].contains(&version), "of one piece");
    }
    // Whoever is told of the end is told of it, and not let go because nobody tells of anything any more.
    drop(told);
}

fn nobody_is_held_once_the_feed_has_ended() {
    let (route, told) = (Route::moving(), watch::Sender::new(0));
    let caller = thread::spawn({
        let (route, changes) = (Arc::clone(&route), told.subscribe());
        move || route.call(changes)
    });
    thread::yield_now();
    drop(told);
    assert_eq!(caller.join().expect("no panic"), Err(1), "told that it still moves");
}
