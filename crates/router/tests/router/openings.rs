//! A tenant's connections are opened no faster than its limit allows; whoever comes meanwhile waits.

use std::sync::Mutex;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tenantry_api::ClusterDemand;
use tenantry_domain::{Limits, Route};
use tenantry_router::{RequestLimit, Router, RouterConfig, RouterError, Tenant};
use tenantry_testkit::{Server, eventually};
use tokio::time::{Instant, timeout};

use crate::feed_server::FeedServer;
use crate::home::{Home, impatient, patient};

fn opening(home: &Home<'_>, per_second: Option<u32>, pool_size: u32) -> Route {
    let limits = Limits { connections_per_second: per_second, pool_size: Some(pool_size), ..Limits::default() };
    Route { limits, ..home.route() }
}

async fn tenant_of(home: &Home<'_>, route: Route, config: RouterConfig) -> Tenant {
    home.router_with(route, config).await.tenant("acme").await.expect("found")
}

fn is_too_fast(error: &RouterError) -> bool {
    matches!(error, RouterError::LimitExceeded { limit: RequestLimit::Openings, .. })
        && error.is_retryable()
        && error.retry_after().is_some_and(|after| after > Duration::ZERO && after <= Duration::from_secs(1))
        && error.to_string().contains("connections_per_second")
}

#[tokio::test]
async fn the_next_connections_are_waited_for_in_the_order_of_the_callers() {
    let home = Home::on(Server::shared().await, "acme").await;
    let tenant = tenant_of(&home, opening(&home, Some(4), 7), patient()).await;
    let (began, served) = (Instant::now(), Mutex::new(Vec::new()));
    // Nobody gives anything back before all have one.
    let clients = try_join_all((0..7).map(async |number| {
        let client = tenant.client().await?;
        served.lock().expect("no panic").push(number);
        Ok::<_, RouterError>(client)
    }));
    let clients = clients.await.expect("all are served");
    // A second's worth comes at once; no faster than so is what the limit says.
    assert!(began.elapsed() >= Duration::from_millis(3 * 250), "{:?}", began.elapsed());
    // The first four were opened side by side.
    let waited = served.into_inner().expect("no panic").into_iter().filter(|number| *number > 3);
    assert_eq!(waited.collect::<Vec<_>>(), [4, 5, 6]);
    drop(clients);
    // Connections that are there may be borrowed as often as one likes.
    for _ in 0..50 {
        tenant.client().await.expect("idle").batch_execute("SELECT 1").await.expect("run");
    }
}

#[tokio::test]
async fn a_wait_for_the_limit_has_an_end_and_takes_what_is_given_back_meanwhile() {
    let home = Home::on(Server::shared().await, "acme").await;
    let config = RouterConfig { wait_timeout: Duration::from_millis(300), ..patient() };
    let tenant = tenant_of(&home, opening(&home, Some(1), 100), config).await;
    // Whoever is first waits for the limit, and the others for that one; all are told. On a slow machine some get one.
    let mut held = Vec::new();
    loop {
        let outcomes = join_all((0..3).map(|_| tenant.client())).await;
        let mut refused = 0;
        for outcome in outcomes {
            match outcome {
                Ok(client) => held.push(client),
                Err(error) => {
                    assert!(is_too_fast(&error), "{error:?}");
                    refused += 1;
                }
            }
        }
        if refused > 1 {
            break;
        }
    }
    let (waited, ()) = tokio::join!(tenant.client(), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(held);
    });
    waited.expect("given back").batch_execute("SELECT 1").await.expect("run");
}

#[tokio::test]
async fn reading_and_writing_count_together_and_other_tenants_do_not() {
    let server = Server::shared().await;
    let (acme, zenith) = (Home::on(server, "acme").await, Home::on(server, "zenith").await);
    let mut theirs = zenith.route();
    theirs.limits.pool_size = Some(5);
    let routes = vec![opening(&acme, Some(1), 100), theirs];
    let builder = Router::builder().fixed(routes, vec![acme.feed_cluster(), zenith.feed_cluster()]);
    let router = builder.config(impatient()).build().await.expect("a router");
    let (acme, zenith) = (router.tenant("acme").await.expect("found"), router.tenant("zenith").await.expect("found"));
    let reader = acme.read_only();
    let mut held = Vec::new();
    loop {
        match acme.client().await {
            Ok(client) => held.push(client),
            Err(error) => assert!(is_too_fast(&error), "{error:?}"),
        }
        match reader.client().await {
            // The machine is slow: a second has passed.
            Ok(client) => held.push(client),
            Err(error) => {
                assert!(is_too_fast(&error), "{error:?}");
                break;
            }
        }
    }
    let _theirs = try_join_all((0..5).map(|_| zenith.client())).await.expect("a tenant without the limit");
}

#[tokio::test]
async fn a_changed_limit_holds_at_once_for_those_who_wait_already() {
    let home = Home::on(Server::shared().await, "acme").await;
    let feed = FeedServer::start().await;
    feed.add_cluster(home.feed_cluster());
    feed.publish(opening(&home, Some(1), 40));
    // Not enough for forty at one in a second.
    let config = RouterConfig { wait_timeout: Duration::from_secs(20), ..patient() };
    let router = feed.router().config(config).build().await.expect("a router");
    let tenant = router.tenant("acme").await.expect("found");
    let mut waiting = Box::pin(try_join_all((0..40).map(|_| tenant.client())));
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "one in a second");
    feed.publish(opening(&home, Some(1_000), 40));
    assert_eq!(waiting.await.expect("all are served").len(), 40);
}

#[tokio::test]
async fn who_waits_for_the_limit_needs_no_more_of_the_clusters_connections() {
    let home = Home::on(Server::shared().await, "acme").await;
    let feed = FeedServer::start().await;
    feed.add_cluster(home.feed_cluster());
    feed.publish(opening(&home, Some(1), 40));
    let config = RouterConfig { report_interval: Duration::from_millis(20), ..patient() };
    let reported = async |what: &str, is_so: &dyn Fn(&ClusterDemand) -> bool| {
        let before = feed.reports().len();
        eventually(what, async || feed.reports()[before..].iter().flat_map(|(_, report)| &report.clusters).any(is_so))
            .await;
    };
    let router = feed.router().config(config.clone()).build().await.expect("a router");
    let tenant = router.tenant("acme").await.expect("found");
    let mut waiting = Box::pin(try_join_all((0..40).map(|_| tenant.client())));
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "one in a second");
    reported("it needs what it has", &|demand| demand.open > 0 && demand.waiting == 0).await;
    drop(waiting);
    router.close();

    // Where the router may have no more it is another matter.
    feed.publish(opening(&home, None, 40));
    let config = RouterConfig { cluster_connections_max: 1, ..config };
    let router = feed.router().config(config).build().await.expect("a router");
    let tenant = router.tenant("acme").await.expect("found");
    let _held = tenant.client().await.expect("the only one");
    let mut waiting = Box::pin(tenant.client());
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "there is no other");
    reported("it needs one more", &|demand| demand.waiting == 1).await;
}
