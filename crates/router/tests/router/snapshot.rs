//! A router that starts while the control plane is away serves from its snapshot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use tenantry_api::{Code, FeedEvent};
use tenantry_domain::{FeedVersion, Generation, Route, Secret};
use tenantry_router::{HealthState, RouteSource, Router, RouterBuilder, RouterConfig, RouterError, SnapshotKey};
use tenantry_testkit::{Server, eventually};

use crate::feed::{is_known, reaches, unplaced};
use crate::feed_server::FeedServer;
use crate::home::Home;

/// A folder of its own, and the file in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("routes.snapshot")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

fn key(seed: u8) -> SnapshotKey {
    let bytes: [u8; 32] = std::array::from_fn(|place| u8::try_from(place).expect("small") ^ seed);
    SnapshotKey::parse(&Secret::new(base64::engine::general_purpose::STANDARD.encode(bytes))).expect("a key")
}

/// A router that neither waits long nor writes often.
fn hasty() -> RouterConfig {
    RouterConfig {
        start_timeout: Duration::from_millis(500),
        snapshot_interval: Duration::from_hours(1),
        ..RouterConfig::default()
    }
}

fn router(server: &FeedServer, place: &Place) -> RouterBuilder {
    server
        .router()
        .snapshot_file(place.file(), key(0))
        .config(RouterConfig { start_timeout: Duration::from_mins(1), ..hasty() })
}

fn away(server: &FeedServer) {
    server.refuse(Some(Code::Unavailable));
    server.cut();
}

#[tokio::test]
async fn with_the_control_plane_away_a_router_starts_from_its_snapshot_and_goes_on_from_there() {
    let home = Home::on(Server::shared().await, "acme").await;
    let (server, place) = (FeedServer::start().await, Place::new());
    server.add_cluster(home.feed_cluster());
    let gone = unplaced("gone");
    server.publish(gone.clone());
    let version = server.publish(home.route());
    let first = router(&server, &place).build().await.expect("started");
    assert_eq!(first.health().state, HealthState::Healthy);
    first.closed().await;
    assert_eq!(first.health().state, HealthState::Unavailable);
    assert_eq!(place.names(), ["routes.snapshot"], "nothing else is left");
    let bytes = fs::read(place.file()).expect("written");
    assert_eq!(fs::metadata(place.file()).expect("written").permissions().mode() & 0o777, 0o600);
    for secret in [b"acme".as_slice(), home.login.password.as_bytes(), home.login.name.as_bytes()] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "it is in the clear");
    }

    away(&server);
    let second = router(&server, &place).build().await.expect("started from the snapshot");
    let status = second.status();
    assert_eq!((status.source, status.routes, status.applied_version), (RouteSource::Snapshot, 2, version));
    assert!(status.age.is_some());
    assert_eq!(second.health().state, HealthState::Degraded);
    let client = second.tenant("acme").await.expect("found").client().await.expect("served");
    client.batch_execute("SELECT 1").await.expect("run");

    // What happened meanwhile comes once the control plane is back, and nothing older than what is known.
    server.remove(gone.tenant);
    let version = server.publish(unplaced("zenith"));
    server.refuse(None);
    reaches(&second, version).await;
    eventually("it follows the feed", async || second.status().source == RouteSource::Feed).await;
    assert_eq!(second.health().state, HealthState::Healthy);
    assert!(is_known(&second, "zenith") && !is_known(&second, "gone"));
    assert!(server.asked().last().expect("asked").is_some(), "a whole picture was not asked for");
    server.say(&FeedEvent::Route(Box::new(Route { version: FeedVersion(1), ..unplaced("acme") }.into())));
    let older =
        Route { generation: Generation(0), version: FeedVersion(900), slug: unplaced("older").slug, ..home.route() };
    server.say(&FeedEvent::Route(Box::new(older.into())));
    reaches(&second, FeedVersion(900)).await;
    assert!(!is_known(&second, "older"), "a generation never falls");
}

type Change<'c> = &'c dyn Fn(RouterBuilder) -> RouterBuilder;

