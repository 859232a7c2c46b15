//! Reading from physical standbys: only from those that follow and are near enough, and quickly from elsewhere where none
//! will do.

use std::time::Duration;

use tenantry_api::FeedReplica;
use tenantry_domain::{ClusterReplicaId, Generation, LagMax, Limits, Route, TlsMode};
use tenantry_router::{Connection, ReadFrom, ReplicaFault, Router, RouterConfig, RouterError, Tenant};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tokio::time::timeout;
use uuid::Uuid;

use crate::feed_server::FeedServer;
use crate::home::{Home, patient};

const HOUR: Duration = Duration::from_hours(1);
const REPLICA: ReadFrom = ReadFrom::Replica { lag_max: None };
const PREFER: ReadFrom = ReadFrom::PreferReplica { lag_max: None };

fn replica(port: u16) -> FeedReplica {
    FeedReplica {
        id: ClusterReplicaId::new(Uuid::now_v7()),
        host: "127.0.0.1".to_owned(),
        port,
        tls_mode: TlsMode::Disable,
        tls_ca: None,
        lag_max_ms: LagMax::from_ms(60_000).expect("a lag"),
    }
}

pub(crate) fn of(standby: &Server) -> FeedReplica {
    replica(standby.address().port())
}

/// A router that waits for replicas as long as for all else, on a machine that is busy with other things.
pub(crate) fn steady() -> RouterConfig {
    RouterConfig { replica_timeout: Duration::from_mins(1), ..patient() }
}

pub(crate) async fn router(home: &Home<'_>, replicas: &[&FeedReplica], config: RouterConfig) -> Router {
    let mut cluster = home.feed_cluster();
    cluster.replicas = replicas.iter().copied().cloned().collect();
    let route = Route { limits: Limits { pool_size: Some(4), ..Limits::default() }, ..home.route() };
    let builder = Router::builder().fixed(vec![route], vec![cluster]).config(config);
    builder.build().await.expect("a router")
}

pub(crate) async fn reader(router: &Router, read_from: ReadFrom) -> Tenant {
    router.tenant("acme").await.expect("found").read_only_from(read_from)
}

async fn flights(client: &Connection) -> i64 {
    client.query_one("SELECT count(*) FROM flights", &[]).await.expect("read").get(0)
}

async fn fault_of(reader: &Tenant) -> Option<ReplicaFault> {
    match reader.client().await {
        Err(RouterError::NoReplica { fault, .. }) => Some(fault),
        _ => None,
    }
}

async fn comes_from(reader: &Tenant, wanted: Option<ClusterReplicaId>) {
    eventually("reads come from there", async || match reader.client().await {
        Ok(client) => client.replica() == wanted && client.batch_execute("SELECT FROM flights").await.is_ok(),
        Err(_) => false,
    })
    .await;
}

/// Lets a standby replay a transaction, so that it can tell how old the last one is, and then stand still.
async fn pause_replay(home: &Home<'_>, standby: &Server) {
    home.admin().await.batch_execute("CREATE TABLE public.replayed ()").await.expect("written");
    let follower = standby.connect(&home.database).await;
    eventually("it is replayed", async || follower.batch_execute("SELECT FROM public.replayed").await.is_ok()).await;
    let admin = standby.connect("postgres").await;
    admin.batch_execute("SELECT pg_wal_replay_pause()").await.expect("paused soon");
    eventually("it stands still", async || {
        let state = admin.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.expect("a state");
        state.get::<_, String>(0) == "paused"
    })
    .await;
}

#[tokio::test]
async fn reads_go_to_a_replica_which_refuses_writes_and_its_connections_are_cleaned() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let standby = primary.standby().await;
    let replica = of(&standby);
    let router = router(&home, &[&replica], steady()).await;
    let reader = reader(&router, REPLICA).await;
    let client = reader.client().await.expect("a connection");
    assert_eq!(client.replica(), Some(replica.id));
    let row = client.query_one("SELECT pg_is_in_recovery(), pg_backend_pid()", &[]).await.expect("read");
    assert!(row.get::<_, bool>(0));
    let error = client.execute("INSERT INTO flights VALUES (1, 'x')", &[]).await.expect_err("it only reads");
    assert_eq!(error.code().expect("an SQLSTATE").code(), "25006");
    client.batch_execute("SET statement_timeout = 1000; BEGIN").await.expect("something to clean");
    drop(client);
    eventually("the same connection comes back clean", async || {
        let client = reader.client().await.expect("a connection");
        let query = "SELECT pg_backend_pid(), current_setting('statement_timeout')";
        let again = client.query_one(query, &[]).await.expect("read");
        assert_eq!(again.get::<_, String>(1), "0");
        again.get::<_, i32>(0) == row.get::<_, i32>(1)
    })
    .await;

    // All else goes to the cluster itself.
    let tenant = router.tenant("acme").await.expect("found");
    assert_eq!(tenant.client().await.expect("a connection").replica(), None);
    let client = tenant.read_only().client().await.expect("a connection");
    let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await.expect("read");
    assert!(client.replica().is_none() && !row.get::<_, bool>(0));
    assert_eq!(reader.connection_options().await.expect("options").port, primary.address().port());
}

