//! The router follows the feed through whatever happens to it.

use std::time::Duration;

use tenantry_api::{Code, FeedEvent};
use tenantry_domain::{FeedVersion, Generation, Limits, Route, RouteState, SchemaVersion, Slug, TenantId};
use tenantry_router::{Router, RouterConfig, RouterError};
use tenantry_testkit::{Server, eventually};
use uuid::Uuid;

use crate::feed_server::FeedServer;
use crate::home::{Home, impatient};

/// A route that leads nowhere, for tests that open no connection.
pub(crate) fn unplaced(slug: &str) -> Route {
    Route {
        version: FeedVersion(0),
        tenant: TenantId::new(Uuid::now_v7()),
        slug: Slug::parse(slug).expect("a slug"),
        hosts: Vec::new(),
        state: RouteState::Suspended,
        generation: Generation(1),
        target: None,
        limits: Limits::default(),
        schema_version: SchemaVersion(0),
    }
}

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn reaches(router: &Router, version: FeedVersion) {
    assert!(router.await_version(version, SOON).await, "{router:?} does not reach {version}");
}

pub(crate) fn is_known(router: &Router, slug: &str) -> bool {
    !matches!(router.lookup(slug), Err(RouterError::Unknown { .. }))
}

#[tokio::test]
async fn changes_arrive_in_order_and_an_empty_catalog_is_a_start() {
    let server = FeedServer::start().await;
    let router = server.router().build().await.expect("started");
    assert_eq!(router.status().routes, 0);
    let mut last = FeedVersion(0);
    let acme = unplaced("acme");
    for number in 0..50 {
        server.publish(unplaced(&format!("t{number}")));
        last = server.publish(Route { schema_version: SchemaVersion(number), ..acme.clone() });
    }
    reaches(&router, last).await;
    assert_eq!(router.status().routes, 51);
    let gone = server.remove(acme.tenant);
    reaches(&router, gone).await;
    assert!(!is_known(&router, "acme"));
}

#[tokio::test]
async fn after_a_cut_the_feed_resumes_where_it_was_and_repetition_harms_nothing() {
    let server = FeedServer::start().await;
    let acme = unplaced("acme");
    server.publish(acme.clone());
    let router = server.router().build().await.expect("started");
    let mut version = server.version();
    for round in 0..5 {
        reaches(&router, version).await;
        server.cut();
        // Committed while nobody is connected, or just now: either way it arrives once.
        server.publish(unplaced(&format!("t{round}")));
        version = server.publish(unplaced(&format!("u{round}")));
    }
    reaches(&router, version).await;
    assert_eq!(router.status().routes, 11);
    let asked = server.asked();
    assert_eq!(asked[0], None);
    assert!(asked[1..].iter().all(Option::is_some) && asked[1..].is_sorted(), "{asked:?}");

    // What is older than what is known changes nothing.
    let mut old = acme.clone();
    old.version = FeedVersion(1);
    old.slug = Slug::parse("old-name").expect("a slug");
    server.say(&FeedEvent::Route(Box::new(old.into())));
    server.say(&FeedEvent::Removed { tenant: acme.tenant, version: FeedVersion(1) });
    reaches(&router, server.publish(unplaced("later"))).await;
    assert!(is_known(&router, "acme") && !is_known(&router, "old-name"));
}

#[tokio::test]
async fn rubbish_in_the_feed_is_survived_and_what_came_before_it_counts() {
    let server = FeedServer::start().await;
    let router = server.router().build().await.expect("started");
    for rubbish in
        ["rubbish\n", "{\"type\":\"route\"}\n", "[]\n", "\u{0}\u{1}\n", "{\"type\":\"rumour\",\"x\":1}\n", "\n\n"]
    {
        let version = server.publish(unplaced(&format!("t{}", server.version())));
        server.raw(rubbish);
        reaches(&router, version).await;
        reaches(&router, server.publish(unplaced(&format!("t{}", server.version())))).await;
    }
    assert_eq!(router.status().routes, 12);
}

#[tokio::test]
async fn a_snapshot_replaces_what_is_known_and_half_a_snapshot_takes_nothing_away() {
    let server = FeedServer::start().await;
    let (acme, zenith) = (unplaced("acme"), unplaced("zenith"));
    server.publish(acme.clone());
    server.publish(zenith.clone());
    let router = server.router().build().await.expect("started");

    let ahead = FeedVersion(server.version().0 + 1);
    server.say(&FeedEvent::SnapshotBegin { version: ahead, routes: None });
    server.cut();
    eventually("it is connected again", async || server.asked().len() >= 2 && router.status().is_connected).await;
    assert!(is_known(&router, "acme") && is_known(&router, "zenith"));

    server.compact();
    server.cut();
    // Nobody hears this, and the log is gone: only the snapshot can tell.
    let gone = server.remove(acme.tenant);
    reaches(&router, gone).await;
    eventually("the snapshot took the tenant out", async || !is_known(&router, "acme")).await;
    assert!(is_known(&router, "zenith"));
}

