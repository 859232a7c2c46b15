//! What can go wrong on a cluster, by what a caller can do about it.

use std::error::Error;
use std::fmt;

use tenantry_domain::{Endpoint, HomeId};
use tokio_postgres::error::{DbError, SqlState};

/// The cause that stays in the log.
pub(crate) type Cause = Box<dyn Error + Send + Sync + 'static>;

/// Why something on a cluster did not happen, or may not have happened.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// It will not work until a person changes something: a missing right, a wrong password, a setting.
    #[error("{reason}")]
    Refused {
        /// What is in the way and what to do.
        reason: String,
        /// What PostgreSQL or the system said.
        source: Option<Cause>,
    },
    /// Someone with a later lease has been at this home; stop and let go.
    #[error("home {home} has been taken over by a later epoch than {epoch}; leave it to its new owner")]
    StaleEpoch {
        /// The home.
        home: HomeId,
        /// The epoch that came too late.
        epoch: i64,
    },
    /// The home does not hold the tenant or generation asked for, or does not serve it now.
    #[error("the home refuses this placement: {reason}")]
    StampMismatch {
        /// What the home said.
        reason: String,
    },
    /// A migration file failed; its transaction was rolled back.
    #[error(transparent)]
    Migration(Box<MigrationFailure>),
    /// The home's history and the set disagree; nothing was applied.
    #[error("{reason}")]
    Diverged {
        /// Which version, and how they differ.
        reason: String,
    },
    /// The server was not reached, so nothing was done. Retry later.
    #[error("the server at {endpoint} cannot be reached; check that it runs and accepts connections from here")]
    Unreachable {
        /// Where it should listen.
        endpoint: Endpoint,
        /// What happened instead.
        source: Cause,
    },
    /// The connection ended before the answer came: it may or may not have been done. Observe, then repeat.
    #[error("the connection was lost before the server answered; look at what it did and repeat")]
    Unknown {
        /// How it was lost.
        source: Cause,
    },
    /// It was not done, and may work later: a lock, a template in use, too many connections, a timeout.
    #[error("{reason}")]
    Busy {
        /// What is in the way.
        reason: String,
        /// What PostgreSQL said.
        source: Option<Cause>,
    },
}

impl FleetError {
    /// Whether repeating the same call later can succeed without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unknown { .. } | Self::Busy { .. } => true,
            Self::Refused { .. }
            | Self::StaleEpoch { .. }
            | Self::StampMismatch { .. }
            | Self::Migration(_)
            | Self::Diverged { .. } => false,
        }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into(), source: None }
    }

    pub(crate) fn busy(reason: impl Into<String>) -> Self {
        Self::Busy { reason: reason.into(), source: None }
    }
}

/// Which file failed, where, and PostgreSQL's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationFailure {
    /// The migration's version.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Its file name.
    pub file: String,
    /// The line in the file, from 1, where PostgreSQL told a position.
    pub line: Option<u32>,
    /// The character in the line, from 1.
    pub column: Option<u32>,
    /// SQLSTATE.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// The detail, if any.
    pub detail: Option<String>,
    /// The hint, if any.
    pub hint: Option<String>,
    /// The context (for instance the function and line within its body), if any.
    pub context: Option<String>,
}

impl fmt::Display for MigrationFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(formatter, ":{line}:{column}")?;
        }
        write!(formatter, ": {} (SQLSTATE {})", self.message, self.sqlstate)
    }
}

impl Error for MigrationFailure {}
