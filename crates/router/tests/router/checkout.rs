//! Pools: made on first use, bounded, gone when idle, and never wrong about who lives where.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenantry_domain::{Credential, Generation, Limits, RouteState, Secret, TlsMode};
use tenantry_router::{Phase, Router, RouterConfig, RouterError};
use tenantry_testkit::{BreakableSocket, Server, eventually};

use crate::home::{Home, impatient};

#[tokio::test]
async fn a_tenant_is_found_by_id_slug_and_host() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut route = home.route();
    route.hosts = vec!["fly.acme.com".parse().expect("a host")];
    let router = Router::builder()
        .fixed(vec![route], vec![home.feed_cluster()])
        .base_domain("example.com")
        .build()
        .await
        .expect("a router");
    let id = home.tenant.to_string();
    for name in ["acme", "acme.example.com", "fly.acme.com", id.as_str()] {
        assert_eq!(router.tenant(name).await.expect(name).id(), home.tenant);
    }
    for name in ["acme2", "example.com", "a.acme.example.com", "acme.com", ""] {
        assert!(matches!(router.tenant(name).await, Err(RouterError::Unknown { .. })), "{name}");
    }
}

#[tokio::test]
async fn nothing_is_opened_before_it_is_asked_for_and_nothing_stays_when_idle() {
    let home = Home::on(Server::shared().await, "acme").await;
    let config = RouterConfig { idle_timeout: Duration::from_millis(100), ..RouterConfig::default() };
    let router = home.router_with(home.route(), config).await;
    let tenant = router.tenant("acme").await.expect("found");
    assert_eq!((router.status().pools, home.sessions().await), (0, 0));
    let client = tenant.client().await.expect("a connection");
    assert_eq!((router.status().pools, home.sessions().await), (1, 1));
    // Longer than the idle time: what is borrowed is not idle.
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.batch_execute("SELECT 1").await.expect("still open");
    drop(client);
    eventually("the pool is gone", async || router.status().pools == 0).await;
    eventually("the session is gone", async || home.sessions().await == 0).await;
    tenant.client().await.expect("it comes back").batch_execute("SELECT 1").await.expect("run");
}

#[tokio::test]
async fn a_caller_that_asks_again_at_once_gets_the_connection_that_it_gave_back() {
    let home = Home::on(Server::shared().await, "acme").await;
    let config = RouterConfig { return_patience: Duration::from_secs(20), ..RouterConfig::default() };
    let mut route = home.route();
    route.limits = Limits { pool_size: Some(4), ..Limits::default() };
    let router = home.router_with(route, config).await;
    let tenant = router.tenant("acme").await.expect("found");
    let ask = async || {
        let client = tenant.client().await.expect("a connection");
        client.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get::<_, i32>(0)
    };
    let first = ask().await;
    for _ in 0..50 {
        assert_eq!(ask().await, first);
    }
    // Two at once need two, and nobody waits for a connection that another waits for already.
    let (one, other) = tokio::join!(ask(), ask());
    assert!(one == first || other == first);
    assert_ne!(one, other);
}

#[tokio::test]
async fn a_read_only_handle_reads_and_cannot_write() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let reader = router.tenant("acme").await.expect("found").read_only();
    let client = reader.client().await.expect("a connection");
    assert!(client.query("SELECT * FROM flights", &[]).await.expect("read").is_empty());
    let error = client.execute("INSERT INTO flights VALUES (1, 'x')", &[]).await.expect_err("no privilege");
    assert_eq!(error.code().expect("an SQLSTATE").code(), "42501");
}

