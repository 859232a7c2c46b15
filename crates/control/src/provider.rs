//! Where clusters of a tenant's own come from.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::BoxFuture;
use tenantry_domain::{
    ClusterId, ClusterName, DatabaseName, Endpoint, ProviderKind, Region, Secret, TenantId, TlsMode,
};
use tenantry_store::Store;

use crate::candidates::candidates;
use crate::error::ControlError;
use crate::placement::{self, Wish};

/// A wish for a whole PostgreSQL server.
#[derive(Debug, Clone)]
pub struct ClusterRequest {
    /// The id that a cluster made for this request gets. Asking twice with the same id yields the same cluster.
    pub cluster: ClusterId,
    /// Who it is for.
    pub tenant: TenantId,
    /// Where the data may be, and whatever else was asked for.
    pub wish: Wish,
}

/// A server that a provider started.
#[derive(Debug, Clone)]
pub struct StartedCluster {
    /// Its name in the catalog.
    pub name: ClusterName,
    /// Where its data is.
    pub region: Region,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections to it are protected.
    pub tls_mode: TlsMode,
    /// The role that Tenantry manages it with.
    pub admin_user: String,
    /// That role's password.
    pub admin_password: Secret,
    /// The database that it logs in to.
    pub admin_database: DatabaseName,
}

/// What a request led to.
#[derive(Debug, Clone)]
pub enum AcquiredCluster {
    /// A registered cluster, now claimed for the tenant.
    Claimed(ClusterId),
    /// A new server, not in the catalog yet.
    Started(Box<StartedCluster>),
}

/// Brings whole clusters into being for tenants of isolation `cluster`, and takes them back.
///
/// Both calls are repeated after crashes and lost replies: doing them twice leaves what doing them once leaves.
pub trait ClusterProvider: Debug + Send + Sync {
    /// What it is called in the catalog.
    fn kind(&self) -> ProviderKind;

    /// Whether it makes the clusters that it yields, and so takes them down again. One that does not hands out what is
    /// registered.
    fn starts_clusters(&self) -> bool;

    /// Whether it could serve the wish now; says why not otherwise.
    fn offers<'a>(&'a self, wish: &'a Wish) -> BoxFuture<'a, Result<Result<(), String>, ControlError>>;

    /// Yields a cluster for the tenant alone.
    fn acquire<'a>(&'a self, request: &'a ClusterRequest) -> BoxFuture<'a, Result<AcquiredCluster, ControlError>>;

    /// Takes a started cluster down with all that is on it; content where it knows of none. A claimed one is only let go,
    /// by the catalog.
    fn release(&self, cluster: ClusterId) -> BoxFuture<'_, Result<(), ControlError>>;
}

/// Claims servers that an operator registered as dedicated and that no tenant has.
#[derive(Debug)]
pub(crate) struct RegisteredProvider {
    store: Store,
    /// The server that holds the catalog, unless tenants may live there.
    keep_off: Option<String>,
}

impl RegisteredProvider {
    /// A provider over the catalog's own list, but for the server of the given system identifier.
    pub(crate) fn new(store: Store, keep_off: Option<String>) -> Self {
        Self { store, keep_off }
    }
}

impl ClusterProvider for RegisteredProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Registered
    }

    fn starts_clusters(&self) -> bool {
        false
    }

    fn offers<'a>(&'a self, wish: &'a Wish) -> BoxFuture<'a, Result<Result<(), String>, ControlError>> {
        Box::pin(async move {
            let tx = self.store.begin().await?;
            let decision =
                placement::choose(wish, &candidates(&tx, self.keep_off.as_deref(), wish.apart.as_ref()).await?);
            tx.commit().await?;
            Ok(if decision.chosen.is_some() { Ok(()) } else { Err(decision.explain()) })
        })
    }

    fn acquire<'a>(&'a self, request: &'a ClusterRequest) -> BoxFuture<'a, Result<AcquiredCluster, ControlError>> {
        Box::pin(async move {
            let tx = self.store.begin().await?;
            let candidates = candidates(&tx, self.keep_off.as_deref(), request.wish.apart.as_ref()).await?;
            let ours = candidates.iter().find(|it| it.cluster.claimed_by == Some(request.tenant));
            let cluster = if let Some(ours) = ours {
                ours.cluster.id
            } else {
                let decision = placement::choose(&request.wish, &candidates);
                let Some(chosen) = decision.chosen else {
                    return Err(ControlError::NoCapacity { reason: decision.explain() });
                };
                if !tx.claim_cluster(chosen, request.tenant).await? {
                    return Err(ControlError::Unavailable {
                        reason: "another tenant claimed the cluster first".to_owned(),
                        retry_after: Duration::from_millis(100),
                        source: None,
                    });
                }
                chosen
            };
            tx.commit().await?;
            Ok(AcquiredCluster::Claimed(cluster))
        })
    }

    fn release(&self, _cluster: ClusterId) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async { Ok(()) })
    }
}
