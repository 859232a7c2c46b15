//! Why a request of a tenant failed.

use tenantry_router::RouterError;
use tokio_postgres::error::SqlState;

/// What a request met with, from the tenant's name to its answer.
#[derive(Debug)]
pub enum Failure {
    /// No connection.
    Router(RouterError),
    /// A connection, and then no answer or a refusal.
    Query(tokio_postgres::Error),
}

impl Failure {
    /// In one word: as the router's metrics have it, `connection_lost`, or the SQLSTATE.
    pub fn kind(&self) -> &str {
        match self {
            Self::Router(error) => error.kind(),
            Self::Query(error) => error.code().map_or("connection_lost", SqlState::code),
        }
    }

    /// Whether it follows from a server, a route or a session that went away while somebody asked: worth another try, or
    /// the tenant is suspended.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Router(error) => error.is_retryable() || matches!(error, RouterError::Suspended { .. }),
            Self::Query(error) => match error.code() {
                Some(code) => {
                    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
                }
                None => true,
            },
        }
    }
}

impl From<RouterError> for Failure {
    fn from(error: RouterError) -> Self {
        Self::Router(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error)
    }
}
