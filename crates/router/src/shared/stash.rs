//! The connections to one database of one server that its tenants share.
//!
//! Whoever takes one needs a turn first. There are as many turns as there may be connections, and they are handed out as
//! the connections of a server are ([`crate::budget`]): to the tenant that has the least for its size, and among equals to
//! the one who came first. So none of them starves, however much another asks for. A new connection is opened only by one
//! who has a turn and finds none idle, so there are never more of them than turns.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tenantry_domain::{ClusterId, ClusterReplicaId, Credential};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::error::SqlState;

use super::loan::Loan;
use super::reset::{reset_statements, run};
use crate::budget::{Budget, Holder, Permit, Share, Wait};
use crate::builder::RouterConfig;
use crate::connect::{ConnectError, Connector};
use crate::pool::reset::{Outcome, look_at_replica, settle};
use crate::pool::returning::{Returning, Used};
use crate::pool::{HomeConnection, Object};
use crate::session::Session;
use crate::table::ServerEntry;

/// How soon one more connection is asked for where the login may have no more.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Connections that are nobody's now, and what it takes to make more.
pub(crate) struct Stash {
    pub(crate) cluster: ClusterId,
    /// Absent for the cluster itself.
    pub(crate) replica: Option<ClusterReplicaId>,
    pub(super) connector: Connector,
    credential: Credential,
    /// The part that all of them have in the server's connections.
    share: Share,
    /// Who may have one.
    pub(crate) turns: Arc<Budget>,
    shelf: Mutex<Shelf>,
    /// Those that are being cleaned.
    pub(crate) returning: Arc<Returning>,
    reset: String,
    config: Arc<RouterConfig>,
    pub(super) runtime: Handle,
}

#[derive(Default)]
struct Shelf {
    /// Pools that borrow here. Without one nothing is kept.
    users: usize,
    /// The one that was idle longest comes first, the one that is taken next last: so those that are too many grow old.
    idle: VecDeque<Idle>,
}

struct Idle {
    client: ClientWrapper,
    session: Arc<Session>,
    opened_at: Instant,
    since: Instant,
}

/// What goes with a connection as long as somebody has it.
pub(crate) struct Lent {
    opened_at: Instant,
    /// Given back with the connection.
    pub(super) turn: Permit,
}

enum Found {
    Idle(Idle),
    New(ClientWrapper, Arc<Session>),
}

impl Stash {
    pub(super) fn new(
        place: (ClusterId, Option<ClusterReplicaId>),
        connector: Connector,
        credential: &Credential,
        config: &Arc<RouterConfig>,
        runtime: Handle,
    ) -> Arc<Self> {
        let size = config.shared_pool_size.max(1) as usize;
        let turns = Arc::new(Budget::default());
        turns.set_ceiling(Some(size));
        let stash = Arc::new(Self {
            cluster: place.0,
            replica: place.1,
            share: connector.server.budget.join(size),
            connector,
            credential: credential.clone(),
            turns,
            shelf: Mutex::default(),
            returning: Arc::default(),
            reset: reset_statements(&credential.role),
            config: Arc::clone(config),
            runtime,
        });
        let holder: Weak<dyn Holder> = Arc::downgrade(&stash) as _;
        stash.share.held_by(holder);
        stash
    }

    /// Whether its connections are what a route asks for.
    pub(super) fn serves(&self, server: &Arc<ServerEntry>, credential: &Credential) -> bool {
        let own = &self.connector.server;
        (Arc::ptr_eq(own, server) || own.is_same_place(server)) && self.credential == *credential
    }

    /// One more pool borrows here, until it [leaves](Self::leave).
    pub(super) fn join(&self) {
        self.shelf().users += 1;
    }

    /// One pool less; with the last one go the connections.
    pub(super) fn leave(&self) {
        let mut shelf = self.shelf();
        shelf.users -= 1;
        let idle = if shelf.users == 0 { std::mem::take(&mut shelf.idle) } else { VecDeque::new() };
        drop(shelf);
        drop(idle);
    }

    /// A connection for one who has a turn: one that is idle or about to be, or a new one.
    pub(super) async fn lend(self: &Arc<Self>, turn: Permit, until: Instant) -> Result<Loan, ConnectError> {
        if !self.has_idle() {
            self.returning.wait_for_one(|| self.has_idle(), self.config.return_patience).await;
        }
        let (was_idle, client, session, opened_at) = match self.find(until).await? {
            Found::Idle(idle) => (true, idle.client, idle.session, idle.opened_at),
            Found::New(client, session) => (false, client, session, Instant::now()),
        };
        let connection = HomeConnection::lent(client, session, Lent { opened_at, turn });
        Ok(Loan::new(connection, was_idle, Arc::clone(self)))
    }

