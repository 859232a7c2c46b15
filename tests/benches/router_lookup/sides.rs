//! The router's lookups, and bare maps'.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rand::seq::SliceRandom;
use tenantry_domain::TenantId;
use tenantry_router::{Router, TenantName, TenantSummary};

use crate::crowd::Crowd;

/// What is asked for, in random order.
pub(crate) struct Wanted {
    pub(crate) ids: Vec<TenantId>,
    pub(crate) slugs: Vec<String>,
    pub(crate) hosts: Vec<String>,
}

impl Wanted {
    pub(crate) fn shuffled(crowd: &Crowd) -> Self {
        let mut numbers: Vec<usize> = (0..crowd.len()).collect();
        numbers.shuffle(&mut rand::rng());
        Self {
            ids: numbers.iter().map(|number| crowd.id(*number)).collect(),
            slugs: numbers.iter().map(|number| Crowd::slug(*number)).collect(),
            hosts: numbers.iter().map(|number| Crowd::host(*number)).collect(),
        }
    }
}

/// What somebody would write who needs no router: routes behind a map.
pub(crate) struct Bare {
    by_id: HashMap<TenantId, Arc<TenantSummary>, RandomState>,
    by_name: HashMap<String, Arc<TenantSummary>, RandomState>,
}

impl Bare {
    pub(crate) fn of(crowd: &Crowd, router: &Router) -> Self {
        let mut by_id = HashMap::with_capacity_and_hasher(crowd.len(), RandomState::default());
        let mut by_name = HashMap::with_capacity_and_hasher(2 * crowd.len(), RandomState::default());
        for number in 0..crowd.len() {
            let route = Arc::new(router.summary(crowd.id(number)).expect("known"));
            by_id.insert(crowd.id(number), Arc::clone(&route));
            by_name.insert(Crowd::slug(number), Arc::clone(&route));
            by_name.insert(Crowd::host(number), route);
        }
        Self { by_id, by_name }
    }

    pub(crate) fn by_id(&self, wanted: &[TenantId]) -> Duration {
        timed(wanted, |id| self.by_id.get(id).map_or(0, |route| route.generation.0))
    }

    pub(crate) fn by_name(&self, wanted: &[String]) -> Duration {
        timed(wanted, |name| self.by_name.get(name.as_str()).map_or(0, |route| route.generation.0))
    }
}

/// The router, asked by id, slug or host.
pub(crate) fn ours<T>(router: &Router, wanted: &[T], name: impl Fn(&T) -> TenantName<'_>) -> Duration {
    timed(wanted, |wanted| router.summary(name(wanted)).map_or(0, |route| route.generation.0))
}

fn timed<T>(wanted: &[T], look: impl Fn(&T) -> i64) -> Duration {
    let began = Instant::now();
    let sum: i64 = wanted.iter().map(look).sum();
    let took = began.elapsed();
    assert_eq!(usize::try_from(black_box(sum)), Ok(wanted.len()), "everybody is found");
    took
}

/// How much more two threads get done than one.
pub(crate) fn gain(round: impl Fn() -> Duration + Sync) -> f64 {
    let alone = round();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(&round);
        round();
    });
    2.0 * alone.as_secs_f64() / began.elapsed().as_secs_f64()
}
