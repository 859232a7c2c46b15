//! What a tenant's pool does, instead of opening connections, where they are shared.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tenantry_domain::{Limits, RoleName};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::error::SqlState;

use super::assume::assume_statements;
use super::reset::is_confirmed;
use super::stash::Stash;
use crate::budget::{Permit, Share};
use crate::connect::ConnectError;
use crate::pool::{CheckoutError, HomeConnection, Object, Pool, get_until};
use crate::tenant::Access;

tokio::task_local! {
    /// Until when a caller waits. deadpool's `create` takes no arguments.
    static UNTIL: Instant;
}

/// Borrows connections for one tenant with one access.
pub(crate) struct Borrower {
    pub(crate) stash: Arc<Stash>,
    role: RoleName,
    attach: String,
    access: Access,
    /// What makes a connection this tenant's, as its limits are now.
    assume: Mutex<Arc<str>>,
    has_left: AtomicBool,
}

impl Borrower {
    pub(crate) fn new(stash: Arc<Stash>, role: &RoleName, attach: String, access: Access, limits: &Limits) -> Self {
        let assume = assume_statements(role, &attach, limits, access).into();
        stash.join();
        Self { stash, role: role.clone(), attach, access, assume: Mutex::new(assume), has_left: AtomicBool::new(false) }
    }

    /// The pool is closed.
    pub(crate) fn leave(&self) {
        if !self.has_left.swap(true, Ordering::AcqRel) {
            self.stash.leave();
        }
    }

    /// Takes over what a changed route allows.
    pub(crate) fn follow(&self, limits: &Limits) {
        let assume = assume_statements(&self.role, &self.attach, limits, self.access).into();
        *self.assume.lock().unwrap_or_else(PoisonError::into_inner) = assume;
    }

    /// A connection of the tenant's pool, by way of [`Self::borrow`].
    pub(crate) async fn get(&self, pool: &Pool, until: Instant) -> Result<Object, CheckoutError> {
        UNTIL.scope(until, get_until(pool, until)).await
    }

    /// Takes a connection from the stash and becomes the tenant. `share` is the tenant's part in its turns.
    pub(crate) async fn borrow(&self, share: &Share) -> Result<HomeConnection, ConnectError> {
        let until = UNTIL.try_with(|until| *until).unwrap_or_else(|_| Instant::now());
        let mut turn = self.turn(share, until).await?;
        loop {
            let loan = self.stash.lend(turn, until).await?;
            let Some(connection) = loan.connection() else { return Err(ConnectError::Busy) };
            match self.assume(connection).await {
                Ok(()) => return loan.keep().ok_or(ConnectError::Busy),
                // It has ended while it was idle, and so may have others; in the end there is a new one.
                Err(error) if loan.was_idle && has_ended(&error) => match loan.end() {
                    Some(free) => turn = free,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    async fn turn(&self, share: &Share, until: Instant) -> Result<Permit, ConnectError> {
        if let Some(turn) = share.permit() {
            return Ok(turn);
        }
        let mut place = share.wait();
        timeout_at(until, place.granted()).await.ok().flatten().ok_or(ConnectError::Busy)
    }

    async fn assume(&self, connection: &HomeConnection) -> Result<(), ConnectError> {
        let statements = Arc::clone(&self.assume.lock().unwrap_or_else(PoisonError::into_inner));
        let connector = &self.stash.connector;
        match timeout(connector.time_limit, connection.simple_query(&statements)).await {
            Ok(Ok(answer)) if is_confirmed(&answer) => {
                // Whatever the tenant does with it, nobody gets it next who is not the shared login first.
                connection.session.leave_traces();
                Ok(())
            }
            Ok(Ok(_)) => Err(ConnectError::NotAssumed),
            Ok(Err(error)) if is_refusal(&error) => Err(ConnectError::Role(error)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                connector.server.silent();
                Err(ConnectError::Late)
            }
        }
    }
}

impl Drop for Borrower {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Whether there is no such role, or the login may not become it.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let refusals = [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::INVALID_PARAMETER_VALUE, SqlState::UNDEFINED_OBJECT];
    error.code().is_some_and(|code| refusals.contains(code))
}

/// Whether the connection is gone, rather than that something was refused.
fn has_ended(error: &ConnectError) -> bool {
    match error {
        ConnectError::Postgres(error) => error.code().is_none_or(|code| {
            [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
                || code.code() == "57P05"
        }),
        _ => false,
    }
}
