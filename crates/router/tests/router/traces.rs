//! When a connection is reset: where something may have been left behind, and not otherwise.

use std::time::Duration;

use tenantry_router::{Connection, Tenant};
use tenantry_testkit::{Server, eventually};

use crate::home::Home;

const QUERY: &str = "SELECT status FROM flights";

/// What PostgreSQL did last on a backend: the borrower's query, or the router's reset after it.
async fn last_query(home: &Home<'_>, backend: i32) -> String {
    let query = "SELECT query FROM pg_stat_activity WHERE pid = $1 AND state = 'idle'";
    let row = home.admin().await.query_opt(query, &[&backend]).await.expect("asked");
    row.map_or_else(String::new, |row| row.get(0))
}

async fn backend(client: &Connection) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a backend").get(0)
}

/// Runs a statement on a connection that was cleaned before, and says whether it was reset afterwards.
async fn is_reset_after(home: &Home<'_>, tenant: &Tenant, sql: &str) -> bool {
    // The first borrower of a home always has its connection reset, and the home is looked at.
    let client = tenant.client().await.expect("a connection");
    let pid = backend(&client).await;
    drop(client);
    let is_at_rest = async || tenant.client().await.is_ok() && !last_query(home, pid).await.is_empty();
    eventually("the connection is back", is_at_rest).await;
    let client = tenant.client().await.expect("a connection");
    client.batch_execute(sql).await.expect("run");
    drop(client);
    // Long enough for a reset, which needs no other to start.
    let client = tenant.client().await.expect("a connection");
    assert_eq!(backend(&client).await, pid);
    drop(client);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let client = tenant.client().await.expect("a connection");
    client.batch_execute(sql).await.expect("run");
    drop(client);
    let mut last = String::new();
    eventually("the connection is at rest", async || {
        last = last_query(home, pid).await;
        last.contains("tenantry.attach") || last == sql
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    last_query(home, pid).await.contains("tenantry.attach")
}

#[tokio::test]
async fn plain_statements_cost_no_reset() {
    let home = Home::on(Server::shared().await, "acme").await;
    home.make_plain().await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    let insert = "INSERT INTO flights VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET status = 'y'";
    for sql in [QUERY, insert, "BEGIN; DELETE FROM flights; COMMIT", "SELECT pg_advisory_xact_lock(7)"] {
        assert!(!is_reset_after(&home, &tenant, sql).await, "{sql}");
    }
    for sql in ["SET statement_timeout = 0", "BEGIN", "SELECT set_config('a.b', 'c', false)"] {
        assert!(is_reset_after(&home, &tenant, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn a_home_whose_objects_may_change_a_session_has_its_connections_reset_always() {
    let function = "CREATE FUNCTION leak() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config('my.tenant', 'leaked', false); RETURN 1; END $$;";
    let objects = [
        ("a function", function.to_owned(), "SELECT leak()"),
        (
            "a trigger",
            "CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 SET my.tenant = 'leaked'; RETURN NEW; END $$;
             CREATE TRIGGER leak BEFORE INSERT ON flights FOR EACH ROW EXECUTE FUNCTION leak();"
                .to_owned(),
            "INSERT INTO flights VALUES (7, 'x') ON CONFLICT DO NOTHING",
        ),
        (
            "a default",
            "ALTER TABLE flights ALTER status SET DEFAULT set_config('my.tenant', 'leaked', false)".to_owned(),
            "INSERT INTO flights (id) VALUES (7) ON CONFLICT DO NOTHING",
        ),
        (
            "a view",
            "CREATE VIEW leak AS SELECT set_config('my.tenant', 'leaked', false); GRANT SELECT ON leak TO PUBLIC"
                .to_owned(),
            "SELECT * FROM leak",
        ),
        (
            "a policy",
            "ALTER TABLE flights ENABLE ROW LEVEL SECURITY;
             CREATE POLICY leak ON flights USING (set_config('my.tenant', 'leaked', false) = 'leaked');
             INSERT INTO flights VALUES (8, 'x')"
                .to_owned(),
            QUERY,
        ),
    ];
    for (what, objects, sql) in objects {
        let home = Home::on(Server::shared().await, "acme").await;
        home.make_plain().await;
        home.admin().await.batch_execute(&objects).await.expect(what);
        let router = home.router().await;
        let tenant = router.tenant("acme").await.expect("found");
        for _ in 0..3 {
            let client = tenant.client().await.expect("a connection");
            let probe = "SELECT coalesce(nullif(current_setting('my.tenant', true), ''), 'nothing')";
            let found = client.query_one(probe, &[]).await.expect("an answer").get::<_, String>(0);
            assert_eq!(found, "nothing", "{what}");
            client.batch_execute(sql).await.expect(what);
            let found = client.query_one(probe, &[]).await.expect("an answer").get::<_, String>(0);
            assert_eq!(found, "leaked", "{what}");
        }
    }
}

#[tokio::test]
async fn a_prepared_statement_that_changes_a_session_does_so_each_time() {
    let home = Home::on(Server::shared().await, "acme").await;
    home.make_plain().await;
    let router = home.router().await;
    let tenant = router.tenant("acme").await.expect("found");
    for _ in 0..4 {
        let client = tenant.client().await.expect("a connection");
        let probe = client.prepare_cached("SELECT current_setting('statement_timeout')").await.expect("prepared");
        assert_eq!(client.query_one(&probe, &[]).await.expect("an answer").get::<_, String>(0), "0");
        let set = client.prepare_cached("SELECT set_config('statement_timeout', $1, false)").await.expect("prepared");
        client.query_one(&set, &[&"7s"]).await.expect("set");
    }
}
