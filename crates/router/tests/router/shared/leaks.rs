//! Nothing that one tenant leaves behind reaches the next one. Every router here has one connection for both, so that the
//! next tenant gets the same backend or none.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tenantry_domain::Limits;
use tenantry_router::{Connection, RouterConfig, RouterError, Tenant};
use tenantry_testkit::{Server, eventually};

use super::homes::{SharedHomes, answer, backend, tenant};
use crate::dropped::{POLLS_MAX, cut};
use crate::home::patient;

fn one() -> RouterConfig {
    RouterConfig { shared_pool_size: 1, ..patient() }
}

/// Soon takes a connection that does not answer for one with an abandoned query.
fn hasty() -> RouterConfig {
    RouterConfig { abandoned_after: Duration::from_millis(50), ..one() }
}

/// Lets one tenant run `mess` and the next one ask `probe`, which must answer as before; both on the same backend.
async fn leaves_nothing(first: &Tenant, next: &Tenant, mess: &str, probe: &str) {
    let client = next.client().await.expect("a connection");
    let (fresh, pid) = (answer(&client, probe).await, backend(&client).await);
    drop(client);
    let client = first.client().await.expect("a connection");
    assert_eq!(backend(&client).await, pid);
    // Some of it fails on purpose.
    let _ = client.batch_execute(mess).await;
    drop(client);
    let client = next.client().await.expect("a connection");
    assert_eq!(backend(&client).await, pid, "the backend is reused after: {mess}");
    assert_eq!(answer(&client, probe).await, fresh, "left behind by: {mess}");
}

