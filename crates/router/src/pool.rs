//! One pool per tenant and access, made on first use.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType};
use papaya::HashMap;
use tenantry_domain::{ClusterId, Credential, DatabaseName, Generation, Route, RouteTarget, TenantId};
use tokio_postgres::error::SqlState;

use crate::builder::RouterConfig;
use crate::connector::{TenantConnect, Tls, attach_statement, config_for};
use crate::error::{Phase, RouterError};
use crate::queue::{Queue, is_full};
use crate::reset::reset_statements;
use crate::returning::Returning;
use crate::table::ClusterEntry;
use crate::tenant::Access;

/// SQLSTATE of the stamp's function: the home is another tenant's, or of another generation.
const FOREIGN_PLACEMENT: &str = "TN001";
/// SQLSTATE of the stamp's function: the home is closed.
const CLOSED_PLACEMENT: &str = "TN002";
/// How long callers are asked to stay away from a cluster that does not answer.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

/// Whose pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) tenant: TenantId,
    pub(crate) access: Access,
}

/// What a pool's connections were opened with. A route that says otherwise needs another pool.
struct Identity {
    generation: Generation,
    cluster: Arc<ClusterEntry>,
    database: DatabaseName,
    credential: Credential,
}

/// The connections of one tenant with one access.
pub(crate) struct TenantPool {
    pub(crate) key: PoolKey,
    pub(crate) cluster: ClusterId,
    pub(crate) pool: Pool,
    pub(crate) tls: Tls,
    /// What makes a connection as good as new.
    pub(crate) reset: String,
    /// Connections that were given back and are not idle yet.
    pub(crate) returning: Arc<Returning>,
    return_patience: Duration,
    /// Callers for whom the role may open no connection.
    queue: Queue,
    identity: Identity,
    schema_version: AtomicI64,
    /// Most connections.
    size: AtomicUsize,
    /// Milliseconds since the pools began.
    used_at: AtomicU64,
}

impl TenantPool {
    /// Takes a connection: an idle one, or one that is about to be, or a new one, or the next that is given back.
    /// Callers are served in order. Where the role may open no more, one is waited for until `full_until`.
    pub(crate) async fn get(&self, full_until: tokio::time::Instant) -> Result<Object, PoolError> {
        if self.queue.is_empty() {
            self.returning.wait_for_one(&self.pool, self.return_patience).await;
            match self.pool.get().await {
                Err(error) if is_full(&error) => {}
                outcome => return outcome,
            }
        }
        self.queue.wait(&self.pool, &self.returning, full_until).await
    }

    fn serves(&self, target: &RouteTarget, generation: Generation, cluster: &Arc<ClusterEntry>) -> bool {
        self.identity.generation == generation
            && (Arc::ptr_eq(&self.identity.cluster, cluster) || self.identity.cluster.is_same_place(cluster))
            && self.identity.database == target.database
            && self.identity.credential == *self.key.access.credential(target)
    }
}

/// All pools that are in use. Tenants that nobody asks for have none.
pub(crate) struct Pools {
    by_key: HashMap<PoolKey, Arc<TenantPool>>,
    /// Held while a pool is made, replaced or taken out; never across an await.
    changing: Mutex<()>,
    began: Instant,
    config: Arc<RouterConfig>,
}

impl Pools {
    pub(crate) fn new(config: Arc<RouterConfig>) -> Self {
        Self { by_key: HashMap::new(), changing: Mutex::new(()), began: Instant::now(), config }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The pool that serves a route as it is now, if there is one.
    pub(crate) fn find(
        &self,
        key: PoolKey,
        route: &Route,
        target: &RouteTarget,
        cluster: &Arc<ClusterEntry>,
    ) -> Option<Arc<TenantPool>> {
        let pools = self.by_key.pin();
        let pool = pools.get(&key)?;
        if !pool.serves(target, route.generation, cluster) || pool.pool.is_closed() {
            return None;
        }
        pool.used_at.store(self.now_ms(), Ordering::Relaxed);
        self.follow(pool, route);
        Some(Arc::clone(pool))
    }

    /// Takes over what may change while connections stay: the pool's size, and the schema that statements were
    /// prepared against.
    fn follow(&self, pool: &TenantPool, route: &Route) {
        let schema_version = route.schema_version.0;
        if pool.schema_version.swap(schema_version, Ordering::Relaxed) != schema_version {
            // "cached plan must not change result type" is what a kept statement would meet after a migration.
            pool.pool.manager().statement_caches.clear();
        }
        let size = self.config.size_of(&route.limits, pool.key.access);
        if pool.size.swap(size, Ordering::Relaxed) != size {
            pool.pool.resize(size);
        }
    }

    /// The pool that serves a route as it is now; an older one of the same tenant is retired.
    pub(crate) fn make(
        &self,
        key: PoolKey,
        route: &Route,
        target: &RouteTarget,
        cluster: &Arc<ClusterEntry>,
        tls: &Tls,
    ) -> Result<Arc<TenantPool>, RouterError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have been first.
        if let Some(pool) = self.find(key, route, target, cluster) {
            return Ok(pool);
        }
        let pool = Arc::new(self.build(key, route, target, cluster, tls)?);
        if let Some(old) = self.by_key.pin().insert(key, Arc::clone(&pool)) {
            old.pool.close();
        }
        Ok(pool)
    }

