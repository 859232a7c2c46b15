//! Where clusters are, and their replicas.

use std::collections::HashSet;
use std::sync::Arc;

use papaya::HashMap;
use tenantry_api::FeedCluster;
use tenantry_api::feed::{ConnectionLease, FeedReplica};
use tenantry_domain::{ClusterId, ClusterReplicaId, FeedVersion, InvalidName};

use super::servers::{ReplicaEntry, ServerEntry};
use crate::breaker::Breaker;
use crate::budget::Budget;
use crate::sync::{AtomicUsize, Ordering};

/// Where a cluster is.
pub(crate) struct ClusterEntry {
    pub(crate) version: FeedVersion,
    pub(crate) primary: Arc<ServerEntry>,
    pub(crate) replicas: Vec<Arc<ReplicaEntry>>,
    /// The replicas as the feed named them.
    named_replicas: Vec<FeedReplica>,
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
    /// What the control plane leased last.
    leases: HashMap<ClusterId, u32>,
    /// Connections to each server, where the control plane leases none.
    connections_max: usize,
}

impl Clusters {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self { by_id: HashMap::new(), leases: HashMap::new(), connections_max }
    }

    fn new_budget(&self) -> Arc<Budget> {
        let budget = Arc::new(Budget::default());
        budget.set_ceiling(Some(self.connections_max));
        budget
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
            );
            replicas.push(Arc::new(ReplicaEntry::new(replica.id, replica.lag_max_ms, server, known)));
        }
        let entry =
            ClusterEntry { version: cluster.version, primary, replicas, named_replicas, turn: AtomicUsize::new(0) };
        let change = match known {
            Some(known) if !known.is_same_place(&entry) => ClusterChange::Moved,
            Some(_) | None => ClusterChange::None,
        };
        clusters.insert(cluster.cluster, Arc::new(entry));
        Ok(change)
    }

    /// What is known already where that is the same place, with all that was learnt of it; else the new one. Connections
    /// to the old place count until they are closed.
    fn server(&self, new: ServerEntry, known: Option<&Arc<ServerEntry>>) -> Arc<ServerEntry> {
        match known {
            Some(known) if known.is_same_place(&new) => Arc::clone(known),
            Some(known) => Arc::new(new.with_budget(Arc::clone(&known.budget))),
            None => Arc::new(new.with_budget(self.new_budget())),
        }
    }

    /// Ends a snapshot: what it did not name is gone, unless it came after it.
    pub(crate) fn keep_only(&self, named: &HashSet<ClusterId>, version: FeedVersion) {
        self.by_id.pin().retain(|cluster, entry| named.contains(cluster) || entry.version > version);
        self.leases.pin().retain(|cluster, _| self.by_id.pin().contains_key(cluster));
    }

    /// Takes over what the control plane leases of a cluster's connections.
    pub(crate) fn lease(&self, lease: ConnectionLease) {
        if let Some(cluster) = self.get(lease.cluster) {
            cluster.primary.budget.set_ceiling(Some(lease.connections as usize));
            self.leases.pin().insert(lease.cluster, lease.connections);
        }
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
        };
        self.by_id.pin().iter().map(of).collect()
    }

    /// What is leased of them.
    pub(crate) fn leases(&self) -> Vec<ConnectionLease> {
        let of = |(cluster, connections): (&ClusterId, &u32)| ConnectionLease {
            cluster: *cluster,
            connections: *connections,
        };
        self.leases.pin().iter().map(of).collect()
    }

    pub(crate) fn get(&self, cluster: ClusterId) -> Option<Arc<ClusterEntry>> {
        self.by_id.pin().get(&cluster).map(Arc::clone)
    }
}
