//! Who gets a shared connection when there are too few.

use std::time::Duration;

use futures::future::join_all;
use tenantry_router::{Phase, Router, RouterConfig, RouterError};
use tenantry_testkit::Server;

use super::homes::{SharedHomes, tenant};
use crate::home::{Home, impatient, patient};

#[tokio::test]
async fn a_tenant_has_no_more_than_its_pool_size() {
    let mut homes = SharedHomes::two(Server::shared().await).await;
    homes.tenants[0].limits.pool_size = Some(2);
    let router = homes.router(RouterConfig { shared_pool_size: 5, ..impatient() }).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let _held = [acme.client().await.expect("one"), acme.client().await.expect("two")];
    let error = acme.client().await.expect_err("no third");
    assert!(matches!(error, RouterError::Timeout { phase: Phase::Wait, .. }), "{error:?}");
    drop(zenith.client().await.expect("others have theirs"));
}

#[tokio::test]
async fn too_few_for_all_says_so_in_time_and_one_that_comes_back_is_handed_on() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(RouterConfig { shared_pool_size: 1, ..impatient() }).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let held = acme.client().await.expect("the only one");
    let error = zenith.client().await.expect_err("none left");
    assert!(matches!(error, RouterError::Timeout { phase: Phase::Shared, .. }), "{error:?}");
    assert!(error.is_retryable() && error.to_string().contains("shared_pool_size"), "{error}");
    let (next, ()) = tokio::join!(zenith.client(), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(held);
    });
    drop(next.expect("handed on"));
    drop(acme.client().await.expect("it is free"));
    assert_eq!(homes.sessions().await, 1);
}

#[tokio::test]
async fn one_that_asks_for_everything_does_not_keep_another_from_its_turn() {
    let mut homes = SharedHomes::two(Server::shared().await).await;
    homes.tenants[0].limits.pool_size = Some(50);
    let router = homes.router(RouterConfig { shared_pool_size: 2, ..patient() }).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let served = std::sync::atomic::AtomicUsize::new(0);
    let greedy = join_all((0..40).map(async |_| {
        for _ in 0..5 {
            let client = acme.client().await.expect("a connection");
            client.batch_execute("SELECT pg_sleep(0.002)").await.expect("run");
            served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }));
    let quiet = async {
        for _ in 0..10 {
            let before = served.load(std::sync::atomic::Ordering::Relaxed);
            let client = zenith.client().await.expect("its turn");
            client.batch_execute("SELECT 1").await.expect("run");
            let passed = served.load(std::sync::atomic::Ordering::Relaxed) - before;
            assert!(passed <= 4, "{passed} came first");
        }
    };
    tokio::join!(greedy, quiet);
    assert!(homes.sessions().await <= 2);
}

#[tokio::test]
async fn callers_that_go_away_take_no_turn_with_them() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(RouterConfig { shared_pool_size: 1, ..patient() }).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    for _ in 0..20 {
        let held = acme.client().await.expect("a connection");
        assert!(tokio::time::timeout(Duration::from_millis(5), zenith.client()).await.is_err(), "it is held");
        drop(held);
    }
    drop(zenith.client().await.expect("nobody waits any more"));
}

#[tokio::test]
async fn shared_connections_count_in_the_clusters_budget_and_yield_to_others() {
    let server = Server::shared().await;
    let (homes, mut own) = (SharedHomes::two(server).await, Home::on(server, "own").await);
    own.cluster = homes.cluster;
    let routes = homes.routes().into_iter().chain([own.route()]).collect();
    let config = RouterConfig { cluster_connections_max: 2, ..patient() };
    let builder = Router::builder().fixed(routes, vec![homes.feed_cluster()]).config(config);
    let router = builder.build().await.expect("a router");
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    drop(join_all([acme.client(), zenith.client()]).await);
    homes.have_sessions(2).await;
    // One of those that are idle makes room, and nobody waits for ever for the place of another.
    let held = tenant(&router, "own").await.client().await.expect("one makes room");
    homes.have_sessions(1).await;
    let client = acme.client().await.expect("the other one");
    let (next, ()) = tokio::join!(zenith.client(), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(client);
    });
    drop(next.expect("the same one"));
    drop(held);
    let error = router_with_one(&homes).await;
    assert!(matches!(error, RouterError::Timeout { phase: Phase::Budget, .. }), "{error:?}");
}

/// What the second caller is told where the whole cluster has one connection.
async fn router_with_one(homes: &SharedHomes<'_>) -> RouterError {
    let router = homes.router(RouterConfig { cluster_connections_max: 1, ..impatient() }).await;
    let _held = tenant(&router, "acme").await.client().await.expect("the only one");
    tenant(&router, "zenith").await.client().await.expect_err("none left")
}

#[tokio::test]
async fn where_the_login_may_have_no_more_callers_share_what_it_has() {
    let homes = SharedHomes::two(Server::shared().await).await;
    homes.run(&format!("ALTER ROLE {} CONNECTION LIMIT 1", homes.pool.name)).await;
    let router = homes.router(patient()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    join_all((0..12).map(async |number| {
        let tenant = if number % 2 == 0 { &acme } else { &zenith };
        let client = tenant.client().await.expect("its turn");
        client.batch_execute("SELECT pg_sleep(0.002)").await.expect("run");
    }))
    .await;
}
