//! Callers of a pool whose role may open no further connection.
//!
//! A tenant's connections are limited over all routers, and while its credentials are rotated over both of its roles, and
//! they may be opened no faster than its limits allow. So a pool may have room of its own and still get no more connections. Its callers share those that it has, first come, first
//! served: whoever only tried again from time to time would be overtaken by everybody who comes at the right moment.

use std::time::Duration;

use deadpool::managed::{PoolError, TimeoutType};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use crate::budget::{Permit, Share, Wait};
use crate::connect::ConnectError;
use crate::pool::returning::{Count, Returning};
use crate::pool::{CheckoutError, Object, Opener, Pool, get_until};
use crate::sync::{AtomicUsize, Ordering, timeout_at};

/// How soon a pool tries again to open a connection: one without any, whose callers wait for nothing else, soon at first and
/// then less and less often, because a server without room starts a process for each attempt; others now and then.
const TRY_AGAIN_EMPTY: Duration = Duration::from_millis(20);
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Who waits, and when the role may be asked again for a connection.
pub(crate) struct Queue {
    waiting: AtomicUsize,
    /// Held by the first in the queue; handed over in order.
    ask_again_at: Mutex<Instant>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), ask_again_at: Mutex::new(Instant::now()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Tells those who wait that a connection was given back.
    pub(crate) fn look_again(&self, returning: &Returning) {
        if !self.is_empty() {
            returning.look_again();
        }
    }

    /// Waits for a connection that is given back, or that the role may open again, or for which the cluster's budget has
    /// room.
    pub(crate) async fn wait(
        &self,
        pool: &Pool,
        returning: &Returning,
        share: &Share,
        until: Instant,
    ) -> Result<Object, CheckoutError> {
        let out_of_time = || PoolError::Timeout(TimeoutType::Wait);
        let _waiting = Count::one(&self.waiting);
        let mut ask_again_at = timeout_at(until, self.ask_again_at.lock()).await.map_err(|_| out_of_time())?;
        // A place among those who wait for the budget, where that is what is missing.
        let mut place: Option<Wait<'_>> = None;
        // Why there was no connection when one was last asked for.
        let (mut refusal, mut refusals) = (None, 0);
        let mut handed: Option<Handed<'_>> = None;
        loop {
            // Before looking: a return in between ends the wait.
            let one_less = returning.one_less();
            let status = pool.status();
            if status.available > 0 || pool.is_closed() || (place.is_none() && Instant::now() >= *ask_again_at) {
                let outcome = get_until(pool, until).await;
                drop(handed.take());
                match outcome {
                    Err(PoolError::Backend(ConnectError::Full)) => {
                        place = Some(share.wait());
                        refusal = None;
                    }
                    Err(error) if is_full(&error) => {
                        let pause = leave_in(&error).unwrap_or_else(|| pause(status.size, refusals));
                        refusals += 1;
                        *ask_again_at = Instant::now() + pause;
                        // Whoever has none waits for nothing else than to be let in; where connections are only opened
                        // too fast, some may be on their way.
                        if *ask_again_at >= until && status.size == 0 && leave_in(&error).is_none() {
                            return Err(error);
                        }
                        refusal = Some(error);
                    }
                    outcome => return outcome,
                }
                continue;
            }
            let waits_for_budget = place.is_some();
            let wake_at = if waits_for_budget { until } else { until.min(*ask_again_at) };
            let granted = async {
                match &mut place {
                    Some(place) => place.granted().await,
                    None => std::future::pending().await,
                }
            };
            let news = async {
                tokio::select! { () = one_less => None, permit = granted => permit }
            };
            match timeout_at(wake_at, news).await {
                Ok(Some(permit)) => {
                    handed = Some(Handed::to(pool.manager(), permit));
                    place = None;
                    *ask_again_at = Instant::now();
                }
                Ok(None) => {}
                Err(_) if Instant::now() < until => {}
                Err(_) if waits_for_budget => return Err(PoolError::Backend(ConnectError::Full)),
                Err(_) if status.size == 0 => return Err(refusal.unwrap_or_else(out_of_time)),
                Err(_) => return Err(out_of_time()),
            }
        }
    }
}

/// Leave to open a connection that a pool was given, until it was asked for one. It may have found one that is idle, or
/// nobody waits any more: then others get it.
struct Handed<'p>(&'p Opener);

impl<'p> Handed<'p> {
    fn to(opener: &'p Opener, permit: Permit) -> Self {
        opener.hand(Some(permit));
        Self(opener)
    }
}

impl Drop for Handed<'_> {
    fn drop(&mut self) {
        self.0.hand(None);
    }
}

/// How long a pool of so many connections leaves a server alone that has refused it so often in a row.
fn pause(size: usize, refusals: u32) -> Duration {
    if size > 0 {
        return TRY_AGAIN;
    }
    TRY_AGAIN_EMPTY.saturating_mul(1 << refusals.min(8)).min(TRY_AGAIN)
}

/// When the next connection may be opened, where that is what is waited for.
fn leave_in(error: &CheckoutError) -> Option<Duration> {
    match error {
        PoolError::Backend(ConnectError::TooFast { retry_after }) => Some(*retry_after),
        _ => None,
    }
}

/// Whether the tenant, or its cluster, holds as many connections as it may, or was given as many lately. One may be given
/// back in a moment.
pub(crate) fn is_full(error: &CheckoutError) -> bool {
    match error {
        PoolError::Backend(ConnectError::Postgres(source)) => source.code() == Some(&SqlState::TOO_MANY_CONNECTIONS),
        PoolError::Backend(ConnectError::Full | ConnectError::TooFast { .. }) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_room_is_asked_less_and_less_often() {
        let pauses: Vec<u128> = (0..6).map(|refusals| pause(0, refusals).as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 200, 200]);
        assert_eq!((pause(0, u32::MAX), pause(1, 0)), (TRY_AGAIN, TRY_AGAIN));
    }
}
