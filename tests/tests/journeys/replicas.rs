//! Replicas: physical standbys of a cluster, which routers may read from as long as they follow.

use futures::StreamExt;
use serde_json::{Value, json};
use tenantry_api::{FeedCluster, FeedEvent};
use tenantry_domain::{Access, ClusterReplicaId, Scope};
use tenantry_testkit::{Server, eventually};
use tenantry_tests::{Answer, HomeSession, Program, World};
use uuid::Uuid;

const REPLICAS: &str = "/v1/clusters/main/replicas";

fn at(server: &Server) -> Value {
    json!({ "host": server.address().ip(), "port": server.address().port() })
}

/// The cluster `main` as a router that begins now hears of it, once it has heard all there is: a snapshot may be of a
/// while ago, and changes follow.
async fn told(world: &World<'_>) -> FeedCluster {
    let current = world.store().feed_version().await.unwrap().current;
    let mut feed = world.client().feed(None).await.unwrap();
    let (mut told, mut is_whole) = (None, false);
    loop {
        let event = feed.next().await.unwrap().unwrap();
        is_whole |= matches!(event, FeedEvent::SnapshotEnd { .. });
        let has_all = is_whole && event.version().is_some_and(|version| version >= current);
        if let FeedEvent::Cluster(cluster) = event
            && cluster.cluster == world.main_cluster().id
        {
            told = Some(cluster);
        }
        if has_all {
            return told.unwrap();
        }
    }
}

/// What is seen of the only replica, once somebody has looked at it again.
async fn looked_at(world: &World<'_>) -> Value {
    let replica = async || world.wire().get(REPLICAS).await.ok().json["items"][0].clone();
    let before = replica().await["health"]["checked_at"].clone();
    let tx = world.store().begin().await.unwrap();
    tx.poke_reconciler("cluster_health").await.unwrap();
    tx.commit().await.unwrap();
    let mut seen = Value::Null;
    eventually("somebody looks at the replica", async || {
        seen = replica().await["health"].clone();
        seen["checked_at"] != before
    })
    .await;
    seen
}

async fn reaches(world: &World<'_>, state: &str) -> Value {
    let mut seen = Value::Null;
    eventually(state, async || {
        seen = looked_at(world).await;
        seen["state"] == state
    })
    .await;
    seen
}