#[tokio::test]
async fn a_silent_feed_is_opened_anew() {
    let server = FeedServer::start().await;
    let config = RouterConfig { feed_idle_timeout: Duration::from_millis(100), ..RouterConfig::default() };
    let router = server.router().config(config).build().await.expect("started");
    eventually("it asks again", async || server.asked().len() >= 3).await;
    reaches(&router, server.publish(unplaced("acme"))).await;
}

#[tokio::test]
async fn with_the_control_plane_gone_known_tenants_are_served() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    server.publish(home.route());
    let router = server.router().build().await.expect("started");
    server.refuse(Some(Code::Unavailable));
    server.cut();
    eventually("the router noticed", async || !router.status().is_connected).await;
    let tenant = router.tenant("acme").await.expect("still known");
    for _ in 0..3 {
        tenant.client().await.expect("still served").batch_execute("SELECT 1").await.expect("run");
    }
    server.refuse(None);
    eventually("it is connected again", async || router.status().is_connected).await;
}

#[tokio::test]
async fn a_router_that_may_not_read_the_feed_says_so_at_once() {
    let server = FeedServer::start().await;
    server.refuse(Some(Code::Forbidden));
    let error = server.router().build().await.expect_err("refused");
    assert!(matches!(error, RouterError::NotStarted { source: Some(_) }), "{error:?}");

    let config = RouterConfig { start_timeout: Duration::from_millis(200), ..RouterConfig::default() };
    server.refuse(Some(Code::Unavailable));
    assert!(server.router().config(config).build().await.is_err());
    assert!(matches!(Router::builder().build().await, Err(RouterError::Refused { .. })));
    let in_the_clear = Router::builder().control_plane("http://10.0.0.1", tenantry_domain::Secret::new("t".into()));
    assert!(matches!(in_the_clear.build().await, Err(RouterError::Refused { .. })));
}