    fn build(
        &self,
        key: PoolKey,
        route: &Route,
        target: &RouteTarget,
        cluster: &Arc<ClusterEntry>,
        tls: &Tls,
    ) -> Result<TenantPool, RouterError> {
        let credential = key.access.credential(target);
        let password = credential.password.as_ref().ok_or_else(|| RouterError::Refused {
            reason: "the feed bears no passwords; give the router a token with the scope `routes:secrets`".to_owned(),
            source: None,
        })?;
        let mut config = config_for(&cluster.endpoint, tls, self.config.connect_timeout);
        config.user(credential.role.as_str()).password(password.expose()).dbname(target.database.as_str());
        let attach = attach_statement(route.tenant, route.generation);
        let reset = reset_statements(&attach);
        let connect = TenantConnect { tls: tls.clone(), attach };
        // Connections are cleaned when they are given back, so taking one costs no round trip.
        let size = self.config.size_of(&route.limits, key.access);
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_connect(config, connect, manager_config))
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.config.wait_timeout))
            .create_timeout(Some(self.config.connect_timeout))
            .build()
            .map_err(|source| RouterError::refused("a pool cannot be made", source))?;
        Ok(TenantPool {
            key,
            cluster: target.cluster,
            pool,
            tls: tls.clone(),
            reset,
            returning: Arc::default(),
            return_patience: self.config.return_patience,
            queue: Queue::new(),
            identity: Identity {
                generation: route.generation,
                cluster: Arc::clone(cluster),
                database: target.database.clone(),
                credential: credential.clone(),
            },
            schema_version: AtomicI64::new(route.schema_version.0),
            size: AtomicUsize::new(size),
            used_at: AtomicU64::new(self.now_ms()),
        })
    }

    /// Retires a tenant's pools that `keep` does not want: idle connections end now, borrowed ones when they are given
    /// back.
    pub(crate) fn retire(&self, tenant: TenantId, keep: impl Fn(&TenantPool) -> bool) {
        let pools = self.by_key.pin();
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let key = PoolKey { tenant, access };
            // Most tenants have none, and a snapshot names them all.
            if pools.get(&key).is_none_or(|pool| keep(pool)) {
                continue;
            }
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(Some((_, pool))) = pools.remove_if(&key, |_, pool| !keep(pool)) {
                pool.pool.close();
            }
        }
    }

    /// Retires the pools that a changed route no longer matches.
    pub(crate) fn follow_route(&self, route: &Route, cluster: Option<&Arc<ClusterEntry>>) {
        self.retire(route.tenant, |pool| match (&route.target, cluster) {
            (Some(target), Some(cluster)) if route.state == tenantry_domain::RouteState::Active => {
                pool.serves(target, route.generation, cluster)
            }
            _ => false,
        });
    }

    /// Ends connections that were idle or open for too long, and takes out pools that have none.
    pub(crate) fn evict(&self) {
        let idle_ms = u64::try_from(self.config.idle_timeout.as_millis()).unwrap_or(u64::MAX);
        for pool in self.all() {
            pool.pool.retain(|_, metrics| {
                metrics.last_used() < self.config.idle_timeout && metrics.age() < self.config.connection_lifetime
            });
            let is_unused = |pool: &Arc<TenantPool>| {
                let status = pool.pool.status();
                let used_at = pool.used_at.load(Ordering::Relaxed);
                status.size == 0 && status.waiting == 0 && self.now_ms().saturating_sub(used_at) >= idle_ms
            };
            if is_unused(&pool) {
                let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
                let pools = self.by_key.pin();
                let taken = pools.remove_if(&pool.key, |_, found| Arc::ptr_eq(found, &pool) && is_unused(found));
                if let Ok(Some((_, pool))) = taken {
                    // Whoever found it a moment ago looks again.
                    pool.pool.close();
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
            pool.pool.close();
        }
        self.by_key.pin().clear();
    }
}

/// What a failed checkout means for the caller; `None` where the pool was retired and another is to be found.
pub(crate) fn checkout_error(tenant: TenantId, error: PoolError) -> Option<RouterError> {
    match error {
        PoolError::Closed => None,
        PoolError::Timeout(TimeoutType::Wait) => Some(RouterError::Timeout { tenant, phase: Phase::Wait }),
        PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => {
            Some(RouterError::Timeout { tenant, phase: Phase::Connect })
        }
        PoolError::Backend(source) => Some(connect_error(tenant, source)),
        error @ (PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
            Some(RouterError::refused("a pool is set up wrongly", error))
        }
    }
}

/// A refusal of the login, the database or the stamp means that the tenant is no longer there as the route says; all
/// else that the cluster cannot take the connection now.
fn connect_error(tenant: TenantId, source: tokio_postgres::Error) -> RouterError {
    let is_stale = source.code().is_some_and(|code| {
        [FOREIGN_PLACEMENT, CLOSED_PLACEMENT].contains(&code.code())
            || [
                &SqlState::INVALID_PASSWORD,
                &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                &SqlState::INVALID_CATALOG_NAME,
                &SqlState::INSUFFICIENT_PRIVILEGE,
            ]
            .contains(&code)
    });
    if is_stale {
        RouterError::Stale { tenant, source }
    } else {
        RouterError::Unavailable { tenant, retry_after: UNAVAILABLE_RETRY, source: Some(Box::new(source)) }
    }
}
