//! Nothing that one borrower leaves behind reaches the next. Every pool here has one connection, so that the next
//! borrower gets the same backend or none.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tenantry_router::{Connection, RouterConfig, Tenant};
use tenantry_testkit::{Server, eventually};

use crate::home::{Home, patient};

/// Soon takes a connection that does not answer for one with an abandoned query.
fn hasty() -> RouterConfig {
    RouterConfig { abandoned_after: Duration::from_millis(50), ..patient() }
}

async fn backend(client: &Connection) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a backend").get(0)
}

/// Lets one borrower run `mess` and the next one ask `probe`, which must answer as a fresh session does; both on the
/// same backend.
async fn leaves_nothing(tenant: &Tenant, mess: &str, probe: &str) {
    let first = tenant.client().await.expect("a connection");
    let fresh = answer(&first, probe).await;
    let pid = backend(&first).await;
    // Some of it fails on purpose.
    let _ = first.batch_execute(mess).await;
    drop(first);
    let next = tenant.client().await.expect("a connection");
    assert_eq!(backend(&next).await, pid, "the backend is reused after: {mess}");
    assert_eq!(answer(&next, probe).await, fresh, "left behind by: {mess}");
}

async fn answer(client: &Connection, probe: &str) -> String {
    client.query_one(probe, &[]).await.expect(probe).get(0)
}

#[tokio::test]
async fn settings_roles_and_session_objects_are_invisible_to_the_next_borrower() {
    for is_plain in [false, true] {
        let home = Home::on(Server::shared().await, "acme").await;
        if is_plain {
            home.make_plain().await;
        }
        nothing_of_a_session_is_left(&home).await;
    }
}

async fn nothing_of_a_session_is_left(home: &Home<'_>) {
    let (login, other) = (&home.login.name, &home.read_only.name);
    home.admin().await.batch_execute(&format!("GRANT {other} TO {login}")).await.expect("granted");
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let set_role = format!("SET ROLE {other}");
    for (mess, probe) in [
        ("SET search_path = pg_catalog", "SELECT current_setting('search_path')"),
        ("SET statement_timeout = '7s'", "SELECT current_setting('statement_timeout')"),
        ("SET my.tenant = 'other'", "SELECT coalesce(nullif(current_setting('my.tenant', true), ''), 'nothing')"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SELECT current_setting('transaction_read_only')"),
        ("SELECT set_config('search_path', 'x', false)", "SELECT current_setting('search_path')"),
        (
            "SELECT /* U& */ U&\"\\0073et_config\"('statement_timeout', '7s', false)",
            "SELECT current_setting('statement_timeout')",
        ),
        ("CREATE TEMP TABLE t AS SELECT 1", "SELECT coalesce(to_regclass('pg_temp.t')::text, 'none')"),
        ("SELECT 1 INTO TEMP t", "SELECT coalesce(to_regclass('pg_temp.t')::text, 'none')"),
        (
            "DO $$ BEGIN PERFORM set_config('my.tenant', 'x', false); END $$",
            "SELECT coalesce(nullif(current_setting('my.tenant', true), ''), 'nothing')",
        ),
        ("SET TIME ZONE 'Asia/Tokyo'", "SELECT current_setting('TimeZone')"),
        (set_role.as_str(), "SELECT current_user || ' ' || session_user"),
        ("CREATE TEMP TABLE t (x int)", "SELECT coalesce(to_regclass('pg_temp.t')::text, 'none')"),
        ("CREATE TEMP SEQUENCE s; SELECT nextval('s')", "SELECT coalesce(to_regclass('pg_temp.s')::text, 'none')"),
        (
            "SELECT pg_advisory_lock(7)",
            "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        ),
        ("LISTEN rumours", "SELECT count(*)::text FROM pg_listening_channels()"),
        ("PREPARE p AS SELECT 1", "SELECT count(*)::text FROM pg_prepared_statements WHERE from_sql"),
        (
            "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
            "SELECT count(*)::text FROM pg_cursors WHERE is_holdable",
        ),
    ] {
        leaves_nothing(&tenant, mess, probe).await;
    }
}

#[tokio::test]
async fn an_open_a_failed_and_a_forgotten_transaction_end_with_their_borrower() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let count = "SELECT count(*)::text FROM flights";
    leaves_nothing(&tenant, "BEGIN; INSERT INTO flights VALUES (1, 'open')", count).await;
    leaves_nothing(&tenant, "BEGIN; INSERT INTO flights VALUES (1, 'failed'); SELECT 1/0", count).await;
    leaves_nothing(&tenant, "BEGIN; SET LOCAL search_path = x; SAVEPOINT s; SELECT 1/0; ROLLBACK TO s", count).await;

    let mut client = tenant.client().await.expect("a connection");
    let transaction = client.transaction().await.expect("begun");
    transaction.execute("INSERT INTO flights VALUES (2, 'forgotten')", &[]).await.expect("inserted");
    drop(transaction);
    drop(client);
    let client = tenant.client().await.expect("a connection");
    assert_eq!(answer(&client, count).await, "0");
}

#[tokio::test]
async fn what_a_borrower_commits_stays() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let mut client = tenant.client().await.expect("a connection");
    let transaction = client.transaction().await.expect("begun");
    transaction.execute("INSERT INTO flights VALUES (1, 'landed')", &[]).await.expect("inserted");
    transaction.commit().await.expect("committed");
    drop(client);
    let client = tenant.client().await.expect("a connection");
    assert_eq!(answer(&client, "SELECT status FROM flights").await, "landed");
}

