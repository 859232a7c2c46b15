//! The gates of the tenants that are in use.

use std::sync::Arc;

use papaya::HashMap;
use tenantry_domain::{Limits, TenantId};
use tokio::time::Instant;

use super::gate::{Entered, Exceeded, Gate};

/// One gate for each tenant that has requests, or had them so lately that they count.
pub(crate) struct Admissions {
    gates: HashMap<TenantId, Arc<Gate>>,
    began: Instant,
}

impl Admissions {
    pub(crate) fn new() -> Self {
        Self { gates: HashMap::new(), began: Instant::now() }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a tenant's request in, at once or into its queue.
    pub(crate) fn enter(&self, tenant: TenantId, limits: &Limits, queue_max: u32) -> Result<Entered, Exceeded> {
        let gates = self.gates.pin();
        loop {
            let gate = gates.get_or_insert_with(tenant, Arc::default);
            if let Some(entered) = gate.enter(limits, queue_max, self.now_ns())? {
                return Ok(entered);
            }
            // The sweeper is about to take it out; whoever is first does.
            let _ = gates.remove_if(&tenant, |_, found| Arc::ptr_eq(found, gate));
        }
    }

    /// Takes over a tenant's limits, which may have changed; they are looked up for a tenant in use only.
    pub(crate) fn follow(&self, tenant: TenantId, limits: impl FnOnce() -> Option<Limits>) {
        if let Some(gate) = self.gates.pin().get(&tenant)
            && let Some(limits) = limits()
        {
            gate.follow(&limits);
        }
    }

    /// Takes out the gates that nobody needs. Tenants without one cost nothing.
    pub(crate) fn sweep(&self) {
        let gates = self.gates.pin();
        for (tenant, gate) in &gates {
            if gate.retire(self.now_ns()) {
                let _ = gates.remove_if(tenant, |_, found| Arc::ptr_eq(found, gate));
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.gates.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId::new(Uuid::from_u128(number))
    }

    #[test]
    fn gates_exist_while_they_are_needed() {
        let admissions = Admissions::new();
        let places: Vec<_> =
            (0..100).map(|number| admissions.enter(tenant(number), &Limits::default(), 0).expect("no limit")).collect();
        let limits = Limits { requests_per_minute: Some(1), ..Limits::default() };
        let owed = admissions.enter(tenant(100), &limits, 0).expect("the first");
        admissions.sweep();
        assert_eq!(admissions.len(), 101, "all of them run");
        drop((places, owed));
        admissions.sweep();
        assert_eq!(admissions.len(), 1, "what was used up of a rate is remembered");
        assert!(admissions.enter(tenant(100), &limits, 0).is_err());
    }

    #[test]
    fn sweeping_at_any_moment_loses_no_place_and_no_request() {
        let admissions = Arc::new(Admissions::new());
        let limits = Limits { concurrent_requests: Some(1), ..Limits::default() };
        let rated = Limits { requests_per_minute: Some(500), ..Limits::default() };
        let running = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (admissions, running) = (Arc::clone(&admissions), Arc::clone(&running));
                std::thread::spawn(move || {
                    let mut let_through = 0;
                    for _ in 0..2_000 {
                        if let Ok(place) = admissions.enter(tenant(1), &limits, 0) {
                            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two run where one may");
                            running.fetch_sub(1, Ordering::SeqCst);
                            drop(place);
                        }
                        let_through += u64::from(admissions.enter(tenant(2), &rated, 0).is_ok());
                    }
                    let_through
                })
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            admissions.sweep();
        }
        let let_through: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        let earned = admissions.now_ns() * 500 / 60_000_000_000;
        assert!((500..=500 + earned).contains(&let_through), "{let_through}");
    }
}
