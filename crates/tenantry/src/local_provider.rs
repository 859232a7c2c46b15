//! The cluster provider of kind `local`: private PostgreSQL clusters on this machine, children of this program.
//!
//! `dev` and `demo` offer it, nobody else: its clusters end with the program, which no production would want.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::{StreamExt, TryStreamExt, stream};
use tenantry_control::ControlError;
use tenantry_control::placement::Wish;
use tenantry_control::provider::{AcquiredCluster, ClusterProvider, ClusterRequest, StartedCluster};
use tenantry_domain::{ClusterId, ClusterName, DatabaseName, Endpoint, ProviderKind, Region, Secret, TlsMode};
use tenantry_pglocal::{Cluster, ClusterBuilder, Error, Listen};

/// Most clusters at the same time. Each is a server of its own: some 40 MB of memory and a dozen processes.
pub(crate) const CLUSTERS_MAX: usize = 8;
/// Clusters of an earlier run that are started at the same time.
const RESUMED_AT_ONCE: usize = 4;
/// How soon a failed start is worth trying again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What a server for one tenant gets: modest, because several share a machine with everything else on it.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "32MB"),
    ("max_connections", "100"),
    ("max_wal_size", "256MB"),
    ("min_wal_size", "32MB"),
    ("max_worker_processes", "8"),
    ("max_wal_senders", "8"),
    ("max_replication_slots", "8"),
    ("max_logical_replication_workers", "4"),
];

/// A cluster, or the place of one that is being started or taken down. Holding the lock is the right to do either.
type Slot = Arc<tokio::sync::Mutex<Option<Cluster>>>;

/// Where the clusters' files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClustersPlace {
    /// In this folder, one directory each, named by the cluster's id; they survive the program. Durable.
    Folder(PathBuf),
    /// Wherever temporary clusters go, and gone with the program. Fast, and forgetful in a power cut.
    Temporary,
}

/// Starts a private cluster for every tenant that needs a whole one.
#[derive(Debug)]
pub(crate) struct LocalProvider {
    place: ClustersPlace,
    region: Region,
    slots: Mutex<HashMap<ClusterId, Slot>>,
}

/// A cluster of an earlier run.
#[derive(Debug)]
pub(crate) struct Resumed {
    /// Its id.
    pub(crate) cluster: ClusterId,
    /// Where it listens now, or why it could not be started.
    pub(crate) outcome: Result<Endpoint, ControlError>,
}

impl LocalProvider {
    /// A provider for one region, the one that this machine stands for.
    pub(crate) fn new(place: ClustersPlace, region: Region) -> Self {
        Self { place, region, slots: Mutex::default() }
    }

    /// Starts every cluster that an earlier run left in the folder. Call it before anything is served: routes lead to
    /// these clusters.
    pub(crate) async fn resume(&self) -> io::Result<Vec<Resumed>> {
        let found = match &self.place {
            ClustersPlace::Folder(folder) => clusters_in(folder).await?,
            ClustersPlace::Temporary => Vec::new(),
        };
        let started = stream::iter(found).map(|cluster| async move {
            let outcome = self.ensure_started(cluster).await.map(|started| started.endpoint);
            Ok(Resumed { cluster, outcome })
        });
        started.buffer_unordered(RESUMED_AT_ONCE).try_collect().await
    }

    /// Stops every cluster in good order; the files of those in a folder stay.
    pub(crate) async fn stop(&self) {
        let slots: Vec<Slot> = self.slots().drain().map(|(_, slot)| slot).collect();
        let stopped = slots.into_iter().map(|slot| async move {
            let Some(cluster) = slot.lock().await.take() else { return };
            if let Err(error) = cluster.stop().await {
                tracing::warn!(%error, "a private cluster did not stop in good order");
            }
        });
        join_all(stopped).await;
    }

    /// The cluster of this id: the one that runs, else one that is started now.
    async fn ensure_started(&self, id: ClusterId) -> Result<StartedCluster, ControlError> {
        let slot = self.reserve(id)?;
        let mut running = slot.lock().await;
        match &mut *running {
            Some(cluster) => {
                if !cluster.is_running() {
                    cluster.restart().await.map_err(unavailable)?;
                }
                describe(id, cluster, &self.region)
            }
            place => {
                let cluster = self.builder(id).start().await.map_err(unavailable)?;
                describe(id, place.insert(cluster), &self.region)
            }
        }
    }

