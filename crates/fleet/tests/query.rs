//! Reading a home: what reads is answered with types, and nothing else is done.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{ADMINS, Admin, Arena, Tenant, airline, count};
use serde_json::{Value, json};
use tenantry_domain::Generation;
use tenantry_fleet::{FleetError, Reading, ReadingError, ReadingFailure, Rows};
use tenantry_testkit::eventually;

const TIMEOUT: Duration = Duration::from_secs(20);

struct Site {
    arena: Arena,
    tenants: Vec<Tenant>,
}

impl Site {
    /// Two homes in schemas of one database, and one with a database of its own; each with one flight more than the last.
    async fn new(admin: Admin) -> Self {
        let arena = Arena::new(admin).await;
        let shared = arena.shared_database().await;
        let tenants = vec![arena.schema_home(&shared), arena.schema_home(&shared), arena.database_home()];
        for (tenant, flights) in tenants.iter().zip(1..) {
            arena.provision(tenant, None, Some(&airline())).await;
            let rows = format!("INSERT INTO flights (delay) SELECT n FROM generate_series(1, {flights}) AS n");
            arena.app(tenant).await.batch_execute(&rows).await.unwrap();
        }
        Self { arena, tenants }
    }

    async fn begin(&self, tenant: &Tenant, sql: &str, statement_timeout: Duration) -> Result<Rows, ReadingError> {
        let reading = Reading { tenant: tenant.id, generation: Generation::FIRST, sql, statement_timeout };
        let Arena { fleet, target, .. } = &self.arena;
        let mut patience = 500;
        loop {
            match fleet.read(target, &tenant.home, &tenant.secrets.read_only, &reading).await {
                // The role may have two sessions, and the server takes a moment to end those before.
                Err(ReadingError::Fleet(FleetError::Busy { .. })) if patience > 0 => patience -= 1,
                ended => return ended,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn read(&self, tenant: &Tenant, sql: &str) -> Result<Vec<Vec<Value>>, ReadingError> {
        let mut rows = self.begin(tenant, sql, TIMEOUT).await?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().await? {
            all.push(row);
        }
        Ok(all)
    }

    async fn refusal(&self, tenant: &Tenant, sql: &str) -> ReadingFailure {
        match self.read(tenant, sql).await {
            Err(ReadingError::Refused(failure)) => *failure,
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn each_home_answers_for_itself_with_types() {
    for admin in ADMINS {
        let site = Site::new(admin).await;
        for (tenant, flights) in site.tenants.iter().zip(1..) {
            let rows = site.read(tenant, "SELECT count(*), current_user::text FROM flights;").await.unwrap();
            let role = tenant.home.names().read_only.to_string();
            assert_eq!(rows, [vec![json!(flights), json!(role)]]);
        }
        let sql = "SELECT true AS a, 7::int2 AS b, 1.5::float8 AS c, 0.25::numeric AS d, '{\"a\": 1}'::jsonb AS e, NULL::int AS f,
                   'x''y' AS g, '{1,2}'::int[] AS h -- a comment at the end";
        let rows = site.read(&site.tenants[0], sql).await.unwrap();
        let expected = [
            true.into(),
            7.into(),
            json!(1.5),
            json!(0.25),
            json!({ "a": 1 }),
            Value::Null,
            "x'y".into(),
            "{1,2}".into(),
        ];
        assert_eq!(rows, [expected.to_vec()]);
        let shown = site.read(&site.tenants[0], "SHOW transaction_read_only").await.unwrap();
        assert_eq!(shown, [vec![json!("on")]]);
    }
}

#[tokio::test]
async fn nothing_is_written_and_nothing_but_a_reading_statement_is_run() {
    let site = Site::new(Admin::Managed).await;
    let tenant = &site.tenants[0];
    let root = site.arena.root(&tenant.home.database).await;
    let (schema, names) = (tenant.home.schema.to_string(), tenant.home.names());
    // What a tenant's own code could try with its owner's rights.
    let traps = format!(
        "SET search_path = \"{schema}\"; SET ROLE \"{owner}\";
         CREATE FUNCTION sneak() RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = \"{schema}\" AS
             $$ BEGIN INSERT INTO changes (what) VALUES ('sneaked'); RETURN 1; END $$;
         CREATE FUNCTION unlock() RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = \"{schema}\" AS
             $$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO changes (what) VALUES ('sneaked'); RETURN 1; END $$;
         CREATE PROCEDURE leave() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA \"{schema}\" TO \"{ro}\"; GRANT ALL ON ALL TABLES IN SCHEMA \"{schema}\" TO \"{ro}\";
         GRANT ALL ON ALL SEQUENCES IN SCHEMA \"{schema}\" TO \"{ro}\";",
        owner = names.owner,
        ro = names.read_only
    );
    root.batch_execute(&traps).await.unwrap();
    root.batch_execute("RESET ROLE").await.unwrap();
    let state = format!(
        "SELECT (SELECT count(*) FROM \"{schema}\".changes) * 1000000 + (SELECT count(*) FROM \"{schema}\".flights) * 1000
                + (SELECT last_value FROM \"{schema}\".flights_id_seq)"
    );
    let before = count(&root, &state).await;
    for (sql, sqlstate) in [
        ("INSERT INTO flights (delay) VALUES (1) RETURNING id", Some("25006")),
        ("WITH gone AS (DELETE FROM flights RETURNING id) SELECT count(*) FROM gone", Some("25006")),
        ("SELECT sneak()", Some("25006")),
        ("SELECT unlock()", Some("25001")),
        ("SELECT nextval('flights_id_seq')", Some("25006")),
        ("SELECT set_config('transaction_read_only', 'off', false)", Some("25001")),
        ("EXPLAIN ANALYZE INSERT INTO flights (delay) VALUES (1)", Some("25006")),
        ("SELECT id FROM flights FOR UPDATE", Some("25006")),
        ("SELECT 1; SELECT 2", Some("42601")),
        ("COMMIT; DELETE FROM flights", Some("42601")),
        ("SELECT FROM nowhere", Some("42P01")),
        ("SELECT 1 / 0", Some("22012")),
        ("INSERT INTO flights (delay) VALUES (1)", None),
        ("COMMIT", None),
        ("SET work_mem = '1GB'", None),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", None),
        ("DO $$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO flights (delay) VALUES (1); END $$", None),
        ("CALL leave()", None),
        ("CREATE TEMP TABLE mine AS SELECT 1", None),
        ("SELECT 1 AS a INTO TEMP mine", None),
        ("LISTEN anything", None),
        ("COPY flights TO STDOUT", None),
        ("-- nothing", None),
    ] {
        let failure = site.refusal(tenant, sql).await;
        assert_eq!(failure.sqlstate.as_deref(), sqlstate, "{sql}: {failure:?}");
    }
    assert_eq!(count(&root, &state).await, before);
    let failure = site.refusal(tenant, "SELECT delay,\n  nothing FROM flights").await;
    assert_eq!(failure.position, Some(17), "{failure:?}");
    for (sql, says) in [("SELECT 1 AS a, 2 AS a", "AS"), ("SELECT repeat('x', 300000)", "KiB")] {
        let failure = site.refusal(tenant, sql).await;
        assert!(failure.message.contains(says), "{failure:?}");
    }
}

#[tokio::test]
async fn time_is_bounded_and_whoever_goes_away_ends_the_statement() {
    let site = Site::new(Admin::Managed).await;
    let tenant = &site.tenants[2];
    let root = site.arena.root(&tenant.home.database).await;
    let role = tenant.home.names().read_only;
    let theirs = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    let mut rows = site.begin(tenant, "SELECT pg_sleep(600)", Duration::from_millis(300)).await.unwrap();
    match rows.next().await {
        Err(ReadingError::Refused(failure)) => assert_eq!(failure.sqlstate.as_deref(), Some("57014")),
        other => panic!("{other:?}"),
    }
    drop(rows);
    // More than any buffer holds, and nobody who reads it.
    let endless = "SELECT repeat('x', 1000), generate_series(1, 100000000)";
    for sql in [endless, "SELECT pg_sleep(600)"] {
        let mut rows = site.begin(tenant, sql, Duration::from_mins(10)).await.unwrap();
        if sql == endless {
            assert!(rows.next().await.unwrap().is_some());
        }
        assert_eq!(count(&root, &theirs).await, 1);
        drop(rows);
        eventually("the statement ends", async || count(&root, &theirs).await == 0).await;
    }
}

#[tokio::test]
async fn only_the_home_of_the_tenant_is_read_and_only_while_it_is_open() {
    let site = Site::new(Admin::Managed).await;
    let [one, other, _] = site.tenants.as_slice() else { panic!() };
    let Arena { fleet, target, .. } = &site.arena;
    for (tenant, generation) in [(other.id, Generation::FIRST), (one.id, Generation(2))] {
        let reading = Reading { tenant, generation, sql: "SELECT 1", statement_timeout: TIMEOUT };
        let read = fleet.read(target, &one.home, &one.secrets.read_only, &reading).await;
        assert!(matches!(read.err(), Some(ReadingError::Fleet(FleetError::StampMismatch { .. }))));
    }
    let sql = format!("SELECT id FROM \"{}\".flights", other.home.schema);
    assert_eq!(site.refusal(one, &sql).await.sqlstate.as_deref(), Some("42501"));
    fleet.disable_logins(target, &one.fence, &one.home, false).await.unwrap();
    assert!(matches!(site.read(one, "SELECT 1").await, Err(ReadingError::Fleet(FleetError::Refused { .. }))));
}
