//! The fleet: admin connections kept per cluster, and the limit on `CREATE DATABASE`.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenantry_domain::{ClusterId, DatabaseName, Endpoint, HomeId, Secret, TlsMode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::FleetConfig;
use crate::error::FleetError;
use crate::migrate::shared::{SharedMigrator, SharedMigrators};
use crate::session::{Login, Session};
use crate::target::ClusterTarget;
use crate::tls::Tls;

/// All work on clusters goes through here. Clones share connections.
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    config: FleetConfig,
    clusters: Mutex<HashMap<ClusterId, Arc<Cluster>>>,
}

/// What is kept per cluster; nothing runs for it.
struct Cluster {
    idle: Mutex<Vec<Idle>>,
    creations: Mutex<(u32, Arc<Semaphore>)>,
    tls: Mutex<Option<(TlsKey, Tls)>>,
    migrators: Mutex<SharedMigrators>,
}

struct Idle {
    session: Session,
    door: Door,
    since: Instant,
}

/// How a server is reached.
pub(crate) type TlsKey = (Endpoint, TlsMode, Option<String>);

/// A connection may be used again only where it would be opened again.
#[derive(Clone, PartialEq, Eq)]
struct Door {
    tls: TlsKey,
    user: String,
    password: Secret,
    database: DatabaseName,
}

impl Fleet {
    /// Opens nothing yet.
    pub fn new(config: FleetConfig) -> Self {
        Self { shared: Arc::new(Shared { config, clusters: Mutex::new(HashMap::new()) }) }
    }

    /// Closes what is kept for a cluster, for example because it is about to stop.
    pub fn forget(&self, cluster: ClusterId) {
        locked(&self.shared.clusters).remove(&cluster);
    }

    pub(crate) fn config(&self) -> &FleetConfig {
        &self.shared.config
    }

    /// An admin session on the admin database, kept afterwards.
    pub(crate) async fn admin(&self, target: &ClusterTarget) -> Result<Admin, FleetError> {
        self.kept(target, &target.admin_database).await
    }

    /// An admin session on a database that many homes share, kept afterwards.
    pub(crate) async fn kept(&self, target: &ClusterTarget, database: &DatabaseName) -> Result<Admin, FleetError> {
        let cluster = self.cluster(target.id);
        let tls_key = (target.endpoint.clone(), target.tls_mode, target.tls_ca.clone());
        let door = Door {
            tls: tls_key,
            user: target.user.clone(),
            password: target.password.clone(),
            database: database.clone(),
        };
        let session = match cluster.take(&door, self.config().idle_timeout) {
            Some(session) => session,
            None => self.once(target, database, None).await?,
        };
        Ok(Admin { session: Some(session), cluster, door, keep: self.config().idle_connections })
    }

    /// An admin session on any database, closed afterwards.
    pub(crate) async fn once(
        &self,
        target: &ClusterTarget,
        database: &DatabaseName,
        home: Option<HomeId>,
    ) -> Result<Session, FleetError> {
        let config = self.config();
        let tls = self.tls(target)?;
        let login = Login {
            endpoint: &target.endpoint,
            tls: &tls,
            user: &target.user,
            password: &target.password,
            database: database.as_str(),
            application_name: self.application_name(home),
            connect_timeout: config.connect_timeout,
            statement_timeout: config.statement_timeout,
            lock_timeout: config.lock_timeout,
            idle_timeout: None,
        };
        Session::open(login).await
    }

    /// `tenantry/<home>` or `tenantry/control`: ids only, because every role of the cluster may read it.
    pub(crate) fn application_name(&self, home: Option<HomeId>) -> String {
        let prefix = &self.config().application_name_prefix;
        home.map_or_else(|| format!("{prefix}/control"), |home| format!("{prefix}/{home}"))
    }

    pub(crate) fn tls(&self, target: &ClusterTarget) -> Result<Tls, FleetError> {
        let cluster = self.cluster(target.id);
        let key = (target.endpoint.clone(), target.tls_mode, target.tls_ca.clone());
        let mut built = locked(&cluster.tls);
        if let Some((known, tls)) = built.as_ref()
            && *known == key
        {
            return Ok(tls.clone());
        }
        let tls = Tls::build(&target.endpoint, target.tls_mode, target.tls_ca.as_deref())?;
        *built = Some((key, tls.clone()));
        Ok(tls)
    }

