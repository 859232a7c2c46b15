//! Many tenants on few connections.

use std::time::Duration;

use futures::future::join_all;
use tenantry_router::RouterConfig;
use tenantry_testkit::{Server, eventually};

use super::homes::{SharedHomes, answer, tenant};
use crate::feed_server::FeedServer;
use crate::home::patient;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_tenants_is_served_by_few_connections_and_each_as_itself() {
    let slugs = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
    let homes = SharedHomes::of(Server::shared().await, &slugs).await;
    let router = homes.router(RouterConfig { shared_pool_size: 3, ..patient() }).await;
    let borrowers = (0..48).map(|number| {
        let (router, home) = (router.clone(), &homes.tenants[number % slugs.len()]);
        let (slug, role) = (home.slug.clone(), home.app.clone());
        tokio::spawn(async move {
            for _ in 0..4 {
                let client = tenant(&router, slug.as_str()).await.client().await.expect("its turn");
                let probe = "SELECT concat_ws(' ', current_user, nullif(current_setting('my.mark', true), ''))";
                assert_eq!(answer(&client, probe).await, role);
                client.batch_execute(&format!("BEGIN; SET my.mark = '{number}'")).await.expect("set");
            }
        })
    });
    for borrower in borrowers.collect::<Vec<_>>() {
        borrower.await.expect("no leak");
    }
    assert!(homes.sessions().await <= 3);
}

#[tokio::test]
async fn a_caller_that_asks_again_at_once_opens_no_second_connection() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let config = RouterConfig { return_patience: Duration::from_secs(20), ..patient() };
    let router = homes.router(config).await;
    for slug in ["acme", "zenith"].repeat(20) {
        drop(tenant(&router, slug).await.client().await.expect("a connection"));
    }
    assert_eq!(homes.sessions().await, 1);
}

#[tokio::test]
async fn connections_that_nobody_needs_end_and_come_back() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let config = RouterConfig { idle_timeout: Duration::from_millis(100), ..patient() };
    let router = homes.router(config).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    assert_eq!((router.status().pools, homes.sessions().await), (0, 0));
    let held = join_all([acme.client(), zenith.client()]).await;
    homes.have_sessions(2).await;
    drop(held);
    homes.have_sessions(0).await;
    eventually("the pools are gone", async || router.status().pools == 0).await;
    drop(acme.client().await.expect("it comes back"));
}

#[tokio::test]
async fn a_connection_that_is_old_is_not_kept() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(RouterConfig { connection_lifetime: Duration::ZERO, ..patient() }).await;
    drop(tenant(&router, "acme").await.client().await.expect("a connection"));
    homes.have_sessions(0).await;
}

#[tokio::test]
async fn a_closed_router_leaves_no_session() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(patient()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let held = acme.client().await.expect("a connection");
    drop(zenith.client().await.expect("a connection"));
    router.close();
    drop(held);
    homes.have_sessions(0).await;
}

#[tokio::test]
async fn reports_count_shared_connections_once() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let server = FeedServer::start().await;
    server.add_cluster(homes.feed_cluster());
    for route in homes.routes() {
        server.publish(route);
    }
    let config = RouterConfig { report_interval: Duration::from_millis(50), ..patient() };
    let router = server.router().config(config).build().await.expect("started");
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let held = join_all([acme.client(), zenith.client()]).await;
    let tells = async |open: u32, idle: u32| {
        eventually("a report tells of them", async || {
            server.reports().last().is_some_and(|(_, report)| {
                let mut demands = report.clusters.iter().filter(|demand| demand.cluster == homes.cluster);
                report.pools == 2 && demands.any(|demand| (demand.open, demand.idle, demand.waiting) == (open, idle, 0))
            })
        })
        .await;
    };
    tells(2, 0).await;
    drop(held);
    tells(2, 2).await;
}