#[tokio::test]
async fn a_full_pool_lets_callers_wait_and_then_says_why() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router_with(home.route(), impatient()).await;
    let tenant = router.tenant("acme").await.expect("found");
    let held = tenant.client().await.expect("the only connection");
    let error = tenant.client().await.expect_err("none left");
    assert!(matches!(error, RouterError::Timeout { phase: Phase::Wait, .. }), "{error}");
    assert!(error.is_retryable() && error.retry_after().is_some());
    drop(held);
    let _client = tenant.client().await.expect("given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_share_what_the_role_may_open_in_the_order_in_which_they_come() {
    let home = Home::on(Server::shared().await, "acme").await;
    let limit = async |number: i32| {
        let sql = format!("ALTER ROLE {} CONNECTION LIMIT {number}", home.login.name);
        home.admin().await.batch_execute(&sql).await.expect("another limit");
    };
    limit(1).await;
    let mut route = home.route();
    route.limits = Limits { pool_size: Some(4), ..Limits::default() };
    let router = home.router_with(route, RouterConfig::default()).await;
    let tenant = router.tenant("acme").await.expect("found");
    // Six callers for one connection, and room for more in the pool.
    let served = AtomicUsize::new(0);
    let overtaken = futures::future::join_all((0..6).map(async |_| {
        let mut most = 0;
        for _ in 0..40 {
            let before = served.load(Ordering::SeqCst);
            let client = tenant.client().await.expect("a connection in time");
            most = most.max(served.fetch_add(1, Ordering::SeqCst) - before);
            client.batch_execute("SELECT pg_sleep(0.002)").await.expect("an answer");
        }
        most
    }));
    let overtaken = overtaken.await;
    assert!(overtaken.iter().all(|most| *most < 20), "{overtaken:?}");
    // Nobody is kept from what there is once there is more.
    limit(2).await;
    let _held = tenant.client().await.expect("the one that is open");
    tenant.client().await.expect("another").batch_execute("SELECT 1").await.expect("an answer");
}

#[tokio::test]
async fn a_role_that_may_open_nothing_is_an_error_when_patience_ends() {
    let home = Home::on(Server::shared().await, "acme").await;
    let sql = format!("ALTER ROLE {} CONNECTION LIMIT 0", home.login.name);
    home.admin().await.batch_execute(&sql).await.expect("a limit");
    let router = home.router_with(home.route(), impatient()).await;
    let error = router.tenant("acme").await.expect("found").client().await.expect_err("no connection");
    assert!(matches!(error, RouterError::Unavailable { .. }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn limits_of_the_tenant_bound_its_pool() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut route = home.route();
    route.limits = Limits { pool_size: Some(10), connections: Some(3), ..Limits::default() };
    let router = home.router_with(route, impatient()).await;
    let tenant = router.tenant("acme").await.expect("found");
    let _held = [tenant.client().await.expect("one"), tenant.client().await.expect("two")];
    assert!(tenant.client().await.is_err());
}

#[tokio::test]
async fn states_that_are_not_served_have_errors_of_their_own() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut unplaced = home.route();
    unplaced.target = None;
    let in_state = |state| {
        let mut route = home.route();
        route.state = state;
        route
    };
    for (route, expected) in [
        (in_state(RouteState::Provisioning), "provisioned"),
        (in_state(RouteState::Suspended), "suspended"),
        (in_state(RouteState::Moving), "moving"),
        (unplaced, "provisioned"),
    ] {
        let router = home.router_with(route, impatient()).await;
        let error = router.tenant("acme").await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.is_retryable(), expected != "suspended");
        assert!(router.lookup("acme").is_err());
    }
}

