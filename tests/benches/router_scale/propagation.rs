//! From a commit to ten routers.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tenantry_domain::FeedVersion;
use tenantry_router::Router;
use tenantry_tests::figures::{Side, figure};
use tenantry_tests::routes::{clock, publish, touch};
use tenantry_tests::{Serve, World};

use crate::LOG;

const ROUTERS: usize = 10;
const CHANGES: usize = 500;

pub(crate) async fn measure() {
    let mut world = World::builder().without_migrations().start().await;
    let slugs: Vec<String> = (0..1_000).map(|number| format!("company-{number}")).collect();
    let tenants = publish(world.store(), &slugs, Duration::ZERO).await;
    world.take_replica(0).stop().await;
    let serve = Serve::start_with(&world, &[LOG]).await;
    world.use_door(serve.url());
    let routers = join_all((0..ROUTERS).map(|number| {
        let router = Router::builder().control_plane(serve.url(), world.token().clone());
        router.name(format!("router-{number}")).build()
    }))
    .await;
    let routers: Vec<Router> = routers.into_iter().collect::<Result<_, _>>().expect("ten routers");

    let mut side = Side::default();
    for number in 0..CHANGES {
        touch(world.store(), &tenants[number % tenants.len()..][..1]).await;
        let committed = Instant::now();
        let version = clock(world.store()).await;
        for took in join_all(routers.iter().map(|router| applied(router, version, committed))).await {
            side.push(took);
        }
        // Not in step with anything that happens every so often.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..15))).await;
    }
    side.print("propagation");
    figure("propagation_p99_ms", side.percentile_ms(99), "ms");
    for router in routers {
        router.close();
    }
    world.end().await;
    assert!(serve.terminate().await.success());
}

async fn applied(router: &Router, version: FeedVersion, committed: Instant) -> Duration {
    while router.status().applied_version < version {
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    committed.elapsed()
}