    /// The cluster's place among the bounded number of them.
    fn reserve(&self, id: ClusterId) -> Result<Slot, ControlError> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&id) {
            return Ok(Arc::clone(slot));
        }
        forget_failed(&mut slots);
        if slots.len() >= CLUSTERS_MAX {
            return Err(ControlError::NoCapacity { reason: full() });
        }
        Ok(Arc::clone(slots.entry(id).or_default()))
    }

    fn builder(&self, id: ClusterId) -> ClusterBuilder {
        let builder = match &self.place {
            ClustersPlace::Folder(folder) => Cluster::at(directory_of(folder, id)),
            ClustersPlace::Temporary => Cluster::temporary(),
        };
        builder.listen(Listen::AnyPort).settings(SETTINGS.iter().copied())
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ClusterId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterProvider for LocalProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Local
    }

    fn starts_clusters(&self) -> bool {
        true
    }

    fn offers<'a>(&'a self, wish: &'a Wish) -> BoxFuture<'a, Result<Result<(), String>, ControlError>> {
        Box::pin(async move {
            if !wish.regions.contains(&self.region) {
                return Ok(Err(format!("private clusters are started in region `{}` only", self.region)));
            }
            if wish.pin.is_some() {
                return Ok(Err("a private cluster is started anew; leave the cluster unnamed to get one".to_owned()));
            }
            let mut slots = self.slots();
            forget_failed(&mut slots);
            Ok(if slots.len() < CLUSTERS_MAX { Ok(()) } else { Err(full()) })
        })
    }

    fn acquire<'a>(&'a self, request: &'a ClusterRequest) -> BoxFuture<'a, Result<AcquiredCluster, ControlError>> {
        Box::pin(async move {
            let started = self.ensure_started(request.cluster).await?;
            Ok(AcquiredCluster::Started(Box::new(started)))
        })
    }

    fn release(&self, cluster: ClusterId) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            let slot = self.slots().get(&cluster).cloned();
            if let Some(slot) = slot
                && let Some(running) = slot.lock().await.take()
            {
                running.stop().await.map_err(unavailable)?;
            }
            if let ClustersPlace::Folder(folder) = &self.place {
                remove(&directory_of(folder, cluster)).await?;
            }
            self.slots().remove(&cluster);
            Ok(())
        })
    }
}

/// Forgets places whose start failed or was given up, so that they count no longer. One that somebody holds is busy.
fn forget_failed(slots: &mut HashMap<ClusterId, Slot>) {
    slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|running| running.is_some()));
}

fn full() -> String {
    format!(
        "this program runs {CLUSTERS_MAX} private clusters at most, and has as many; delete a tenant of isolation \
         `cluster` or choose another isolation"
    )
}

fn directory_of(folder: &Path, id: ClusterId) -> PathBuf {
    folder.join(id.to_string())
}

/// The clusters whose directories are in the folder; anything else in it is passed over.
async fn clusters_in(folder: &Path) -> io::Result<Vec<ClusterId>> {
    let mut entries = match tokio::fs::read_dir(folder).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push(id);
        }
    }
    Ok(found)
}

fn describe(id: ClusterId, cluster: &Cluster, region: &Region) -> Result<StartedCluster, ControlError> {
    // The end of an id of version 7 is random; the beginning is the time, alike for clusters made together.
    let digits = id.simple();
    let (_, random) = digits.split_at(digits.len() - 12);
    Ok(StartedCluster {
        name: ClusterName::parse(&format!("local-{random}"))?,
        region: region.clone(),
        endpoint: Endpoint::new(cluster.host(), cluster.port())?,
        tls_mode: TlsMode::Disable,
        admin_user: cluster.user().to_owned(),
        admin_password: Secret::new(cluster.password().to_owned()),
        admin_database: DatabaseName::parse("postgres")?,
    })
}

async fn remove(directory: &Path) -> Result<(), ControlError> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ControlError::Unavailable {
            reason: format!("the directory {} cannot be removed", directory.display()),
            retry_after: RETRY_AFTER,
            source: Some(Box::new(error)),
        }),
        _ => Ok(()),
    }
}