#[tokio::test]
async fn a_home_that_is_anothers_or_of_another_generation_is_refused() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut ahead = home.route();
    ahead.generation = Generation(2);
    let mut foreign = home.route();
    foreign.tenant = tenantry_domain::TenantId::new(uuid::Uuid::now_v7());
    for route in [ahead, foreign] {
        let router = home.router_with(route, impatient()).await;
        let error = router.tenant("acme").await.expect("known").client().await.expect_err("not there");
        assert!(matches!(error, RouterError::Stale { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_is_checked_again() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let client = tenant.client().await.expect("a connection");
    client.batch_execute("SET statement_timeout = 1000").await.expect("something to reset");
    home.admin().await.batch_execute("UPDATE tenantry.stamp SET generation = 2").await.expect("moved on");
    drop(client);
    let error = tenant.client().await.expect_err("moved on");
    assert!(matches!(error, RouterError::Stale { .. }), "{error:?}");
}

#[tokio::test]
async fn a_role_that_may_not_log_in_any_more_is_a_stale_route() {
    let home = Home::on(Server::shared().await, "acme").await;
    let statement = format!("ALTER ROLE {} NOLOGIN", home.login.name);
    home.admin().await.batch_execute(&statement).await.expect("altered");
    let error = home.router().await.tenant("acme").await.expect("known").client().await.expect_err("fenced");
    assert!(matches!(error, RouterError::Stale { .. }), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(!text.contains(&home.login.password), "{text}");
}

#[tokio::test]
async fn a_cluster_that_is_down_or_silent_is_told_apart_and_comes_back() {
    let home = Home::on(Server::shared().await, "acme").await;
    let socket = BreakableSocket::before(home.names.server().address()).await;
    let mut cluster = home.feed_cluster();
    cluster.port = socket.address().port();
    let config = RouterConfig { connect_timeout: Duration::from_millis(500), ..impatient() };
    let builder = Router::builder().fixed(vec![home.route()], vec![cluster]).config(config);
    let tenant = builder.build().await.expect("a router").tenant("acme").await.expect("known");

    socket.go_down();
    let error = tenant.client().await.expect_err("down");
    assert!(matches!(error, RouterError::Unavailable { .. }), "{error:?}");
    socket.come_up();
    drop(tenant.client().await.expect("up again"));

    socket.cut();
    eventually("the cut connection is replaced", async || match tenant.client().await {
        Ok(client) => client.batch_execute("SELECT 1").await.is_ok(),
        Err(_) => false,
    })
    .await;

    socket.cut();
    socket.hold();
    let error = tenant.client().await.expect_err("silent");
    assert!(matches!(error, RouterError::Timeout { .. } | RouterError::Unavailable { .. }), "{error:?}");
    socket.release();
    eventually("the cluster answers again", async || tenant.client().await.is_ok()).await;
}

#[tokio::test]
async fn a_feed_without_passwords_and_plain_text_beyond_the_machine_are_refused_with_advice() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut route = home.route();
    if let Some(target) = &mut route.target {
        target.credential = Credential { role: target.credential.role.clone(), password: None };
    }
    let error = home.router_with(route, impatient()).await.tenant("acme").await.expect("known").client().await;
    assert!(error.expect_err("no password").to_string().contains("routes:secrets"));

    let mut cluster = home.feed_cluster();
    cluster.host = "db.example.com".to_owned();
    let router = Router::builder().fixed(vec![home.route()], vec![cluster]).build().await.expect("a router");
    let error = router.tenant("acme").await.expect("known").client().await.expect_err("in the clear");
    assert!(error.to_string().contains("tls_mode"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_where_tls_is_required() {
    let home = Home::on(Server::shared().await, "acme").await;
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let mut cluster = home.feed_cluster();
        cluster.tls_mode = mode;
        let router = Router::builder().fixed(vec![home.route()], vec![cluster]).build().await.expect("a router");
        assert!(router.tenant("acme").await.expect("known").client().await.is_err(), "{mode}");
    }
    assert_eq!(home.sessions().await, 0);
}

#[tokio::test]
async fn a_closed_router_hands_out_nothing_and_its_connections_end() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    drop(tenant.client().await.expect("a connection"));
    router.close();
    assert!(matches!(tenant.client().await, Err(RouterError::Closed)));
    eventually("no session is left", async || home.sessions().await == 0).await;
}

#[tokio::test]
async fn a_unix_socket_is_an_endpoint_too() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut cluster = home.feed_cluster();
    cluster.host = home.names.server().cluster().socket_dir().display().to_string();
    cluster.port = home.names.server().cluster().port();
    cluster.tls_mode = TlsMode::VerifyFull;
    let router = Router::builder().fixed(vec![home.route()], vec![cluster]).build().await.expect("a router");
    let client = router.tenant("acme").await.expect("known").client().await.expect("a connection");
    let row = client.query_one("SELECT inet_server_addr() IS NULL", &[]).await.expect("run");
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn a_wrong_password_is_a_stale_route() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut route = home.route();
    if let Some(target) = &mut route.target {
        target.credential.password = Some(Secret::new("rotated".to_owned()));
    }
    let tenant = home.router_with(route, impatient()).await.tenant("acme").await.expect("known");
    assert!(matches!(tenant.client().await, Err(RouterError::Stale { .. })));
}
