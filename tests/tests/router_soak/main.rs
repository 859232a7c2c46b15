//! Everything that goes on in a day, in short or in full: tenants of one router are suspended, resumed, given new passwords
//! and other plans, while the control plane, its catalog and the homes' server are killed, and callers ask all the time and
//! leave every kind of mess behind. Nobody ever sees a row, a setting or a session object of another, nobody gets in who is
//! suspended, connections stay within their ceiling, and after each round the router is as it was before the first: no
//! pool, no task and no memory more.
//!
//! It takes 20 seconds, or as many as `TENANTRY_SOAK` says. What happens when is drawn from a seed, which is printed:
//!
//! `TENANTRY_SOAK=86400 TENANTRY_SEED=42 cargo test -p tenantry-tests --test router_soak -- --nocapture`

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod callers;
mod ceiling;
mod findings;
mod killer;
mod operator;
mod rest;
mod visit;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tenantry_domain::Isolation;
use tenantry_router::{Router, RouterConfig};
use tenantry_testkit::Server;
use tenantry_tests::{Door, World};
use tokio_util::sync::CancellationToken;

use callers::Callers;
use findings::Findings;
use killer::Killer;
use rest::Rest;
use visit::Home;

/// Without `TENANTRY_SOAK`.
const TIME: Duration = Duration::from_secs(20);
/// A round is a quarter of the time, but no longer.
const ROUND_MAX: Duration = Duration::from_mins(5);
/// Of each isolation.
const TENANTS: usize = 4;
/// Connections that the router may have open. Fewer than its tenants ask for.
const CEILING: u32 = 12;
/// Plans that tenants change between, and connections that a router keeps on them.
const PLANS: [(&str, u32); 2] = [("narrow", 2), ("wide", 6)];
/// Little: what a control plane says in a day is kept until it is killed.
const LOG: (&str, &str) = ("TENANTRY__TELEMETRY__LOG_FILTER", "warn,tenantry::serve=info");

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn config() -> RouterConfig {
    RouterConfig {
        cluster_connections_max: CEILING,
        abandoned_after: Duration::from_millis(100),
        // Short, so that a rest is.
        idle_timeout: Duration::from_secs(1),
        report_interval: Duration::from_secs(1),
        ..RouterConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_tenants_stay_apart_and_nothing_grows() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let time = number("TENANTRY_SOAK").map_or(TIME, Duration::from_secs);
    let seed = number("TENANTRY_SEED").unwrap_or_else(rand::random);
    say(&format!("router soak: TENANTRY_SEED={seed}, for {time:?}"));
    let (catalog, servers) = (Server::own().await, Server::own().await);
    let mut world = World::builder().catalog_on(&catalog).homes_on(&servers).start().await;
    let homes = make(&world).await;
    let mut door = Door::open(&mut world, &[LOG]).await;

    // Its own, so that its tasks can be counted.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let builder = Router::builder().control_plane(door.url(), world.token().clone()).name("soak").config(config());
    let router = runtime.spawn(builder.build()).await.expect("no panic").expect("a router");
    let findings = Findings::default();
    let mut rest = Rest::begin(&router, runtime.handle());
    let mut random = StdRng::seed_from_u64(seed);
    let (began, mut most) = (Instant::now(), 0);
    while began.elapsed() < time {
        let stop = CancellationToken::new();
        let callers = Callers::start(runtime.handle(), &router, &homes, &findings, random.random());
        let round = async {
            tokio::time::sleep((time / 4).min(ROUND_MAX)).await;
            stop.cancel();
        };
        let mut killer = Killer { world: &world, catalog: &catalog, servers: &servers, door: &mut door, kills: [0; 3] };
        let kill = killer.run(StdRng::seed_from_u64(random.random()), &stop);
        let operate = operator::run(&world, &router, &homes, &findings, StdRng::seed_from_u64(random.random()), &stop);
        let watch = ceiling::watch(&servers, &findings, &stop);
        let ((), (), acts, connections) = tokio::join!(round, kill, operate, watch);
        most = most.max(connections);
        let [planes, catalogs, clusters] = killer.kills;
        say(&format!(
            "router soak: killed {planes} control planes, {catalogs} catalogs, {clusters} clusters; {acts}; \
             {connections} connections at most"
        ));
        say(&format!("router soak: {}", callers.stop().await));
        for home in &*homes {
            rest.serves(home, &findings).await;
        }
        rest.take(&findings).await;
        findings.assert_none(seed);
    }
    assert!(most > 0, "a watch over connections that sees none watches nothing");
    router.close();
    drop((rest, router));
    runtime.shutdown_background();
    world.end().await;
    door.close().await;
}

/// The tenants, each with what tells its home from others.
async fn make(world: &World<'_>) -> Arc<[Home]> {
    for (plan, pool_size) in PLANS {
        let body = json!({ "name": plan, "isolation": "schema", "limits": { "pool_size": pool_size } });
        world.wire().post("/v1/plans", &body).await.ok();
    }
    let mut homes = Vec::new();
    for isolation in [Isolation::Schema, Isolation::Database] {
        for number in 0..TENANTS {
            let slug = format!("{isolation}-{number}");
            let tenant = world.tenant(&slug).isolation(isolation).plan(PLANS[number % PLANS.len()].0).await;
            homes.push(Home::of(&tenant, &world.route(&tenant).await));
        }
    }
    homes.into()
}
