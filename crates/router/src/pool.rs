//! One tenant's connections with one access, to one server.
//!
//! In the folder: `pools` keeps those of all tenants; in the `queue` callers wait where there is no connection; a borrowed
//! `connection` comes back by way of `returning`, and through `reset` where its session has left traces; `home_check` says
//! whether a home is one where plain statements leave none.

pub(crate) mod connection;
pub(crate) mod home_check;
pub(crate) mod pools;
pub(crate) mod queue;
pub(crate) mod reset;
pub(crate) mod returning;

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::{self, Metrics, PoolError, RecycleError, RecycleResult, TimeoutType, Timeouts};
use deadpool_postgres::ClientWrapper;
use tenantry_domain::{
    ClusterId, ClusterReplicaId, Credential, DatabaseName, FeedVersion, Generation, RoleName, RouteTarget, TenantId,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

use self::home_check::HomeCheck;
use self::queue::{Queue, is_full};
use self::returning::Returning;
use crate::budget::{Holder, Permit, Share};
use crate::builder::RouterConfig;
use crate::connect::{ConnectError, Connector, too_fast};
use crate::limits::Opening;
use crate::replica::Sight;
use crate::session::Session;
use crate::shared::{Borrower, Lent};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::table::ServerEntry;
use crate::tenant::Access;

/// How soon a replica is asked again that refused the tenant: it may have replayed more.
const AWAY: Duration = Duration::from_millis(500);

pub(crate) type Pool = managed::Pool<Opener>;
pub(crate) type Object = managed::Object<Opener>;
pub(crate) type CheckoutError = PoolError<ConnectError>;

/// Whose pool, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) tenant: TenantId,
    pub(crate) access: Access,
    /// Absent for the cluster itself.
    pub(crate) replica: Option<ClusterReplicaId>,
}

/// What a pool's connections were opened with. A route that says otherwise needs another pool.
pub(crate) struct Identity {
    pub(crate) generation: Generation,
    pub(crate) server: Arc<ServerEntry>,
    pub(crate) database: DatabaseName,
    pub(crate) credential: Credential,
    /// What they become, where the login is one that tenants share.
    pub(crate) role: Option<RoleName>,
}

/// One connection, and what is known of it.
pub(crate) struct HomeConnection {
    client: ClientWrapper,
    pub(crate) session: Arc<Session>,
    /// The schema that its statements were prepared against.
    schema_version: u64,
    /// Where it is one that tenants share; on the heap, because most are not. Dropped after the client.
    lent: Option<Box<Lent>>,
}

impl HomeConnection {
    /// One that tenants share.
    pub(crate) fn lent(client: ClientWrapper, session: Arc<Session>, lent: Lent) -> Self {
        Self { client, session, schema_version: 0, lent: Some(Box::new(lent)) }
    }

    /// What such a one was made of.
    pub(crate) fn into_lent(self) -> Option<(ClientWrapper, Arc<Session>, Lent)> {
        let Self { client, session, lent, .. } = self;
        lent.map(|lent| (client, session, *lent))
    }
}

impl Deref for HomeConnection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl DerefMut for HomeConnection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.client
    }
}

/// Where a pool has its connections from.
pub(crate) enum Source {
    /// It opens them.
    Own {
        connector: Box<Connector>,
        /// Run first: raises unless this tenant lives there, and sets the session up.
        attach: String,
        /// What makes a connection as good as new.
        reset: String,
    },
    /// It borrows them from those that tenants share, and keeps none.
    Shared(Borrower),
}

/// How deadpool gets connections and looks at those it kept.
pub(crate) struct Opener {
    pub(crate) source: Source,
    /// The pool's part of the server's connections, or of those that tenants share.
    pub(crate) share: Arc<Share>,
    /// How fast connections are opened.
    pub(crate) opening: Opening,
    /// For the next connection, where one was waited for.
    pub(crate) granted: Mutex<Option<Permit>>,
}

impl Opener {
    /// Leave for the next connection, or none; what was there goes to others.
    pub(crate) fn hand(&self, permit: Option<Permit>) {
        let before = std::mem::replace(&mut *self.granted(), permit);
        drop(before);
    }

    fn granted(&self) -> MutexGuard<'_, Option<Permit>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl managed::Manager for Opener {
    type Type = HomeConnection;
    type Error = ConnectError;

    async fn create(&self) -> Result<HomeConnection, ConnectError> {
        match &self.source {
            Source::Own { connector, attach, .. } => {
                // First: nobody takes a permit away from others who cannot use it yet.
                self.opening.wait().map_or(Ok(()), too_fast)?;
                let granted = self.granted().take();
                let permit = granted.or_else(|| self.share.permit()).ok_or(ConnectError::Full)?;
                let (client, session) = connector.open(permit, Some(attach), Some(&self.opening)).await?;
                Ok(HomeConnection { client, session, schema_version: 0, lent: None })
            }
            Source::Shared(borrower) => borrower.borrow(&self.share).await,
        }
    }

    /// Connections are cleaned when they are given back, so taking one costs no round trip.
    async fn recycle(&self, connection: &mut HomeConnection, _: &Metrics) -> RecycleResult<ConnectError> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("the connection has ended"));
        }
        Ok(())
    }
}