fn id(answer: &Answer) -> ClusterReplicaId {
    answer.json["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_registered_told_to_routers_and_forgotten() {
    let homes = Server::own().await;
    let world = World::builder().homes_on(&homes).start().await;
    let acme = world.tenant("acme").await;
    let standby = homes.standby().await;
    let wire = world.wire();
    let before = told(&world).await;
    assert!(before.replicas.is_empty());
    let resolve = "/v1/routes/resolve?slug=acme";
    let known = wire.get(resolve).await.ok().header("etag").to_owned();

    let keyed = wire.header("idempotency-key", &Uuid::now_v7().to_string());
    let added = keyed.post(REPLICAS, &at(&standby)).await;
    assert_eq!(added.status, 201, "{}", added.text);
    let cluster = world.main_cluster().id;
    assert_eq!(added.header("location"), format!("/v1/clusters/{cluster}/replicas/{}", id(&added)));
    assert_eq!((&added.json["cluster"], &added.json["lag_max_ms"]), (&json!(cluster), &json!(10_000)));
    assert_eq!((&added.json["tls_mode"], &added.json["health"]["state"]), (&json!("disable"), &json!("healthy")));
    let again = keyed.post(REPLICAS, &at(&standby)).await;
    assert_eq!((again.status, again.json["id"].clone()), (201, added.json["id"].clone()));
    wire.post(REPLICAS, &at(&standby)).await.problem(409, "conflict");

    // Routers, and those who resolve, hear of it.
    let after = told(&world).await;
    assert!(after.version > before.version);
    let [replica] = after.replicas.as_slice() else { panic!("{after:?}") };
    assert_eq!((replica.id, replica.port, replica.lag_max_ms.as_ms()), (id(&added), standby.address().port(), 10_000));
    let news = wire.header("if-none-match", &known).get(resolve).await.ok();
    assert_eq!(news.json["endpoint"]["replicas"], json!(after.replicas));

    // It bears everything that reading takes: the tenant's own role, password, data and stamp.
    let route = world.route(&acme).await;
    let reader = route.read_only_credential.unwrap();
    let mut config = tokio_postgres::Config::new();
    config
        .host(&replica.host)
        .port(replica.port)
        .dbname(route.database.unwrap().as_str())
        .user(reader.role.as_str())
        .password(reader.password.unwrap().as_secret().expose());
    eventually("the standby has the home", async || {
        let Ok(session) = HomeSession::log_in(&config).await else { return false };
        session.run(&format!("SELECT tenantry.attach('{}', {})", acme.id, acme.generation)).await;
        session.run("SELECT count(*) FROM notes").await;
        true
    })
    .await;

    let path = format!("{REPLICAS}/{}", id(&added));
    assert_eq!(wire.delete(&path).await.status, 204);
    wire.delete(&path).await.problem(404, "not_found");
    let last = told(&world).await;
    assert!(last.replicas.is_empty() && last.version > after.version);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_standby_of_the_cluster_is_refused() {
    let (homes, foreign) = (Server::own().await, Server::own().await);
    let world = World::builder().homes_on(&homes).without_migrations().start().await;
    let foreign_standby = foreign.standby().await;
    let wire = world.wire();
    let refused = wire.post(REPLICAS, &at(&homes)).await;
    assert_eq!(refused.problem(400, "invalid_request"), ["/host"]);
    assert!(refused.text.contains("takes writes"), "{}", refused.text);
    // Nobody knows the cluster's role there, let alone its password.
    let refused = wire.post(REPLICAS, &at(&foreign_standby)).await;
    refused.problem(400, "invalid_request");
    let (user, password) = (world.admin_user(), world.admin_password());
    let root = foreign.connect("postgres").await;
    root.batch_execute(&format!("CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{password}'")).await.unwrap();
    root.batch_execute(&format!("CREATE DATABASE {}", world.admin_database())).await.unwrap();
    let mut text = String::new();
    eventually("the role is there", async || {
        let refused = wire.post(REPLICAS, &at(&foreign_standby)).await;
        refused.problem(400, "invalid_request");
        text = refused.text;
        text.contains("physical copy")
    })
    .await;
    assert!(text.contains("pg_basebackup"), "{text}");

    wire.post(REPLICAS, &json!({ "host": "127.0.0.1", "port": 1 })).await.problem(503, "unavailable");
    let open = json!({ "host": "db-2.example.com", "port": 5432, "tls_mode": "disable" });
    assert_eq!(wire.post(REPLICAS, &open).await.problem(400, "invalid_request"), ["/tls_mode"]);
    for (body, pointer) in [
        (json!({ "host": "127.0.0.1" }), ""),
        (json!({ "host": "a b", "port": 1 }), "/host"),
        (json!({ "host": "127.0.0.1", "port": 1, "lag_max_ms": 0 }), "/lag_max_ms"),
        (json!({ "host": "127.0.0.1", "port": 1, "lag_max_ms": 86_400_001 }), "/lag_max_ms"),
        (json!({ "host": "127.0.0.1", "port": 1, "password": "x" }), "/password"),
    ] {
        assert_eq!(wire.post(REPLICAS, &body).await.problem(400, "invalid_request"), [pointer], "{body}");
    }
    wire.post("/v1/clusters/nowhere/replicas", &at(&homes)).await.problem(404, "not_found");
    wire.get("/v1/clusters/nowhere/replicas").await.problem(404, "not_found");
    wire.delete(&format!("{REPLICAS}/{}", Uuid::now_v7())).await.problem(404, "not_found");
    assert_eq!(wire.delete(&format!("{REPLICAS}/one")).await.problem(400, "invalid_request"), ["{replica}"]);
    assert_eq!(wire.get(REPLICAS).await.ok().json["items"], json!([]));
    drop(root);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_looked_at_and_routers_do_not_hear_of_one_that_was_promoted() {
    let homes = Server::own().await;
    let world = World::builder().homes_on(&homes).without_migrations().start().await;
    let standby = homes.standby().await;
    let mut wish = at(&standby);
    wish["lag_max_ms"] = json!(1);
    world.wire().post(REPLICAS, &wish).await.ok();
    let (primary, follower) = (homes.connect("postgres").await, standby.connect("postgres").await);
    primary.batch_execute("CREATE TABLE written (at timestamptz); INSERT INTO written VALUES (now())").await.unwrap();

    // It stands still while the primary goes on, and then catches up.
    follower.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    eventually("it stands still", async || {
        let state = follower.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.unwrap();
        state.get::<_, String>(0) == "paused"
    })
    .await;
    primary.batch_execute("INSERT INTO written VALUES (now())").await.unwrap();
    let lagging = reaches(&world, "lagging").await;
    assert_ne!(lagging["lag_ms"], json!(0), "{lagging}");
    assert_eq!(lagging["error"], Value::Null);
    assert_eq!(told(&world).await.replicas.len(), 1, "routers see for themselves how far it is behind");
    follower.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    let caught_up = reaches(&world, "healthy").await;
    assert_eq!(caught_up["failures"], 0);

    standby.cluster().kill().await.unwrap();
    let silent = reaches(&world, "unreachable").await;
    assert!(silent["failures"].as_u64() >= Some(1) && silent["error"].as_str().is_some(), "{silent}");
    assert!(silent["seen_at"].as_str() < silent["checked_at"].as_str(), "{silent}");
    let version = told(&world).await.version;
    standby.cluster().restart().await.unwrap();
    reaches(&world, "healthy").await;
    assert_eq!(told(&world).await.version, version, "what is seen of it is nothing new for routers");

    standby.connect("postgres").await.batch_execute("SELECT pg_promote()").await.unwrap();
    let promoted = reaches(&world, "not_standby").await;
    assert!(promoted["error"].as_str().unwrap().contains("promoted"), "{promoted}");
    let after = told(&world).await;
    assert!(after.replicas.is_empty() && after.version > version, "{after:?}");
    drop((primary, follower));
    // The world's end takes the cluster away, and its replica with it.
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_kept_by_those_who_keep_clusters() {
    let homes = Server::own().await;
    let world = World::builder().homes_on(&homes).without_migrations().start().await;
    let acme = world.tenant("acme").await;
    let standby = homes.standby().await;
    let reader = world.wire().token(&world.token_with(&[Scope::Clusters(Access::Read)], None).await);
    reader.get(REPLICAS).await.ok();
    reader.post(REPLICAS, &at(&standby)).await.problem(403, "forbidden");
    let bound = world.wire().token(&world.token_with(&[Scope::Clusters(Access::Write)], Some(&acme)).await);
    bound.get(REPLICAS).await.problem(403, "forbidden");
    bound.post(REPLICAS, &at(&standby)).await.problem(403, "forbidden");

    let program = Program::new(&world.url(), world.token());
    let (host, port) = (standby.address().ip().to_string(), standby.address().port().to_string());
    let add = ["cluster", "replica", "add", "main", "--host", &host, "--port", &port, "--max-lag", "2s"];
    let added = program.json(add).await;
    assert_eq!((&added["lag_max_ms"], &added["health"]["state"]), (&json!(2_000), &json!("healthy")));
    let id = added["id"].as_str().unwrap();
    let table = program.run(["cluster", "replica", "list", "main"]).await.ok().stdout;
    assert!(table.contains(&port) && table.contains("healthy") && table.contains(id), "{table}");
    let refused = program.run(["cluster", "replica", "add", "main", "--host", &host, "--max-lag", "2d"]).await;
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("a day"), "{}", refused.stderr);
    for wire in [reader, bound] {
        wire.delete(&format!("{REPLICAS}/{id}")).await.problem(403, "forbidden");
    }
    program.run(["cluster", "replica", "remove", "main", id]).await.ok();
    assert_eq!(program.json(["cluster", "replica", "list", "main"]).await["items"], json!([]));
    let help = program.run(["cluster", "replica", "add", "--help"]).await.ok().stdout;
    assert!(help.contains("Examples") && help.contains("pg_basebackup"), "{help}");
    world.end().await;
}
