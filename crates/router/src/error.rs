//! Why a tenant cannot be served, by what the caller can do about it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tenantry_domain::{SchemaVersion, TenantId};

use crate::limits::RequestLimit;
use crate::replica::ReplicaFault;
use crate::versions::SchemaVersions;

type Source = Box<dyn Error + Send + Sync>;

/// What a caller was waiting for when the time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// For one of the tenant's connections to be given back.
    Wait,
    /// For one of the connections that this router may have to the tenant's cluster, or a replica, over all tenants.
    Budget,
    /// For one of the connections that the tenants of its database share.
    Shared,
    /// For a new connection: reaching the server, TLS, logging in, and the check of the placement.
    Connect,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Wait => "all its connections are in use; give them back sooner or raise its pool size",
            Self::Budget => "all connections that this router may have to its cluster are in use by others",
            Self::Shared => {
                "all connections that the tenants of its database share are in use; give them back sooner or raise `shared_pool_size`"
            }
            Self::Connect => "a new connection took too long",
        })
    }
}

/// Why a tenant cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// No tenant has this id, slug or host.
    #[error("there is no tenant `{name}`")]
    Unknown {
        /// What was asked for, cut to 80 characters.
        name: String,
    },
    /// Its home is being made.
    #[error("tenant {tenant} is being provisioned; try again in {} s", retry_after.as_secs())]
    Provisioning {
        /// Who.
        tenant: TenantId,
        /// When to try again.
        retry_after: Duration,
    },
    /// It is shut out on purpose.
    #[error("tenant {tenant} is suspended")]
    Suspended {
        /// Who.
        tenant: TenantId,
    },
    /// It is between two homes for longer than callers are held.
    #[error("tenant {tenant} is moving; try again in {} s", retry_after.as_secs())]
    Moving {
        /// Who.
        tenant: TenantId,
        /// When to try again.
        retry_after: Duration,
    },
    /// Its home refuses this router: the route has changed, and the change has not arrived yet.
    #[error("the home of tenant {tenant} refuses this route, which is out of date; try again")]
    Stale {
        /// Who.
        tenant: TenantId,
        /// What PostgreSQL said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Its schema is none that the caller can work with.
    #[error("the schema of tenant {tenant} is at version {version}; this program works with {wanted}")]
    SchemaVersion {
        /// Who.
        tenant: TenantId,
        /// What it has.
        version: SchemaVersion,
        /// What the caller asked for.
        wanted: SchemaVersions,
        /// When to try again, where the schema is behind; absent where it is ahead, which it stays.
        retry_after: Option<Duration>,
    },
    /// Its cluster cannot be reached or takes no more connections.
    #[error("the cluster of tenant {tenant} is not available; try again in {} s", retry_after.as_secs())]
    Unavailable {
        /// Who.
        tenant: TenantId,
        /// When to try again.
        retry_after: Duration,
        /// What happened.
        #[source]
        source: Option<Source>,
    },
    /// It is to be read from a replica of its cluster or not at all, and none will do.
    #[error("no replica of the cluster of tenant {tenant} can be read from: {fault}")]
    NoReplica {
        /// Who.
        tenant: TenantId,
        /// What is wrong with them; of several, with the one that comes closest.
        fault: ReplicaFault,
    },
    /// It has more requests, or needs more connections at once, than its limits allow.
    #[error("tenant {tenant} is past its limit `{limit}`; try again in {} s", whole_seconds(*retry_after))]
    LimitExceeded {
        /// Who.
        tenant: TenantId,
        /// Which limit.
        limit: RequestLimit,
        /// When there is room again; where that depends on other requests, when it is worth another try.
        retry_after: Duration,
    },
    /// A wait is over.
    #[error("no connection for tenant {tenant}: {phase}")]
    Timeout {
        /// Who.
        tenant: TenantId,
        /// What was waited for.
        phase: Phase,
    },
    /// The router is set up in a way that cannot work.
    #[error("{reason}")]
    Refused {
        /// What is wrong and what to do.
        reason: String,
        /// What happened, if anything did.
        #[source]
        source: Option<Source>,
    },
    /// The routes are older than [`RouterConfig::staleness_max`](crate::RouterConfig::staleness_max) allows.
    #[error("the control plane was not heard for {} s, so the routes are too old to be used; try again", age.as_secs())]
    TooStale {
        /// Since the control plane last said something.
        age: Duration,
    },
    /// The first snapshot of routes did not arrive in time.
    #[error("no routes from the control plane; check its address and the token, which needs `routes:secrets`")]
    NotStarted {
        /// The last failure.
        #[source]
        source: Option<Source>,
    },
    /// The router was closed.
    #[error("the router is closed")]
    Closed,
}

impl RouterError {
    pub(crate) fn unknown(name: impl fmt::Display) -> Self {
        Self::Unknown { name: name.to_string().chars().take(80).collect() }
    }

    pub(crate) fn refused(reason: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Refused { reason: reason.into(), source: Some(Box::new(source)) }
    }

    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Provisioning { .. }
            | Self::Moving { .. }
            | Self::Stale { .. }
            | Self::Unavailable { .. }
            | Self::LimitExceeded { .. }
            | Self::Timeout { .. }
            | Self::TooStale { .. }
            | Self::NotStarted { .. } => true,
            Self::SchemaVersion { retry_after, .. } => retry_after.is_some(),
            Self::NoReplica { fault, .. } => *fault != ReplicaFault::Missing,
            Self::Unknown { .. } | Self::Suspended { .. } | Self::Refused { .. } | Self::Closed => false,
        }
    }

    /// When to try again, for errors that are worth it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Provisioning { retry_after, .. }
            | Self::Moving { retry_after, .. }
            | Self::Unavailable { retry_after, .. }
            | Self::LimitExceeded { retry_after, .. } => Some(*retry_after),
            Self::Stale { .. } | Self::Timeout { .. } | Self::TooStale { .. } | Self::NotStarted { .. } => {
                Some(Duration::from_secs(1))
            }
            Self::SchemaVersion { retry_after, .. } => *retry_after,
            Self::NoReplica { fault, .. } => (*fault != ReplicaFault::Missing).then_some(Duration::from_secs(1)),
            Self::Unknown { .. } | Self::Suspended { .. } | Self::Refused { .. } | Self::Closed => None,
        }
    }

    /// One word, as the metrics have it: `unavailable`, `timeout_wait`, ….
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown",
            Self::Provisioning { .. } => "provisioning",
            Self::Suspended { .. } => "suspended",
            Self::Moving { .. } => "moving",
            Self::Stale { .. } => "stale",
            Self::SchemaVersion { .. } => "schema_version",
            Self::Unavailable { .. } => "unavailable",
            Self::NoReplica { .. } => "no_replica",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::Timeout { phase: Phase::Wait, .. } => "timeout_wait",
            Self::Timeout { phase: Phase::Budget, .. } => "timeout_budget",
            Self::Timeout { phase: Phase::Shared, .. } => "timeout_shared",
            Self::Timeout { phase: Phase::Connect, .. } => "timeout_connect",
            Self::Refused { .. } => "refused",
            Self::TooStale { .. } => "too_stale",
            Self::NotStarted { .. } => "not_started",
            Self::Closed => "closed",
        }
    }
}

/// A time as `Retry-After` has it: never too soon, and never at once.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}
