//! A router that may not use old routes says so.

use std::time::Duration;

use tenantry_api::{Code, FeedEvent};
use tenantry_domain::{FeedVersion, RouteState, Secret};
use tenantry_router::{HealthState, RouteSource, Router, RouterConfig, RouterError, SnapshotKey};
use tenantry_testkit::{Server, eventually};

use crate::feed::{is_known, unplaced};
use crate::feed_server::FeedServer;
use crate::home::Home;

fn config(staleness_max: Duration) -> RouterConfig {
    RouterConfig { staleness_max: Some(staleness_max), ..RouterConfig::default() }
}

fn is_too_stale<T>(outcome: &Result<T, RouterError>) -> bool {
    matches!(outcome, Err(error @ RouterError::TooStale { .. }) if error.is_retryable() && error.retry_after().is_some())
}

#[tokio::test]
async fn past_the_limit_nobody_is_served_until_the_control_plane_is_heard() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    let version = server.publish(home.route());
    let limit = Duration::from_millis(500);
    let router = server.router().config(config(limit)).build().await.expect("started");
    let heartbeat = FeedEvent::Heartbeat { version };
    let mut tenant = None;
    eventually("it is served while the feed is heard", async || {
        server.say(&heartbeat);
        tokio::time::sleep(Duration::from_millis(5)).await;
        tenant = router.tenant("acme").await.ok();
        match &tenant {
            Some(tenant) => tenant.client().await.is_ok(),
            None => false,
        }
    })
    .await;
    let tenant = tenant.expect("found");
    eventually("the routes are too old", async || is_too_stale(&router.lookup("acme"))).await;
    assert!(is_too_stale(&router.tenant("acme").await), "known tenants");
    assert!(is_too_stale(&router.tenant("nobody").await), "nor is anybody said not to exist");
    assert!(is_too_stale(&tenant.client().await), "with a connection that is idle");
    assert!(is_too_stale(&tenant.read_only().client().await), "and without");
    assert!(is_too_stale(&tenant.at_least(0).await));
    let health = router.health();
    assert_eq!((health.state, health.status.is_connected), (HealthState::Unavailable, true));
    assert!(health.status.age.expect("heard") > limit);
    eventually("it is served again", async || {
        server.say(&heartbeat);
        tokio::time::sleep(Duration::from_millis(5)).await;
        tenant.client().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn without_a_limit_or_with_fixed_routes_age_is_told_and_harms_nobody() {
    let server = FeedServer::start().await;
    server.publish(unplaced("acme"));
    let router = server.router().build().await.expect("started");
    server.refuse(Some(Code::Unavailable));
    server.cut();
    eventually("it is cut off", async || router.health().state == HealthState::Degraded).await;
    assert!(is_known(&router, "acme") && router.health().reason.is_some());
    let mut acme = unplaced("acme");
    (acme.version, acme.state) = (FeedVersion(1), RouteState::Suspended);
    let fixed = Router::builder().fixed(vec![acme], Vec::new()).config(config(Duration::ZERO)).build().await;
    let fixed = fixed.expect("a router");
    assert!(matches!(fixed.lookup("acme"), Err(RouterError::Suspended { .. })));
    let status = fixed.status();
    assert_eq!((status.source, status.age, fixed.health().state), (RouteSource::Fixed, None, HealthState::Healthy));
}

#[tokio::test]
async fn the_age_of_a_snapshot_counts() {
    let (server, folder) = (FeedServer::start().await, tempfile::tempdir().expect("a folder"));
    server.publish(unplaced("acme"));
    let key = Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned());
    let key = SnapshotKey::parse(&key).expect("a key");
    let router = || server.router().snapshot_file(folder.path().join("routes"), key.clone());
    router().build().await.expect("started").closed().await;
    server.refuse(Some(Code::Unavailable));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let started = router().config(config(Duration::from_millis(10))).build().await.expect("started");
    assert!(is_too_stale(&started.lookup("acme")));
    assert_eq!(started.status().source, RouteSource::Snapshot);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn health_and_staleness_are_answers_of_a_service() {
    use axum::response::IntoResponse;

    let server = FeedServer::start().await;
    let router = server.router().config(config(Duration::ZERO)).build().await.expect("started");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let answer = router.lookup("acme").expect_err("too old").into_response();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].as_bytes()), (503, b"1".as_slice()));
    let answer = router.health().into_response();
    assert_eq!(answer.status().as_u16(), 503);
    let body = axum::body::to_bytes(answer.into_body(), 10_000).await.expect("a body");
    let shown: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&shown["state"], &shown["source"]), (&"unavailable".into(), &"feed".into()), "{shown}");
    let fixed = Router::builder().fixed(Vec::new(), Vec::new()).build().await.expect("a router");
    assert_eq!(fixed.health().into_response().status().as_u16(), 200);
}
