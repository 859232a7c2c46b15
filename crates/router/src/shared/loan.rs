//! A connection on its way from the stash to a tenant.

use std::sync::Arc;

use super::stash::Stash;
use crate::budget::Permit;
use crate::pool::HomeConnection;

/// A connection that was taken and is no tenant's yet, or not for certain. Dropped, it is cleaned and goes back.
pub(super) struct Loan {
    connection: Option<HomeConnection>,
    pub(super) was_idle: bool,
    stash: Arc<Stash>,
}

impl Loan {
    pub(super) fn new(connection: HomeConnection, was_idle: bool, stash: Arc<Stash>) -> Self {
        Self { connection: Some(connection), was_idle, stash }
    }

    /// The connection, for one look.
    pub(super) fn connection(&self) -> Option<&HomeConnection> {
        self.connection.as_ref()
    }

    /// It is a tenant's now.
    pub(super) fn keep(mut self) -> Option<HomeConnection> {
        self.connection.take()
    }

    /// Closes a connection that has ended; the turn is good for another.
    pub(super) fn end(mut self) -> Option<Permit> {
        let (client, _, lent) = self.connection.take()?.into_lent()?;
        drop(client);
        Some(lent.turn)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take().filter(|connection| !connection.is_closed()) else { return };
        let stash = Arc::clone(&self.stash);
        let is_back = stash.returning.begin();
        let runtime = stash.runtime.clone();
        runtime.spawn(async move {
            if stash.clean(&connection).await.is_ok() {
                stash.put(connection);
            }
            drop(is_back);
        });
    }
}
