//! Connections on their way back to their pool.
//!
//! They are cleaned off the caller's path, so a caller that asks again at once would find its pool empty and open a second
//! connection, and take it from another router where the tenant's connections are few. It waits for the one that comes
//! back instead, which is a round trip away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// How many connections of one pool are on their way back, and who waits for one.
#[derive(Default)]
pub(crate) struct Returning {
    connections: AtomicUsize,
    waiting: AtomicUsize,
    one_less: Notify,
}

impl Returning {
    /// Counts a connection until it is back in its pool, or closed.
    pub(crate) fn begin(self: &Arc<Self>) -> Return {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Return(Arc::clone(self))
    }

    /// Ends when a connection that is on its way now, or later, is back or closed.
    pub(crate) fn one_less(&self) -> Notified<'_> {
        self.one_less.notified()
    }

    /// Waits until a connection is idle, none is on its way back that another caller does not wait for already, or
    /// patience ends.
    pub(crate) async fn wait_for_one(&self, pool: &Pool, patience: Duration) {
        if self.connections.load(Ordering::Acquire) == 0 {
            return;
        }
        let _waiting = Count::one(&self.waiting);
        let deadline = Instant::now() + patience;
        loop {
            // Before looking: a return in between wakes the wait.
            let one_less = self.one_less();
            let is_for_others = self.waiting.load(Ordering::Acquire) > self.connections.load(Ordering::Acquire);
            if is_for_others || pool.status().available > 0 || pool.is_closed() {
                return;
            }
            if tokio::time::timeout_at(deadline, one_less).await.is_err() {
                return;
            }
        }
    }
}

/// One connection on its way back.
pub(crate) struct Return(Arc<Returning>);

impl Drop for Return {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.one_less.notify_waiters();
    }
}

/// One more, until it is dropped: with a future that ends or is dropped, for example.
pub(crate) struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    pub(crate) fn one(number: &'a AtomicUsize) -> Self {
        number.fetch_add(1, Ordering::AcqRel);
        Self(number)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
