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

    /// The name of the constraint that was violated, if that is what happened.
    pub(crate) fn constraint(error: &tokio_postgres::Error) -> Option<&str> {
        let error = error.as_db_error()?;
        matches!(*error.code(), SqlState::UNIQUE_VIOLATION | SqlState::FOREIGN_KEY_VIOLATION)
            .then(|| error.constraint())
            .flatten()
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else {
            return if error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()) {
                Self::unavailable(error)
            } else {
                Self::internal(error)
            };
        };
        match *code {
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE
            | SqlState::QUERY_CANCELED => Self::Busy { source: Box::new(error) },
            SqlState::UNIQUE_VIOLATION if Self::constraint(&error) == Some("operation_exclusive") => Self::Conflict {
                reason: "the tenant has an unfinished operation; wait for it, or cancel it".to_owned(),
            },
            SqlState::UNIQUE_VIOLATION if Self::constraint(&error) == Some("rollout_exclusive") => {
                Self::Conflict { reason: "another rollout is unfinished; wait for it, or abort it".to_owned() }
            }
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Self::unavailable(error),
            _ if code.code().starts_with("08") => Self::unavailable(error),
            _ => Self::internal(error),
        }
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::unavailable(error)
    }
}
