//! All pools that are in use. Tenants that nobody asks for have none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{PoolError, TimeoutType};
use papaya::HashMap;
use tenantry_domain::{ClusterId, ClusterReplicaId, Route, RouteState, TenantId};
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use crate::budget::Holder;
use crate::builder::RouterConfig;
use crate::connect::{ConnectError, Connector, Place, attach_statement};
use crate::error::{Phase, RouterError};
use crate::limits::{Openings, RequestLimit};
use crate::pool::home_check::HomeCheck;
use crate::pool::queue::Queue;
use crate::pool::reset::reset_statements;
use crate::pool::{CheckoutError, Identity, Opener, Pool, PoolKey, Source, TenantPool};
use crate::shared::{Borrower, Stashes};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::table::{ClusterEntry, Found};
use crate::tenant::Access;

/// SQLSTATE of the stamp's function: the home is another tenant's, or of another generation.
const FOREIGN_PLACEMENT: &str = "TN001";
/// SQLSTATE of the stamp's function: the home is closed.
const CLOSED_PLACEMENT: &str = "TN002";
/// How long callers are asked to stay away from a cluster that does not answer.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);
/// What deadpool adds before it gives an opening up: we do first, and know why.
const CREATE_GRACE: Duration = Duration::from_secs(1);

/// Pools by tenant, access and server.
pub(crate) struct Pools {
    by_key: HashMap<PoolKey, Arc<TenantPool>, foldhash::fast::RandomState>,
    /// Held while a pool is made, replaced or taken out; never across an await.
    changing: Mutex<OnReplicas>,
    /// Sweeps so far: a clock that costs nothing to read.
    sweeps: AtomicU64,
    /// Connections that tenants share.
    pub(crate) stashes: Stashes,
    /// How fast they open connections.
    pub(crate) openings: Arc<Openings>,
    config: Arc<RouterConfig>,
    /// What servers see of every connection.
    application_name: String,
    pub(crate) runtime: Handle,
}

/// To which replicas tenants have pools; most tenants to none.
type OnReplicas = std::collections::HashMap<TenantId, Vec<ClusterReplicaId>>;

impl Pools {
    pub(crate) fn new(config: Arc<RouterConfig>, application_name: String, runtime: Handle) -> Self {
        Self {
            by_key: HashMap::default(),
            changing: Mutex::default(),
            sweeps: AtomicU64::new(0),
            stashes: Stashes::default(),
            openings: Arc::new(Openings::new()),
            config,
            application_name,
            runtime,
        }
    }

    /// The pool that serves a route as it is now, if it is there and has seen this change of the route.
    #[inline]
    pub(crate) fn find(&self, key: PoolKey, found: &Found) -> Option<Arc<TenantPool>> {
        let pools = self.by_key.pin();
        let pool = pools.get(&key).filter(|pool| pool.has_seen(found.version))?;
        self.touch(pool);
        Some(Arc::clone(pool))
    }

    fn touch(&self, pool: &TenantPool) {
        let now = self.sweeps.load(Ordering::Relaxed);
        if pool.used_at.load(Ordering::Relaxed) != now {
            pool.used_at.store(now, Ordering::Relaxed);
        }
    }

    /// Takes over what may change while connections stay: the pool's size, the schema that statements are prepared against,
    /// and what sessions of a shared login are limited to.
    fn follow(&self, pool: &TenantPool, route: &Route) {
        pool.schema_version.store(route.schema_version.0.cast_unsigned(), Ordering::Relaxed);
        pool.pool.manager().opening.follow(&route.limits);
        let size = self.config.size_of(&route.limits, pool.key.access);
        if pool.size.swap(size, Ordering::Relaxed) != size {
            pool.pool.resize(size);
            pool.share.weigh(size);
        }
        if let Source::Shared(borrower) = pool.source() {
            borrower.follow(&route.limits);
        }
        pool.version.store(route.version.0.cast_unsigned(), Ordering::Release);
    }