fn unavailable(error: Error) -> ControlError {
    ControlError::Unavailable {
        reason: format!("a private cluster cannot be started or stopped: {error}"),
        retry_after: RETRY_AFTER,
        source: Some(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::{Isolation, TenantId};
    use uuid::Uuid;

    use super::*;

    fn region() -> Region {
        Region::parse("local").expect("a region")
    }

    fn request() -> ClusterRequest {
        let (cluster, tenant) = (ClusterId::new(Uuid::now_v7()), TenantId::new(Uuid::now_v7()));
        ClusterRequest { cluster, tenant, wish: wish() }
    }

    fn wish() -> Wish {
        Wish {
            regions: vec![region()],
            isolation: Isolation::Cluster,
            connections: None,
            pin: None,
            apart: None,
            near: None,
        }
    }

    async fn start(provider: &LocalProvider, request: &ClusterRequest) -> StartedCluster {
        match provider.acquire(request).await.expect("a cluster") {
            AcquiredCluster::Started(started) => *started,
            AcquiredCluster::Claimed(id) => panic!("{id} was claimed"),
        }
    }

    #[tokio::test]
    async fn asking_twice_yields_one_cluster_and_releasing_twice_leaves_none() {
        let provider = LocalProvider::new(ClustersPlace::Temporary, region());
        let request = request();
        let (first, second) = tokio::join!(start(&provider, &request), start(&provider, &request));
        assert_eq!((&first.endpoint, &first.name), (&second.endpoint, &second.name));
        assert!(first.endpoint.is_local());
        provider.release(request.cluster).await.expect("released");
        provider.release(request.cluster).await.expect("released again");
        assert!(provider.slots().is_empty());
    }

    #[tokio::test]
    async fn a_cluster_in_a_folder_is_resumed_by_the_next_run_and_removed_on_release() {
        let folder = tempfile::tempdir().expect("a folder");
        // The server's user must be able to pass when the tests run as root.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(folder.path(), open).expect("passable");
        let place = ClustersPlace::Folder(folder.path().join("clusters"));
        std::fs::create_dir(folder.path().join("clusters")).expect("a folder");
        let request = request();

        let earlier = LocalProvider::new(place.clone(), region());
        let before = start(&earlier, &request).await;
        earlier.stop().await;

        let provider = LocalProvider::new(place, region());
        let resumed = provider.resume().await.expect("resumed");
        assert_eq!(resumed.iter().map(|resumed| resumed.cluster).collect::<Vec<_>>(), [request.cluster]);
        let after = start(&provider, &request).await;
        assert_eq!(resumed[0].outcome.as_ref().ok(), Some(&after.endpoint));
        assert_eq!(before.admin_password, after.admin_password);
        provider.release(request.cluster).await.expect("released");
        assert_eq!(std::fs::read_dir(folder.path().join("clusters")).expect("readable").count(), 0);
    }

    #[tokio::test]
    async fn what_it_cannot_serve_is_refused_with_the_reason() {
        let provider = LocalProvider::new(ClustersPlace::Temporary, region());
        assert_eq!(provider.offers(&wish()).await.expect("an answer"), Ok(()));
        let elsewhere = Wish { regions: vec![Region::parse("mars").expect("a region")], ..wish() };
        let refusal = provider.offers(&elsewhere).await.expect("an answer").expect_err("refused");
        assert!(refusal.contains("`local`"), "{refusal}");
        let pinned = Wish { pin: Some(ClusterId::new(Uuid::now_v7())), ..wish() };
        assert!(provider.offers(&pinned).await.expect("an answer").is_err());

        // As if they ran: a place that is in use counts, whether its cluster is up or still starting.
        let busy: Vec<Slot> =
            (0..CLUSTERS_MAX).map(|_| provider.reserve(ClusterId::new(Uuid::now_v7())).expect("a place")).collect();
        let refusal = provider.offers(&wish()).await.expect("an answer").expect_err("full");
        assert!(refusal.contains("8 private clusters"), "{refusal}");
        assert!(matches!(provider.acquire(&request()).await, Err(ControlError::NoCapacity { .. })));
        drop(busy);
        assert_eq!(provider.offers(&wish()).await.expect("an answer"), Ok(()));
    }
}
