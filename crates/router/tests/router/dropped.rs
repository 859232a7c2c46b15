//! Callers that go away in the middle of anything: their connections come back clean, and none is lost.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tenantry_router::{Router, RouterConfig, RouterError, Tenant};
use tenantry_testkit::{Server, eventually};

use crate::home::{Home, patient};

/// More often than anything here is polled.
pub(crate) const POLLS_MAX: usize = 200;

/// Polls a future so many times, each when it was woken, and drops it then; `None` where it was not done.
pub(crate) async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Leaves a setting and an open transaction behind, wherever it is left.
async fn work(tenant: &Tenant) -> Result<(), RouterError> {
    let mut client = tenant.client().await?;
    client.batch_execute("SET statement_timeout = '17s'").await.expect("set");
    let transaction = client.transaction().await.expect("begun");
    transaction.execute("INSERT INTO flights VALUES (1, 'left behind')", &[]).await.expect("inserted");
    transaction.query("SELECT pg_catalog.pg_sleep(0.001)", &[]).await.expect("queried");
    transaction.rollback().await.expect("rolled back");
    Ok(())
}

async fn is_clean(tenant: &Tenant, after: usize) {
    let client = tenant.client().await.unwrap_or_else(|error| panic!("after {after} polls: {error}"));
    let query = "SELECT pg_catalog.current_setting('statement_timeout'), count(*) FROM flights";
    let row = client.query_one(query, &[]).await.unwrap_or_else(|error| panic!("after {after} polls: {error}"));
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("0", 0), "after {after} polls");
}

/// What the router holds is what it counts: one connection at most.
async fn none_is_lost(home: &Home<'_>) {
    eventually("no connection is left over", async || home.sessions().await <= 1).await;
}

#[tokio::test]
async fn work_that_is_dropped_at_any_point_leaves_nothing_behind() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let mut polls = 1;
    while cut(work(&tenant), polls).await.is_none() {
        is_clean(&tenant, polls).await;
        polls += 1;
        assert!(polls < POLLS_MAX);
    }
    assert!(polls > 4, "it was dropped {polls} times only");
    is_clean(&tenant, polls).await;
    none_is_lost(&home).await;
}

#[tokio::test]
async fn opening_a_connection_that_is_dropped_at_any_point_leaves_room_for_the_next() {
    let home = Home::on(Server::shared().await, "acme").await;
    let config = RouterConfig { cluster_connections_max: 1, ..patient() };
    let mut polls = 1;
    loop {
        // Nothing is open yet.
        let router = home.router_with(home.route(), config.clone()).await;
        let tenant = router.tenant("acme").await.expect("found");
        let is_done = cut(tenant.client(), polls).await.is_some();
        is_clean(&tenant, polls).await;
        router.close();
        if is_done {
            break;
        }
        polls += 1;
        assert!(polls < POLLS_MAX);
    }
    assert!(polls > 2, "it was dropped {polls} times only");
    eventually("all are closed", async || home.sessions().await == 0).await;
}

#[tokio::test]
async fn a_caller_that_stops_waiting_takes_nothing_from_the_others() {
    let server = Server::shared().await;
    let (acme, zenith) = (Home::on(server, "acme").await, Home::on(server, "zenith").await);
    let config = RouterConfig { cluster_connections_max: 1, ..patient() };
    // Both on what counts as one cluster.
    let mut route = zenith.route();
    if let Some(target) = &mut route.target {
        target.cluster = acme.cluster;
    }
    let builder = Router::builder().fixed(vec![acme.route(), route], vec![acme.feed_cluster()]);
    let router = builder.config(config).build().await.expect("a router");
    let (acme, zenith) = (router.tenant("acme").await.expect("found"), router.tenant("zenith").await.expect("found"));
    for polls in 1..8 {
        for waits_for in [&acme, &zenith] {
            let held = acme.client().await.expect("a connection");
            let others = async {
                let stays = tokio::spawn({
                    let zenith = zenith.clone();
                    async move { zenith.client().await.map(drop) }
                });
                // Woken by others' returns too, so it may get one.
                let gave_up = tokio::time::timeout(std::time::Duration::from_millis(5), cut(waits_for.client(), polls));
                drop(gave_up.await);
                drop(held);
                stays.await.expect("no panic").expect("served");
            };
            others.await;
            is_clean(&acme, polls).await;
            is_clean(&zenith, polls).await;
        }
    }
}