#[tokio::test]
async fn several_replicas_are_used_in_turn_and_none_more_than_another() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let (first, second) = (primary.standby().await, primary.standby().await);
    let replicas = [of(&first), of(&second)];
    let router = router(&home, &[&replicas[0], &replicas[1]], steady()).await;
    let reader = reader(&router, PREFER).await;
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(reader.client().await.expect("a connection"));
    }
    let on = |held: &[Connection], replica: &FeedReplica| {
        held.iter().filter(|client| client.replica() == Some(replica.id)).count()
    };
    assert_eq!([on(&held, &replicas[0]), on(&held, &replicas[1])], [3, 3]);
    held.retain(|client| client.replica() == Some(replicas[0].id));
    held.push(reader.client().await.expect("a connection"));
    held.push(reader.client().await.expect("a connection"));
    assert_eq!([on(&held, &replicas[0]), on(&held, &replicas[1])], [3, 2], "those with fewer in use come first");
    held.clear();
    let mut used = Vec::new();
    for _ in 0..8 {
        used.push(reader.client().await.expect("a connection").replica());
    }
    assert!(replicas.iter().all(|replica| used.contains(&Some(replica.id))), "{used:?}");
}

#[tokio::test]
async fn one_that_is_too_far_behind_is_not_read_from_until_it_has_caught_up() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let standby = primary.standby().await;
    let near = of(&standby);
    let router = router(&home, &[&near], steady()).await;
    let lag_max = Some(Duration::from_millis(400));
    let strict = reader(&router, ReadFrom::Replica { lag_max }).await;
    let prefer = reader(&router, ReadFrom::PreferReplica { lag_max }).await;
    let lenient = reader(&router, ReadFrom::Replica { lag_max: Some(HOUR) }).await;
    // A primary that has written nothing for longer than the bound makes no lag.
    tokio::time::sleep(Duration::from_millis(900)).await;
    comes_from(&strict, Some(near.id)).await;
    comes_from(&prefer, Some(near.id)).await;

    pause_replay(&home, &standby).await;
    home.admin().await.batch_execute("INSERT INTO flights VALUES (1, 'landed')").await.expect("written");
    eventually("it is found too far behind", async || fault_of(&strict).await == Some(ReplicaFault::TooFarBehind))
        .await;
    let error = strict.client().await.expect_err("still");
    assert!(error.is_retryable() && error.retry_after().is_some(), "{error}");
    assert!(error.to_string().contains("behind"), "{error}");
    let client = prefer.client().await.expect("from the primary");
    assert_eq!((client.replica(), flights(&client).await), (None, 1));
    let client = lenient.client().await.expect("near enough for others");
    assert_eq!((client.replica(), flights(&client).await), (Some(near.id), 0));
    drop(client);

    standby.connect("postgres").await.batch_execute("SELECT pg_wal_replay_resume()").await.expect("resumed");
    comes_from(&strict, Some(near.id)).await;
    comes_from(&prefer, Some(near.id)).await;
    assert_eq!(flights(&lenient.client().await.expect("a connection")).await, 1);
}

#[tokio::test]
async fn what_a_replica_has_not_replayed_of_the_placement_is_no_stale_route() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let standby = primary.standby().await;
    let behind = of(&standby);
    let router = router(&home, &[&behind], steady()).await;
    let strict = reader(&router, ReadFrom::Replica { lag_max: Some(HOUR) }).await;
    comes_from(&strict, Some(behind.id)).await;
    pause_replay(&home, &standby).await;
    home.admin().await.batch_execute("UPDATE tenantry.stamp SET generation = 2").await.expect("stamped");
    let mut route = Route { generation: Generation(2), ..home.route() };
    route.version.0 += 1;
    assert!(router.apply(&route));
    assert_eq!(fault_of(&strict).await, Some(ReplicaFault::NotThereYet));
    let prefer = reader(&router, ReadFrom::PreferReplica { lag_max: Some(HOUR) }).await;
    assert_eq!(prefer.client().await.expect("from the primary").replica(), None);
    standby.connect("postgres").await.batch_execute("SELECT pg_wal_replay_resume()").await.expect("resumed");
    comes_from(&prefer, Some(behind.id)).await;
}