    /// A turn at `CREATE DATABASE`: more than a few at once on one server slow each other down.
    pub(crate) async fn creation(&self, target: &ClusterTarget) -> Result<OwnedSemaphorePermit, FleetError> {
        let wanted = target.concurrent_creations.max(1);
        let turns = {
            let cluster = self.cluster(target.id);
            let mut creations = locked(&cluster.creations);
            if creations.0 != wanted {
                *creations = (wanted, Arc::new(Semaphore::new(wanted as usize)));
            }
            creations.1.clone()
        };
        let waiting = tokio::time::timeout(self.config().statement_timeout, turns.acquire_owned());
        match waiting.await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(FleetError::busy("too many databases are being created on the cluster")),
        }
    }

    /// What is kept for migrating the homes of a shared database.
    pub(crate) fn shared_migrator(&self, target: &ClusterTarget, database: &DatabaseName) -> Arc<SharedMigrator> {
        let key = (target.endpoint.clone(), target.tls_mode, target.tls_ca.clone());
        let cluster = self.cluster(target.id);
        let mut migrators = locked(&cluster.migrators);
        match migrators.get(database) {
            Some((known, migrator)) if *known == key => Arc::clone(migrator),
            Some(_) | None => {
                let fresh = Arc::<SharedMigrator>::default();
                migrators.insert(database.clone(), (key, Arc::clone(&fresh)));
                fresh
            }
        }
    }

    fn cluster(&self, id: ClusterId) -> Arc<Cluster> {
        let fresh = || {
            Arc::new(Cluster {
                idle: Mutex::new(Vec::new()),
                creations: Mutex::new((1, Arc::new(Semaphore::new(1)))),
                tls: Mutex::new(None),
                migrators: Mutex::default(),
            })
        };
        locked(&self.shared.clusters).entry(id).or_insert_with(fresh).clone()
    }
}

impl Cluster {
    /// The most recently used connection behind a door; those that idled too long are closed on the way.
    fn take(&self, door: &Door, idle_timeout: Duration) -> Option<Session> {
        let mut idle = locked(&self.idle);
        idle.retain(|kept| kept.since.elapsed() < idle_timeout && kept.session.is_reusable());
        let at = idle.iter().rposition(|kept| kept.door == *door)?;
        Some(idle.remove(at).session)
    }

    fn give_back(&self, session: Session, door: Door, keep: usize) {
        let mut idle = locked(&self.idle);
        idle.push(Idle { session, door, since: Instant::now() });
        if idle.len() > keep {
            idle.remove(0);
        }
    }
}

/// Nothing panics while it holds one of these locks, so a poisoned one is as good as any.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An admin session that goes back to its cluster when dropped, unless something went wrong on it.
pub(crate) struct Admin {
    session: Option<Session>,
    cluster: Arc<Cluster>,
    door: Door,
    keep: usize,
}

impl Deref for Admin {
    type Target = Session;

    fn deref(&self) -> &Session {
        match &self.session {
            Some(session) => session,
            None => unreachable!("the session is taken in drop only"),
        }
    }
}

impl DerefMut for Admin {
    fn deref_mut(&mut self) -> &mut Session {
        match &mut self.session {
            Some(session) => session,
            None => unreachable!("the session is taken in drop only"),
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && session.is_reusable()
        {
            self.cluster.give_back(session, self.door.clone(), self.keep);
        }
    }
}

/// An admin session inside a home's database.
pub(crate) enum Inside {
    /// In a database that homes share; kept.
    Shared(Admin),
    /// In the home's own database; closed afterwards, because nobody may keep its drop waiting.
    Own(Session),
}

impl Deref for Inside {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            Self::Shared(admin) => admin,
            Self::Own(session) => session,
        }
    }
}

impl DerefMut for Inside {
    fn deref_mut(&mut self) -> &mut Session {
        match self {
            Self::Shared(admin) => admin,
            Self::Own(session) => session,
        }
    }
}
