//! What happened on a connection since it was last as good as new, seen in the bytes that pass.
//!
//! tokio-postgres shows neither whether a transaction is open nor what was sent, and a request that was only just queued
//! is in no byte yet. So a stream of ours looks at what passes ([`wire`]), and the task that drives the connection notes
//! when it was woken and has not looked yet ([`driver`]): queueing a request wakes it. Together they say for certain that
//! a connection is at rest and what it was used for, without asking the server.

pub(crate) mod driver;
pub(crate) mod stream;
mod traces;
mod wire;

use std::sync::PoisonError;

use crate::pool::returning::Used;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// The driver was woken and has not looked yet.
const AWAKE: u64 = 1;
/// The driver is at work.
const AT_WORK: u64 = 2;
/// A connection waits for the driver to rest, see [`Session::park`].
const PARKED: u64 = 4;
/// Something was left behind that the next borrower would see.
const TRACES: u64 = 8;
/// A transaction is open, or has failed.
const IN_TRANSACTION: u64 = 16;
/// Bytes wait for the socket.
const BLOCKED: u64 = 32;
/// Anything was done at all.
const USED: u64 = 64;
/// The server takes copy data.
const COPYING: u64 = 128;
/// The driver has ended.
const ENDED: u64 = 256;
/// Requests that are not answered are counted from here on.
const ONE_UNANSWERED: u64 = 1 << 32;
const UNANSWERED: u64 = !(ONE_UNANSWERED - 1);

/// How a connection is when it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// As good as new.
    Clean,
    /// At rest, with something to clear away.
    Traces,
    /// A request is on its way, or not answered.
    Busy,
    /// The driver has not looked yet; it will in a moment.
    Unknown,
}

/// What is known of one connection. Shared by those who borrow it and the task that drives it.
#[derive(Default)]
pub(crate) struct Session {
    state: AtomicU64,
    parked: Mutex<Option<Used>>,
}

impl Session {
    /// How it is now. Whoever asks must be done with it: what it sent has woken the driver then.
    pub(crate) fn condition(&self) -> Condition {
        condition(self.state.load(Ordering::Acquire))
    }

    /// Whether it was used since it was last clean.
    pub(crate) fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) & USED != 0
    }

    /// After a reset that was answered: nothing of what was before is left.
    pub(crate) fn renew(&self) {
        self.state.fetch_and(!(TRACES | USED | IN_TRANSACTION | COPYING | UNANSWERED), Ordering::AcqRel);
    }

    /// Counts as having left something behind until it is renewed, whatever passes.
    pub(crate) fn leave_traces(&self) {
        self.note(TRACES);
    }

    /// Leaves a connection with the driver, which gives it back, or has it cleaned, once it rests. The connection comes
    /// back at once where the driver rests already.
    pub(crate) fn park(&self, used: Used) -> Option<Used> {
        *self.parked() = Some(used);
        let before = self.state.fetch_or(PARKED, Ordering::AcqRel);
        let is_watched = before & (AWAKE | AT_WORK) != 0 && before & ENDED == 0;
        if is_watched { None } else { self.unpark() }
    }

    /// Takes a parked connection; whoever comes first has it.
    fn unpark(&self) -> Option<Used> {
        self.state.fetch_and(!PARKED, Ordering::AcqRel);
        self.parked().take()
    }

    /// Ends with the driver: nothing is parked any more, and nothing will be.
    fn abandon(&self) -> Option<Used> {
        self.state.fetch_or(ENDED, Ordering::AcqRel);
        self.unpark()
    }

    fn parked(&self) -> MutexGuard<'_, Option<Used>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver is to look: something arrived, or was queued.
    fn wake(&self) {
        self.state.fetch_or(AWAKE, Ordering::AcqRel);
    }

    fn begin_work(&self) {
        self.state.fetch_or(AT_WORK, Ordering::AcqRel);
        // Whatever comes from here on is seen by this look, or wakes anew.
        self.state.fetch_and(!AWAKE, Ordering::AcqRel);
    }

    /// Ends a look of the driver; a parked connection comes out where there is nothing more to look at.
    fn end_work(&self) -> Option<Used> {
        let before = self.state.fetch_and(!AT_WORK, Ordering::AcqRel);
        if before & PARKED != 0 && before & AWAKE == 0 { self.unpark() } else { None }
    }

    fn note(&self, marks: u64) {
        self.state.fetch_or(marks, Ordering::Relaxed);
    }

    fn blocked(&self, is_blocked: bool) {
        if is_blocked { self.note(BLOCKED) } else { self.forget(BLOCKED) }
    }

    fn forget(&self, marks: u64) {
        self.state.fetch_and(!marks, Ordering::Relaxed);
    }

    fn asked(&self) {
        self.state.fetch_add(ONE_UNANSWERED, Ordering::Relaxed);
    }

    /// The server is ready for the next request.
    fn answered(&self, is_in_transaction: bool) {
        let next = |state: u64| {
            let state = if state & UNANSWERED == 0 { state } else { state - ONE_UNANSWERED };
            let state = if is_in_transaction { state | IN_TRANSACTION } else { state & !IN_TRANSACTION };
            Some((state | USED) & !COPYING)
        };
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// The server takes copy data; the Sync that came with the request is not answered (PostgreSQL, "Message Flow", COPY
    /// Operations).
    fn takes_copy(&self) {
        self.forget(UNANSWERED);
        self.note(COPYING);
    }
}

fn condition(state: u64) -> Condition {
    if state & ENDED != 0 {
        Condition::Busy
    } else if state & (AWAKE | AT_WORK) != 0 {
        Condition::Unknown
    } else if state & (BLOCKED | COPYING | UNANSWERED) != 0 {
        Condition::Busy
    } else if state & (TRACES | IN_TRANSACTION) != 0 {
        Condition::Traces
    } else {
        Condition::Clean
    }
}
