//! A cluster's connections among the tenants of a router.

use std::time::Duration;

use futures::future::join_all;
use tenantry_router::{Phase, Router, RouterConfig, RouterError};
use tenantry_testkit::{Server, eventually};

use crate::home::{Home, impatient, patient};

/// Two tenants on one cluster, each with room for so many connections in its pool.
async fn two_tenants(server: &'static Server, pool_size: u32) -> [Home<'static>; 2] {
    let (mut one, other) = (Home::on(server, "acme").await, Home::on(server, "zenith").await);
    one.cluster = other.cluster;
    one.pool_size = pool_size;
    [one, Home { pool_size, ..other }]
}

async fn router_of(homes: &[Home<'_>], config: RouterConfig) -> Router {
    let routes = homes.iter().map(Home::route).collect();
    let builder = Router::builder().fixed(routes, vec![homes[0].feed_cluster()]).config(config);
    builder.build().await.expect("a router")
}

#[tokio::test]
async fn idle_connections_make_room_for_a_tenant_that_has_none() {
    let homes = two_tenants(Server::shared().await, 4).await;
    let router = router_of(&homes, RouterConfig { cluster_connections_max: 3, ..patient() }).await;
    let (acme, zenith) = (router.tenant("acme").await.expect("found"), router.tenant("zenith").await.expect("found"));
    let clients = join_all((0..3).map(|_| acme.client())).await;
    drop(clients.into_iter().collect::<Result<Vec<_>, _>>().expect("three connections"));
    eventually("they are idle", async || homes[0].sessions().await == 3).await;
    let client = zenith.client().await.expect("one makes room");
    client.batch_execute("SELECT 1").await.expect("run");
    eventually("one is closed", async || homes[0].sessions().await == 2).await;
}

#[tokio::test]
async fn what_a_busy_tenant_gives_back_goes_to_one_that_waits() {
    let homes = two_tenants(Server::shared().await, 4).await;
    let router = router_of(&homes, RouterConfig { cluster_connections_max: 2, ..patient() }).await;
    let (acme, zenith) = (router.tenant("acme").await.expect("found"), router.tenant("zenith").await.expect("found"));
    // Ten callers of one tenant keep both connections busy without a pause.
    let busy = join_all((0..10).map(async |_| {
        for _ in 0..20 {
            let client = acme.client().await.expect("a connection");
            client.batch_execute("SELECT pg_sleep(0.002)").await.expect("run");
        }
    }));
    let quiet = async {
        for _ in 0..10 {
            let client = zenith.client().await.expect("its turn");
            client.batch_execute("SELECT 1").await.expect("run");
        }
    };
    tokio::join!(busy, quiet);
}

#[tokio::test]
async fn a_full_cluster_says_so_in_time() {
    let homes = two_tenants(Server::shared().await, 4).await;
    let router = router_of(&homes, RouterConfig { cluster_connections_max: 1, ..impatient() }).await;
    let (acme, zenith) = (router.tenant("acme").await.expect("found"), router.tenant("zenith").await.expect("found"));
    let held = acme.client().await.expect("the only one");
    let error = zenith.client().await.expect_err("none left");
    assert!(matches!(error, RouterError::Timeout { phase: Phase::Budget, .. }), "{error:?}");
    assert!(error.is_retryable());
    // Its own second caller waits for the budget, too, and takes what is given back.
    let (second, ()) = tokio::join!(acme.client(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(held);
    });
    drop(second.expect("given back"));
    drop(zenith.client().await.expect("it is free"));
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nothing_with_it() {
    let homes = two_tenants(Server::shared().await, 4).await;
    let router = router_of(&homes, RouterConfig { cluster_connections_max: 1, ..patient() }).await;
    let (acme, zenith) = (router.tenant("acme").await.expect("found"), router.tenant("zenith").await.expect("found"));
    for _ in 0..20 {
        let held = acme.client().await.expect("a connection");
        let waiting = tokio::time::timeout(Duration::from_millis(5), zenith.client()).await;
        assert!(waiting.is_err(), "it is held");
        drop(held);
    }
    zenith.client().await.expect("nobody waits any more").batch_execute("SELECT 1").await.expect("run");
}
