//! Checking out a connection for reading, from a replica where one will do.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenantry_domain::TenantId;
use tokio_postgres::error::SqlState;
use tracing::Instrument;

use crate::connect::ConnectError;
use crate::error::{Phase, RouterError};
use crate::inner::Inner;
use crate::limits::RequestLimit;
use crate::pool::PoolKey;
use crate::pool::connection::Connection;
use crate::replica::{ReadFrom, ReplicaFault, Verdict};
use crate::spans;
use crate::table::{ClusterEntry, Found, ReplicaEntry};
use crate::tenant::Access;
use crate::versions::SchemaVersions;

/// A connection may have ended while it was idle; the next one is new.
const CONNECTIONS_MAX: usize = 2;

/// What one caller wants to read.
#[derive(Clone, Copy)]
struct Reading<'a> {
    read_from: ReadFrom,
    found: &'a Found,
    versions: SchemaVersions,
}

/// Why one replica gave no connection.
enum Refusal {
    /// Another may.
    Replica(ReplicaFault),
    /// All of its connections are in use, or the tenant's to it; one may be given back.
    Busy(RouterError),
    /// No other would.
    Tenant(RouterError),
}

impl Inner {
    /// A connection that is there, to a replica of which nothing is out of the ordinary.
    pub(crate) fn read_now(&self, read_from: ReadFrom, found: &Found, versions: SchemaVersions) -> Option<Connection> {
        let cluster = self.cluster(found)?;
        let replicas = cluster.replicas_in_turn();
        let now = Instant::now();
        let mut chosen = None;
        for replica in &replicas {
            match verdict(replica, read_from.bound(replica)?, now) {
                Verdict::Good => chosen = chosen.or(Some(replica)),
                // What is to be asked first has its turn too.
                Verdict::Unknown if chosen.is_none() => return None,
                Verdict::Bad(_) if is_due(replica, now) => return None,
                Verdict::Unknown | Verdict::Bad(_) => {}
            }
        }
        let replica = chosen?;
        let connection = self.checkout_now(key(found.tenant, Some(replica)), found, versions)?;
        cluster.pass_turn();
        self.meters.reads.replica.increment(1);
        Some(connection)
    }

    /// A connection to a replica, and if none will do what the caller wants instead.
    pub(crate) async fn read(
        self: &Arc<Self>,
        read_from: ReadFrom,
        found: &Found,
        versions: SchemaVersions,
    ) -> Result<Connection, RouterError> {
        let (began, span) = (Instant::now(), spans::checkout(found, Access::ReadOnly));
        let outcome = self.read_unmeasured(Reading { read_from, found, versions }).instrument(span.clone()).await;
        self.measure(began, &span, outcome)
    }

    async fn read_unmeasured(self: &Arc<Self>, reading: Reading<'_>) -> Result<Connection, RouterError> {
        let tenant = reading.found.tenant;
        // Whether the tenant can be served at all is said in the usual words.
        let found = self.reachable(reading.found).await?;
        reading.versions.check(&found)?;
        let cluster = self.cluster(&found);
        let replicas = cluster.as_ref().map_or_else(Vec::new, |cluster| cluster.replicas_in_turn());
        let refusal = match Box::pin(self.from_any(reading, &replicas)).await {
            Ok(connection) => {
                cluster.inspect(|cluster| cluster.pass_turn());
                self.meters.reads.replica.increment(1);
                return Ok(connection);
            }
            Err(refusal) => refusal,
        };
        let error = match refusal {
            Refusal::Tenant(error) => return Err(error),
            Refusal::Busy(error) => error,
            Refusal::Replica(fault) => RouterError::NoReplica { tenant, fault },
        };
        if matches!(reading.read_from, ReadFrom::Replica { .. }) {
            self.meters.reads.refused.increment(1);
            return Err(error);
        }
        self.meters.reads.primary.increment(1);
        Box::pin(self.checkout_unmeasured(key(tenant, None), reading.found, reading.versions, self.patience())).await
    }

    /// A connection to the first that has one now; where none has, the first that will do is waited for.
    async fn from_any(
        self: &Arc<Self>,
        reading: Reading<'_>,
        replicas: &[Arc<ReplicaEntry>],
    ) -> Result<Connection, Refusal> {
        let patience = match reading.read_from {
            ReadFrom::PreferReplica { .. } => self.config.replica_patience.min(self.config.wait_timeout),
            ReadFrom::Primary | ReadFrom::Replica { .. } => self.config.wait_timeout,
        };
        let now = tokio::time::Instant::now();
        let until = now + patience;
        let (mut fault, mut busy) = (ReplicaFault::Missing, None);
        for replica in replicas {
            self.try_again(reading, replica);
        }
        for replica in replicas {
            match self.from_replica(reading, replica, now).await {
                Err(Refusal::Replica(this)) => fault = fault.max(this),
                Err(Refusal::Busy(_)) => busy = busy.or(Some(replica)),
                decided => return decided,
            }
        }
        match busy {
            Some(replica) => self.from_replica(reading, replica, until).await,
            None => Err(Refusal::Replica(fault)),
        }
    }

