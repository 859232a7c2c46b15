//! Connections that are opened for one tenant: how many in a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenantry_domain::{Limits, TenantId};

use super::rate::{Pace, Rate};

const SECOND: Duration = Duration::from_secs(1);

/// What is used up of their rates by tenants that have one; nothing of all others. One lock is enough: it is held for a
/// moment by somebody who is about to open a connection.
pub(crate) struct Openings {
    rates: Mutex<HashMap<TenantId, Rate>>,
    began: Instant,
}

impl Openings {
    pub(crate) fn new() -> Self {
        Self { rates: Mutex::default(), began: Instant::now() }
    }

    /// One pool's part in its tenant's rate.
    pub(crate) fn of(self: &Arc<Self>, tenant: TenantId, limits: &Limits) -> Opening {
        let opening = Opening { openings: Arc::clone(self), tenant, per_second: AtomicU32::default() };
        opening.follow(limits);
        opening
    }

    /// Forgets the rates of which nothing is used up.
    pub(crate) fn sweep(&self) {
        self.sweep_at(self.now_ns());
    }

    fn sweep_at(&self, now_ns: u64) {
        self.rates().retain(|_, rate| !rate.is_settled(now_ns));
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nothing panics while it holds the lock.
    fn rates(&self) -> MutexGuard<'_, HashMap<TenantId, Rate>> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How fast one pool opens connections, together with the other pools of its tenant.
pub(crate) struct Opening {
    openings: Arc<Openings>,
    tenant: TenantId,
    /// Zero for as fast as it likes.
    per_second: AtomicU32,
}

impl Opening {
    /// Takes over a limit that may have changed.
    pub(crate) fn follow(&self, limits: &Limits) {
        self.per_second.store(limits.connections_per_second.unwrap_or_default(), Ordering::Relaxed);
    }

    /// How long until a connection may be opened, where it may not now.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.wait_at(self.openings.now_ns())
    }

    fn wait_at(&self, now_ns: u64) -> Option<Duration> {
        let pace = self.pace()?;
        let rate = self.openings.rates().get(&self.tenant).copied().unwrap_or_default();
        rate.after_one(pace, now_ns).err()
    }

    /// Counts one connection, or says how long until it may be opened.
    pub(crate) fn begin(&self) -> Result<(), Duration> {
        self.begin_at(self.openings.now_ns())
    }

    fn begin_at(&self, now_ns: u64) -> Result<(), Duration> {
        let Some(pace) = self.pace() else { return Ok(()) };
        let mut rates = self.openings.rates();
        let rate = rates.entry(self.tenant).or_default();
        *rate = rate.after_one(pace, now_ns)?;
        Ok(())
    }

    fn pace(&self) -> Option<Pace> {
        let per_second = self.per_second.load(Ordering::Relaxed);
        (per_second > 0).then(|| Pace::new(per_second, SECOND))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn limits(per_second: Option<u32>) -> Limits {
        Limits { connections_per_second: per_second, ..Limits::default() }
    }

    fn tenant(number: u128) -> TenantId {
        TenantId::new(Uuid::from_u128(number))
    }

    #[test]
    fn the_pools_of_a_tenant_share_its_rate_and_others_have_their_own() {
        let openings = Arc::new(Openings::new());
        let (one, other) = (openings.of(tenant(1), &limits(Some(1))), openings.of(tenant(1), &limits(Some(1))));
        assert_eq!((one.wait_at(0), one.begin_at(0)), (None, Ok(())));
        assert_eq!((other.wait_at(0), other.begin_at(0)), (Some(SECOND), Err(SECOND)));
        assert_eq!(other.begin_at(1_000_000_000), Ok(()));
        assert!(openings.of(tenant(2), &limits(Some(1))).begin_at(0).is_ok());
        let free = openings.of(tenant(3), &limits(None));
        assert!((0..1_000).all(|_| free.begin_at(0).is_ok()) && free.wait_at(0).is_none());
        assert_eq!(openings.rates().len(), 2, "nothing is kept for who has no limit");
    }

    #[test]
    fn a_changed_limit_holds_from_the_next_connection_on() {
        let openings = Arc::new(Openings::new());
        let opening = openings.of(tenant(1), &limits(Some(1)));
        assert!(opening.begin_at(0).is_ok() && opening.begin_at(0).is_err());
        opening.follow(&limits(None));
        assert!(opening.begin_at(0).is_ok(), "there is none any more");
        opening.follow(&limits(Some(1)));
        assert!(opening.begin_at(0).is_err(), "what was used up is remembered");
    }

    #[test]
    fn what_is_used_up_is_remembered_until_it_is_earned() {
        let openings = Arc::new(Openings::new());
        let (slow, quick) = (openings.of(tenant(1), &limits(Some(1))), openings.of(tenant(2), &limits(Some(1_000))));
        assert!(slow.begin_at(0).is_ok() && quick.begin_at(0).is_ok());
        openings.sweep_at(1_000_000);
        assert_eq!(openings.rates().keys().copied().collect::<Vec<_>>(), [tenant(1)]);
        assert!(slow.begin_at(1_000_000).is_err());
        openings.sweep_at(1_000_000_000);
        assert!(openings.rates().is_empty());
    }
}