#[tokio::test]
async fn settings_roles_and_session_objects_are_invisible_to_the_next_tenant() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(one()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let who = "SELECT concat_ws(' ', current_user, session_user, current_setting('search_path'))";
    let set_role = format!("SET ROLE {}", homes.tenants[0].read_only);
    let authorization = format!("SET SESSION AUTHORIZATION {}", homes.pool.name);
    let prepared = "SELECT count(*)::text FROM pg_prepared_statements";
    for (mess, probe) in [
        ("SELECT 1", who),
        (set_role.as_str(), who),
        (authorization.as_str(), who),
        ("RESET ROLE", who),
        ("RESET ALL", who),
        ("SET SESSION AUTHORIZATION DEFAULT; SET search_path = pg_catalog", who),
        ("DISCARD ALL", who),
        ("BEGIN; SET LOCAL ROLE none; SET search_path = x", who),
        ("SET search_path = pg_catalog", who),
        ("SELECT set_config('search_path', 'x', false)", who),
        ("SET statement_timeout = '7s'", "SELECT current_setting('statement_timeout')"),
        ("SET row_security = off", "SELECT current_setting('row_security')"),
        ("SET my.tenant = 'other'", "SELECT coalesce(nullif(current_setting('my.tenant', true), ''), 'nothing')"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SELECT current_setting('transaction_read_only')"),
        ("SET default_transaction_isolation = serializable", "SELECT current_setting('transaction_isolation')"),
        ("SET TIME ZONE 'Asia/Tokyo'", "SELECT current_setting('TimeZone')"),
        (
            "DO $$ BEGIN PERFORM set_config('my.tenant', 'x', false); END $$",
            "SELECT coalesce(nullif(current_setting('my.tenant', true), ''), 'nothing')",
        ),
        ("CREATE TEMP TABLE t (x int)", "SELECT coalesce(to_regclass('pg_temp.t')::text, 'none')"),
        ("SELECT 1 INTO TEMP t", "SELECT coalesce(to_regclass('pg_temp.t')::text, 'none')"),
        ("CREATE TEMP SEQUENCE s; SELECT nextval('s')", "SELECT coalesce(to_regclass('pg_temp.s')::text, 'none')"),
        (
            "SELECT pg_advisory_lock(7); SELECT pg_advisory_lock_shared(8)",
            "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        ),
        ("LISTEN rumours", "SELECT count(*)::text FROM pg_listening_channels()"),
        ("PREPARE p AS SELECT 1", prepared),
        (
            "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
            "SELECT count(*)::text FROM pg_cursors WHERE is_holdable",
        ),
        ("BEGIN; INSERT INTO flights VALUES (1, 'open')", who),
        ("BEGIN; SELECT 1/0", who),
        ("BEGIN; SAVEPOINT s; SELECT 1/0; ROLLBACK TO s", who),
    ] {
        leaves_nothing(&acme, &zenith, mess, probe).await;
        leaves_nothing(&acme, &acme, mess, probe).await;
    }
    assert_eq!(answer(&acme.client().await.expect("a connection"), "SELECT count(*)::text FROM flights").await, "0");
    assert_eq!(homes.sessions().await, 1);
}

#[tokio::test]
async fn the_last_value_of_a_sequence_is_nobody_elses() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(one()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let client = acme.client().await.expect("a connection");
    assert_eq!(answer(&client, "SELECT nextval('tickets')::text").await, "1");
    drop(client);
    for tenant in [&zenith, &acme] {
        let client = tenant.client().await.expect("a connection");
        for probe in ["SELECT lastval()", "SELECT currval('tickets')"] {
            let error = client.query_one(probe, &[]).await.expect_err("not called in this session");
            assert_eq!(error.code().expect("an SQLSTATE").code(), "55000", "{probe}");
        }
    }
}

#[tokio::test]
async fn prepared_statements_end_with_their_borrower_and_the_drivers_own_stay() {
    let homes = SharedHomes::two(Server::shared().await).await;
    for home in &homes.tenants {
        homes.run(&format!("CREATE TYPE {}.leg AS ENUM ('out', 'back')", home.schema)).await;
        homes.run(&format!("CREATE TYPE {}.stop AS (name text, leg {0}.leg)", home.schema)).await;
    }
    let router = homes.router(one()).await;
    let mut kept = Vec::new();
    // Does not find itself.
    let probe = "SELECT count(*)::text FROM pg_prepared_statements WHERE statement ~ ('of' || ' (acme|zenith)')";
    for slug in ["acme", "zenith", "acme", "acme", "zenith"] {
        let client = tenant(&router, slug).await.client().await.expect("a connection");
        assert_eq!(answer(&client, probe).await, "0", "left to {slug}");
        let text = format!("SELECT 'of {slug}', $1::leg, ('x', 'out')::stop");
        client.prepare_cached(&text).await.expect("prepared, types and all");
        // One that outlives its borrower.
        kept.push(client.prepare(&text).await.expect("prepared"));
        assert_eq!(answer(&client, probe).await, "2");
    }
}

#[tokio::test]
async fn each_borrower_has_its_own_role_path_and_timeouts() {
    let mut homes = SharedHomes::two(Server::shared().await).await;
    homes.tenants[0].limits = Limits {
        pool_size: Some(4),
        statement_timeout_ms: Some(5_000),
        idle_in_transaction_timeout_ms: Some(6_000),
        transaction_timeout_ms: Some(7_000),
        ..Limits::default()
    };
    let router = homes.router(one()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let probe = "SELECT concat_ws(' ', current_user, session_user, current_schema(), current_setting('statement_timeout'), \
                 current_setting('idle_in_transaction_session_timeout'), current_setting('transaction_read_only'), \
                 CASE WHEN current_setting('server_version_num')::int >= 170000 \
                      THEN current_setting('transaction_timeout') END)";
    let is_new = async |client: &Connection| {
        answer(client, "SELECT (current_setting('server_version_num')::int >= 170000)::text").await == "true"
    };
    let said = |home: &super::homes::SharedHome, role: &str, settings: &str| {
        format!("{role} {} {} {settings}", homes.pool.name, home.schema)
    };
    for _ in 0..2 {
        let client = acme.client().await.expect("a connection");
        let last = if is_new(&client).await { [" 7s", " 0"] } else { ["", ""] };
        let home = &homes.tenants[0];
        assert_eq!(answer(&client, probe).await, said(home, &home.app, &format!("5s 6s off{}", last[0])));
        drop(client);
        let client = acme.read_only().client().await.expect("a connection");
        assert_eq!(answer(&client, probe).await, said(home, &home.read_only, &format!("5s 6s on{}", last[0])));
        for (allow, refusal) in [("", "25006"), ("SET default_transaction_read_only = off", "42501")] {
            client.batch_execute(allow).await.expect("it may");
            let error = client.batch_execute("INSERT INTO flights VALUES (1, 'x')").await.expect_err("it only reads");
            assert_eq!(error.code().expect("an SQLSTATE").code(), refusal);
        }
        drop(client);
        let (client, home) = (zenith.client().await.expect("a connection"), &homes.tenants[1]);
        assert_eq!(answer(&client, probe).await, said(home, &home.app, &format!("0 0 off{}", last[1])));
    }
    let mut route = homes.route(1);
    (route.version.0, route.limits.statement_timeout_ms) = (3, Some(9_000));
    assert!(router.apply(&route));
    let client = zenith.client().await.expect("a connection");
    assert_eq!(answer(&client, "SELECT current_setting('statement_timeout')").await, "9s", "with the next checkout");
    assert_eq!(homes.sessions().await, 1);
}

#[tokio::test]
async fn rows_of_another_tenant_are_out_of_reach_of_plain_statements() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(one()).await;
    for (number, slug) in [(0, "acme"), (1, "zenith")] {
        let client = tenant(&router, slug).await.client().await.expect("a connection");
        client.execute("INSERT INTO flights VALUES (1, $1)", &[&slug]).await.expect("inserted");
        assert_eq!(answer(&client, "SELECT string_agg(status, ' ') FROM flights").await, slug);
        let other = &homes.tenants[1 - number].schema;
        for sql in [
            format!("SELECT * FROM {other}.flights"),
            format!("INSERT INTO {other}.flights VALUES (2, 'x')"),
            format!("CREATE TABLE {other}.t ()"),
            format!("SELECT nextval('{other}.tickets')"),
        ] {
            let error = client.batch_execute(&sql).await.expect_err("denied");
            assert_eq!(error.code().expect("an SQLSTATE").code(), "42501", "{sql}");
        }
    }
    // The login by itself has nothing.
    let login = homes.names.server().connect_as(&homes.pool, &homes.database).await.expect("it may log in");
    for home in &homes.tenants {
        assert!(login.batch_execute(&format!("SELECT FROM {}.flights", home.schema)).await.is_err());
    }
}

#[tokio::test]
async fn an_abandoned_query_a_copy_and_a_result_are_not_the_next_tenants() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(hasty()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let client = acme.client().await.expect("a connection");
    let pid = backend(&client).await;
    let sleep = client.batch_execute("SELECT pg_sleep(3600)");
    assert!(tokio::time::timeout(Duration::from_millis(50), sleep).await.is_err());
    drop(client);
    // With one connection for both, this waits until the abandoned query is out of the way.
    let next = zenith.client().await.expect("a connection");
    assert_ne!(backend(&next).await, pid);
    drop(next);
    eventually("it is closed", async || homes.sessions().await <= 1).await;

    let router = homes.router(one()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let client = acme.client().await.expect("a connection");
    let sink = client.copy_in::<_, bytes::Bytes>("COPY flights FROM STDIN").await.expect("begun");
    let mut sink = Box::pin(sink);
    sink.send(bytes::Bytes::from_static(b"1\tlost\n")).await.expect("sent");
    // Both outlive the connection that they came from.
    drop(client);
    drop(sink);
    let client = zenith.client().await.expect("a connection");
    assert_eq!(answer(&client, "SELECT count(*)::text FROM flights").await, "0");
    drop(client);
    let client = acme.client().await.expect("a connection");
    assert_eq!(answer(&client, "SELECT count(*)::text FROM flights").await, "0");
    let rows = client.query_raw("SELECT * FROM generate_series(1, 100000)", std::iter::empty::<i32>()).await;
    let mut rows = Box::pin(rows.expect("run"));
    assert!(rows.next().await.is_some());
    drop(client);
    drop(rows);
    let client = zenith.client().await.expect("a connection");
    assert_eq!(answer(&client, "SELECT current_user::text").await, homes.tenants[1].app);
}

#[tokio::test]
async fn work_that_is_dropped_at_any_point_leaves_nothing_to_another_tenant() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let probe = "SELECT concat_ws(' ', current_user, current_schema(), current_setting('statement_timeout'), \
                 (SELECT count(*) FROM flights), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())))";
    let mut polls = 1;
    let mut router = homes.router(one()).await;
    loop {
        let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
        let work = async {
            let mut client = acme.client().await?;
            client.batch_execute("SET statement_timeout = '17s'; SELECT pg_advisory_lock(9)").await.expect("set");
            let transaction = client.transaction().await.expect("begun");
            transaction.execute("INSERT INTO flights VALUES (1, 'left behind')", &[]).await.expect("inserted");
            transaction.rollback().await.expect("rolled back");
            Ok::<_, RouterError>(())
        };
        let is_done = cut(work, polls).await.is_some();
        for (home, next) in [(1, &zenith), (0, &acme)] {
            let client = next.client().await.unwrap_or_else(|error| panic!("after {polls} polls: {error}"));
            let SharedHomeNames { app, schema } = SharedHomeNames::of(&homes, home);
            assert_eq!(answer(&client, probe).await, format!("{app} {schema} 0 0 0"), "after {polls} polls");
        }
        if is_done {
            break;
        }
        polls += 1;
        assert!(polls < POLLS_MAX);
        // Every other one begins without a connection.
        if polls % 2 == 0 {
            router.close();
            router = homes.router(one()).await;
        }
    }
    assert!(polls > 4, "it was dropped {polls} times only");
    eventually("none is lost", async || homes.sessions().await <= 1).await;
}

struct SharedHomeNames<'h> {
    app: &'h str,
    schema: &'h str,
}

impl<'h> SharedHomeNames<'h> {
    fn of(homes: &'h SharedHomes<'_>, number: usize) -> Self {
        let home = &homes.tenants[number];
        Self { app: &home.app, schema: &home.schema }
    }
}
