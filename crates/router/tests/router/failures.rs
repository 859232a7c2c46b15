//! Servers that fail, each in its own way: their tenants get errors of their kind within the limits, the tenants of other
//! servers notice nothing, and what is over is over without a restart.

use std::error::Error;
use std::iter;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tenantry_domain::{Limits, TlsMode};
use tenantry_router::{Phase, Router, RouterConfig, RouterError, Tenant};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_postgres::error::{DbError, SqlState};

use crate::home::{Home, impatient, patient};
use crate::tls::Authority;

/// All that an error says.
pub(crate) fn told(error: &RouterError) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes(error: &RouterError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source())
}

/// What PostgreSQL said, if it did.
fn sqlstate(error: &RouterError) -> Option<SqlState> {
    causes(error).find_map(|cause| cause.downcast_ref::<DbError>()).map(|error| error.code().clone())
}

/// One router of several homes, each on its own cluster.
async fn router_of(homes: &[&Home<'_>], ports: &[u16], config: RouterConfig) -> Router {
    let clusters = homes.iter().zip(ports).map(|(home, port)| {
        let mut cluster = home.feed_cluster();
        cluster.port = *port;
        cluster
    });
    let routes = homes.iter().map(|home| home.route()).collect();
    Router::builder().fixed(routes, clusters.collect()).config(config).build().await.expect("a router")
}

async fn answers(tenant: &Tenant) -> bool {
    match tenant.client().await {
        Ok(client) => client.query("SELECT * FROM flights", &[]).await.is_ok(),
        Err(_) => false,
    }
}

/// A tenant with a connection that is idle, and that needs no other while nothing happens to its server.
async fn warm(router: &Router, home: &Home<'_>) -> Tenant {
    home.make_plain().await;
    let tenant = router.tenant(home.slug.as_str()).await.expect("found");
    // The home is looked at after the first use.
    for _ in 0..3 {
        assert!(answers(&tenant).await);
    }
    tenant
}

/// Uses a tenant all the time while something else happens, and never gets an error.
async fn meanwhile_served<T>(tenant: &Tenant, doing: impl Future<Output = T>) -> T {
    let mut served = 0;
    let mut doing = std::pin::pin!(doing);
    loop {
        assert!(answers(tenant).await, "another server's tenant is harmed after {served} answers");
        served += 1;
        if let Ok(output) = timeout(Duration::from_millis(5), &mut doing).await {
            return output;
        }
    }
}

/// Does something while a server stands still; whatever comes of it, the server goes on afterwards.
async fn while_paused<T>(server: &Server, doing: impl Future<Output = T>) -> T {
    server.cluster().pause().await.expect("paused");
    let outcome = AssertUnwindSafe(doing).catch_unwind().await;
    server.cluster().resume().await.expect("resumed");
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Gives up a query that nobody answers, as a caller does whose own time is up.
async fn give_up_a_query(client: &tokio_postgres::Client) {
    let query = client.query("SELECT * FROM flights", &[]);
    assert!(timeout(Duration::from_millis(50), query).await.is_err(), "nobody answers");
}

#[tokio::test]
async fn a_server_that_stands_still_holds_up_its_own_tenants_alone_and_then_goes_on() {
    let server = Server::own().await;
    let (mut acme, zenith) = (Home::on(&server, "acme").await, Home::on(Server::shared().await, "zenith").await);
    acme.pool_size = 2;
    let config = RouterConfig {
        wait_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        reset_timeout: Duration::from_secs(1),
        ..RouterConfig::default()
    };
    let ports = [server.address().port(), Server::shared().await.address().port()];
    let router = router_of(&[&acme, &zenith], &ports, config).await;
    let (acme_tenant, zenith_tenant) = (warm(&router, &acme).await, warm(&router, &zenith).await);
    let held = acme_tenant.client().await.expect("a connection");
    drop(acme_tenant.client().await.expect("another"));

    let errors = while_paused(
        &server,
        meanwhile_served(&zenith_tenant, async {
            give_up_a_query(&held).await;
            // One that was idle is handed out: nobody knows yet.
            give_up_a_query(&acme_tenant.client().await.expect("one that is idle")).await;
            drop(held);
            let mut errors = Vec::new();
            while !errors.iter().any(|error| told(error).contains("left alone")) {
                let outcomes = join_all((0..4).map(|_| acme_tenant.client())).await;
                errors.extend(outcomes.into_iter().map(|outcome| outcome.expect_err("nobody answers")));
            }
            errors
        }),
    )
    .await;
    for error in &errors {
        assert!(
            matches!(
                error,
                RouterError::Timeout { phase: Phase::Wait | Phase::Connect, .. } | RouterError::Unavailable { .. }
            ),
            "{error:?}"
        );
        assert!(error.is_retryable() && error.retry_after().is_some(), "{error:?}");
    }
    let last = told(errors.last().expect("some"));
    assert!(last.contains("did not answer in time"), "why it is left alone is said: {last}");

    eventually("it answers again", async || answers(&acme_tenant).await).await;
    eventually("what was given up is gone", async || acme.sessions().await <= 2).await;
}

#[tokio::test]
async fn a_server_without_room_lets_callers_wait_and_is_not_given_up() {
    let limits = [("max_connections", "12"), ("superuser_reserved_connections", "8")];
    let server = Server::own_with(|builder| builder.settings(limits)).await;
    let (mut acme, zenith) = (Home::on(&server, "acme").await, Home::on(&server, "zenith").await);
    acme.pool_size = 3;
    let port = server.address().port();
    let patient = router_of(&[&acme, &zenith], &[port, port], patient()).await;
    let impatient = router_of(&[&acme], &[port], impatient()).await;
    let zenith_tenant = warm(&patient, &zenith).await;
    let (waits, gives_up) =
        (patient.tenant("acme").await.expect("found"), impatient.tenant("acme").await.expect("found"));

    // Somebody else takes all the room that there is.
    let mut others = Vec::new();
    let refusal = loop {
        match server.connect_as(&acme.login, &acme.database).await {
            Ok(other) => others.push(other),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
    // More attempts than would open the breaker if silence were all that it saw.
    for _ in 0..5 {
        let error = gives_up.client().await.expect_err("no room");
        assert!(matches!(error, RouterError::Unavailable { .. }), "{error:?}");
        assert!(error.is_retryable() && error.retry_after().is_some());
        assert_eq!(sqlstate(&error), Some(SqlState::TOO_MANY_CONNECTIONS), "{}", told(&error));
    }
    // Tenants that have connections keep them.
    let waiting = async {
        let client = waits.client().await.expect("waited for");
        client.query("SELECT * FROM flights", &[]).await.expect("an answer");
        client
    };
    let mut waiting = std::pin::pin!(waiting);
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "there is no room");
    assert!(answers(&zenith_tenant).await);
    drop(others.pop());
    let served = meanwhile_served(&zenith_tenant, waiting).await;
    // The second caller of a pool that has a connection gets it when it is given back.
    let (second, ()) = tokio::join!(waits.client(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(served);
    });
    drop(second.expect("given back"));
    others.clear();
    eventually("there is room again", async || match gives_up.client().await {
        Ok(client) => client.batch_execute("SELECT 1").await.is_ok(),
        Err(error) => {
            assert!(!told(&error).contains("left alone"), "a server that answers is asked: {}", told(&error));
            false
        }
    })
    .await;
}

#[tokio::test]
async fn a_role_at_its_connection_limit_is_served_again_once_that_is_raised() {
    let home = Home::on(Server::shared().await, "acme").await;
    let limit = async |number: i32| {
        let sql = format!("ALTER ROLE {} CONNECTION LIMIT {number}", home.login.name);
        home.admin().await.batch_execute(&sql).await.expect("another limit");
    };
    let mut route = home.route();
    route.limits = Limits { pool_size: Some(4), ..Limits::default() };
    let router = home.router_with(route, impatient()).await;
    let tenant = router.tenant("acme").await.expect("found");
    let other = server_side_session(&home).await;
    limit(1).await;
    for _ in 0..5 {
        let error = tenant.client().await.expect_err("the role has its one connection elsewhere");
        assert!(matches!(error, RouterError::Unavailable { .. }), "{error:?}");
        assert_eq!(sqlstate(&error), Some(SqlState::TOO_MANY_CONNECTIONS), "{}", told(&error));
    }
    limit(2).await;
    let held = tenant.client().await.expect("at once");
    let error = tenant.client().await.expect_err("both are in use");
    assert!(matches!(error, RouterError::Timeout { phase: Phase::Wait, .. }), "{error:?}");
    drop((held, other));
    tenant.client().await.expect("given back").batch_execute("SELECT 1").await.expect("run");
}

/// A session of the tenant's role that no router knows of.
async fn server_side_session(home: &Home<'_>) -> tokio_postgres::Client {
    home.names.server().connect_as(&home.login, &home.database).await.expect("a session")
}

#[tokio::test]
async fn a_slow_server_is_waited_for_within_the_limits_and_no_longer() {
    let server = Server::shared().await;
    let (acme, zenith) = (Home::on(server, "acme").await, Home::on(server, "zenith").await);
    let socket = BreakableSocket::before(server.address()).await;
    let config = RouterConfig {
        wait_timeout: Duration::from_secs(3),
        connect_timeout: Duration::from_secs(3),
        abandoned_after: Duration::from_secs(1),
        reset_timeout: Duration::from_secs(1),
        // Well above the round trip, as the documentation asks.
        return_patience: Duration::from_secs(3),
        ..RouterConfig::default()
    };
    let ports = [socket.address().port(), server.address().port()];
    let router = router_of(&[&acme, &zenith], &ports, config).await;
    let (slow, quick) = (router.tenant("acme").await.expect("found"), warm(&router, &zenith).await);

    // A long line costs time and nothing else: the connection is kept and cleaned as ever.
    socket.delay(Duration::from_millis(40), Duration::from_millis(40));
    for _ in 0..4 {
        let client = slow.client().await.expect("a connection");
        let setting = "SELECT current_setting('statement_timeout')";
        assert_eq!(client.query_one(setting, &[]).await.expect("run").get::<_, &str>(0), "0");
        client.batch_execute("SET statement_timeout = 7000; BEGIN").await.expect("run");
    }
    assert_eq!(socket.accepted(), 1, "one connection did it all");

    drop(slow.client().await.expect("cleaned"));

    // One that takes longer than anybody waits is as one that does not answer.
    socket.delay(Duration::from_mins(1), Duration::from_mins(1));
    let error = meanwhile_served(&quick, async {
        give_up_a_query(&slow.client().await.expect("the one that is idle")).await;
        loop {
            match slow.client().await.expect_err("too slow") {
                // The first one is still being cancelled.
                RouterError::Timeout { phase: Phase::Wait, .. } => {}
                error => return error,
            }
        }
    })
    .await;
    assert!(matches!(error, RouterError::Timeout { phase: Phase::Connect, .. }), "{error:?}");
    assert!(error.is_retryable() && error.retry_after().is_some());
    socket.delay(Duration::ZERO, Duration::ZERO);
    eventually("it is as quick as before", async || answers(&slow).await).await;
}

/// A server that gives one answer to whoever asks for TLS, and says what came after that.
async fn without_tls(answer: &'static [u8]) -> (u16, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let listening = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("somebody");
        let mut request = [0; 8];
        client.read_exact(&mut request).await.expect("a request");
        assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "a request for TLS and nothing else");
        client.write_all(answer).await.expect("an answer");
        let mut rest = Vec::new();
        // However it ends.
        let _ = client.read_to_end(&mut rest).await;
        rest
    });
    (port, listening)
}

