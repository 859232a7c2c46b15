//! What can go wrong with the catalog, by what a caller can do about it.

use std::error::Error;

use tokio_postgres::error::SqlState;

/// A failure of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No row by that name.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// "tenant", "cluster", ….
        what: &'static str,
        /// As it was asked for.
        name: String,
    },
    /// Another tenant, or a tombstone, has the slug.
    #[error("the slug `{slug}` is taken")]
    SlugTaken {
        /// The slug.
        slug: String,
    },
    /// The name is taken.
    #[error("the {what} name `{name}` is taken")]
    NameTaken {
        /// "cluster", ….
        what: &'static str,
        /// The name.
        name: String,
    },
    /// It contradicts what is there.
    #[error("{reason}")]
    Conflict {
        /// With what, and what to do.
        reason: String,
    },
    /// A cluster has as many of something as its limit allows: somebody else took the last place.
    #[error("the cluster has as many {limit} as its limit allows")]
    Full {
        /// Which limit: `tenants`, `databases`, `schemas_per_database` or `connections`.
        limit: &'static str,
    },
    /// The data would be where it must not be.
    #[error("the data would leave the regions that it must stay in")]
    Residency,
    /// The call's own arguments make no sense.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with them.
        reason: String,
    },
    /// The lease is no longer held: somebody else owns the work.
    #[error("the lease was lost to another worker")]
    LeaseLost,
    /// Locks or timeouts stood in the way; repeating can succeed.
    #[error("the catalog is busy")]
    Busy {
        /// What PostgreSQL said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The catalog was not reached, or the connection was lost; what was sent may or may not have been done.
    #[error("the catalog does not answer; check that its PostgreSQL runs and that its URL is right")]
    Unavailable {
        /// What happened instead.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A defect.
    #[error("the catalog answered in a way that is not understood")]
    Internal {
        /// What it was.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// Whether repeating the same call later can succeed without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Unavailable { .. } => true,
            Self::NotFound { .. }
            | Self::SlugTaken { .. }
            | Self::NameTaken { .. }
            | Self::Conflict { .. }
            | Self::Full { .. }
            | Self::Residency
            | Self::Invalid { .. }
            | Self::LeaseLost
            | Self::Internal { .. } => false,
        }
    }

    pub(crate) fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal { source: source.into() }
    }

    pub(crate) fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { source: source.into() }
    }

    /// The name of the unique index or constraint that was violated, if that is what happened.
    pub(crate) fn constraint(error: &tokio_postgres::Error) -> Option<&str> {
        let error = error.as_db_error()?;
        if *error.code() == SqlState::UNIQUE_VIOLATION { error.constraint() } else { None }
    }
}

/// What a rule of placement means to a caller, where that is what was broken.
fn of_placement(error: &tokio_postgres::Error) -> Option<StoreError> {
    let said = error.as_db_error()?;
    let limit = |limit| Some(StoreError::Full { limit });
    match said.constraint()? {
        "cluster_limit_tenants" => limit("tenants"),
        "cluster_limit_databases" => limit("databases"),
        "cluster_limit_schemas_per_database" => limit("schemas_per_database"),
        "cluster_limit_connections" => limit("connections"),
        "home_residency" => Some(StoreError::Residency),
        "region_is_group" | "group_is_region" => Some(StoreError::Conflict { reason: said.message().to_owned() }),
        _ => None,
    }
}

/// What the violation of an invariant means to a caller, where it can happen without a defect: two that raced.
fn conflict(constraint: &str) -> Option<&'static str> {
    Some(match constraint {
        "operation_exclusive" => "the tenant has an unfinished operation; wait for it, or cancel it",
        "operation_idempotency_key" => "an operation with this idempotency key is there already; ask for its result",
        "rollout_exclusive" => "another rollout is under way; wait for it, abort it, or let this one queue",
        "placement_current" => "the tenant lives in a home already; close that placement first",
        "placement_home" => "the home serves or served a tenant already; take another",
        "cluster_claimed_by" => "the tenant has a cluster to itself already",
        "cluster_system_identifier" => "the server is registered already, under another name",
        "home_place" => "the database or schema belongs to a tenant already; `tenantry tenant list` shows them",
        "adoption_open" => "the tenant's adoption is not decided; confirm it or cancel it first",
        "resource_name" => "an object of that name was recorded before, and names are never used again",
        "region_group_pkey" => "somebody made the region group at the same time; try again",
        "host_pkey" => "the host belongs to a tenant already; remove it there first",
        _ => return None,
    })
}

/// What the catalog's own guard of the hierarchy of tenants raises; its message is for people.
const HIERARCHY: &str = "TN101";

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(reason) = Self::constraint(&error).and_then(conflict) {
            return Self::Conflict { reason: reason.to_owned() };
        }
        if let Some(broken) = of_placement(&error) {
            return broken;
        }
        if let Some(said) = error.as_db_error().filter(|said| said.code().code() == HIERARCHY) {
            return Self::Conflict { reason: said.message().to_owned() };
        }
        let Some(code) = error.code() else {
            let is_lost = error.is_closed() || error.source().is_some_and(<dyn Error>::is::<std::io::Error>);
            return if is_lost { Self::unavailable(error) } else { Self::internal(error) };
        };
        match *code {
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE
            | SqlState::QUERY_CANCELED => Self::Busy { source: Box::new(error) },
            // The transaction sat idle for too long, or the server became a standby: a new connection can succeed.
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT | SqlState::READ_ONLY_SQL_TRANSACTION => {
                Self::unavailable(error)
            }
            // Connection trouble, no resources, and an operator's intervention.
            _ if ["08", "53", "57P"].iter().any(|class| code.code().starts_with(class)) => Self::unavailable(error),
            _ => Self::internal(error),
        }
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::unavailable(error)
    }
}
