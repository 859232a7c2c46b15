//! The servers that connections go to: a cluster's primary, and each of its replicas.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenantry_domain::{ClusterReplicaId, Endpoint, LagMax, TlsMode};
use tokio::sync::OnceCell;

use crate::budget::Budget;
use crate::connect::{Breaker, Tls};
use crate::replica::Sight;

/// One server.
pub(crate) struct ServerEntry {
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

impl ServerEntry {
    pub(super) fn new(endpoint: Endpoint, tls_mode: TlsMode, tls_ca: Option<String>, breaker: Breaker) -> Self {
        Self { endpoint, tls_mode, tls_ca, tls: OnceCell::new(), breaker, budget: Arc::default() }
    }

    pub(super) fn with_budget(self, budget: Arc<Budget>) -> Self {
        Self { budget, ..self }
    }

    /// It did not answer on a connection that was open.
    pub(crate) fn silent(&self) {
        let now = Instant::now();
        if let Ok(attempt) = self.breaker.ask(now) {
            attempt.failed(now, "it did not answer on a connection that was open");
        }
    }

    /// It answered on a connection that was open.
    pub(crate) fn answers(&self) {
        if let Ok(attempt) = self.breaker.ask(Instant::now()) {
            attempt.answered();
        }
    }

    /// Whether connections to the one are connections to the other.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        (&self.endpoint, self.tls_mode, &self.tls_ca) == (&other.endpoint, other.tls_mode, &other.tls_ca)
    }
}

/// A physical standby.
pub(crate) struct ReplicaEntry {
    pub(crate) id: ClusterReplicaId,
    /// How far it may be behind, whoever asks.
    pub(crate) lag_max: Duration,
    pub(crate) server: Arc<ServerEntry>,
    /// What is known of it.
    pub(crate) sight: Arc<Sight>,
}

impl ReplicaEntry {
    /// With what is known of it, where that is the same place.
    pub(super) fn new(
        id: ClusterReplicaId,
        lag_max: LagMax,
        server: Arc<ServerEntry>,
        known: Option<&Arc<Self>>,
    ) -> Self {
        let known = known.filter(|known| Arc::ptr_eq(&known.server, &server));
        let sight = known.map_or_else(Arc::default, |known| Arc::clone(&known.sight));
        Self { id, lag_max: Duration::from_millis(lag_max.as_ms().into()), server, sight }
    }
}
