//! What stands in for the rest of the crate: a pool without deadpool, and connections without a server.
#![allow(clippy::unused_self, clippy::unused_async, reason = "what it stands in for needs them")]

use std::ops::Deref;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use crate::budget::{Budget, Holder, Permit, Share};
use crate::pool::queue::{Queue, is_full};
use crate::pool::returning::Returning;
use crate::session::Session;
use crate::sync::{AtomicUsize, Mutex, Ordering};

pub(crate) mod connect {
    /// As the router's.
    #[derive(Debug, thiserror::Error)]
    pub(crate) enum ConnectError {
        #[error(transparent)]
        Postgres(#[from] tokio_postgres::Error),
        #[error("full")]
        Full,
        #[error("too fast")]
        TooFast { retry_after: std::time::Duration },
    }
}

pub(crate) mod pool {
    pub(crate) use super::{CheckoutError, HomeConnection, Object, Opener, Pool, TenantPool};
    pub(crate) use crate::router::pool::{queue, returning};

    /// Nobody runs out of time here.
    pub(crate) async fn get_until(pool: &Pool, _: tokio::time::Instant) -> Result<Object, CheckoutError> {
        pool.get().await
    }

    pub(crate) mod reset {
        use super::returning::Used;

        /// Asks the connection for a last answer; where it has ended, it is closed.
        pub(crate) async fn clean(used: Used) {
            let Some(object) = used.object.as_ref() else { return };
            let Some(cleaner) = object.cleaner.clone() else { return used.give_back() };
            if cleaner().await {
                object.session.renew();
                used.give_back();
            }
        }
    }
}

pub(crate) type CheckoutError = deadpool::managed::PoolError<connect::ConnectError>;
pub(crate) type Cleaner = Arc<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

pub(crate) struct HomeConnection {
    pub(crate) session: Arc<Session>,
    pub(crate) cleaner: Option<Cleaner>,
    /// For those that no driver holds.
    pub(crate) permit: Option<Permit>,
}

/// A borrowed connection; dropped, it is idle again.
pub(crate) struct Object {
    connection: Option<HomeConnection>,
    pool: Arc<Inside>,
}

impl Object {
    pub(crate) fn take(mut object: Self) -> HomeConnection {
        let connection = object.connection.take().expect("there until it is dropped");
        object.pool.closed();
        connection
    }
}

impl Deref for Object {
    type Target = HomeConnection;

    fn deref(&self) -> &HomeConnection {
        self.connection.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            assert_eq!(self.pool.unanswered.load(Ordering::SeqCst), 0, "the next borrower gets one that is busy");
            self.pool.idle.lock().unwrap().push(connection);
            self.pool.news.notify_waiters();
        }
    }
}

pub(crate) struct Opener {
    pub(crate) share: Arc<Share>,
    pub(crate) granted: Mutex<Option<Permit>>,
}

impl Opener {
    pub(crate) fn hand(&self, permit: Option<Permit>) {
        let before = std::mem::replace(&mut *self.granted.lock().unwrap(), permit);
        drop(before);
    }
}

struct Inside {
    /// Requests that were not answered, as those who sent them count.
    unanswered: AtomicUsize,
    idle: Mutex<Vec<HomeConnection>>,
    size: AtomicUsize,
    news: Notify,
    opener: Opener,
}

impl Inside {
    fn closed(&self) {
        self.size.fetch_sub(1, Ordering::SeqCst);
        self.news.notify_waiters();
    }
}

/// A pool that opens connections as long as there are permits.
pub(crate) struct Pool(Arc<Inside>);

pub(crate) struct Status {
    pub(crate) available: usize,
    pub(crate) size: usize,
}

impl Pool {
    pub(crate) fn status(&self) -> Status {
        Status { available: self.0.idle.lock().unwrap().len(), size: self.0.size.load(Ordering::SeqCst) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        false
    }

    pub(crate) fn manager(&self) -> &Opener {
        &self.0.opener
    }

    pub(crate) fn unanswered(&self) -> &AtomicUsize {
        &self.0.unanswered
    }

    fn object(&self, connection: HomeConnection) -> Object {
        Object { connection: Some(connection), pool: Arc::clone(&self.0) }
    }

    pub(crate) fn idle(&self) -> Option<Object> {
        let connection = self.0.idle.lock().unwrap().pop()?;
        Some(self.object(connection))
    }

    pub(crate) async fn get(&self) -> Result<Object, CheckoutError> {
        if let Some(object) = self.idle() {
            return Ok(object);
        }
        let granted = self.0.opener.granted.lock().unwrap().take();
        let full = CheckoutError::Backend(connect::ConnectError::Full);
        let permit = granted.or_else(|| self.0.opener.share.permit()).ok_or(full)?;
        Ok(self.open(HomeConnection { session: Arc::default(), cleaner: None, permit: Some(permit) }))
    }

    /// A connection that is new.
    pub(crate) fn open(&self, connection: HomeConnection) -> Object {
        self.0.size.fetch_add(1, Ordering::SeqCst);
        self.object(connection)
    }

    /// The next connection that is idle; `None` once all are closed.
    pub(crate) async fn next(&self) -> Option<Object> {
        loop {
            let news = self.0.news.notified();
            if let Some(object) = self.idle() {
                return Some(object);
            }
            if self.status().size == 0 {
                return None;
            }
            news.await;
        }
    }
}

pub(crate) struct Runtime;

impl Runtime {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(task));
    }
}

impl Clone for Runtime {
    fn clone(&self) -> Self {
        Self
    }
}

pub(crate) struct TenantPool {
    pub(crate) pool: Pool,
    pub(crate) returning: Arc<Returning>,
    pub(crate) runtime: Runtime,
    pub(crate) queue: Queue,
    pub(crate) share: Arc<Share>,
    /// Of a replica; there is none here.
    pub(crate) sight: Option<Sight>,
}

pub(crate) struct Sight;

impl Sight {
    pub(crate) fn is_due(&self, _: std::time::Instant) -> bool {
        false
    }
}

impl TenantPool {
    pub(crate) fn new(budget: &Arc<Budget>) -> Arc<Self> {
        let share = Arc::new(budget.join(1));
        let inside = Inside {
            unanswered: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            size: AtomicUsize::new(0),
            news: Notify::new(),
            opener: Opener { share: Arc::clone(&share), granted: Mutex::new(None) },
        };
        let pool = Arc::new(Self {
            pool: Pool(Arc::new(inside)),
            returning: Arc::default(),
            runtime: Runtime,
            queue: Queue::new(),
            share,
            sight: None,
        });
        let holder: Weak<dyn Holder> = Arc::downgrade(&pool) as _;
        pool.share.held_by(holder);
        pool
    }

    pub(crate) fn is_plain(&self) -> bool {
        true
    }

    /// As the router's.
    pub(crate) async fn get(&self) -> Result<Object, CheckoutError> {
        let now = tokio::time::Instant::now();
        if self.queue.is_empty() {
            self.returning.wait_for_one(|| self.pool.status().available > 0, std::time::Duration::ZERO).await;
            match self.pool.get().await {
                Err(error) if is_full(&error) => {}
                outcome => return outcome,
            }
        }
        self.queue.wait(&self.pool, &self.returning, &self.share, now + std::time::Duration::from_hours(1)).await
    }
}

impl Holder for TenantPool {
    fn close_one(&self) -> bool {
        self.pool.idle().map(|object| drop(Object::take(object))).is_some()
    }
}
