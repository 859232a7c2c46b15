//! What every use-case and every worker hangs on.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tenantry_domain::{MigrationSetId, ProviderKind};
use tenantry_fleet::Fleet;
use tenantry_migration_set::MigrationSet;
use tenantry_store::{Store, WEBHOOKS_WAKE};
use uuid::Uuid;

use crate::config::ControlConfig;
use crate::error::ControlError;
use crate::provider::{ClusterProvider, RegisteredProvider};
use crate::reconcilers;
use crate::routers::reports::Reports;
use crate::signals::Signals;
use crate::token_use::TokenUse;

/// One replica of the control plane. Cheap to clone; all clones are the same replica.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

impl fmt::Debug for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Control").field("replica", &self.inner.config.replica).finish_non_exhaustive()
    }
}

struct Inner {
    store: Store,
    fleet: Fleet,
    config: ControlConfig,
    providers: Vec<Arc<dyn ClusterProvider>>,
    signals: Signals,
    token_use: TokenUse,
    reports: Reports,
    keep_off: Option<String>,
    /// The set that was used last: nearly all work at one time uses one set.
    last_set: ArcSwapOption<MigrationSet>,
    /// Whoever makes a reference for schemas has it.
    reference_turn: tokio::sync::Mutex<()>,
}

impl Control {
    /// Assembles a replica over a migrated catalog. When a tenant needs a whole cluster, registered dedicated ones come
    /// first, then what the given `providers` can start.
    pub async fn new(
        store: Store,
        fleet: Fleet,
        config: ControlConfig,
        providers: Vec<Arc<dyn ClusterProvider>>,
    ) -> Result<Self, ControlError> {
        store.adopt_master_keys().await?;
        store.report_replica(config.replica).await?;
        let catalog_server = store.system_identifier().await?;
        let keep_off = (!config.place_on_catalog_server).then_some(catalog_server);
        let registered: Arc<dyn ClusterProvider> = Arc::new(RegisteredProvider::new(store.clone(), keep_off.clone()));
        let providers = std::iter::once(registered).chain(providers).collect();
        let inner = Inner {
            store,
            fleet,
            config,
            providers,
            signals: Signals::new(reconcilers::names().chain([WEBHOOKS_WAKE])),
            token_use: TokenUse::default(),
            reports: Reports::default(),
            keep_off,
            last_set: ArcSwapOption::empty(),
            reference_turn: tokio::sync::Mutex::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The news of this replica.
    pub fn signals(&self) -> &Signals {
        &self.inner.signals
    }

    /// Whether the catalog answers and its schema is current; says why not otherwise.
    pub async fn ready(&self) -> Result<(), ControlError> {
        self.inner.store.ping().await?;
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        &self.inner.fleet
    }

    pub(crate) fn config(&self) -> &ControlConfig {
        &self.inner.config
    }

    pub(crate) fn provider(&self, kind: ProviderKind) -> Option<&Arc<dyn ClusterProvider>> {
        self.inner.providers.iter().find(|provider| provider.kind() == kind)
    }

    /// The providers that start clusters, in the order in which they are asked.
    pub(crate) fn starters(&self) -> Vec<Arc<dyn ClusterProvider>> {
        self.inner.providers.iter().filter(|provider| provider.starts_clusters()).cloned().collect()
    }

    pub(crate) fn token_use(&self) -> &TokenUse {
        &self.inner.token_use
    }

    pub(crate) fn reports(&self) -> &Reports {
        &self.inner.reports
    }

    pub(crate) fn cached_set(&self, id: &MigrationSetId) -> Option<Arc<MigrationSet>> {
        self.inner.last_set.load_full().filter(|set| set.id() == id)
    }

    pub(crate) fn cache_set(&self, set: Arc<MigrationSet>) {
        self.inner.last_set.store(Some(set));
    }

    /// A turn at making a reference for schemas: one at a time, so that those who need the same one find it made.
    pub(crate) async fn reference_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.reference_turn.lock().await
    }

    /// The system identifier of the server that holds the catalog, where tenants are to be kept off that.
    pub(crate) fn keep_off(&self) -> Option<&str> {
        self.inner.keep_off.as_deref()
    }
}

/// A new identifier: UUID version 7, ordered by time, never reused.
pub(crate) fn new_id() -> Uuid {
    Uuid::now_v7()
}
