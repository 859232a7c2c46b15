//! Connections on their way back to their pool.
//!
//! One that is clean goes back at once. One that is not is cleaned off the caller's path, so a caller that asks again at
//! once would find its pool empty and open a second connection, and take it from another router where the tenant's
//! connections are few. It waits for the one that comes back instead, which is a round trip away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::budget::Holder;
use crate::pool::reset::clean;
use crate::pool::{HomeConnection, Object, TenantPool};
use crate::session::Condition;
use crate::sync::{AtomicUsize, Ordering, timeout_at};

/// Gives a connection back in the cheapest way that is safe.
pub(crate) fn give_back(object: Object, pool: Arc<TenantPool>) {
    match condition(&object, &pool) {
        Condition::Clean => keep(object, &pool),
        Condition::Unknown => {
            // In most cases the driver is just done with the answer that the borrower got.
            let session = Arc::clone(&object.session);
            if let Some(used) = session.park(Used::new(object, pool)) {
                settle(used);
            }
        }
        Condition::Traces | Condition::Busy => clean_aside(Used::new(object, pool)),
    }
}

/// Gives a connection back that was parked until it rests.
pub(crate) fn settle(used: Used) {
    let Some(object) = &used.object else { return };
    match condition(object, &used.pool) {
        Condition::Clean => used.give_back(),
        Condition::Traces | Condition::Busy | Condition::Unknown => clean_aside(used),
    }
}

/// Keeps a clean connection for the next borrower, or closes it where somebody else needs it more.
fn keep(object: Object, pool: &TenantPool) {
    if pool.share.yields() {
        drop(Object::take(object));
        metrics::counter!("tenantry_router_connections_yielded_total").increment(1);
    } else {
        drop(object);
        // Whoever began to wait a moment ago found nothing idle to be closed.
        if pool.share.yields() {
            pool.close_one();
        }
    }
    pool.queue.look_again(&pool.returning);
}

/// Off the caller's path; and where the runtime has ended, the task is dropped and closes the connection.
fn clean_aside(used: Used) {
    let runtime = used.pool.runtime.clone();
    runtime.spawn(clean(used));
}

/// A connection that was used in a home whose objects may do what no message tells of counts as having left traces; and so
/// does one to a replica that is to be looked at, which happens where connections are cleaned.
fn condition(connection: &HomeConnection, pool: &TenantPool) -> Condition {
    let is_due = || pool.sight.as_ref().is_some_and(|sight| sight.is_due(std::time::Instant::now()));
    match connection.session.condition() {
        Condition::Clean if connection.session.is_used() && (!pool.is_plain() || is_due()) => Condition::Traces,
        condition => condition,
    }
}

/// A used connection on its way back. Dropped before it is clean, it is closed.
pub(crate) struct Used {
    pub(crate) object: Option<Object>,
    pub(crate) pool: Arc<TenantPool>,
    /// Dropped after the object: whoever waits finds it in the pool.
    _return: Return,
}

impl Used {
    fn new(object: Object, pool: Arc<TenantPool>) -> Self {
        let returning = pool.returning.begin();
        Self { object: Some(object), pool, _return: returning }
    }

    /// Gives it to the pool.
    pub(crate) fn give_back(mut self) {
        if let Some(object) = self.object.take() {
            keep(object, &self.pool);
        }
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

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

    /// Wakes those who wait for a connection, to look for themselves.
    pub(crate) fn look_again(&self) {
        self.one_less.notify_waiters();
    }

    /// Ends when a connection that is on its way now, or later, is back or closed.
    pub(crate) fn one_less(&self) -> Notified<'_> {
        self.one_less.notified()
    }

    /// Waits until a connection is there, none is on its way back that another caller does not wait for already, or patience
    /// ends.
    pub(crate) async fn wait_for_one(&self, has_one: impl Fn() -> bool, patience: Duration) {
        if self.connections.load(Ordering::Acquire) == 0 {
            return;
        }
        let _waiting = Count::one(&self.waiting);
        let deadline = Instant::now() + patience;
        loop {
            // Before looking: a return in between wakes the wait.
            let one_less = self.one_less();
            let is_for_others = self.waiting.load(Ordering::Acquire) > self.connections.load(Ordering::Acquire);
            if is_for_others || has_one() {
                return;
            }
            if timeout_at(deadline, one_less).await.is_err() {
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
        self.0.look_again();
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
