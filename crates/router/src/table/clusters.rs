//! Where clusters are, and their replicas.

use std::collections::HashSet;
use std::sync::Arc;

use papaya::HashMap;
use tenantry_api::FeedCluster;
use tenantry_api::feed::{ConnectionLease, FeedReplica};
use tenantry_domain::{ClusterId, ClusterReplicaId, FeedVersion, InvalidName, LeaseSerial};
use tokio::sync::Notify;

use super::servers::{ReplicaEntry, ServerEntry};
use crate::budget::Budget;
use crate::connect::Breaker;
use crate::sync::{AtomicUsize, Ordering};

/// Where a cluster is.
pub(crate) struct ClusterEntry {
    pub(crate) version: FeedVersion,
    pub(crate) primary: Arc<ServerEntry>,
    pub(crate) replicas: Vec<Arc<ReplicaEntry>>,
    /// The replicas as the feed named them.
    named_replicas: Vec<FeedReplica>,
    /// Most connections before any are leased; absent where none are.
    unleased_connections: Option<u32>,
    /// Whose turn it is among replicas that are alike.
    turn: AtomicUsize,
}

impl ClusterEntry {
    /// Its primary, or one of its replicas; `None` where that is gone.
    pub(crate) fn server(&self, replica: Option<ClusterReplicaId>) -> Option<&Arc<ServerEntry>> {
        match replica {
            None => Some(&self.primary),
            Some(id) => self.replicas.iter().find(|replica| replica.id == id).map(|replica| &replica.server),
        }
    }

    /// Its replicas, those with the fewest connections in use first, and of equals the one whose turn it is.
    pub(crate) fn replicas_in_turn(&self) -> Vec<Arc<ReplicaEntry>> {
        let mut replicas = self.replicas.clone();
        if !replicas.is_empty() {
            let turn = self.turn.load(Ordering::Relaxed) % replicas.len();
            replicas.rotate_left(turn);
            replicas.sort_by_cached_key(|replica| replica.sight.in_use());
        }
        replicas
    }

    /// Once a replica was used it is another's turn.
    pub(crate) fn pass_turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether connections to the one, and to its replicas, are connections to the other and its replicas.
    fn is_same_place(&self, other: &Self) -> bool {
        let keeps = |replica: &Arc<ReplicaEntry>| {
            other.server(Some(replica.id)).is_some_and(|server| Arc::ptr_eq(server, &replica.server))
        };
        Arc::ptr_eq(&self.primary, &other.primary) && self.replicas.iter().all(keeps)
    }
}

/// What a cluster's change asks of its pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterChange {
    /// Nothing: it and its replicas are where they were.
    None,
    /// It or one of its replicas is elsewhere now, or gone.
    Moved,
}

/// All clusters, by id. They are asked for when a pool is made and when a replica is chosen, not on each checkout.
pub(crate) struct Clusters {
    by_id: HashMap<ClusterId, Arc<ClusterEntry>>,
    /// What the control plane leased last. The cluster itself may become known after that.
    leases: HashMap<ClusterId, ConnectionLease>,
    /// Most connections to each server, whatever is leased.
    connections_max: u32,
    /// Rung where the control plane would want to know: somebody waits for a connection, or a lease is kept to.
    pub(crate) alarm: Arc<Notify>,
}

impl Clusters {
    pub(crate) fn new(connections_max: u32) -> Self {
        Self { by_id: HashMap::new(), leases: HashMap::new(), connections_max, alarm: Arc::default() }
    }

    /// Of a replica nothing is leased.
    fn new_budget(&self, is_primary: bool) -> Arc<Budget> {
        let budget = Arc::new(if is_primary { Budget::with_alarm(Arc::clone(&self.alarm)) } else { Budget::default() });
        budget.set_ceiling(Some(self.connections_max as usize));
        budget
    }

