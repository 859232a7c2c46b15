//! Where clusters are.

use std::collections::HashSet;
use std::sync::Arc;

use papaya::HashMap;
use tenantry_api::FeedCluster;
use tenantry_api::feed::ConnectionLease;
use tenantry_domain::{ClusterId, Endpoint, FeedVersion, InvalidName, TlsMode};
use tokio::sync::OnceCell;

use crate::breaker::Breaker;
use crate::budget::Budget;
use crate::connector::Tls;

/// Where a cluster is.
pub(crate) struct ClusterEntry {
    pub(crate) version: FeedVersion,
    pub(crate) endpoint: Endpoint,
    pub(crate) tls_mode: TlsMode,
    pub(crate) tls_ca: Option<String>,
    /// Set up by the first who connects.
    pub(crate) tls: OnceCell<Tls>,
    /// Whether it answers.
    pub(crate) breaker: Breaker,
    /// The connections that this router may have to it.
    pub(crate) budget: Arc<Budget>,
}

impl ClusterEntry {
    /// Whether connections to the one are connections to the other.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        (&self.endpoint, self.tls_mode, &self.tls_ca) == (&other.endpoint, other.tls_mode, &other.tls_ca)
    }
}

/// What a cluster's change asks of its pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterChange {
    /// Nothing: it is where it was.
    None,
    /// It is elsewhere now.
    Moved,
}

/// All clusters, by id. They are asked for when a pool is made, not on each checkout.
pub(crate) struct Clusters {
    by_id: HashMap<ClusterId, Arc<ClusterEntry>>,
    /// Connections to each, where the control plane leases none.
    connections_max: usize,
}

impl Clusters {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self { by_id: HashMap::new(), connections_max }
    }

    fn new_budget(&self) -> Arc<Budget> {
        let budget = Arc::new(Budget::default());
        budget.set_ceiling(Some(self.connections_max));
        budget
    }

    /// Takes a cluster over, unless what is known is newer.
    pub(crate) fn apply(&self, cluster: FeedCluster) -> Result<ClusterChange, InvalidName> {
        let clusters = self.by_id.pin();
        let known = clusters.get(&cluster.cluster);
        if known.is_some_and(|known| cluster.version <= known.version) {
            return Ok(ClusterChange::None);
        }
        let mut entry = ClusterEntry {
            version: cluster.version,
            endpoint: cluster.endpoint()?,
            tls_mode: cluster.tls_mode,
            tls_ca: cluster.tls_ca,
            tls: OnceCell::new(),
            breaker: Breaker::default(),
            budget: known.map_or_else(|| self.new_budget(), |known| Arc::clone(&known.budget)),
        };
        let change = match known {
            Some(known) if known.is_same_place(&entry) => {
                entry.tls = OnceCell::new_with(known.tls.get().cloned());
                ClusterChange::None
            }
            Some(_) => ClusterChange::Moved,
            None => ClusterChange::None,
        };
        clusters.insert(cluster.cluster, Arc::new(entry));
        Ok(change)
    }

    /// Ends a snapshot: what it did not name is gone, unless it came after it.
    pub(crate) fn keep_only(&self, named: &HashSet<ClusterId>, version: FeedVersion) {
        self.by_id.pin().retain(|cluster, entry| named.contains(cluster) || entry.version > version);
    }

    /// Takes over what the control plane leases of a cluster's connections.
    pub(crate) fn lease(&self, lease: ConnectionLease) {
        if let Some(cluster) = self.get(lease.cluster) {
            cluster.budget.set_ceiling(Some(lease.connections as usize));
        }
    }

    pub(crate) fn get(&self, cluster: ClusterId) -> Option<Arc<ClusterEntry>> {
        self.by_id.pin().get(&cluster).map(Arc::clone)
    }
}
