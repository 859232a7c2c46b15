//! What finding a tenant costs, among a million.
//!
//! The router gets its tenants from a feed over HTTP, whose server is in the same process and has its answer ready. Then
//! both sides hold the same tenants and are asked for the same ones in the same random order: the router, and bare maps of
//! `hashbrown` with a fast hasher, one by id and one by name (`String`), that nobody changes. The router is asked while a
//! thread applies 1,000 changes a second to it. Rounds alternate; a ratio is the median of the ratios of neighbours.
//!
//! Each lookup waits for the one before, as those of a service do; with `_overlapping`, the processor may work on many
//! lookups at once, which favours the side with the fewest instructions.
//!
//!     cargo bench -p tenantry-tests --bench router_lookup
//!
//! Lines read `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reports on standard output and gives up loudly"
)]

mod crowd;
mod feed;
mod sides;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenantry_router::{Router, TenantName};
use tenantry_tests::allocations;
use tenantry_tests::figures::{Side, figure, percentile, ratio};

use crate::crowd::Crowd;
use crate::sides::{Bare, Pace, Wanted};

const TENANTS: usize = 1_000_000;
const ROUNDS: usize = 9;
const CHANGES_PER_SECOND: u128 = 1_000;
const DELTAS: usize = 20_000;

#[global_allocator]
static ALLOCATIONS: allocations::Counting = allocations::Counting;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let crowd = Crowd::of(TENANTS);
    let before = allocations::bytes();
    let router = runtime.block_on(async {
        let address = feed::serve(&crowd).await;
        let began = Instant::now();
        let router = feed::router(address).await;
        figure("snapshot_1m_s", began.elapsed().as_secs_f64(), "s");
        router
    });
    assert_eq!(router.status().routes, TENANTS, "everybody has arrived");
    figure("route_bytes", as_float(allocations::bytes() - before) / as_float(TENANTS as u64), "B");

    let delta = deltas(&router, &crowd);
    figure("delta_us", delta.percentile_ms(50) * 1e3, "us");
    figure("delta_p99_us", delta.percentile_ms(99) * 1e3, "us");

    let bare = Bare::of(&crowd, &router);
    let wanted = Wanted::shuffled(&crowd);
    let ids = |pace| sides::ours(pace, &router, &wanted.ids, |id| TenantName::Id(*id));
    let slugs = |pace| sides::ours(pace, &router, &wanted.slugs, |slug| TenantName::Slug(slug));
    let hosts = |pace| sides::ours(pace, &router, &wanted.hosts, |host| TenantName::Host(host));
    let before = allocations::count();
    ids(Pace::Overlapping);
    slugs(Pace::Overlapping);
    hosts(Pace::Overlapping);
    figure("lookup_allocations", as_float(allocations::count() - before), "");

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| change_steadily(&stop, &router, &crowd));
        for (pace, suffix) in [(Pace::OneByOne, ""), (Pace::Overlapping, "_overlapping")] {
            compare("id", suffix, || ids(pace), || bare.by_id(pace, &wanted.ids));
            compare("slug", suffix, || slugs(pace), || bare.by_name(pace, &wanted.slugs));
            compare("host", suffix, || hosts(pace), || bare.by_name(pace, &wanted.hosts));
        }
        compare_gains(|| ids(Pace::OneByOne), || bare.by_id(Pace::OneByOne, &wanted.ids));
        stop.store(true, Ordering::Relaxed);
    });
}

/// What one change costs that a feed brings.
fn deltas(router: &Router, crowd: &Crowd) -> Side {
    let mut took = Side::default();
    for number in 0..DELTAS {
        let route = crowd.changed(number * 37 % TENANTS, 1);
        let began = Instant::now();
        assert!(router.apply(&route), "it is news");
        took.push(began.elapsed());
    }
    took
}

fn compare(kind: &str, suffix: &str, ours: impl Fn() -> Duration, theirs: impl Fn() -> Duration) {
    let (mut one, mut other) = (Side::default(), Side::default());
    for _ in 0..ROUNDS {
        one.push(ours());
        other.push(theirs());
    }
    let each = |side: &Side| side.percentile_ms(50) * 1e6 / as_float(TENANTS as u64);
    figure(&format!("lookup_{kind}{suffix}_ns"), each(&one), "ns");
    figure(&format!("map_{kind}{suffix}_ns"), each(&other), "ns");
    figure(&format!("lookup_{kind}{suffix}_over_map"), ratio(&one, &other), "x");
}

/// What a second thread brings, on a machine that may have no second processor to spare.
fn compare_gains(ours: impl Fn() -> Duration + Sync, theirs: impl Fn() -> Duration + Sync) {
    let gains: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (sides::gain(&ours), sides::gain(&theirs))).collect();
    let median = |of: fn(&(f64, f64)) -> f64| percentile(&gains.iter().map(of).collect::<Vec<_>>(), 50);
    figure("lookup_two_threads_gain", median(|gains| gains.0), "x");
    figure("map_two_threads_gain", median(|gains| gains.1), "x");
    figure("lookup_two_threads_over_map", median(|gains| gains.0 / gains.1), "x");
}

fn change_steadily(stop: &AtomicBool, router: &Router, crowd: &Crowd) {
    let began = Instant::now();
    let mut number: usize = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = began.elapsed().as_millis() * CHANGES_PER_SECOND / 1_000;
        while (number as u128) < due {
            let changed = number * 7919 % TENANTS;
            router.apply(&crowd.changed(changed, i64::try_from(2 + number / TENANTS).expect("few")));
            number += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn as_float(number: u64) -> f64 {
    number as f64
}