    /// Holds connections to a cluster's primary to what is leased of them, or to what may be held without a lease.
    fn set_ceiling(&self, cluster: ClusterId, entry: &ClusterEntry) {
        let leased = self.leases.pin().get(&cluster).and_then(|lease| lease.connections);
        let ceiling = leased.or(entry.unleased_connections).unwrap_or(self.connections_max).min(self.connections_max);
        entry.primary.budget.set_ceiling(Some(ceiling as usize));
    }

    /// Takes a cluster over, unless what is known is newer. A replica without a valid endpoint is left out.
    pub(crate) fn apply(&self, cluster: FeedCluster) -> Result<ClusterChange, InvalidName> {
        let clusters = self.by_id.pin();
        let known = clusters.get(&cluster.cluster);
        if known.is_some_and(|known| cluster.version <= known.version) {
            return Ok(ClusterChange::None);
        }
        let primary = self.server(
            ServerEntry::new(cluster.endpoint()?, cluster.tls_mode, cluster.tls_ca, Breaker::patient()),
            known.map(|known| &known.primary),
            true,
        );
        let named_replicas = cluster.replicas.clone();
        let mut replicas = Vec::with_capacity(cluster.replicas.len());
        for replica in cluster.replicas {
            let endpoint = match replica.endpoint() {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    tracing::error!(cluster = %cluster.cluster, replica = %replica.id, %error, "a replica of the feed cannot be used");
                    continue;
                }
            };
            let known = known.and_then(|known| known.replicas.iter().find(|known| known.id == replica.id));
            let server = self.server(
                ServerEntry::new(endpoint, replica.tls_mode, replica.tls_ca, Breaker::impatient()),
                known.map(|known| &known.server),
                false,
            );
            replicas.push(Arc::new(ReplicaEntry::new(replica.id, replica.lag_max_ms, server, known)));
        }
        let entry = ClusterEntry {
            version: cluster.version,
            primary,
            replicas,
            named_replicas,
            unleased_connections: cluster.unleased_connections,
            turn: AtomicUsize::new(0),
        };
        self.set_ceiling(cluster.cluster, &entry);
        let change = match known {
            Some(known) if !known.is_same_place(&entry) => ClusterChange::Moved,
            Some(_) | None => ClusterChange::None,
        };
        clusters.insert(cluster.cluster, Arc::new(entry));
        Ok(change)
    }

    /// What is known already where that is the same place, with all that was learnt of it; else the new one. Connections
    /// to the old place count until they are closed.
    fn server(&self, new: ServerEntry, known: Option<&Arc<ServerEntry>>, is_primary: bool) -> Arc<ServerEntry> {
        match known {
            Some(known) if known.is_same_place(&new) => Arc::clone(known),
            Some(known) => Arc::new(new.with_budget(Arc::clone(&known.budget))),
            None => Arc::new(new.with_budget(self.new_budget(is_primary))),
        }
    }

    /// Ends a snapshot: what it did not name is gone, unless it came after it.
    pub(crate) fn keep_only(&self, named: &HashSet<ClusterId>, version: FeedVersion) {
        self.by_id.pin().retain(|cluster, entry| named.contains(cluster) || entry.version > version);
        self.leases.pin().retain(|cluster, _| self.by_id.pin().contains_key(cluster));
    }

    /// Takes over what the control plane leases of a cluster's connections.
    pub(crate) fn lease(&self, lease: ConnectionLease) {
        self.leases.pin().insert(lease.cluster, lease);
        if let Some(entry) = self.get(lease.cluster) {
            self.set_ceiling(lease.cluster, &entry);
        }
        self.alarm.notify_one();
    }

    /// The lease that the router keeps to: absent where there is none, or more is open than it allows.
    pub(crate) fn kept_lease(&self, cluster: ClusterId) -> Option<LeaseSerial> {
        let lease = *self.leases.pin().get(&cluster)?;
        let is_kept = self.get(cluster).is_none_or(|entry| !entry.primary.budget.is_above());
        is_kept.then_some(lease.serial)
    }

    /// All of them, as the feed said them.
    pub(crate) fn all(&self) -> Vec<FeedCluster> {
        let of = |(cluster, entry): (&ClusterId, &Arc<ClusterEntry>)| FeedCluster {
            version: entry.version,
            cluster: *cluster,
            host: entry.primary.endpoint.host().to_owned(),
            port: entry.primary.endpoint.port(),
            tls_mode: entry.primary.tls_mode,
            tls_ca: entry.primary.tls_ca.clone(),
            replicas: entry.named_replicas.clone(),
            unleased_connections: entry.unleased_connections,
        };
        self.by_id.pin().iter().map(of).collect()
    }

    /// The budgets of those that were used.
    pub(crate) fn budgets(&self) -> Vec<(ClusterId, Arc<Budget>)> {
        let clusters = self.by_id.pin();
        let budgets = clusters.iter().map(|(id, entry)| (*id, Arc::clone(&entry.primary.budget)));
        budgets.filter(|(_, budget)| budget.was_used()).collect()
    }

    /// What is leased of them.
    pub(crate) fn leases(&self) -> Vec<ConnectionLease> {
        self.leases.pin().values().copied().collect()
    }

    pub(crate) fn get(&self, cluster: ClusterId) -> Option<Arc<ClusterEntry>> {
        self.by_id.pin().get(&cluster).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::TlsMode;
    use uuid::Uuid;

    use super::*;

    const CLUSTER: ClusterId = ClusterId::new(Uuid::from_u128(7));

    fn cluster(version: i64, unleased_connections: Option<u32>) -> FeedCluster {
        FeedCluster {
            version: FeedVersion(version),
            cluster: CLUSTER,
            host: "db.example.com".to_owned(),
            port: 5432,
            tls_mode: TlsMode::VerifyFull,
            tls_ca: None,
            replicas: Vec::new(),
            unleased_connections,
        }
    }

    fn lease(connections: Option<u32>, serial: i64) -> ConnectionLease {
        ConnectionLease { cluster: CLUSTER, connections, serial: LeaseSerial(serial) }
    }

    fn ceiling(clusters: &Clusters) -> Option<usize> {
        clusters.get(CLUSTER).and_then(|entry| entry.primary.budget.ceiling())
    }

    #[test]
    fn a_lease_is_the_ceiling_but_never_above_the_routers_own() {
        let clusters = Clusters::new(20);
        clusters.apply(cluster(1, None)).expect("an endpoint");
        assert_eq!(ceiling(&clusters), Some(20), "nothing is leased");
        clusters.apply(cluster(2, Some(4))).expect("an endpoint");
        assert_eq!(ceiling(&clusters), Some(4), "nothing is leased yet");
        for (connections, expected) in [(Some(12), 12), (Some(0), 0), (Some(50), 20), (None, 4)] {
            clusters.lease(lease(connections, 5));
            assert_eq!(ceiling(&clusters), Some(expected), "{connections:?}");
        }
        clusters.lease(lease(Some(9), 6));
        clusters.apply(cluster(3, Some(4))).expect("an endpoint");
        assert_eq!(ceiling(&clusters), Some(9), "another change of the cluster leaves it");
    }

    #[test]
    fn a_lease_may_come_before_its_cluster_and_is_acknowledged_once_it_is_kept_to() {
        let clusters = Clusters::new(20);
        assert_eq!(clusters.kept_lease(CLUSTER), None);
        clusters.lease(lease(Some(2), 8));
        clusters.apply(cluster(1, Some(4))).expect("an endpoint");
        assert_eq!(ceiling(&clusters), Some(2));
        let budget = Arc::clone(&clusters.get(CLUSTER).expect("known").primary.budget);
        let share = budget.join(5);
        let permits = [share.permit().expect("one"), share.permit().expect("another")];
        assert!(share.permit().is_none());
        assert_eq!(clusters.kept_lease(CLUSTER), Some(LeaseSerial(8)));
        clusters.lease(lease(Some(1), 9));
        assert_eq!(clusters.kept_lease(CLUSTER), None, "two are open");
        drop(permits);
        assert_eq!(clusters.kept_lease(CLUSTER), Some(LeaseSerial(9)));
    }
}