#[tokio::test]
async fn one_that_was_promoted_is_not_read_from() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let (promoted, standby) = (primary.standby().await, primary.standby().await);
    let replicas = [of(&promoted), of(&standby)];
    let alone = router(&home, &[&replicas[0]], steady()).await;
    let both = router(&home, &[&replicas[0], &replicas[1]], steady()).await;
    let lag_max = Some(Duration::from_millis(200));
    let strict = reader(&alone, ReadFrom::Replica { lag_max }).await;
    let prefer = reader(&alone, ReadFrom::PreferReplica { lag_max }).await;
    let either = reader(&both, ReadFrom::Replica { lag_max }).await;
    comes_from(&strict, Some(replicas[0].id)).await;
    comes_from(&either, Some(replicas[0].id)).await;
    promoted.connect("postgres").await.batch_execute("SELECT pg_promote()").await.expect("promoted");
    // Also where a connection was open before.
    eventually("that is noticed", async || fault_of(&strict).await == Some(ReplicaFault::NotStandby)).await;
    comes_from(&prefer, None).await;
    comes_from(&either, Some(replicas[1].id)).await;
    for _ in 0..10 {
        assert_eq!(prefer.client().await.expect("a connection").replica(), None);
        assert_eq!(either.client().await.expect("a connection").replica(), Some(replicas[1].id));
    }
}

#[tokio::test]
async fn one_that_is_gone_or_silent_is_found_out_once_and_comes_back() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let standby = primary.standby().await;
    let socket = BreakableSocket::before(standby.address()).await;
    let far = replica(socket.address().port());
    let config = RouterConfig { replica_timeout: Duration::from_millis(500), ..patient() };
    let router = router(&home, &[&far], config).await;
    let (strict, prefer) = (reader(&router, REPLICA).await, reader(&router, PREFER).await);
    comes_from(&prefer, Some(far.id)).await;

    standby.cluster().kill().await.expect("killed");
    comes_from(&prefer, None).await;
    let error = strict.client().await.expect_err("no primary");
    assert!(matches!(error, RouterError::NoReplica { fault: ReplicaFault::Unreachable, .. }), "{error:?}");
    standby.cluster().restart().await.expect("restarted");
    comes_from(&prefer, Some(far.id)).await;
    comes_from(&strict, Some(far.id)).await;

    // Silence of a connection that is open is noticed too. Of those who come afterwards none waits for it: they are far
    // more than there are trials, each of which is another connection.
    socket.hold();
    comes_from(&prefer, None).await;
    let before = socket.accepted();
    for _ in 0..100 {
        assert_eq!(prefer.client().await.expect("from the primary").replica(), None);
    }
    let trials = socket.accepted() - before;
    assert!(trials < 50, "{trials} of 100 callers asked it");
    socket.release();
    comes_from(&prefer, Some(far.id)).await;
}

#[tokio::test]
async fn where_all_connections_to_replicas_are_in_use_the_primary_is_read_from_and_not_waited_long_for() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let standby = primary.standby().await;
    let near = of(&standby);
    // Whoever waited for a replica as for the primary would wait for a minute.
    let first = router(&home, &[&near], steady()).await;
    let (strict, prefer) = (reader(&first, REPLICA).await, reader(&first, PREFER).await);
    let mut held = Vec::new();
    while held.len() < 4 {
        held.push(strict.client().await.expect("the tenant has room"));
    }
    assert!(held.iter().all(|client| client.replica() == Some(near.id)));
    assert_eq!(prefer.client().await.expect("from the primary").replica(), None, "its own callers hold them");
    let mut waiting = Box::pin(strict.client());
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "the primary is not for it");
    held.pop();
    assert_eq!(waiting.await.expect("given back").replica(), Some(near.id));
    comes_from(&prefer, Some(near.id)).await;
    drop(held);

    // Patience is a choice.
    let patience = RouterConfig { replica_patience: Duration::from_mins(1), ..steady() };
    let second = router(&home, &[&near], RouterConfig { cluster_connections_max: 1, ..patience }).await;
    let prefer = reader(&second, PREFER).await;
    let held = prefer.client().await.expect("the only one");
    assert_eq!(held.replica(), Some(near.id));
    let mut waiting = Box::pin(prefer.client());
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "it is waited for");
    drop(held);
    assert_eq!(waiting.await.expect("given back").replica(), Some(near.id));
}