#[tokio::test]
async fn giving_back_a_clean_connection_puts_nothing_into_the_log_of_the_server() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    for _ in 0..3 {
        answer(&tenant.client().await.expect("a connection"), "SELECT 'x'").await;
    }
    let log = std::fs::read_to_string(home.names.server().cluster().log()).expect("a log");
    assert!(!log.contains("there is no transaction in progress"));
}

#[tokio::test]
async fn statements_that_the_driver_keeps_survive_the_reset() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    home.admin().await.batch_execute("CREATE TYPE public.leg AS ENUM ('out', 'back')").await.expect("a type");
    for _ in 0..3 {
        let client = tenant.client().await.expect("a connection");
        let statement = client.prepare_cached("SELECT 'out'::leg::text, $1::bigint").await.expect("prepared");
        let row = client.query_one(&statement, &[&7_i64]).await.expect("run");
        assert_eq!(row.get::<_, String>(0), "out");
        // The driver asks PostgreSQL for types it does not know, by statements that it keeps.
        client.prepare("SELECT 'back'::leg").await.expect("the type is known");
    }
}

#[tokio::test]
async fn a_query_whose_future_was_dropped_is_cancelled_and_its_connection_closed() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router_with(home.route(), hasty()).await;
    let tenant = router.tenant("acme").await.expect("found");
    let client = tenant.client().await.expect("a connection");
    let pid = backend(&client).await;
    let sleep = client.batch_execute("SELECT pg_sleep(3600)");
    assert!(tokio::time::timeout(Duration::from_millis(50), sleep).await.is_err());
    drop(client);
    // With one connection in the pool, this waits until the abandoned query is out of the way.
    let next = tenant.client().await.expect("a connection");
    assert_ne!(backend(&next).await, pid);
    let admin = home.admin().await;
    eventually("the abandoned query is gone", async || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
        admin.query_one(query, &[&pid]).await.expect("a count").get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test]
async fn futures_dropped_at_any_moment_leave_no_trace() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router_with(home.route(), hasty()).await;
    let tenant = router.tenant("acme").await.expect("found");
    for microseconds in (0..40).map(|step| step * step * 25) {
        let work = async {
            let mut client = tenant.client().await?;
            client.batch_execute("SET search_path = nowhere; SELECT pg_advisory_lock(9)").await.expect("run");
            let transaction = client.transaction().await.expect("begun");
            transaction.execute("INSERT INTO public.flights VALUES (1, 'lost')", &[]).await.expect("inserted");
            transaction.query("SELECT pg_sleep(0.002)", &[]).await.expect("slept");
            drop(transaction);
            Ok::<_, tenantry_router::RouterError>(())
        };
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), work).await;
        let client = tenant.client().await.expect("a connection");
        let probe = "SELECT concat_ws(' ', current_setting('search_path'), (SELECT count(*) FROM public.flights), \
                     (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM \
                      pg_database WHERE datname = current_database())))";
        assert_eq!(answer(&client, probe).await, "public 0 0", "after {microseconds} µs");
        // Refused within a transaction.
        client.batch_execute("VACUUM public.flights").await.expect("no transaction is open");
    }
}

