//! The route feed at scale: many readers of one replica's bytes, whoever writes, comes, goes or sleeps meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tenantry_api::{Client, ClientConfig, FeedCluster, FeedEvent, ListRouters, Route};
use tenantry_domain::{ClusterId, FeedVersion, Scope, Secret, TenantId};
use tenantry_router::{RouteSource, Router, RouterConfig, SnapshotKey};
use tenantry_store::Store;
use tenantry_testkit::eventually;
use tenantry_tests::routes::{clock, publish, remove, touch};
use tenantry_tests::{Serve, World};

const WRITERS: usize = 8;
const COMMITS: usize = 30;
const FOLLOWERS: usize = 4;

fn client_at(url: &str, token: &Secret) -> Client {
    Client::new(ClientConfig::new(url, Some(token.clone())).unwrap()).unwrap()
}

/// What a router knows, kept as routers keep it: newer changes win, a snapshot's end drops what it did not name.
#[derive(Debug, Default)]
struct Picture {
    applied: Option<FeedVersion>,
    routes: BTreeMap<TenantId, Route>,
    removed: BTreeMap<TenantId, FeedVersion>,
    clusters: BTreeMap<ClusterId, FeedCluster>,
    snapshot: Option<BTreeSet<TenantId>>,
    snapshots: usize,
    /// Versions told outside snapshots.
    told: BTreeSet<FeedVersion>,
}

impl Picture {
    /// Checks that the event has its place, and applies it.
    fn take(&mut self, event: FeedEvent) {
        if let (None, Some(version)) = (&self.snapshot, event.version())
            && !matches!(event, FeedEvent::Heartbeat { .. })
        {
            assert!(self.applied.is_some_and(|applied| version > applied), "{version} after {:?}", self.applied);
            assert!(self.told.insert(version), "{version} comes twice");
        }
        let reached = event.version();
        match event {
            FeedEvent::SnapshotBegin { .. } => {
                self.snapshot = Some(BTreeSet::new());
                self.snapshots += 1;
                return;
            }
            FeedEvent::SnapshotEnd { version } => {
                let named = self.snapshot.take().expect("it began");
                self.routes.retain(|tenant, route| named.contains(tenant) || route.version > version);
                self.applied = Some(version);
                return;
            }
            FeedEvent::Cluster(cluster) => {
                self.clusters.insert(cluster.cluster, cluster);
            }
            FeedEvent::Route(route) => {
                assert!(route.cluster.is_none_or(|cluster| self.clusters.contains_key(&cluster)));
                if let Some(named) = &mut self.snapshot {
                    named.insert(route.tenant);
                }
                let newest = self.routes.get(&route.tenant).map(|known| known.version);
                let newest = newest.max(self.removed.get(&route.tenant).copied());
                if newest.is_none_or(|newest| route.version > newest) {
                    self.routes.insert(route.tenant, *route);
                }
            }
            FeedEvent::Removed { tenant, version } => {
                if self.routes.get(&tenant).is_none_or(|known| known.version < version) {
                    self.routes.remove(&tenant);
                    self.removed.insert(tenant, version);
                }
            }
            // Changes up to its version that were not told were replaced by newer ones; none of them may come any more.
            FeedEvent::Heartbeat { .. } => {}
            FeedEvent::Lease(_) => return,
        }
        if self.snapshot.is_none() {
            self.applied = self.applied.max(reached);
        }
    }

    /// Reads until it has everything up to a version; says so where the feed ended before.
    async fn read_to(&mut self, client: &Client, end: FeedVersion) -> bool {
        self.snapshot = None;
        let mut feed = client.feed(self.applied).await.unwrap();
        while self.applied.is_none_or(|applied| applied < end) {
            match feed.next().await {
                Some(event) => self.take(event.unwrap()),
                None => return false,
            }
        }
        true
    }

    /// Sees that it is what the catalog says, in every field.
    async fn must_equal(&self, store: &Store) {
        let mut expected = BTreeMap::new();
        let mut after = None;
        loop {
            let page = store.routes_page(after, 1_000, true).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.tenant);
            expected.extend(page.into_iter().map(|route| (route.tenant, Route::from(route))));
        }
        assert_eq!(self.routes.len(), expected.len());
        assert_eq!(self.routes, expected);
    }
}