#[tokio::test]
async fn a_router_is_ready_when_it_was_told_everything_and_not_at_the_end_of_a_snapshot() {
    let server = FeedServer::start().await;
    server.be_unsure();
    server.publish(unplaced("acme"));
    let mut building = std::pin::pin!(server.router().build());
    let patience = tokio::time::timeout(Duration::from_millis(300), &mut building).await;
    assert!(patience.is_err() && server.asked().len() == 1, "the snapshot may be old");
    let version = server.publish(unplaced("newer"));
    server.say(&FeedEvent::Heartbeat { version });
    let router = building.await.expect("started");
    assert!(is_known(&router, "acme") && is_known(&router, "newer"));
    assert_eq!(router.status().applied_version, version);

    // Where nobody can tell what is newer, it serves what it knows; a router that knows nothing does not start.
    let config = || RouterConfig { start_timeout: Duration::from_millis(300), ..RouterConfig::default() };
    let unsure = server.router().config(config()).build().await.expect("started");
    assert!(is_known(&unsure, "newer"));
    server.fall_silent(true);
    let refused = server.router().config(config()).build().await;
    assert!(matches!(refused, Err(RouterError::NotStarted { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_raised_generation_retires_connections_but_not_in_the_middle_of_a_transaction() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    server.publish(home.route());
    let router = server.router().build().await.expect("started");
    let tenant = router.tenant("acme").await.expect("found");
    let mut client = tenant.client().await.expect("a connection");
    let transaction = client.transaction().await.expect("begun");
    transaction.execute("INSERT INTO flights VALUES (1, 'on its way')", &[]).await.expect("inserted");

    home.admin().await.batch_execute("UPDATE tenantry.stamp SET generation = 2").await.expect("stamped");
    let moved = server.publish(Route { generation: Generation(2), ..home.route() });
    reaches(&router, moved).await;
    let second = tenant.client().await.expect("a connection of the new generation");
    transaction.commit().await.expect("the old transaction ends in peace");
    drop(client);
    assert_eq!(second.query("SELECT * FROM flights", &[]).await.expect("read").len(), 1);
    eventually("only the new session is left", async || home.sessions().await == 1).await;

    // A generation that falls is no news.
    let fallen = server.publish(Route { generation: Generation(1), ..home.route() });
    reaches(&router, fallen).await;
    assert_eq!(router.tenant("acme").await.expect("found").generation(), Generation(2));
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_and_its_idle_sessions_end() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    server.publish(home.route());
    let router = server.router().build().await.expect("started");
    let tenant = router.tenant("acme").await.expect("found");
    drop(tenant.client().await.expect("a connection"));
    let suspended = server.publish(Route { state: RouteState::Suspended, ..home.route() });
    reaches(&router, suspended).await;
    assert!(matches!(tenant.client().await, Err(RouterError::Suspended { .. })));
    eventually("its session ended", async || home.sessions().await == 0).await;
    server.publish(home.route());
    let again = router.await_tenant("acme", SOON).await.expect("resumed");
    drop(again.client().await.expect("a connection"));
    let gone = server.remove(home.tenant);
    reaches(&router, gone).await;
    assert!(matches!(tenant.client().await, Err(RouterError::Unknown { .. })));
}

#[tokio::test]
async fn callers_of_a_moving_tenant_are_held_until_it_has_moved() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    server.publish(Route { state: RouteState::Moving, ..home.route() });
    let config = RouterConfig { pause_budget: SOON, ..RouterConfig::default() };
    let router = server.router().config(config).build().await.expect("started");
    let held = tokio::spawn({
        let router = router.clone();
        async move { router.tenant("acme").await?.client().await.map(drop) }
    });
    assert!(matches!(router.lookup("acme"), Err(RouterError::Moving { .. })));
    server.publish(home.route());
    held.await.expect("no panic").expect("served after the move");
}

#[tokio::test]
async fn a_changed_password_is_used_without_an_error() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    server.publish(home.route());
    let router = server.router().config(impatient()).build().await.expect("started");
    let tenant = router.tenant("acme").await.expect("found");
    drop(tenant.client().await.expect("with the old one"));
    let statement = format!("ALTER ROLE {} PASSWORD 'n3w'", home.login.name);
    home.admin().await.batch_execute(&statement).await.expect("altered");
    let mut route = home.route();
    if let Some(target) = &mut route.target {
        target.credential.password = Some(tenantry_domain::Secret::new("n3w".to_owned()));
    }
    reaches(&router, server.publish(route)).await;
    drop(tenant.client().await.expect("with the new one"));
}

#[tokio::test]
async fn statements_are_prepared_anew_after_a_migration() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    server.publish(home.route());
    let router = server.router().build().await.expect("started");
    let tenant = router.tenant("acme").await.expect("found");
    let columns = async || {
        let client = tenant.client().await.expect("a connection");
        let statement = client.prepare_cached("SELECT * FROM flights").await.expect("prepared");
        client.query(&statement, &[]).await.map(|_| statement.columns().len())
    };
    assert_eq!(columns().await.expect("run"), 2);
    home.admin().await.batch_execute("ALTER TABLE flights ADD gate text").await.expect("migrated");
    reaches(&router, server.publish(Route { schema_version: SchemaVersion(2), ..home.route() })).await;
    assert_eq!(columns().await.expect("run"), 3);
}

#[tokio::test]
async fn the_router_reports_what_it_applied_and_what_it_holds() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    server.publish(home.route());
    let config = RouterConfig { report_interval: Duration::from_millis(50), ..RouterConfig::default() };
    let router = server.router().name("checkout/1").config(config).build().await.expect("started");
    let tenant = router.tenant("acme").await.expect("found");
    let _client = tenant.client().await.expect("a connection");
    let version = server.version();
    eventually("a report tells of the connection", async || {
        server.reports().last().is_some_and(|(name, report)| {
            name == "checkout/1"
                && report.applied_version == version
                && (report.routes, report.pools) == (1, 1)
                && report.clusters.iter().any(|demand| demand.cluster == home.cluster && demand.open == 1)
        })
    })
    .await;
}

#[tokio::test]
async fn a_dropped_router_leaves_the_feed_alone() {
    let server = FeedServer::start().await;
    let config = RouterConfig { feed_idle_timeout: Duration::from_millis(50), ..RouterConfig::default() };
    let router = server.router().config(config).build().await.expect("started");
    eventually("it asks again and again", async || server.asked().len() >= 2).await;
    drop(router);
    let asked = server.asked().len();
    tokio::time::sleep(Duration::from_millis(400)).await;
    // One attempt may have been on its way.
    assert!(server.asked().len() <= asked + 1);
}