#[tokio::test]
async fn a_replica_without_a_free_connection_is_passed_over_and_other_tenants_may_hold_them_all() {
    let primary = Server::own().await;
    let (acme, mut zenith) = (Home::on(&primary, "acme").await, Home::on(&primary, "zenith").await);
    (zenith.cluster, zenith.pool_size) = (acme.cluster, 3);
    let (first, second) = (primary.standby().await, primary.standby().await);
    let mut cluster = acme.feed_cluster();
    cluster.replicas = vec![of(&first), of(&second)];
    let builder = Router::builder().fixed(vec![acme.route(), zenith.route()], vec![cluster]);
    let config = RouterConfig { cluster_connections_max: 3, ..steady() };
    let router = builder.config(config).build().await.expect("a router");
    let (strict, prefer) = (reader(&router, REPLICA).await, reader(&router, PREFER).await);
    let others = router.tenant("zenith").await.expect("found").read_only_from(REPLICA);

    // Fewest connections in use are where the tenant has no more.
    let mine = strict.client().await.expect("a connection");
    let mut theirs = Vec::new();
    for _ in 0..4 {
        theirs.push(others.client().await.expect("a connection"));
    }
    theirs.retain(|client| client.replica() != mine.replica());
    theirs.truncate(2);
    let also_mine = strict.client().await.expect("a connection");
    assert!(also_mine.replica().is_some() && also_mine.replica() != mine.replica());

    drop((mine, also_mine));
    while theirs.len() < 6 {
        theirs.push(others.client().await.expect("a connection"));
    }
    assert_eq!(prefer.client().await.expect("from the primary").replica(), None);
    let mut waiting = Box::pin(strict.client());
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "the primary is not for it");
    theirs.clear();
    assert!(waiting.await.expect("given back").replica().is_some());
}

#[tokio::test]
async fn without_a_replica_there_is_only_the_primary() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = router(&home, &[], steady()).await;
    let error = reader(&router, REPLICA).await.client().await.expect_err("there is none");
    assert!(matches!(error, RouterError::NoReplica { fault: ReplicaFault::Missing, .. }), "{error:?}");
    assert!(!error.is_retryable() && error.retry_after().is_none());
    assert!(error.to_string().contains("tenantry cluster replica add"), "{error}");
    assert_eq!(reader(&router, PREFER).await.client().await.expect("a connection").replica(), None);
}

#[tokio::test]
async fn replicas_come_and_go_with_the_feed() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let standby = primary.standby().await;
    let server = FeedServer::start().await;
    server.add_cluster(home.feed_cluster());
    server.publish(home.route());
    let router = server.router().config(steady()).build().await.expect("started");
    let (strict, prefer) = (reader(&router, REPLICA).await, reader(&router, PREFER).await);
    assert_eq!(fault_of(&strict).await, Some(ReplicaFault::Missing));
    let writer = router.tenant("acme").await.expect("found").client().await.expect("a connection");

    let mut cluster = home.feed_cluster();
    cluster.replicas.push(of(&standby));
    server.add_cluster(cluster);
    comes_from(&strict, Some(strict_id(&strict).await)).await;
    comes_from(&prefer, Some(strict_id(&strict).await)).await;
    let sessions = async || {
        let admin = standby.connect("postgres").await;
        let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        admin.query_one(query, &[&home.read_only.name]).await.expect("a count").get::<_, i64>(0)
    };
    assert_ne!(sessions().await, 0);

    server.add_cluster(home.feed_cluster());
    eventually("it is known to be gone", async || fault_of(&strict).await == Some(ReplicaFault::Missing)).await;
    eventually("its connections ended", async || sessions().await == 0).await;
    assert_eq!(prefer.client().await.expect("a connection").replica(), None);
    writer.batch_execute("SELECT 1").await.expect("what goes to the primary stays");
}

/// The replica that it reads from, once there is one.
async fn strict_id(reader: &Tenant) -> ClusterReplicaId {
    eventually("there is one", async || reader.client().await.is_ok()).await;
    reader.client().await.expect("a connection").replica().expect("a replica")
}