    async fn find(&self, until: Instant) -> Result<Found, ConnectError> {
        // A place among those who wait for a connection of the server.
        let mut place: Option<Wait<'_>> = None;
        let mut granted: Option<Permit> = None;
        loop {
            // Before looking: a return in between ends the wait.
            let one_less = self.returning.one_less();
            if let Some(idle) = self.take() {
                return Ok(Found::Idle(idle));
            }
            let may_ask = place.is_none();
            let permit = granted.take().or_else(|| if may_ask { self.share.permit() } else { None });
            let mut wake_at = until;
            if let Some(permit) = permit {
                match self.connector.open(permit, None, None).await {
                    // The login may have no more; one may come back, or another router may close one.
                    Err(error) if is_full(&error) && Instant::now() + TRY_AGAIN < until => {
                        wake_at = Instant::now() + TRY_AGAIN;
                    }
                    outcome => return outcome.map(|(client, session)| Found::New(client, session)),
                }
            } else if place.is_none() {
                place = Some(self.share.wait());
            }
            let grant = async {
                match &mut place {
                    Some(place) => place.granted().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = one_less => {}
                permit = grant => granted = permit,
                () = sleep_until(wake_at) => {}
            }
            if granted.is_some() {
                place = None;
            } else if place.is_some() && Instant::now() >= until {
                return Err(ConnectError::Full);
            }
        }
    }

    /// The connection that was given back last and still stands.
    fn take(&self) -> Option<Idle> {
        loop {
            // Closed ones are dropped when nothing is locked.
            let idle = self.shelf().idle.pop_back()?;
            if !idle.client.is_closed() {
                return Some(idle);
            }
        }
    }

    fn has_idle(&self) -> bool {
        !self.shelf().idle.is_empty()
    }

    /// How many are idle.
    pub(crate) fn idle_len(&self) -> usize {
        self.shelf().idle.len()
    }

    /// Makes a connection as good as new, or says in one word why it is not.
    pub(super) async fn clean(&self, connection: &HomeConnection) -> Result<(), &'static str> {
        if connection.is_closed() {
            return Err("ended");
        }
        // What the driver kept for the last one; the server hears of it before the reset.
        connection.statement_cache.clear();
        let cleaning = run(connection, &self.reset);
        match settle(connection, cleaning, &self.connector, &self.config).await {
            Outcome::Clean => {
                connection.session.renew();
                metrics::counter!("tenantry_router_connections_reset_total").increment(1);
                Ok(())
            }
            Outcome::Spoilt(reason) => {
                metrics::counter!("tenantry_router_connections_discarded_total", "reason" => reason).increment(1);
                tracing::debug!(login = %self.credential.role, reason, "a connection is closed instead of reused");
                Err(reason)
            }
        }
    }

    /// Takes a clean connection for whoever is next, or closes it where somebody else needs it more.
    pub(super) fn put(&self, connection: HomeConnection) {
        let Some((client, session, lent)) = connection.into_lent() else { return };
        if self.share.yields() {
            drop(client);
            metrics::counter!("tenantry_router_connections_yielded_total").increment(1);
            return;
        }
        let now = Instant::now();
        if now.duration_since(lent.opened_at) >= self.config.connection_lifetime {
            drop(client);
            metrics::counter!("tenantry_router_connections_evicted_total").increment(1);
            return;
        }
        let mut shelf = self.shelf();
        if shelf.users == 0 {
            return;
        }
        shelf.idle.push_back(Idle { client, session, opened_at: lent.opened_at, since: now });
        drop(shelf);
        // Whoever gets the turn finds it.
        drop(lent);
        if self.share.yields() {
            self.close_one();
        }
    }

    /// Ends connections that were idle or open for too long, and forgets those that have ended.
    pub(crate) fn evict(&self) {
        let now = Instant::now();
        let is_kept = |idle: &Idle| {
            now.duration_since(idle.since) < self.config.idle_timeout
                && now.duration_since(idle.opened_at) < self.config.connection_lifetime
                && !idle.client.is_closed()
        };
        let mut ended = Vec::new();
        {
            let mut shelf = self.shelf();
            for one in std::mem::take(&mut shelf.idle) {
                if is_kept(&one) {
                    shelf.idle.push_back(one);
                } else {
                    ended.push(one);
                }
            }
        }
        metrics::counter!("tenantry_router_connections_evicted_total").increment(ended.len() as u64);
    }

    /// Nothing panics while it holds the lock.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder for Stash {
    fn close_one(&self) -> bool {
        let closed = self.shelf().idle.pop_front();
        metrics::counter!("tenantry_router_connections_evicted_total").increment(u64::from(closed.is_some()));
        closed.is_some()
    }
}

/// Cleans a connection that a tenant gives back, and puts it where the next finds it, whoever that is. Until then it counts
/// as the tenant's, so that one that leaves long work behind has no more than its due.
/// Answers what became of it, in one word.
pub(crate) async fn take_back(mut used: Used, stash: &Stash) -> &'static str {
    let Some(connection) = used.object.as_ref() else { return "ended" };
    if let Err(reason) = stash.clean(connection).await {
        return reason;
    }
    if !look_at_replica(connection, &used.pool).await {
        return "silent_replica";
    }
    if let Some(object) = used.object.take() {
        stash.put(Object::take(object));
    }
    "clean"
}

/// Whether the login, or the server, has as many connections as it may.
fn is_full(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Postgres(source) if source.code() == Some(&SqlState::TOO_MANY_CONNECTIONS))
}
