//! What the router adds to deadpool-postgres.
//!
//! Both sides connect to one private server as one role and take turns: the router's pool of a tenant, and a bare pool
//! whose recycling (`Fast`) resets nothing.
//!
//! `checkout`: taking a warm connection and giving it back, with nothing between.
//! `query`: the same with one prepared query between, by as many tasks as there are connections, four.
//! `leaks`: what is left behind, a transaction or a setting, while the other tasks go on: none may find it.
//!
//!     cargo bench -p tenantry-tests --bench router_checkout
//!
//! Lines read `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reports on standard output and gives up loudly"
)]

use std::future::Future;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tenantry_router::Tenant;
use tenantry_tests::figures::{Side, figure, ratio};
use tenantry_tests::{BareHome, allocations};

const ROUNDS: usize = 41;
const CHECKOUTS: u32 = 20_000;
const CONNECTIONS: usize = 4;
const QUERIES: u32 = 400;
const QUERY: &str = "SELECT status FROM flight WHERE id = $1";

#[global_allocator]
static ALLOCATIONS: allocations::Counting = allocations::Counting;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let home = BareHome::start().await;
        checkouts(&home).await;
        queries(&home).await;
        leaks(&home).await;
    });
}

async fn checkouts(home: &BareHome) {
    let (tenant, pool) = (home.tenant(1).await, home.deadpool(1));
    warm(&tenant).await;
    drop(pool.get().await.expect("a connection"));
    let ours = || async { drop(tenant.client().await.expect("a connection")) };
    let theirs = || async { drop(pool.get().await.expect("a connection")) };
    let (mut one, mut other) = (Side::default(), Side::default());
    for _ in 0..ROUNDS {
        one.push(repeated(ours).await);
        other.push(repeated(theirs).await);
    }
    let each = |side: &Side| side.percentile_ms(50) * 1e6 / f64::from(CHECKOUTS);
    figure("checkout_ns", each(&one), "ns");
    figure("checkout_deadpool_ns", each(&other), "ns");
    figure("checkout_over_deadpool", ratio(&one, &other), "x");
    figure("checkout_extra_allocations", allocated(ours).await - allocated(theirs).await, "");
}

/// Until the pool has a connection that was used, cleaned, and found to be in a home without surprises.
async fn warm(tenant: &Tenant) {
    for _ in 0..3 {
        let client = tenant.client().await.expect("a connection");
        client.query(QUERY, &[&1_i64]).await.expect("an answer");
        drop(client);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn repeated<F: Future<Output = ()>>(step: impl Fn() -> F) -> Duration {
    let began = Instant::now();
    for _ in 0..CHECKOUTS {
        step().await;
    }
    began.elapsed()
}

/// Allocations of one step.
async fn allocated<F: Future<Output = ()>>(step: impl Fn() -> F) -> f64 {
    let before = allocations::count();
    repeated(step).await;
    let count = u32::try_from(allocations::count() - before).expect("few");
    f64::from(count) / f64::from(CHECKOUTS)
}

async fn queries(home: &BareHome) {
    let (tenant, pool) = (home.tenant(4).await, home.deadpool(CONNECTIONS));
    warm(&tenant).await;
    let ours = || async {
        let client = tenant.client().await.expect("a connection");
        let statement = client.prepare_cached(QUERY).await.expect("prepared");
        client.query_one(&statement, &[&1_i64]).await.expect("an answer");
    };
    let theirs = || async {
        let client = pool.get().await.expect("a connection");
        let statement = client.prepare_cached(QUERY).await.expect("prepared");
        client.query_one(&statement, &[&1_i64]).await.expect("an answer");
    };
    let (mut one, mut other) = (Side::default(), Side::default());
    // The first round opens connections and prepares.
    at_once(ours).await;
    at_once(theirs).await;
    for _ in 0..ROUNDS {
        one.push(at_once(ours).await);
        other.push(at_once(theirs).await);
    }
    let each = |side: &Side| side.percentile_ms(50) * 1e3 / f64::from(QUERIES);
    figure("query_us", each(&one), "us");
    figure("query_deadpool_us", each(&other), "us");
    figure("query_over_deadpool", ratio(&one, &other), "x");
}

async fn at_once<F: Future<Output = ()>>(step: impl Fn() -> F) -> Duration {
    let began = Instant::now();
    join_all((0..CONNECTIONS).map(async |_| {
        for _ in 0..QUERIES {
            step().await;
        }
    }))
    .await;
    began.elapsed()
}

/// One task leaves a transaction or a setting behind each time; the others look for it.
async fn leaks(home: &BareHome) {
    let tenant = home.tenant(4).await;
    warm(&tenant).await;
    let careless = async {
        for number in 0..QUERIES as usize {
            let client = tenant.client().await.expect("a connection");
            let left = ["BEGIN; SET LOCAL statement_timeout = 12345", "SET statement_timeout = 12345"][number % 2];
            client.batch_execute(left).await.expect("run");
        }
    };
    let careful = async |_| {
        let mut found = 0;
        for _ in 0..QUERIES {
            let client = tenant.client().await.expect("a connection");
            let row = client.query_one("SELECT current_setting('statement_timeout')", &[]).await.expect("an answer");
            found += u32::from(row.get::<_, &str>(0) != "0");
        }
        found
    };
    let (found, ()) = tokio::join!(join_all((0..CONNECTIONS).map(careful)), careless);
    figure("query_leaks", f64::from(found.iter().sum::<u32>()), "");
}