/// The connections of one tenant with one access, to one server.
pub(crate) struct TenantPool {
    pub(crate) key: PoolKey,
    pub(crate) cluster: ClusterId,
    /// What is known of the replica, where its connections go to one.
    pub(crate) sight: Option<Arc<Sight>>,
    /// Until when a replica is not asked that did not know yet that the tenant lives there.
    pub(crate) away_until: Mutex<Option<Instant>>,
    pub(crate) pool: Pool,
    pub(crate) home: HomeCheck,
    /// Connections that were given back and are not idle yet.
    pub(crate) returning: Arc<Returning>,
    pub(crate) config: Arc<RouterConfig>,
    pub(crate) runtime: Handle,
    /// Callers for whom the role may open no connection.
    pub(crate) queue: Queue,
    pub(crate) identity: Identity,
    pub(crate) share: Arc<Share>,
    /// The last change of the route that was looked at: it asks for this very pool.
    pub(crate) version: AtomicU64,
    pub(crate) schema_version: AtomicU64,
    /// Most connections.
    pub(crate) size: AtomicUsize,
    /// The sweep before which it was used last.
    pub(crate) used_at: AtomicU64,
}

impl TenantPool {
    /// An idle connection, if there is one and nobody came before.
    pub(crate) fn idle(&self) -> Option<Object> {
        if !self.queue.is_empty() || self.pool.status().available == 0 {
            return None;
        }
        // With a connection there this does not wait, and it opens one only where that has ended meanwhile.
        let timeouts = Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
        let object = now(self.pool.timeout_get(&timeouts))?.ok()?;
        Some(self.ready(object))
    }

    /// Takes a connection: an idle one, or one that is about to be, or a new one, or the next that is given back.
    /// Callers are served in order. Where all are in use and no more may be opened, one is waited for until then.
    pub(crate) async fn get(&self, until: Instant) -> Result<Object, CheckoutError> {
        if let Source::Shared(borrower) = self.source() {
            return borrower.get(&self.pool, until).await.map(|object| self.ready(object));
        }
        if self.queue.is_empty() {
            let has_one = || self.pool.status().available > 0 || self.pool.is_closed();
            self.returning.wait_for_one(has_one, self.config.return_patience).await;
            match get_until(&self.pool, until).await {
                Err(error) if is_full(&error) => {}
                outcome => return outcome.map(|object| self.ready(object)),
            }
        }
        let waited = self.queue.wait(&self.pool, &self.returning, &self.share, until).await;
        waited.map(|object| self.ready(object)).map_err(|error| self.blame(error))
    }

    /// Names the tenant's limit where that kept a pool that has room from opening one more connection.
    fn blame(&self, error: CheckoutError) -> CheckoutError {
        let status = self.pool.status();
        match (error, self.pool.manager().opening.wait()) {
            (PoolError::Timeout(TimeoutType::Wait), Some(retry_after)) if status.size < status.max_size => {
                PoolError::Backend(ConnectError::TooFast { retry_after })
            }
            (error, _) => error,
        }
    }

    /// Ends its idle connections now, and borrowed ones when they are given back. Those that tenants share stay with the
    /// others.
    pub(crate) fn close(&self) {
        self.pool.close();
        if let Source::Shared(borrower) = self.source() {
            borrower.leave();
        }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.pool.manager().source
    }

    /// Forgets statements that were prepared against another schema: "cached plan must not change result type" is what
    /// they would meet.
    fn ready(&self, mut object: Object) -> Object {
        let schema_version = self.schema_version.load(Ordering::Relaxed);
        if object.schema_version != schema_version {
            object.client.statement_cache.clear();
            object.schema_version = schema_version;
        }
        object
    }

    /// Whether a connection that was used as far as its session saw is as good as new.
    pub(crate) fn is_plain(&self) -> bool {
        self.home.is_plain(self.schema_version.load(Ordering::Relaxed).cast_signed())
    }

    /// Whether this is the pool for a route that was not looked at yet.
    pub(crate) fn serves(&self, target: &RouteTarget, generation: Generation, server: &Arc<ServerEntry>) -> bool {
        let login = self.key.access.login(target);
        self.identity.generation == generation
            && (Arc::ptr_eq(&self.identity.server, server) || self.identity.server.is_same_place(server))
            && self.identity.database == target.database
            && self.identity.credential == *login.credential
            && self.identity.role.as_ref() == login.role
    }

    /// Leaves the server alone for a moment, which refused the tenant.
    pub(crate) fn stay_away(&self) {
        *self.away_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + AWAY);
    }

    pub(crate) fn stays_away(&self) -> bool {
        let until = *self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    pub(crate) fn has_seen(&self, version: FeedVersion) -> bool {
        self.version.load(Ordering::Acquire) == version.0.cast_unsigned() && !self.pool.is_closed()
    }
}

impl Holder for TenantPool {
    fn close_one(&self) -> bool {
        let mut is_first = true;
        // The first is the one that would be taken next, which was idle longest.
        let kept = self.pool.retain(|_, _| !std::mem::take(&mut is_first));
        metrics::counter!("tenantry_router_connections_evicted_total").increment(kept.removed.len() as u64);
        !kept.removed.is_empty()
    }
}

/// Takes a connection. Where the pool may have no more, one is waited for until then.
pub(crate) async fn get_until(pool: &Pool, until: Instant) -> Result<Object, CheckoutError> {
    let wait = until.saturating_duration_since(Instant::now());
    pool.timeout_get(&Timeouts { wait: Some(wait), ..pool.timeouts() }).await
}

/// What a future answers without waiting.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}
