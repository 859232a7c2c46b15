//! What can go wrong on a cluster, by what a caller can do about it.

use std::error::Error;
use std::fmt;

use tenantry_domain::{Endpoint, HomeId};
use tokio_postgres::error::{DbError, SqlState};

use crate::fence::Fence;
use crate::sqlstate::{NOT_ACTIVE, STALE_EPOCH, WRONG_PLACEMENT};

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

/// What the server said, without the statement's text and context, which may bear password verifiers.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} (SQLSTATE {sqlstate}){}{}", labelled("detail", detail.as_ref()), labelled("hint", hint.as_ref()))]
pub(crate) struct ServerSaid {
    pub(crate) sqlstate: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

fn labelled(label: &str, text: Option<&String>) -> String {
    text.map(|text| format!("; {label}: {text}")).unwrap_or_default()
}

impl From<&DbError> for ServerSaid {
    fn from(error: &DbError) -> Self {
        Self {
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        }
    }
}

impl FleetError {
    /// Sorts an error of a statement by what a caller can do. `what` completes "could not …".
    pub(crate) fn of_statement(error: tokio_postgres::Error, what: &str) -> Self {
        let Some(said) = error.as_db_error() else {
            return Self::Unknown { source: Box::new(error) };
        };
        let code = said.code().clone();
        let said = ServerSaid::from(said);
        match code.code() {
            STALE_EPOCH => {
                if let Some(Fence { home, epoch }) = said.detail.as_deref().and_then(Fence::parse) {
                    return Self::StaleEpoch { home, epoch };
                }
            }
            WRONG_PLACEMENT | NOT_ACTIVE => {
                return Self::StampMismatch { reason: said.message };
            }
            _ => {}
        }
        // The server ended the session: what ran may have been committed before.
        if [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(&code) {
            return Self::Unknown { source: Box::new(said) };
        }
        let reason = format!("could not {what}: {}", said.message);
        if is_passing(&code, &said.message) {
            Self::Busy { reason, source: Some(Box::new(said)) }
        } else {
            Self::Refused { reason, source: Some(Box::new(said)) }
        }
    }

    /// Sorts an error of connecting.
    pub(crate) fn of_connecting(error: tokio_postgres::Error, endpoint: &Endpoint) -> Self {
        if error.as_db_error().is_some() {
            return Self::of_statement(error, &format!("log in at {endpoint}"));
        }
        if is_about_tls(&error) {
            let reason = format!("no protected connection to {endpoint}; check its tls_mode and tls_ca");
            return Self::Refused { reason, source: Some(Box::new(error)) };
        }
        Self::Unreachable { endpoint: endpoint.clone(), source: Box::new(error) }
    }
}

/// Whether time alone may remove the cause.
fn is_passing(code: &SqlState, message: &str) -> bool {
    let class = &code.code()[..2];
    let listed = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::OBJECT_IN_USE,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        // Another worker makes the same thing at the same time; next time we see it there.
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_DATABASE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::DUPLICATE_SCHEMA,
    ];
    // Class 53: too many connections, disk full, out of memory. XX000 with these words: two changed one catalog row.
    class == "53" || listed.contains(code) || (code == &SqlState::INTERNAL_ERROR && message.contains("concurrently"))
}

fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() || error.to_string().contains("TLS") {
            return true;
        }
        // An I/O error wraps what the TLS layer said without naming it as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Which file failed, where, and PostgreSQL's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationFailure {
    /// The migration's version; 0 of a repeatable one.
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