#[tokio::test]
async fn nothing_is_said_in_the_clear_to_a_server_that_refuses_tls() {
    let home = Home::on(Server::shared().await, "acme").await;
    let authority = Authority::new().pem();
    let refusal = b"E\0\0\0\x20SERROR\0C0A000\0Mno TLS here\0\0";
    let lured = b"SR\0\0\0\x08\0\0\0\x03";
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        for answer in [b"N".as_slice(), refusal, lured] {
            let (port, listening) = without_tls(answer).await;
            let mut cluster = home.feed_cluster();
            (cluster.port, cluster.tls_mode, cluster.tls_ca) = (port, mode, Some(authority.clone()));
            let builder = Router::builder().fixed(vec![home.route()], vec![cluster]).config(impatient());
            let router = builder.build().await.expect("a router");
            let error = router.tenant("acme").await.expect("known").client().await.expect_err("no TLS");
            assert!(matches!(error, RouterError::Unavailable { .. }), "{error:?}");
            let text = told(&error);
            assert!(text.contains("has no TLS") && text.contains("tls_mode"), "{text}");
            let rest = listening.await.expect("no panic");
            // A handshake was begun where the server seemed to agree; it bears nothing but the name of the server.
            assert!(rest.is_empty() || (answer == lured && rest[0] == 0x16), "{mode}: {rest:?}");
            for secret in [home.login.name.as_bytes(), home.login.password.as_bytes(), home.database.as_bytes()] {
                assert!(!rest.windows(secret.len()).any(|piece| piece == secret), "{mode}: {rest:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_says_so_however_often_it_is_asked() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut cluster = home.feed_cluster();
    (cluster.tls_mode, cluster.tls_ca) = (TlsMode::VerifyFull, Some(Authority::new().pem()));
    let builder = Router::builder().fixed(vec![home.route()], vec![cluster]).config(impatient());
    let router = builder.build().await.expect("a router");
    let tenant = router.tenant("acme").await.expect("known");
    let mut was_left_alone = false;
    for _ in 0..6 {
        let text = told(&tenant.client().await.expect_err("no TLS"));
        assert!(text.contains("server does not support TLS"), "{text}");
        was_left_alone |= text.contains("left alone");
    }
    assert!(was_left_alone, "nobody hammers on it");
    assert_eq!(home.sessions().await, 0);
}
