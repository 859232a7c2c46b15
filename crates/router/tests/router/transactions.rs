//! Transactions that own their connection: committed, or they have not happened.

use std::time::Duration;

use tenantry_domain::RouteState;
use tenantry_router::{IsolationLevel, ReadFrom, Router, RouterConfig, RouterError, Tenant};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tokio::time::timeout;

use crate::failures::told;
use crate::home::Home;
use crate::replicas;

const INSERT: &str = "INSERT INTO flights VALUES (7, 'boarding')";

async fn flights(tenant: &Tenant) -> i64 {
    let client = tenant.client().await.expect("a connection");
    let row = client.query_one("SELECT count(*) FROM flights", &[]).await.expect("outside any transaction");
    row.get(0)
}

async fn shown(client: &tokio_postgres::Client, setting: &str) -> String {
    client.query_one(&format!("SHOW {setting}"), &[]).await.expect("shown").get(0)
}

#[tokio::test]
async fn what_is_committed_stays_and_nothing_else_does() {
    // The pool has one connection, so each borrower gets the one of the last.
    let home = Home::on(Server::shared().await, "acme").await;
    let tenant = home.router().await.tenant("acme").await.expect("found");
    let transaction = tenant.transaction().await.expect("begun");
    assert_eq!(transaction.tenant(), home.tenant);
    transaction.execute(INSERT, &[]).await.expect("run");
    drop(transaction);
    assert_eq!(flights(&tenant).await, 0, "dropped");

    let transaction = tenant.transaction().await.expect("begun");
    transaction.execute(INSERT, &[]).await.expect("run");
    transaction.rollback().await.expect("rolled back");
    assert_eq!(flights(&tenant).await, 0, "rolled back");

    let transaction = tenant.transaction().await.expect("begun");
    let insert = transaction.prepare_cached("INSERT INTO flights VALUES ($1, $2)").await.expect("prepared");
    transaction.execute(&insert, &[&7_i64, &"boarding"]).await.expect("run");
    transaction.commit().await.expect("committed");
    assert_eq!(flights(&tenant).await, 1, "committed");
}

#[tokio::test]
async fn committing_what_has_failed_is_an_error_and_does_nothing() {
    let home = Home::on(Server::shared().await, "acme").await;
    let tenant = home.router().await.tenant("acme").await.expect("found");
    let transaction = tenant.transaction().await.expect("begun");
    transaction.execute(INSERT, &[]).await.expect("run");
    transaction.execute(INSERT, &[]).await.expect_err("there is one already");
    let error = transaction.commit().await.expect_err("it has failed");
    assert_eq!(error.code().expect("an SQLSTATE").code(), "25P02");
    assert_eq!(flights(&tenant).await, 0);

    // What is checked last fails last.
    let deferred = "CREATE TABLE seats (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED); GRANT ALL ON seats TO PUBLIC";
    home.admin().await.batch_execute(deferred).await.expect("a table");
    let transaction = tenant.transaction().await.expect("begun");
    transaction.batch_execute("INSERT INTO seats VALUES (1), (1)").await.expect("not checked yet");
    let error = transaction.commit().await.expect_err("checked now");
    assert_eq!(error.code().expect("an SQLSTATE").code(), "23505");
    assert_eq!(flights(&tenant).await, 0, "the connection is as good as new");
}

#[tokio::test]
async fn one_that_is_dropped_in_the_middle_of_a_query_ends_with_it() {
    let home = Home::on(Server::shared().await, "acme").await;
    let tenant = home.router_with(home.route(), RouterConfig::default()).await.tenant("acme").await.expect("found");
    let transaction = tenant.transaction().await.expect("begun");
    transaction.execute(INSERT, &[]).await.expect("run");
    let sleep = transaction.batch_execute("SELECT pg_sleep(3600)");
    assert!(timeout(Duration::from_millis(50), sleep).await.is_err());
    drop(transaction);
    assert_eq!(flights(&tenant).await, 0);
    eventually("its session is gone", async || home.sessions().await <= 1).await;
}

