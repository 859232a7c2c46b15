//! Programs that work with some versions of a tenant's schema only.

use std::time::Duration;

use tenantry_domain::{Route, SchemaVersion};
use tenantry_router::{Router, RouterError, Tenant};
use tenantry_testkit::Server;

use crate::feed_server::FeedServer;
use crate::home::Home;

const SOON: Duration = Duration::from_secs(30);

/// A tenant at version 12, and a way to raise that.
async fn at_version_12(home: &Home<'_>) -> (FeedServer, Router, Tenant) {
    let feed = FeedServer::start().await;
    feed.add_cluster(home.feed_cluster());
    feed.publish(Route { schema_version: SchemaVersion(12), ..home.route() });
    let router = feed.router().build().await.expect("a router");
    let tenant = router.tenant("acme").await.expect("a tenant");
    (feed, router, tenant)
}

async fn raise(feed: &FeedServer, router: &Router, home: &Home<'_>, version: i64) {
    let raised = feed.publish(Route { schema_version: SchemaVersion(version), ..home.route() });
    assert!(router.await_version(raised, SOON).await);
}

#[tokio::test]
async fn a_schema_that_is_behind_or_ahead_is_an_error_of_its_own() {
    let home = Home::on(Server::shared().await, "acme").await;
    let (_feed, router, tenant) = at_version_12(&home).await;
    drop(tenant.at_least(12).await.expect("as it is").client().await.expect("a connection"));
    assert_eq!(tenant.within(10..=12).await.expect("as it is").schema_version(), SchemaVersion(12));
    let behind = tenant.at_least(13).await.expect_err("not there yet");
    assert!(behind.is_retryable() && behind.retry_after().is_some(), "{behind}");
    assert!(behind.to_string().contains("is at version 12; this program works with at least version 13"), "{behind}");
    let ahead = tenant.within(..12).await.expect_err("never again");
    assert!(!ahead.is_retryable() && ahead.retry_after().is_none(), "{ahead}");
    let again = tenant.await_within(..12, SOON).await.expect_err("nothing to wait for");
    assert!(matches!(again, RouterError::SchemaVersion { version: SchemaVersion(12), .. }), "{again}");
    drop(router);
}

#[tokio::test]
async fn every_checkout_looks_at_the_version_as_it_is_then() {
    let home = Home::on(Server::shared().await, "acme").await;
    let (feed, router, tenant) = at_version_12(&home).await;
    let old = tenant.within(..=12).await.expect("as it is");
    drop(old.client().await.expect("a connection"));
    raise(&feed, &router, &home, 13).await;
    let refused = old.client().await.expect_err("the schema has gone on");
    assert!(matches!(refused, RouterError::SchemaVersion { version: SchemaVersion(13), .. }), "{refused}");
    let reading = old.read_only().client().await.expect_err("whatever it is for");
    assert!(matches!(reading, RouterError::SchemaVersion { .. }), "{reading}");
    drop(tenant.client().await.expect("who asks for nothing gets what is there"));
}

#[tokio::test]
async fn a_schema_that_is_behind_is_waited_for() {
    let home = Home::on(Server::shared().await, "acme").await;
    let (feed, router, tenant) = at_version_12(&home).await;
    let impatient = tenant.await_within(13.., Duration::from_millis(50)).await.expect_err("not in time");
    assert!(matches!(impatient, RouterError::SchemaVersion { version: SchemaVersion(12), .. }), "{impatient}");
    let waiting = tokio::spawn(async move { tenant.await_within(13.., SOON).await });
    raise(&feed, &router, &home, 13).await;
    let new = waiting.await.expect("no panic").expect("a schema that will do");
    assert_eq!(new.schema_version(), SchemaVersion(13));
    drop(new.client().await.expect("a connection"));
}
