//! Spans of what may take long: a checkout that finds no connection ready, opening one, cleaning one. Handing out a
//! connection that is there has none, and costs nothing.
//!
//! No span bears a password, a query or a connection string.

use tracing::Span;
use tracing::field::{Empty, display};

use crate::connect::ConnectError;
use crate::error::RouterError;
use crate::pool::TenantPool;
use crate::pool::connection::Connection;
use crate::table::{Found, ServerEntry};
use crate::tenant::Access;

/// How it ended that went well.
const OK: &str = "ok";

/// A checkout that may have to wait.
pub(crate) fn checkout(found: &Found, access: Access) -> Span {
    tracing::info_span!(
        "tenantry.checkout",
        tenant_id = %found.tenant,
        generation = %found.generation,
        access = access.as_str(),
        replica_id = Empty,
        outcome = Empty,
    )
}

/// How a checkout ended.
pub(crate) fn checked_out(span: &Span, outcome: &Result<Connection, RouterError>) {
    match outcome {
        Ok(connection) => {
            if let Some(replica) = connection.replica() {
                span.record("replica_id", display(replica));
            }
            span.record("outcome", OK);
        }
        Err(error) => {
            span.record("outcome", error.kind());
        }
    }
}

/// Opening a connection, from resolving the name to the check of the placement.
pub(crate) fn connect(server: &ServerEntry) -> Span {
    tracing::info_span!("tenantry.connect", server = %server.endpoint, sqlstate = Empty, outcome = Empty)
}

/// How opening one ended.
pub(crate) fn connected<T>(span: &Span, outcome: &Result<T, ConnectError>) {
    match outcome {
        Ok(_) => {
            span.record("outcome", OK);
        }
        Err(error) => {
            if let Some(code) = error.sqlstate() {
                span.record("sqlstate", code.code());
            }
            span.record("outcome", error.kind());
        }
    }
}

/// Cleaning a connection that was given back. There are many of them, and nobody waits for most.
pub(crate) fn reset(pool: &TenantPool) -> Span {
    tracing::debug_span!("tenantry.reset", tenant_id = %pool.key.tenant, outcome = Empty)
}