#[tokio::test]
async fn a_borrower_that_ends_its_own_backend_harms_nobody() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let client = tenant.client().await.expect("a connection");
    let _ = client.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await;
    drop(client);
    let client = tenant.client().await.expect("another connection");
    assert_eq!(answer(&client, "SELECT 'alive'").await, "alive");
}

#[tokio::test]
async fn a_copy_and_a_result_that_were_not_finished_do_not_reach_the_next_borrower() {
    let home = Home::on(Server::shared().await, "acme").await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let client = tenant.client().await.expect("a connection");
    let sink = client.copy_in::<_, bytes::Bytes>("COPY flights FROM STDIN").await.expect("begun");
    let mut sink = Box::pin(sink);
    sink.send(bytes::Bytes::from_static(b"1\tlost\n")).await.expect("sent");
    // Both outlive the connection that they came from.
    drop(client);
    drop(sink);
    let client = tenant.client().await.expect("a connection");
    assert_eq!(answer(&client, "SELECT count(*)::text FROM flights").await, "0");

    let rows = client.query_raw("SELECT * FROM generate_series(1, 100000)", std::iter::empty::<i32>()).await;
    let mut rows = Box::pin(rows.expect("run"));
    assert!(rows.next().await.is_some());
    drop(client);
    drop(rows);
    let client = tenant.client().await.expect("a connection");
    assert_eq!(answer(&client, "SELECT 'mine'").await, "mine");
}

#[tokio::test]
async fn a_result_that_nobody_reads_on_costs_its_connection_and_nothing_else() {
    let home = Home::on(Server::shared().await, "acme").await;
    let config = RouterConfig { reset_timeout: Duration::from_millis(50), ..hasty() };
    let router = home.router_with(home.route(), config).await;
    let tenant = router.tenant("acme").await.expect("found");
    let client = tenant.client().await.expect("a connection");
    let rows = client.query_raw("SELECT * FROM generate_series(1, 100000)", std::iter::empty::<i32>()).await;
    let _rows = rows.expect("run");
    drop(client);
    let client = tenant.client().await.expect("another connection");
    assert_eq!(answer(&client, "SELECT 'mine'").await, "mine");
}

#[tokio::test]
async fn a_reader_is_reused_although_it_may_not_write() {
    let home = Home::on(Server::shared().await, "acme").await;
    let statement = format!("ALTER ROLE {} SET default_transaction_read_only = on", home.read_only.name);
    home.admin().await.batch_execute(&statement).await.expect("altered");
    let router = home.router().await;
    let reader = router.tenant("acme").await.expect("found").read_only();
    leaves_nothing(
        &reader,
        "SET default_transaction_read_only = off; BEGIN",
        "SELECT current_setting('transaction_read_only')",
    )
    .await;
}

#[tokio::test]
async fn many_borrowers_at_once_each_find_a_fresh_session() {
    let home = Home::on(Server::shared().await, "acme").await;
    let mut route = home.route();
    route.limits.pool_size = Some(4);
    let router = home.router_with(route, patient()).await;
    let tenant = router.tenant("acme").await.expect("found");
    let borrowers = (0..64).map(|number: i32| {
        let tenant = tenant.clone();
        tokio::spawn(async move {
            for _ in 0..4 {
                let client = tenant.client().await.expect("a connection");
                let probe = "SELECT coalesce(current_setting('my.mark', true), '')";
                assert_eq!(answer(&client, probe).await, "");
                client.batch_execute(&format!("BEGIN; SET my.mark = '{number}'")).await.expect("set");
                assert_eq!(answer(&client, probe).await, number.to_string());
            }
        })
    });
    for borrower in borrowers.collect::<Vec<_>>() {
        borrower.await.expect("no leak");
    }
    assert!(home.sessions().await <= 4);
}