    /// A connection to this one; where all are in use one is waited for until then.
    async fn from_replica(
        self: &Arc<Self>,
        reading: Reading<'_>,
        replica: &Arc<ReplicaEntry>,
        until: tokio::time::Instant,
    ) -> Result<Connection, Refusal> {
        let bound = reading.read_from.bound(replica).ok_or(Refusal::Replica(ReplicaFault::Missing))?;
        let key = key(reading.found.tenant, Some(replica));
        if let Verdict::Bad(fault) = verdict(replica, bound, Instant::now()) {
            return Err(Refusal::Replica(fault));
        }
        let pool = || self.table.again(reading.found).and_then(|found| self.pools.find(key, &found));
        if pool().is_some_and(|pool| pool.stays_away()) {
            return Err(Refusal::Replica(ReplicaFault::NotThereYet));
        }
        for _ in 0..CONNECTIONS_MAX {
            let checkout = self.checkout_unmeasured(key, reading.found, reading.versions, until);
            let connection = match checkout.await.map_err(Refusal::of) {
                Ok(connection) => connection,
                Err(refusal) => {
                    if let Refusal::Replica(ReplicaFault::NotThereYet) = refusal {
                        pool().inspect(|pool| pool.stay_away());
                    }
                    return Err(refusal);
                }
            };
            if verdict(replica, bound, Instant::now()) == Verdict::Good {
                return Ok(connection);
            }
            match self.look(replica, &connection, bound).await {
                Some(Ok(())) => return Ok(connection),
                Some(Err(fault)) => return Err(Refusal::Replica(fault)),
                None => {}
            }
        }
        Err(Refusal::Replica(ReplicaFault::Unreachable))
    }

    /// Looks whether a replica will do; `None` where the connection has ended, which says nothing of the replica.
    async fn look(
        &self,
        replica: &ReplicaEntry,
        connection: &Connection,
        bound: Duration,
    ) -> Option<Result<(), ReplicaFault>> {
        let looking = replica.sight.look(connection, bound);
        match tokio::time::timeout(self.config.replica_time_limit(), looking).await {
            Ok(Ok(outcome)) => {
                replica.server.answers();
                Some(outcome)
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, replica = %replica.id, "a replica could not be looked at");
                None
            }
            Err(_) => {
                replica.server.silent();
                Some(Err(ReplicaFault::Unreachable))
            }
        }
    }

    /// Looks, off the callers' path, whether a replica that would not do will do again, where it is time for that.
    fn try_again(self: &Arc<Self>, reading: Reading<'_>, replica: &Arc<ReplicaEntry>) {
        let Some(bound) = reading.read_from.bound(replica) else { return };
        let now = Instant::now();
        let is_bad = matches!(verdict(replica, bound, now), Verdict::Bad(_));
        if !is_bad || !is_due(replica, now) || !replica.sight.claim(now) {
            return;
        }
        let (inner, replica) = (Arc::clone(self), Arc::clone(replica));
        let (found, versions) = (*reading.found, reading.versions);
        self.pools.runtime.spawn(async move {
            let key = key(found.tenant, Some(&replica));
            let outcome = match inner.checkout_unmeasured(key, &found, versions, inner.patience()).await {
                Ok(connection) => inner.look(&replica, &connection, bound).await,
                Err(error) => {
                    tracing::debug!(%error, replica = %replica.id, "a replica cannot be used yet");
                    None
                }
            };
            if let Some(Ok(())) = outcome {
                tracing::info!(replica = %replica.id, "a replica can be read from again");
            }
        });
    }

    fn cluster(&self, found: &Found) -> Option<Arc<ClusterEntry>> {
        self.table.clusters.get(self.table.cluster_of(found)?)
    }
}

impl Refusal {
    /// What the replica is to blame for.
    fn of(error: RouterError) -> Self {
        match error {
            RouterError::Timeout { phase: Phase::Wait | Phase::Budget | Phase::Shared, .. }
            | RouterError::LimitExceeded { limit: RequestLimit::Openings, .. } => Self::Busy(error),
            RouterError::Unavailable { source: Some(ref source), .. } if is_without_room(&**source) => {
                Self::Busy(error)
            }
            RouterError::Unavailable { .. } | RouterError::Timeout { phase: Phase::Connect, .. } => {
                Self::Replica(ReplicaFault::Unreachable)
            }
            RouterError::Stale { .. } => Self::Replica(ReplicaFault::NotThereYet),
            error => Self::Tenant(error),
        }
    }
}

/// Whether a server, or what the tenant's role may have there, is full.
fn is_without_room(source: &(dyn Error + 'static)) -> bool {
    let error = source.downcast_ref::<ConnectError>();
    error.and_then(ConnectError::sqlstate) == Some(&SqlState::TOO_MANY_CONNECTIONS)
}

/// Whether a replica will do, as far as is known. One that does not answer is left alone.
fn verdict(replica: &ReplicaEntry, bound: Duration, now: Instant) -> Verdict {
    match replica.server.breaker.trial_due(now) {
        Some(_) => Verdict::Bad(ReplicaFault::Unreachable),
        None => replica.sight.verdict(bound, now),
    }
}

/// Whether it is time to try a replica again that would not do.
fn is_due(replica: &ReplicaEntry, now: Instant) -> bool {
    replica.server.breaker.trial_due(now).unwrap_or(true) && replica.sight.is_due(now)
}

fn key(tenant: TenantId, replica: Option<&Arc<ReplicaEntry>>) -> PoolKey {
    PoolKey { tenant, access: Access::ReadOnly, replica: replica.map(|replica| replica.id) }
}