/// Reads for a random while, is gone for another, and resumes, until it has everything.
async fn follow(clients: &[Client], working: &AtomicUsize, store: &Store) -> Picture {
    let mut picture = Picture::default();
    loop {
        let is_last_look = working.load(Ordering::SeqCst) == 0;
        if is_last_look && picture.applied == Some(clock(store).await) {
            return picture;
        }
        // Sometimes in the middle of a snapshot, which counts only as a whole.
        picture.snapshot = None;
        let client = &clients[rand::random_range(0..clients.len())];
        let mut feed = client.feed(picture.applied).await.unwrap();
        for _ in 0..rand::random_range(1..60) {
            let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(300), feed.next()).await else { break };
            picture.take(event.unwrap());
        }
        drop(feed);
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..40))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_follower_sees_each_change_once_in_order_and_ends_equal_to_the_catalog() {
    let world = World::builder().without_migrations().replicas(2).catalog_connections(16).start().await;
    let first = clock(world.store()).await;
    let clients: Vec<Client> =
        world.replicas().iter().map(|replica| client_at(&replica.url(), world.token())).collect();
    let working = AtomicUsize::new(WRITERS);
    let writers = futures::future::join_all((0..WRITERS).map(|writer| {
        let (store, working) = (world.store(), &working);
        async move {
            let mut mine = Vec::new();
            for commit in 0..COMMITS {
                let pause = Duration::from_millis(rand::random_range(0..15));
                mine.extend(publish(store, &[format!("w{writer}-{commit}")], pause).await);
                match commit % 5 {
                    2 => touch(store, &mine).await,
                    4 => remove(store, mine.swap_remove(rand::random_range(0..mine.len()))).await,
                    _ => {}
                }
            }
            working.fetch_sub(1, Ordering::SeqCst);
        }
    }));
    let followers = futures::future::join_all((0..FOLLOWERS).map(|_| follow(&clients, &working, world.store())));
    // One that never goes sees every change that was there to be seen.
    let constant = async {
        let mut picture = Picture::default();
        let mut end = first;
        while working.load(Ordering::SeqCst) > 0 || picture.applied != Some(clock(world.store()).await) {
            end = end.max(clock(world.store()).await);
            assert!(picture.read_to(&clients[0], end).await);
        }
        picture
    };
    let (_, followers, constant) = tokio::join!(writers, followers, constant);
    for picture in followers.iter().chain([&constant]) {
        picture.must_equal(world.store()).await;
    }
    let expected = WRITERS * (COMMITS - COMMITS / 5);
    assert_eq!(constant.routes.len(), expected);
    assert_eq!(constant.snapshots, 1, "a router that resumes needs no second snapshot");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_does_not_read_is_cut_off_and_resumes() {
    let world = World::builder().without_migrations().start().await;
    let serve = Serve::start_with(&world, &[("TENANTRY__SERVER__WRITE_TIMEOUT", "1s")]).await;
    let client = client_at(serve.url(), world.token());
    let slugs: Vec<String> = (0..500).map(|number| format!("t{number}")).collect();
    let tenants = publish(world.store(), &slugs, Duration::ZERO).await;
    let mut picture = Picture::default();
    assert!(picture.read_to(&client, clock(world.store()).await).await);

    // As text, so that what is sent fills every buffer on the way soon.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/routes/feed?router=sleeper&after={}", serve.url(), picture.applied.unwrap());
    let mut asleep = http.get(&url).bearer_auth(world.token().expose()).send().await.unwrap();
    assert!(asleep.status().is_success() && !asleep.headers().contains_key("content-encoding"));
    let connected = async || {
        let list = ListRouters { connected: Some(true), ..ListRouters::default() };
        world.client().list_routers(&list).await.unwrap().items.iter().any(|router| router.router == "sleeper")
    };
    eventually("it is connected", &connected).await;
    eventually("it is cut off", async || {
        touch(world.store(), &tenants).await;
        !connected().await
    })
    .await;
    // Others were told everything meanwhile.
    let mut awake = Picture::default();
    assert!(awake.read_to(&client, clock(world.store()).await).await);
    awake.must_equal(world.store()).await;

    // What reached it in whole lines counts; the rest is told again.
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = asleep.chunk().await {
        text.extend_from_slice(&chunk);
    }
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        picture.take(serde_json::from_slice(line).unwrap());
    }
    let end = clock(world.store()).await;
    assert!(picture.applied.is_some_and(|applied| applied < end), "it cannot have had everything");
    assert!(picture.read_to(&client, end).await);
    picture.must_equal(world.store()).await;
    assert_eq!(picture.snapshots, 1);
    assert!(serve.terminate().await.success());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_later_share_the_snapshot_that_is_there() {
    let world = World::builder().without_migrations().start().await;
    let client = client_at(&world.url(), world.token());
    let made = publish(world.store(), &["a".to_owned(), "b".to_owned()], Duration::ZERO).await;
    let begin = async |client: &Client| match client.feed(None).await.unwrap().next().await.unwrap().unwrap() {
        FeedEvent::SnapshotBegin { version, routes } => (version, routes),
        other => panic!("{other:?}"),
    };
    let first = begin(&client).await;
    assert_eq!(first, (clock(world.store()).await, Some(2)));
    remove(world.store(), made[0]).await;
    publish(world.store(), &["c".to_owned()], Duration::ZERO).await;
    touch(world.store(), &made[1..]).await;
    let mut late = Picture::default();
    assert_eq!(begin(&client).await, first, "made once, for both");
    assert!(late.read_to(&client, clock(world.store()).await).await);
    late.must_equal(world.store()).await;
    assert_eq!(late.told.len(), 3, "what changed since follows it: {:?}", late.told);

    // Who may not see passwords has one of their own.
    let poor = client_at(&world.url(), &world.token_with(&[Scope::RoutesRead], None).await);
    assert_eq!(begin(&poor).await, (clock(world.store()).await, Some(2)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_while_removals_were_forgotten_gets_a_snapshot() {
    let mut world = World::builder().without_migrations().start().await;
    let client = client_at(&world.url(), world.token());
    let made = publish(world.store(), &["stays".to_owned(), "goes".to_owned()], Duration::ZERO).await;
    let mut resumes = Picture::default();
    assert!(resumes.read_to(&client, clock(world.store()).await).await);
    let mut is_late = Picture::default();
    assert!(is_late.read_to(&client, clock(world.store()).await).await);
    remove(world.store(), made[1]).await;
    let removed_at = clock(world.store()).await;
    assert!(resumes.read_to(&client, removed_at).await);
    // A replica that was told to forget at once does so; the first one keeps what it read.
    world.add_replica(|config| config.removed_routes_kept = Duration::ZERO).await;
    let forgetful = world.replicas()[1].control().clone();
    eventually("the removal is forgotten", async || {
        tenantry_control::reconcilers::poke(&forgetful, "removed_routes").await.unwrap();
        world.store().feed_version().await.unwrap().oldest == removed_at
    })
    .await;
    let other = client_at(&world.replicas()[1].url(), world.token());
    publish(world.store(), &["comes".to_owned()], Duration::ZERO).await;
    let end = clock(world.store()).await;
    for (picture, snapshots) in [(&mut resumes, 1), (&mut is_late, 2)] {
        assert!(picture.read_to(&other, end).await);
        assert_eq!(picture.snapshots, snapshots);
        picture.must_equal(world.store()).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_everything_is_told_so_at_once() {
    let world = World::builder().without_migrations().start().await;
    let client = client_at(&world.url(), world.token());
    let first = publish(world.store(), &["a".to_owned()], Duration::ZERO).await;
    let now = clock(world.store()).await;
    // One after the other, so waiting for the next regular heartbeat each time would take minutes.
    let resumed = async {
        for _ in 0..40 {
            match client.feed(Some(now)).await.unwrap().next().await.unwrap().unwrap() {
                FeedEvent::Heartbeat { version } => assert_eq!(version, now),
                other => panic!("{other:?}"),
            }
        }
        // What is newer comes first, and after a snapshot, which may be one that was made before, too.
        let begin = now;
        for round in 0..80 {
            publish(world.store(), &[format!("b{round}")], Duration::ZERO).await;
            let end = clock(world.store()).await;
            let after = (round % 2 == 0).then_some(begin);
            let mut picture = Picture { applied: after, ..Picture::default() };
            let mut feed = client.feed(after).await.unwrap();
            loop {
                match feed.next().await.unwrap().unwrap() {
                    FeedEvent::Heartbeat { version } => {
                        assert_eq!((picture.applied, version), (Some(end), end), "all of it was told before");
                        break;
                    }
                    event => picture.take(event),
                }
            }
            assert_eq!(picture.routes.contains_key(&first[0]), after.is_none(), "of a snapshot");
        }
    };
    tokio::time::timeout(Duration::from_mins(1), resumed).await.expect("nobody waits for a regular heartbeat");

    // A router that starts from its snapshot knows at once that nothing has changed.
    let folder = tempfile::tempdir().unwrap();
    let key = Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned());
    let key = SnapshotKey::parse(&key).unwrap();
    let router = || {
        let builder = Router::builder().control_plane(world.url(), world.token().clone()).name("restarts");
        builder.snapshot_file(folder.path().join("routes"), key.clone())
    };
    router().build().await.unwrap().closed().await;
    // No shorter than others wait for their first routes: a router that starts has nothing else to wait for.
    let patient = RouterConfig { snapshot_patience: Duration::from_mins(1), ..RouterConfig::default() };
    let started = router().config(patient).build().await.unwrap();
    assert_eq!(
        (started.status().source, started.status().applied_version),
        (RouteSource::Feed, clock(world.store()).await)
    );
    started.closed().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_starts_knows_a_tenant_that_was_made_just_before() {
    let world = World::builder().without_migrations().start().await;
    let router = async |name: &str| {
        let builder = Router::builder().control_plane(world.url(), world.token().clone());
        builder.name(name).build().await.unwrap()
    };
    // For it the picture is made that those who come later get, too.
    let first = router("first").await;
    for number in 0..8 {
        let made = world.tenant(&format!("company-{number}")).await;
        let second = router(&format!("second-{number}")).await;
        let tenant = second.tenant(made.slug.as_str()).await.expect("it is known at once");
        tenant.client().await.unwrap().batch_execute("SELECT 1").await.unwrap();
        second.closed().await;
    }
    first.closed().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_is_known_whichever_replica_is_asked() {
    let world = World::builder().replicas(2).start().await;
    let asked = client_at(&world.replicas()[1].url(), world.token());
    let listed = async |connected| {
        let list = ListRouters { connected, ..ListRouters::default() };
        asked.list_routers(&list).await.unwrap().items
    };
    let router =
        Router::builder().control_plane(world.url(), world.token().clone()).name("flights-1").build().await.unwrap();
    eventually("it is connected and has reported", async || {
        let routers = listed(Some(true)).await;
        routers.len() == 1 && routers[0].detail["routes"].is_number()
    })
    .await;
    let [one] = &listed(None).await[..] else { panic!("one router") };
    assert_eq!((one.router.as_str(), one.lag), ("flights-1", 0));
    let since = one.connected_since.expect("it is connected");
    assert!(one.replica.is_some() && since <= one.reported_at.max(since));
    assert!(listed(Some(false)).await.is_empty());
    router.close();
    drop(router);
    eventually("it is gone", async || listed(Some(true)).await.is_empty()).await;
    let [one] = &listed(Some(false)).await[..] else { panic!("its last report stays") };
    assert_eq!((one.connected_since, one.replica), (None, None));
    let nobody = world.wire().get(&format!("/v1/routes/feed?router={}", "x".repeat(201))).await;
    assert_eq!(nobody.status, 400, "{}", nobody.text);
    world.end().await;
}
