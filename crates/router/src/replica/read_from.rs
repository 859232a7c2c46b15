//! Where a reader reads.

use std::fmt;
use std::time::Duration;

use crate::table::ReplicaEntry;

/// Where a handle that only reads gets its connections: from the tenant's cluster, or from a physical standby of it.
///
/// A replica is used only while it follows, and is no further behind than its own `lag_max_ms` and the caller's
/// `lag_max`; the smaller one counts. How far a replica is behind is asked when a connection to it is opened, and again
/// about every second while it is in use, when a connection comes back. The time since the last look counts as lag, so the
/// bound holds when a connection is handed out, whatever happened meanwhile; a caller whose bound ended since waits for
/// one question to the replica. From then on a connection is not watched: keep it no longer than the bound allows. Of
/// several replicas the one with the fewest connections in use is taken, and of equals each in turn; one that has no
/// connection free now is passed over as long as another has.
///
/// A replica that does not answer, follows no more or is too far behind is found out by one caller, for one look; it is
/// then tried again off the callers' path, and nobody waits for it.
///
/// **A replica does not know what was just written.** Who must read its own writes reads from the primary, at least for
/// the time of the bound. A schema, too, may be as old as the bound: [`Tenant::within`](crate::Tenant::within) compares
/// with that of the primary.
///
/// What counts as up to date: the last transaction that was replayed is younger than the bound, by the clocks of both
/// servers; or all that was received is replayed, the connection to the primary stands, and nothing comes in, which is how
/// a standby of an idle primary looks. So a network between the two that fell silent is noticed only after the
/// standby's `wal_receiver_timeout`, and one long transaction that is alone on its server makes a replica look behind.
/// On a replica PostgreSQL refuses writes (SQLSTATE 25006), and may cancel a query that stands in the way of the replay
/// (40001): see its `max_standby_streaming_delay`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ReadFrom {
    /// From the cluster itself: what was committed is there.
    #[default]
    Primary,
    /// From a replica or not at all: [`RouterError::NoReplica`](crate::RouterError::NoReplica) where none will do, so
    /// that reports never burden the primary. Where all connections to replicas are in use one is waited for as for the
    /// primary's, up to [`RouterConfig::wait_timeout`](crate::RouterConfig::wait_timeout).
    Replica {
        /// How far it may be behind; as far as the replica's own bound unless given.
        lag_max: Option<Duration>,
    },
    /// From a replica, and where none will do from the primary. Where all connections to replicas are in use, of the tenant
    /// or of this router, one is waited for only as long as
    /// [`RouterConfig::replica_patience`](crate::RouterConfig::replica_patience): what is too much for the replicas falls
    /// on the primary, within the limits that hold there.
    PreferReplica {
        /// How far it may be behind; as far as the replica's own bound unless given.
        lag_max: Option<Duration>,
    },
}

impl ReadFrom {
    /// How far a replica may be behind; `None` where none is asked.
    pub(crate) fn bound(self, replica: &ReplicaEntry) -> Option<Duration> {
        match self {
            Self::Primary => None,
            Self::Replica { lag_max } | Self::PreferReplica { lag_max } => {
                Some(lag_max.map_or(replica.lag_max, |lag_max| lag_max.min(replica.lag_max)))
            }
        }
    }
}

/// Why a replica cannot be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaFault {
    /// There is none.
    Missing,
    /// It does not answer, or takes no connections.
    Unreachable,
    /// It follows no server: it was promoted, or never was a standby.
    NotStandby,
    /// It has not replayed yet that the tenant lives there, or that its roles are what they are.
    NotThereYet,
    /// It is further behind than it may be, or cannot tell how far.
    TooFarBehind,
}

impl fmt::Display for ReplicaFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "its cluster has none; add one with `tenantry cluster replica add`",
            Self::Unreachable => "none answers",
            Self::NotStandby => "none follows its cluster any more",
            Self::NotThereYet => "none has replayed the tenant's placement yet",
            Self::TooFarBehind => "each is further behind than it may be",
        })
    }
}