#[tokio::test]
async fn it_is_as_it_was_asked_for_and_the_next_one_as_ever() {
    let home = Home::on(Server::shared().await, "acme").await;
    let tenant = home.router().await.tenant("acme").await.expect("found");
    for (level, name) in [
        (IsolationLevel::ReadUncommitted, "read uncommitted"),
        (IsolationLevel::ReadCommitted, "read committed"),
        (IsolationLevel::RepeatableRead, "repeatable read"),
        (IsolationLevel::Serializable, "serializable"),
    ] {
        let transaction = tenant.build_transaction().isolation_level(level).start().await.expect(name);
        assert_eq!(shown(&transaction, "transaction_isolation").await, name);
        assert_eq!(shown(&transaction, "transaction_read_only").await, "off");
        transaction.commit().await.expect("committed");
    }
    let report = tenant.build_transaction().isolation_level(IsolationLevel::Serializable);
    let report = report.read_only(true).deferrable(true).start().await.expect("begun");
    assert_eq!(shown(&report, "transaction_deferrable").await, "on");
    let error = report.execute(INSERT, &[]).await.expect_err("it only reads");
    assert_eq!(error.code().expect("an SQLSTATE").code(), "25006");
    drop(report);
    let explicit = tenant.build_transaction().read_only(false).deferrable(false).start().await.expect("begun");
    explicit.execute(INSERT, &[]).await.expect("it writes");
    assert_eq!(shown(&explicit, "transaction_isolation").await, "read committed");
    explicit.commit().await.expect("committed");
    let plain = tenant.transaction().await.expect("begun");
    assert_eq!(shown(&plain, "transaction_read_only").await, "off");
    plain.rollback().await.expect("rolled back");
    let reader = tenant.read_only().transaction().await.expect("begun");
    let error = reader.execute(INSERT, &[]).await.expect_err("no privilege");
    assert_eq!(error.code().expect("an SQLSTATE").code(), "42501");
}

#[tokio::test]
async fn a_connection_that_is_lost_before_anything_was_done_is_replaced() {
    let home = Home::on(Server::shared().await, "acme").await;
    home.make_plain().await;
    let socket = BreakableSocket::before(home.names.server().address()).await;
    let mut cluster = home.feed_cluster();
    cluster.port = socket.address().port();
    let config = RouterConfig { connect_timeout: Duration::from_secs(3), ..RouterConfig::default() };
    let builder = Router::builder().fixed(vec![home.route()], vec![cluster]).config(config);
    let tenant = builder.build().await.expect("a router").tenant("acme").await.expect("found");
    for _ in 0..2 {
        assert_eq!(flights(&tenant).await, 0);
    }
    // Nothing is being cleaned any more.
    drop(tenant.client().await.expect("idle"));
    socket.lose_next_reply();
    let transaction = tenant.transaction().await.expect("begun on another connection");
    assert_eq!(socket.sprung(), 1);
    transaction.execute(INSERT, &[]).await.expect("run");
    transaction.commit().await.expect("committed");
    assert_eq!(flights(&tenant).await, 1);

    // Where nobody answers, the wait has an end.
    drop(tenant.client().await.expect("idle"));
    socket.hold();
    let error = tenant.transaction().await.expect_err("nobody answers");
    assert!(matches!(error, RouterError::Unavailable { .. }) && error.retry_after().is_some(), "{error:?}");
    assert!(told(&error).contains("did not answer in time"), "{}", told(&error));
    socket.release();
    eventually("it answers again", async || tenant.transaction().await.is_ok()).await;
}

#[tokio::test]
async fn a_tenant_that_cannot_be_served_says_why() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let mut route = home.route();
    (route.version.0, route.state) = (3, RouteState::Suspended);
    assert!(router.apply(&route));
    assert!(matches!(tenant.transaction().await, Err(RouterError::Suspended { .. })));
}

#[tokio::test]
async fn what_cannot_begin_is_refused() {
    let primary = Server::own().await;
    let home = Home::on(&primary, "acme").await;
    let standby = primary.standby().await;
    let router = replicas::router(&home, &[&replicas::of(&standby)], replicas::steady()).await;
    let reader = replicas::reader(&router, ReadFrom::Replica { lag_max: None }).await;
    reader.transaction().await.expect("begun").commit().await.expect("nothing to do");
    let serializable = reader.build_transaction().isolation_level(IsolationLevel::Serializable).start().await;
    let error = serializable.expect_err("PostgreSQL has none on a standby");
    assert!(matches!(error, RouterError::Refused { .. }) && !error.is_retryable(), "{error:?}");
}
