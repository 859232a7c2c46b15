//! Each tenant's requests are held to its limits, whoever asks.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{join_all, try_join_all};
use tenantry_domain::{Limits, Route};
use tenantry_router::{RequestLimit, Router, RouterConfig, RouterError, Tenant, TenantId};
use tenantry_testkit::Server;
use uuid::Uuid;

use crate::feed_server::FeedServer;
use crate::home::{Home, impatient, patient};

pub(crate) fn at_once(concurrent: u32, queued: u32) -> Limits {
    Limits { concurrent_requests: Some(concurrent), queued_requests: Some(queued), ..Limits::default() }
}

pub(crate) fn limited(home: &Home<'_>, limits: Limits) -> Route {
    Route { limits, ..home.route() }
}

async fn tenant_with(limits: Limits, config: RouterConfig) -> Tenant {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router_with(limited(&home, limits), config).await;
    router.tenant("acme").await.expect("found")
}

fn limit_of(error: &RouterError) -> RequestLimit {
    match error {
        RouterError::LimitExceeded { limit, .. } => *limit,
        other => panic!("no limit: {other}"),
    }
}

#[tokio::test]
async fn a_rate_is_counted_over_all_handles_and_names_the_time_to_come_back() {
    let tenant = tenant_with(Limits { requests_per_minute: Some(2), ..Limits::default() }, patient()).await;
    let _ended = tenant.admit().await.expect("the first");
    let again = tenant.read_only();
    assert_eq!(again.admit().await.expect("the second").tenant(), tenant.id());
    let error = tenant.admit().await.expect_err("one too many");
    assert_eq!(limit_of(&error), RequestLimit::PerMinute);
    let retry_after = error.retry_after().expect("a time");
    assert!(error.is_retryable() && retry_after > Duration::ZERO && retry_after <= Duration::from_secs(30), "{error}");
    assert!(error.to_string().contains("requests_per_minute"), "{error}");
}

#[tokio::test]
async fn a_tenant_without_limits_waits_for_nobody() {
    let tenant = tenant_with(Limits::default(), patient()).await;
    let permits = try_join_all((0..2_000).map(|_| tenant.admit())).await;
    assert_eq!(permits.expect("all of them").len(), 2_000);
}

#[tokio::test]
async fn waiting_requests_run_in_their_order_and_one_that_is_dropped_gives_its_place_back() {
    let tenant = tenant_with(at_once(1, 2), patient()).await;
    let first = tenant.admit().await.expect("room");
    let mut second = Box::pin(tenant.admit());
    let mut third = Box::pin(tenant.admit());
    assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
    let error = tenant.admit().await.expect_err("the queue is full");
    assert_eq!(limit_of(&error), RequestLimit::Queued);
    drop(second);
    let mut fourth = pin!(tenant.admit());
    assert!((&mut fourth).now_or_never().is_none(), "there is a place in the queue, behind the third");
    drop(first);
    assert!((&mut fourth).now_or_never().is_none());
    drop(third.await.expect("its turn"));
    let _permit = fourth.await.expect("its turn");
}

#[tokio::test]
async fn a_wait_has_an_end_and_none_begins_where_none_may() {
    let config = RouterConfig { admission_timeout: Duration::from_millis(20), ..impatient() };
    let tenant = tenant_with(at_once(1, 5), config).await;
    let held = tenant.admit().await.expect("room");
    let error = tenant.admit().await.expect_err("nobody ends");
    assert_eq!(limit_of(&error), RequestLimit::Concurrent);
    drop(held);
    let _permit = tenant.admit().await.expect("the one that gave up holds nothing");

    let tenant = tenant_with(at_once(1, 0), patient()).await;
    let _held = tenant.admit().await.expect("room");
    assert_eq!(limit_of(&tenant.admit().await.expect_err("no queue")), RequestLimit::Concurrent);
}