    /// The pool that serves a route as it is now; an older one of the same tenant is retired.
    pub(crate) fn make(&self, key: PoolKey, route: &Route, place: &Place<'_>) -> Result<Arc<TenantPool>, RouterError> {
        let mut on_replicas = self.changing();
        // Another caller may have been first, or the change does not concern the pool.
        let pools = self.by_key.pin();
        if let Some(pool) = pools.get(&key)
            && pool.serves(place.target, route.generation, place.server)
            && !pool.pool.is_closed()
        {
            self.follow(pool, route);
            self.touch(pool);
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(self.build(key, route, place)?);
        if let Source::Own { .. } = pool.source() {
            let holder: Weak<dyn Holder> = Arc::downgrade(&pool) as _;
            pool.share.held_by(holder);
        }
        if let Some(old) = pools.insert(key, Arc::clone(&pool)) {
            old.close();
        } else if let Some(replica) = key.replica {
            on_replicas.entry(key.tenant).or_default().push(replica);
        }
        Ok(pool)
    }

    fn build(&self, key: PoolKey, route: &Route, place: &Place<'_>) -> Result<TenantPool, RouterError> {
        let Place { target, server, replica, .. } = *place;
        let login = key.access.login(target);
        let attach = attach_statement(route.tenant, route.generation);
        let size = self.config.size_of(&route.limits, key.access);
        let (source, share, create_timeout) = if let Some(role) = login.role {
            let stash = self.stashes.at(place, login, &self.config, &self.application_name, &self.runtime)?;
            let share = stash.turns.join(size);
            // Each of its waits has a limit of its own.
            (Source::Shared(Borrower::new(stash, role, attach, key.access, &route.limits)), share, None)
        } else {
            let connector = Box::new(Connector::to(place, login.credential, &self.config, &self.application_name)?);
            let reset = reset_statements(&attach);
            let create_timeout = self.config.connect_timeout.saturating_add(CREATE_GRACE);
            (Source::Own { connector, attach, reset }, server.budget.join(size), Some(create_timeout))
        };
        let returning = match &source {
            Source::Own { .. } => Arc::default(),
            Source::Shared(borrower) => Arc::clone(&borrower.stash.returning),
        };
        let share = Arc::new(share);
        let opener = Opener {
            source,
            share: Arc::clone(&share),
            opening: self.openings.of(key.tenant, &route.limits),
            granted: Mutex::new(None),
        };
        let pool = Pool::builder(opener)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.config.wait_timeout))
            .create_timeout(create_timeout)
            .build()
            .map_err(|source| RouterError::refused("a pool cannot be made", source))?;
        Ok(TenantPool {
            key,
            cluster: target.cluster,
            sight: replica.map(|replica| Arc::clone(&replica.sight)),
            away_until: Mutex::default(),
            pool,
            home: HomeCheck::default(),
            returning,
            config: Arc::clone(&self.config),
            runtime: self.runtime.clone(),
            queue: Queue::new(),
            share,
            identity: Identity {
                generation: route.generation,
                server: Arc::clone(server),
                database: target.database.clone(),
                credential: login.credential.clone(),
                role: login.role.cloned(),
            },
            version: AtomicU64::new(route.version.0.cast_unsigned()),
            schema_version: AtomicU64::new(route.schema_version.0.cast_unsigned()),
            size: AtomicUsize::new(size),
            used_at: AtomicU64::new(self.sweeps.load(Ordering::Relaxed)),
        })
    }

    /// Whether the tenant has pools at all; most have none, and a snapshot names them all.
    pub(crate) fn has_any(&self, tenant: TenantId) -> bool {
        let pools = self.by_key.pin();
        on_primary(tenant).into_iter().any(|key| pools.contains_key(&key)) || self.changing().contains_key(&tenant)
    }

    /// Retires a tenant's pools that `keep` does not want: idle connections end now, borrowed ones when they are given
    /// back.
    pub(crate) fn retire(&self, tenant: TenantId, keep: impl Fn(&TenantPool) -> bool) {
        for key in self.keys_of(tenant) {
            self.retire_one(key, &keep);
        }
    }

    /// The keys of all pools that a tenant may have.
    fn keys_of(&self, tenant: TenantId) -> impl Iterator<Item = PoolKey> {
        let replicas = self.changing().get(&tenant).cloned().unwrap_or_default();
        let on_replicas =
            replicas.into_iter().map(move |id| PoolKey { tenant, access: Access::ReadOnly, replica: Some(id) });
        on_primary(tenant).into_iter().chain(on_replicas)
    }

    fn retire_one(&self, key: PoolKey, keep: impl Fn(&TenantPool) -> bool) {
        let pools = self.by_key.pin();
        if pools.get(&key).is_none_or(|pool| keep(pool)) {
            return;
        }
        let mut on_replicas = self.changing();
        if let Ok(Some((_, pool))) = pools.remove_if(&key, |_, pool| !keep(pool)) {
            forget(&mut on_replicas, key);
            pool.close();
        }
    }

    /// Retires the pools that a changed route no longer matches. The others take over what those who wait already are to see;
    /// the rest comes with the next caller, see [`Self::make`].
    pub(crate) fn follow_route(&self, route: &Route, cluster: Option<&Arc<ClusterEntry>>) {
        self.retire(route.tenant, |pool| match (&route.target, cluster) {
            (Some(target), Some(cluster)) if route.state == RouteState::Active => {
                let server = cluster.server(pool.key.replica);
                server.is_some_and(|server| pool.serves(target, route.generation, server))
            }
            _ => false,
        });
        let pools = self.by_key.pin();
        for pool in self.keys_of(route.tenant).filter_map(|key| pools.get(&key)) {
            pool.pool.manager().opening.follow(&route.limits);
        }
    }

    /// Retires the pools of a cluster that is elsewhere now, and of its replicas that are elsewhere or gone.
    pub(crate) fn follow_cluster(&self, cluster: ClusterId, entry: &ClusterEntry) {
        for pool in self.all().into_iter().filter(|pool| pool.cluster == cluster) {
            let server = entry.server(pool.key.replica);
            self.retire_one(pool.key, |pool| server.is_some_and(|server| pool.identity.server.is_same_place(server)));
        }
    }

    /// Ends connections that were idle or open for too long, and takes out pools that have none. It is called so often
    /// in an idle time.
    pub(crate) fn evict(&self, sweeps_per_idle_time: u64) {
        let now = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        for stash in self.stashes.all() {
            stash.evict();
        }
        for pool in self.all() {
            let kept = pool.pool.retain(|_, metrics| {
                metrics.last_used() < self.config.idle_timeout && metrics.age() < self.config.connection_lifetime
            });
            metrics::counter!("tenantry_router_connections_evicted_total").increment(kept.removed.len() as u64);
            let is_unused = |pool: &Arc<TenantPool>| {
                let status = pool.pool.status();
                let used_at = pool.used_at.load(Ordering::Relaxed);
                status.size == 0 && status.waiting == 0 && now.saturating_sub(used_at) >= sweeps_per_idle_time
            };
            if is_unused(&pool) {
                let mut on_replicas = self.changing();
                let pools = self.by_key.pin();
                let taken = pools.remove_if(&pool.key, |_, found| Arc::ptr_eq(found, &pool) && is_unused(found));
                if let Ok(Some((key, pool))) = taken {
                    forget(&mut on_replicas, *key);
                    // Whoever found it a moment ago looks again.
                    pool.close();
                }
            }
        }
    }

    /// Every pool there is.
    pub(crate) fn all(&self) -> Vec<Arc<TenantPool>> {
        self.by_key.pin().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Retires everything.
    pub(crate) fn close(&self) {
        for pool in self.all() {
            pool.close();
        }
        let mut on_replicas = self.changing();
        self.by_key.pin().clear();
        on_replicas.clear();
    }

    /// Nothing panics while it holds the lock.
    fn changing(&self) -> MutexGuard<'_, OnReplicas> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of a tenant's pools to its cluster itself.
fn on_primary(tenant: TenantId) -> [PoolKey; 2] {
    [Access::ReadWrite, Access::ReadOnly].map(|access| PoolKey { tenant, access, replica: None })
}

fn forget(on_replicas: &mut OnReplicas, key: PoolKey) {
    let (Some(replica), Some(known)) = (key.replica, on_replicas.get_mut(&key.tenant)) else { return };
    known.retain(|known| *known != replica);
    if known.is_empty() {
        on_replicas.remove(&key.tenant);
    }
}

/// What a failed checkout means for the caller; `None` where the pool was retired and another is to be found.
pub(crate) fn checkout_error(tenant: TenantId, error: CheckoutError) -> Option<RouterError> {
    match error {
        PoolError::Closed => None,
        PoolError::Timeout(TimeoutType::Wait) => Some(RouterError::Timeout { tenant, phase: Phase::Wait }),
        PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) | PoolError::Backend(ConnectError::Late) => {
            Some(RouterError::Timeout { tenant, phase: Phase::Connect })
        }
        PoolError::Backend(ConnectError::Full) => Some(RouterError::Timeout { tenant, phase: Phase::Budget }),
        PoolError::Backend(ConnectError::Busy) => Some(RouterError::Timeout { tenant, phase: Phase::Shared }),
        PoolError::Backend(ConnectError::TooFast { retry_after }) => {
            Some(RouterError::LimitExceeded { tenant, limit: RequestLimit::Openings, retry_after })
        }
        PoolError::Backend(source) => Some(connect_error(tenant, source)),
        error @ (PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
            Some(RouterError::refused("a pool is set up wrongly", error))
        }
    }
}

/// A refusal of the login, the database or the stamp means that the tenant is no longer there as the route says; all
/// else that the cluster cannot take the connection now.
fn connect_error(tenant: TenantId, error: ConnectError) -> RouterError {
    let retry_after = match &error {
        ConnectError::LeftAlone(left_alone) => left_alone.retry_after,
        _ => UNAVAILABLE_RETRY,
    };
    match error {
        ConnectError::Role(source) => RouterError::Stale { tenant, source },
        ConnectError::Postgres(source) if is_stale(&source) => RouterError::Stale { tenant, source },
        error => RouterError::Unavailable { tenant, retry_after, source: Some(Box::new(error)) },
    }
}

fn is_stale(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [FOREIGN_PLACEMENT, CLOSED_PLACEMENT].contains(&code.code())
            || [
                &SqlState::INVALID_PASSWORD,
                &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                &SqlState::INVALID_CATALOG_NAME,
                &SqlState::INSUFFICIENT_PRIVILEGE,
            ]
            .contains(&code)
    })
}
