//! Routes reach routers in order and without a gap, and routers go on when nobody tells them anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tenantry_api::{Client, ClientConfig, CreateTenant, FeedEvent};
use tenantry_domain::{FeedVersion, Isolation, Scope, Secret, Slug};
use tenantry_router::{Router, RouterError, TenantSources};
use tenantry_sample::Dataset;
use tenantry_store::Store;
use tenantry_testkit::{BreakableSocket, eventually};
use tenantry_tests::routes::{clock, publish};
use tenantry_tests::{World, files};

const WRITERS: usize = 8;
const COMMITS: usize = 8;
const ROUNDS: usize = 5;

/// Eight writers that commit at once, each change a route of its own.
async fn write(store: &Store, round: usize) {
    let writers = (0..WRITERS).map(|writer| async move {
        for commit in 0..COMMITS {
            publish(store, &[format!("r{round}-w{writer}-{commit}")], Duration::ZERO).await;
        }
    });
    futures::future::join_all(writers).await;
}

fn client_at(address: std::net::SocketAddr, token: &Secret) -> Client {
    Client::new(ClientConfig::new(&format!("http://{address}"), Some(token.clone())).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_resumes_without_a_gap_while_eight_writers_commit() {
    let world = World::builder().without_migrations().start().await;
    let socket = BreakableSocket::before(world.replicas()[0].address()).await;
    let reader = client_at(socket.address(), world.token());
    let begin = clock(world.store()).await;
    let end = FeedVersion(begin.0 + i64::try_from(WRITERS * COMMITS * ROUNDS).unwrap());

    let (tell, mut told) = tokio::sync::watch::channel(begin);
    let reading = tokio::spawn(async move {
        let (mut reached, mut seen, mut connections) = (begin, BTreeSet::new(), 0);
        while reached < end {
            let Ok(mut feed) = reader.feed(Some(reached)).await else { continue };
            connections += 1;
            while let Some(Ok(event)) = feed.next().await {
                let version = event.version().expect("no snapshot: the reader is never too far behind");
                match event {
                    FeedEvent::Route(_) => {
                        assert!(version > reached, "{version:?} comes after {reached:?}");
                        assert!(seen.insert(version), "{version:?} comes twice");
                        reached = version;
                        tell.send_replace(reached);
                    }
                    // Everything up to here has been sent.
                    FeedEvent::Heartbeat { .. } => assert!(version <= reached, "{version:?} was never sent"),
                    other => panic!("{other:?}"),
                }
                if reached >= end {
                    break;
                }
            }
        }
        (seen, connections)
    });
    for round in 0..ROUNDS {
        let from = clock(world.store()).await;
        let cutting = async {
            told.wait_for(|reached| *reached > from).await.unwrap();
            socket.cut();
        };
        tokio::join!(write(world.store(), round), cutting);
    }
    let (seen, connections) = reading.await.unwrap();
    assert!(connections >= ROUNDS, "{connections} connections although the feed was cut in each round");
    let expected: BTreeSet<_> = (begin.0 + 1..=end.0).map(FeedVersion).collect();
    assert_eq!(seen, expected);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_knows_every_route_after_its_feed_was_cut_again_and_again() {
    let world = World::builder().without_migrations().start().await;
    let socket = BreakableSocket::before(world.replicas()[0].address()).await;
    let url = format!("http://{}", socket.address());
    let router = Router::builder().control_plane(url, world.token().clone()).build().await.unwrap();
    for round in 0..ROUNDS {
        let from = clock(world.store()).await;
        let cutting = async {
            assert!(router.await_version(FeedVersion(from.0 + 1), Duration::from_mins(1)).await);
            socket.cut();
        };
        tokio::join!(write(world.store(), round), cutting);
    }
    let end = clock(world.store()).await;
    assert!(router.await_version(end, Duration::from_mins(1)).await, "{:?}", router.status());
    for round in 0..ROUNDS {
        let slug = format!("r{round}-w7-{}", COMMITS - 1);
        let found = router.lookup(slug.as_str()).err();
        assert!(matches!(found, Some(RouterError::Provisioning { .. })), "{slug}: {found:?}");
    }
    assert_eq!(router.status().routes, WRITERS * COMMITS * ROUNDS);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_whole_and_bears_passwords_for_those_who_may_have_them() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let gone = world.tenant("gone").await;
    world.delete(&gone).await;
    for (scope, has_password) in [(Scope::RoutesRead, false), (Scope::RoutesSecrets, true)] {
        let token = world.token_with(&[scope], None).await;
        let client = client_at(world.replicas()[0].address(), &token);
        let mut feed = client.feed(None).await.unwrap();
        let (mut routes, mut clusters) = (Vec::new(), 0);
        let begin = match feed.next().await.unwrap().unwrap() {
            FeedEvent::SnapshotBegin { version, routes } => {
                assert_eq!(routes, Some(1));
                version
            }
            other => panic!("{other:?}"),
        };
        loop {
            match feed.next().await.unwrap().unwrap() {
                FeedEvent::Route(route) => routes.push(route),
                FeedEvent::Cluster(_) => clusters += 1,
                FeedEvent::SnapshotEnd { version } => {
                    assert_eq!(version, begin);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((clusters, routes.len()), (1, 1));
        assert_eq!(routes[0].tenant, acme.id);
        assert_eq!(routes[0].credential.as_ref().unwrap().password.is_some(), has_password);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_serves_on_without_a_control_plane() {
    let mut world = World::builder().dedicated(1).start().await;
    let mut tenants = Vec::new();
    for isolation in [Isolation::Schema, Isolation::Database, Isolation::Cluster] {
        tenants.push(world.tenant(&format!("a-{isolation}")).isolation(isolation).await);
    }
    let socket = BreakableSocket::before(world.replicas()[0].address()).await;
    let url = format!("http://{}", socket.address());
    let token = world.token_with(&[Scope::RoutesSecrets], None).await;
    let router = Router::builder().control_plane(url, token).build().await.unwrap();
    let one = router.tenant(&*tenants[0].slug.to_string()).await.unwrap();
    one.client().await.unwrap().batch_execute("INSERT INTO notes (body) VALUES ('before')").await.unwrap();

    socket.go_down();
    eventually("the router notices", async || !router.status().is_connected).await;
    for tenant in &tenants {
        // The last two were never asked for: their pools are made now.
        let found = router.tenant(tenant.id).await.unwrap();
        let client = found.client().await.unwrap();
        assert!(client.query_one("SELECT count(*) FROM notes", &[]).await.unwrap().get::<_, i64>(0) >= 1);
        let reader = found.read_only().client().await.unwrap();
        let refused = reader.batch_execute("INSERT INTO notes (body) VALUES ('x')").await.unwrap_err();
        assert_eq!(tenantry_tests::sqlstate(&refused), "25006");
    }
    let unknown = router.tenant("nobody").await.err().unwrap();
    assert!(matches!(unknown, RouterError::Unknown { .. }), "{unknown:?}");

    // It catches up by itself.
    let late = world.tenant("late").await;
    assert!(matches!(router.lookup("late"), Err(RouterError::Unknown { .. })));
    socket.come_up();
    let found = router.await_tenant(late.id, Duration::from_mins(1)).await.unwrap();
    assert_eq!(found.slug(), late.slug.as_str());
    // And it learns of an end.
    world.delete(&tenants[0]).await;
    eventually("the router forgets", async || matches!(router.lookup(tenants[0].id), Err(RouterError::Unknown { .. })))
        .await;
    router.close();
    world.take_replica(0).stop().await;
    let survivor = tenantry_tests::Serve::start(&world).await;
    world.use_door(survivor.url());
    drop(router);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_served_is_told_why() {
    let world = World::start().await;
    let url = world.url();
    let acme = world.tenant("acme").isolation(Isolation::Database).await;
    let router = Router::builder().control_plane(&url, world.token().clone()).build().await.unwrap();
    let mut held = router.tenant("acme").await.unwrap().client().await.unwrap();

    // A tenant that is still being made: its last step waits for a lock.
    let catalog = world.catalog_client().await;
    catalog.batch_execute("BEGIN; LOCK TABLE placement IN EXCLUSIVE MODE").await.unwrap();
    let create = CreateTenant::new(Slug::parse("late").unwrap());
    let late = world.client().create_tenant(&create, None).await.unwrap();
    eventually("the router hears of it", async || !matches!(router.lookup("late"), Err(RouterError::Unknown { .. })))
        .await;
    assert!(matches!(router.lookup("late"), Err(RouterError::Provisioning { .. })));
    catalog.batch_execute("COMMIT").await.unwrap();
    let found = router.await_tenant("late", Duration::from_mins(1)).await.unwrap();
    assert_eq!(found.id(), late.tenant.id);

    // A tenant that is shut out, as the catalog says it.
    let suspend = "WITH clock AS (UPDATE feed_clock SET version = version + 1 RETURNING version),
                        shut AS (UPDATE route SET state = 'suspended', version = clock.version FROM clock
                                 WHERE tenant = $1 RETURNING clock.version)
                   SELECT pg_notify('tenantry', 'feed:' || version) FROM shut";
    catalog.query(suspend, &[&acme.id.as_uuid()]).await.unwrap();
    eventually("the router hears of it", async || matches!(router.lookup("acme"), Err(RouterError::Suspended { .. })))
        .await;
    let refused = router.tenant("acme").await.err().unwrap();
    assert!(matches!(refused, RouterError::Suspended { .. }) && !refused.is_retryable(), "{refused:?}");
    // Whoever had a connection may finish with it; the home's own roles decide how long.
    held.transaction().await.unwrap().rollback().await.unwrap();
    drop((held, catalog));

    // A token that may not have passwords is refused at the start.
    let poor = world.token_with(&[Scope::Tenants(tenantry_domain::Access::Read)], None).await;
    let refused = Router::builder().control_plane(&url, poor).build().await.err().unwrap();
    assert!(matches!(refused, RouterError::NotStarted { .. }), "{refused:?}");
    router.close();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_service_answers_each_tenant_with_its_own_data() {
    let world = World::builder().migrations(files::sample()).start().await;
    let router = Router::builder()
        .control_plane(world.url(), world.token().clone())
        .base_domain("flights.example")
        .build()
        .await
        .unwrap();
    let data = Dataset::read().unwrap();
    let mut expected = BTreeMap::new();
    for (slug, carrier, isolation) in [
        ("hawaiian", "HA", Isolation::Schema),
        ("mesa", "YV", Isolation::Schema),
        ("frontier", "F9", Isolation::Database),
    ] {
        let tenant = world.tenant(slug).isolation(isolation).await;
        let tenant = router.await_tenant(tenant.id, Duration::from_mins(1)).await.unwrap();
        let mut client = tenant.client().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let loaded = tenantry_sample::load(&transaction, &data, carrier).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(usize::try_from(loaded.flights).unwrap(), data.flights_of(carrier).count());
        expected.insert(slug, loaded.flights);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = tenantry_sample::service(router.clone(), TenantSources::new().sub_domain());
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let wire = tenantry_tests::Wire::new(&format!("http://{address}"), world.token()).anonymous();
    for _ in 0..3 {
        for (slug, flights) in &expected {
            let as_tenant = wire.header("host", &format!("{slug}.flights.example"));
            let statistics = as_tenant.get("/statistics").await.ok();
            assert_eq!(statistics.json["flights"], json!(flights), "{slug}");
        }
    }
    let first = wire.header("host", "mesa.flights.example").get("/flights?limit=1").await.ok();
    let id = &first.json["items"][0]["id"];
    assert_ne!(id, &Value::Null, "{}", first.text);
    for (host, status) in [("nobody.flights.example", 404), ("flights.example", 400), ("elsewhere.example", 400)] {
        assert_eq!(wire.header("host", host).get("/flights").await.status, status, "{host}");
    }
    serving.abort();
    router.close();
    world.end().await;
}
