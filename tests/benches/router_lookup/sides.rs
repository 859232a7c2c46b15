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

    pub(crate) fn by_id(&self, pace: Pace, wanted: &[TenantId]) -> Duration {
        timed(pace, wanted, |id| self.by_id.get(id).map_or(0, |route| route.generation.0))
    }

    pub(crate) fn by_name(&self, pace: Pace, wanted: &[String]) -> Duration {
        timed(pace, wanted, |name| self.by_name.get(name.as_str()).map_or(0, |route| route.generation.0))
    }
}

/// The router, asked by id, slug or host.
pub(crate) fn ours<T>(pace: Pace, router: &Router, wanted: &[T], name: impl Fn(&T) -> TenantName<'_>) -> Duration {
    timed(pace, wanted, |wanted| router.summary(name(wanted)).map_or(0, |route| route.generation.0))
}

/// How lookups follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each begins when the one before has its answer, as between requests.
    OneByOne,
    /// As the processor likes, which works on several at once and hides what memory costs.
    Overlapping,
}

fn timed<T>(pace: Pace, wanted: &[T], look: impl Fn(&T) -> i64) -> Duration {
    let began = Instant::now();
    let mut found = 0_usize;
    match pace {
        // All generations are one, which the processor does not know.
        Pace::OneByOne => {
            while let Some(next) = wanted.get(found) {
                found += usize::try_from(look(next)).unwrap_or_default();
            }
        }
        Pace::Overlapping => found = wanted.iter().map(look).filter(|generation| *generation == 1).count(),
    }
    let took = began.elapsed();
    assert_eq!(black_box(found), wanted.len(), "everybody is found");
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