#[tokio::test]
async fn a_snapshot_that_cannot_be_used_is_not_used_at_all() {
    let (server, place) = (FeedServer::start().await, Place::new());
    server.publish(unplaced("acme"));
    router(&server, &place).build().await.expect("started").closed().await;
    let whole = fs::read(place.file()).expect("written");
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let (length, elsewhere) = (whole.len(), server.url.replace("127.0.0.1", "localhost"));
    let plain = |router: RouterBuilder| router;
    let other_key = |router: RouterBuilder| router.snapshot_file(place.file(), key(1));
    let other_plane = |router: RouterBuilder| router.control_plane(&elsewhere, Secret::new("r0uter".to_owned()));
    let old = |router: RouterBuilder| {
        std::thread::sleep(Duration::from_millis(2));
        router.config(RouterConfig { snapshot_age_max: Some(Duration::ZERO), ..hasty() })
    };
    let cases: [(&str, Vec<u8>, Change<'_>); 9] = [
        ("empty", Vec::new(), &plain),
        ("foreign", b"{\"routes\": []}".repeat(100), &plain),
        ("another format", changed(8), &plain),
        ("changed", changed(length / 2), &plain),
        ("changed at the end", changed(length - 1), &plain),
        ("cut", whole[..length - 20].to_vec(), &plain),
        ("another key", whole.clone(), &other_key),
        ("another control plane", whole.clone(), &other_plane),
        ("too old", whole.clone(), &old),
    ];
    for (what, bytes, change) in cases {
        fs::write(place.file(), &bytes).expect("written");
        away(&server);
        let refused = change(router(&server, &place).config(hasty())).build().await;
        assert!(matches!(refused, Err(RouterError::NotStarted { .. })), "{what}: {refused:?}");
        assert_eq!(fs::read(place.file()).expect("there"), bytes, "{what}: a router that knows nothing writes nothing");
        server.refuse(None);
        let started = change(router(&server, &place)).build().await.expect(what);
        assert_eq!(*server.asked().last().expect("asked"), None, "{what}: the whole picture");
        assert!(is_known(&started, "acme"), "{what}");
        started.closed().await;
        assert_ne!(fs::read(place.file()).expect("there"), bytes, "{what}: a good one takes its place");
    }
}

#[tokio::test]
async fn a_control_plane_that_is_slow_is_not_waited_for_long_and_one_that_refuses_is_believed() {
    let (server, place) = (FeedServer::start().await, Place::new());
    server.publish(unplaced("acme"));
    router(&server, &place).build().await.expect("started").closed().await;

    server.fall_silent(true);
    let config = RouterConfig { snapshot_patience: Duration::from_millis(100), ..hasty() };
    let served = router(&server, &place).config(config).build().await.expect("started");
    assert_eq!(served.status().source, RouteSource::Snapshot);
    assert!(is_known(&served, "acme"));
    server.say(&FeedEvent::Heartbeat { version: server.version() });
    eventually("it is up to date", async || served.status().source == RouteSource::Feed).await;

    server.refuse(Some(Code::Forbidden));
    let refused = router(&server, &place).build().await;
    assert!(matches!(refused, Err(RouterError::NotStarted { source: Some(_) })), "{refused:?}");
}

#[tokio::test]
async fn changes_are_written_while_the_router_goes_on() {
    let (server, place) = (FeedServer::start().await, Place::new());
    let config = RouterConfig { snapshot_interval: Duration::from_millis(10), ..hasty() };
    let first = router(&server, &place).config(config).build().await.expect("started");
    // Many enough for several pieces.
    for number in 0..2_000 {
        server.publish(unplaced(&format!("tenant-{number}")));
    }
    reaches(&first, server.version()).await;
    away(&server);
    eventually("all of them are in the snapshot", async || {
        let started = router(&server, &place).config(hasty()).build().await;
        started.is_ok_and(|second| second.status().routes == 2_000 && is_known(&second, "tenant-1999"))
    })
    .await;
    let bytes = fs::metadata(place.file()).expect("written").len();
    assert!(bytes < 2_000 * 120, "{bytes} bytes for routes that lead nowhere");
    drop(first);
}

#[tokio::test]
async fn a_snapshot_file_needs_a_control_plane_and_a_place() {
    let (server, place) = (FeedServer::start().await, Place::new());
    let fixed = Router::builder().fixed(Vec::new(), Vec::new()).snapshot_file(place.file(), key(0));
    assert!(matches!(fixed.build().await, Err(RouterError::Refused { .. })));
    for path in [place.folder.path().to_owned(), place.folder.path().join("missing/routes"), PathBuf::from("/")] {
        let refused = server.router().snapshot_file(&path, key(0)).build().await;
        assert!(matches!(refused, Err(RouterError::Refused { .. })), "{}", path.display());
    }
    // A folder that cannot be written to costs the snapshot, not the service.
    let started = router(&server, &place).build().await.expect("started");
    // It may be writing its first one.
    eventually("the folder is removed", async || fs::remove_dir_all(place.folder.path()).is_ok()).await;
    reaches(&started, server.publish(unplaced("acme"))).await;
    started.closed().await;
}