#[tokio::test]
async fn the_router_bounds_queues_that_no_limit_bounds() {
    let limits = Limits { concurrent_requests: Some(1), ..Limits::default() };
    let tenant = tenant_with(limits, RouterConfig { queued_requests_max: 1, ..patient() }).await;
    let _held = tenant.admit().await.expect("room");
    let mut waiting = pin!(tenant.admit());
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(limit_of(&tenant.admit().await.expect_err("full")), RequestLimit::Queued);
}

#[tokio::test]
async fn a_change_on_the_feed_holds_at_once() {
    let home = Home::on(Server::shared().await, "acme").await;
    let feed = FeedServer::start().await;
    feed.add_cluster(home.feed_cluster());
    feed.publish(limited(&home, at_once(1, 5)));
    let config = RouterConfig { admission_timeout: Duration::from_mins(1), ..patient() };
    let router = feed.router().config(config).build().await.expect("a router");
    let tenant = router.tenant("acme").await.expect("found");
    let first = tenant.admit().await.expect("room");
    let mut waiting = Box::pin(tenant.admit());
    assert!((&mut waiting).now_or_never().is_none());
    feed.publish(limited(&home, at_once(2, 5)));
    let second = waiting.await.expect("room for two now");
    // Lowered again it ends nobody, and lets nobody in before both have ended.
    let version = feed.publish(limited(&home, at_once(1, 0)));
    assert!(router.await_version(version, Duration::from_mins(1)).await);
    drop(first);
    assert_eq!(limit_of(&tenant.admit().await.expect_err("one runs")), RequestLimit::Concurrent);
    drop(second);
    drop(tenant.admit().await.expect("room"));
    // The handle was looked up before all this, and a tenant that is gone is not let through.
    let version = feed.remove(home.tenant);
    assert!(router.await_version(version, Duration::from_mins(1)).await);
    assert!(matches!(tenant.admit().await, Err(RouterError::Unknown { .. })));
}

#[tokio::test]
async fn one_tenant_at_its_limit_is_nothing_to_another() {
    let home = Home::on(Server::shared().await, "acme").await;
    let acme = limited(&home, Limits { requests_per_minute: Some(1), ..at_once(1, 0) });
    let zenith =
        Route { tenant: TenantId::new(Uuid::from_u128(9)), slug: "zenith".parse().expect("a slug"), ..acme.clone() };
    let builder = Router::builder().fixed(vec![acme, zenith], vec![home.feed_cluster()]);
    let router = builder.build().await.expect("a router");
    let (acme, zenith) = (router.lookup("acme").expect("found"), router.lookup("zenith").expect("found"));
    let _held = acme.admit().await.expect("room");
    assert!(acme.admit().await.is_err());
    let _other = zenith.admit().await.expect("room of its own");
}

#[tokio::test]
async fn a_closed_router_lets_nobody_wait() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router_with(limited(&home, at_once(1, 5)), patient()).await;
    let tenant = router.tenant("acme").await.expect("found");
    let _held = tenant.admit().await.expect("room");
    let mut waiting = pin!(tenant.admit());
    assert!((&mut waiting).now_or_never().is_none());
    router.close();
    assert!(matches!(waiting.await, Err(RouterError::Closed)));
    assert!(matches!(tenant.admit().await, Err(RouterError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_run_than_may_and_everybody_gets_a_turn() {
    let config = RouterConfig { admission_timeout: Duration::from_mins(1), ..patient() };
    let tenant = tenant_with(at_once(3, 1_000), config).await;
    let running = Arc::new(AtomicUsize::new(0));
    let tasks = (0..200).map(|number: u32| {
        let (tenant, running) = (tenant.clone(), Arc::clone(&running));
        tokio::spawn(async move {
            if number.is_multiple_of(5) {
                // Some give up at once, wherever they are.
                drop(tokio::time::timeout(Duration::ZERO, tenant.admit()).await);
                return 0;
            }
            let permit = tenant.admit().await.expect("a turn");
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
            now
        })
    });
    let seen = join_all(tasks).await.into_iter().map(|now| now.expect("no panic"));
    assert!(seen.max() <= Some(3));
}
