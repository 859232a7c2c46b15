//! Bringing homes to a set: nothing twice, nothing half, and the words that an author needs when a file fails.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Admin, Arena, Tenant, airline, count, refusal, set};
use tenantry_domain::SchemaVersion;
use tenantry_fleet::{Applied, ApplyOptions, FleetError, MigrationFailure};
use tenantry_migration_set::MigrationSet;
use tenantry_testkit::eventually;

struct Site {
    arena: Arena,
    tenant: Tenant,
}

impl Site {
    async fn new() -> Self {
        let arena = Arena::new(Admin::Managed).await;
        let shared = arena.shared_database().await;
        let tenant = arena.schema_home(&shared);
        arena.provision(&tenant, None, None).await;
        Self { arena, tenant }
    }

    async fn apply(&self, set: &MigrationSet) -> Result<Applied, FleetError> {
        self.apply_within(set, &ApplyOptions::default()).await
    }

    async fn apply_within(&self, set: &MigrationSet, options: &ApplyOptions) -> Result<Applied, FleetError> {
        let Arena { fleet, target, .. } = &self.arena;
        fleet.apply(target, &self.tenant.home, &self.tenant.secrets.migrator, set, options).await
    }

    async fn failure(&self, set: &MigrationSet) -> MigrationFailure {
        match self.apply(set).await {
            Err(FleetError::Migration(failure)) => *failure,
            other => panic!("{other:?}"),
        }
    }

    async fn versions(&self) -> Vec<i64> {
        let Arena { fleet, target, .. } = &self.arena;
        let history = fleet.history(target, &self.tenant.home, &self.tenant.secrets.migrator).await.unwrap();
        history.iter().map(|row| row.version).collect()
    }
}

#[tokio::test]
async fn a_home_without_history_says_so() {
    let site = Site::new().await;
    assert_eq!(site.versions().await, [0_i64; 0]);
}

#[tokio::test]
async fn a_failing_file_leaves_nothing_and_those_before_it_stay() {
    let site = Site::new().await;
    let broken = set(&[
        ("V1__good.sql", "CREATE TABLE good (a int);"),
        ("V2__bad.sql", "CREATE TABLE bad (a int);\nINSERT INTO bad VALUES (1);\nALTER TABLE bad ADD b nothing;"),
        ("V3__after.sql", "CREATE TABLE after (a int);"),
    ]);
    let failure = site.failure(&broken).await;
    assert_eq!((failure.file.as_str(), failure.line, failure.column), ("V2__bad.sql", Some(3), Some(23)));
    assert_eq!(failure.sqlstate, "42704");
    assert_eq!(failure.to_string(), "V2__bad.sql:3:23: type \"nothing\" does not exist (SQLSTATE 42704)");
    assert_eq!(site.versions().await, [1]);
    let app = site.arena.app(&site.tenant).await;
    app.batch_execute("SELECT FROM good").await.unwrap();
    assert_eq!(refusal(&app, "SELECT FROM bad").await, "42P01");
    let mended = set(&[
        ("V1__good.sql", "CREATE TABLE good (a int);"),
        ("V2__bad.sql", "CREATE TABLE bad (a int);"),
        ("V3__after.sql", "CREATE TABLE after (a int);"),
    ]);
    let applied = site.apply(&mended).await.unwrap();
    assert_eq!((applied.from, applied.to, applied.count), (SchemaVersion(1), SchemaVersion(3), 2));
}

#[tokio::test]
async fn an_error_names_its_line_whatever_postgresql_tells() {
    let site = Site::new().await;
    // A syntax error, with characters of several bytes before it.
    let failure = site.failure(&set(&[("V1__a.sql", "-- flüge ✈\nCREATE TABLE a (b int);\n\nCRATE TABLE c;")])).await;
    assert_eq!((failure.line, failure.column, failure.sqlstate.as_str()), (Some(4), Some(1), "42601"));
    // An error of the data has no position; the statement's line is told.
    let sql = "CREATE TABLE a (b int CHECK (b > 0));\n\n  INSERT INTO a\n  VALUES (0);\nSELECT 1;";
    let failure = site.failure(&set(&[("V1__a.sql", sql)])).await;
    assert_eq!((failure.line, failure.column, failure.sqlstate.as_str()), (Some(3), Some(3), "23514"));
    assert!(failure.detail.unwrap().contains("(0)"));
    // An error in a body tells the statement and, in its context, the place in the body.
    let sql = "SELECT 1;\nDO $$ BEGIN\nPERFORM 1 / 0;\nEND $$;";
    let failure = site.failure(&set(&[("V1__a.sql", sql)])).await;
    assert_eq!((failure.line, failure.sqlstate.as_str()), (Some(2), "22012"));
    assert!(failure.context.unwrap().contains("line 2"));
    assert_eq!(site.versions().await, [0_i64; 0]);
}

#[tokio::test]
async fn an_edited_file_and_an_older_set_are_refused() {
    let site = Site::new().await;
    site.apply(&airline()).await.unwrap();
    let mut files: Vec<(String, String)> =
        airline().files().iter().map(|(name, sql)| (name.clone(), (*sql).to_owned())).collect();
    files[1].1.push_str("\n-- edited");
    let edited = MigrationSet::from_files("edited", &files).unwrap();
    let Err(FleetError::Diverged { reason }) = site.apply(&edited).await else { panic!("an edit passed") };
    assert!(reason.contains("V2__flights"), "{reason}");
    let older = MigrationSet::from_files("older", &airline().files()[..2]).unwrap();
    assert!(matches!(site.apply(&older).await, Err(FleetError::Diverged { .. })));
    assert_eq!(site.versions().await, [1, 2, 3]);
}

#[tokio::test]
async fn two_that_apply_at_once_apply_once() {
    let site = Site::new().await;
    let set = airline();
    let options = ApplyOptions { lock_timeout: Duration::from_secs(20), ..ApplyOptions::default() };
    let (one, other) =
        futures::future::join(site.apply_within(&set, &options), site.apply_within(&set, &options)).await;
    assert_eq!(one.unwrap().count + other.unwrap().count, 3);
}

#[tokio::test]
async fn a_lock_held_by_a_reader_is_waited_for_a_moment_only() {
    let site = Site::new().await;
    site.apply(&airline()).await.unwrap();
    let app = site.arena.app(&site.tenant).await;
    app.batch_execute("BEGIN; SELECT * FROM flights").await.unwrap();
    let mut files: Vec<(String, String)> =
        airline().files().iter().map(|(name, sql)| (name.clone(), (*sql).to_owned())).collect();
    files.push(("V4__more.sql".to_owned(), "ALTER TABLE flights ADD more int;".to_owned()));
    let more = MigrationSet::from_files("more", &files).unwrap();
    let options = ApplyOptions { lock_timeout: Duration::from_millis(50), ..ApplyOptions::default() };
    let error = site.apply_within(&more, &options).await.unwrap_err();
    assert!(matches!(error, FleetError::Busy { .. }) && error.is_retryable(), "{error:?}");
    app.batch_execute("COMMIT").await.unwrap();
    assert_eq!(site.apply_within(&more, &options).await.unwrap().count, 1);
}

#[tokio::test]
async fn past_its_deadline_nothing_runs_on() {
    let site = Site::new().await;
    let slow = set(&[("V1__slow.sql", "CREATE TABLE slow (a int);\nSELECT pg_sleep(600);")]);
    let options = ApplyOptions { deadline: Duration::from_secs(1), ..ApplyOptions::default() };
    let (result, ()) = futures::future::join(site.apply_within(&slow, &options), working_backend(&site)).await;
    assert!(matches!(result, Err(FleetError::Busy { .. })));
    no_backend(&site).await;
    assert_eq!(site.versions().await, [0_i64; 0]);
}

#[tokio::test]
async fn whoever_stops_waiting_stops_the_server_too() {
    let site = Site::new().await;
    let slow = set(&[("V1__slow.sql", "SELECT pg_sleep(600);")]);
    {
        let applying = site.apply(&slow);
        let watching = working_backend(&site);
        futures::pin_mut!(applying, watching);
        let first = futures::future::select(applying, watching).await;
        assert!(matches!(first, futures::future::Either::Right(_)), "it ended before it was left alone");
    }
    no_backend(&site).await;
}

/// Waits until a backend sleeps for the home.
async fn working_backend(site: &Site) {
    let root = site.arena.root(&site.tenant.home.database).await;
    let asleep = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
        site.tenant.home.names().migrator
    );
    eventually("a backend sleeps for the home", async || count(&root, &asleep).await == 1).await;
    let seen = site.arena.fleet.backends(&site.arena.target, site.tenant.home.id).await.unwrap();
    assert!(seen.iter().any(|backend| backend.is_active), "the admin sees it too: {seen:?}");
}

/// Waits until no backend works for the home any more.
async fn no_backend(site: &Site) {
    let root = site.arena.root(&site.tenant.home.database).await;
    let any = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", site.tenant.home.names().migrator);
    eventually("no backend works for nobody", async || count(&root, &any).await == 0).await;
}

const CONCURRENT: &str = "-- no-transaction\nCREATE INDEX CONCURRENTLY seats_once ON aircraft (seats);\n\
                          CREATE INDEX CONCURRENTLY tail_length ON aircraft (length(tailnum));\nANALYZE aircraft;";

fn with_concurrent_index(sql: &str) -> MigrationSet {
    let mut files: Vec<(String, String)> =
        airline().files().iter().map(|(name, sql)| (name.clone(), (*sql).to_owned())).collect();
    files.push(("V4__indexes.sql".to_owned(), sql.to_owned()));
    MigrationSet::from_files("concurrent", &files).unwrap()
}

#[tokio::test]
async fn a_file_runs_outside_a_transaction_where_it_says_so() {
    let site = Site::new().await;
    assert_eq!(site.apply(&with_concurrent_index(CONCURRENT)).await.unwrap().count, 4);
    assert_eq!(site.apply(&with_concurrent_index(CONCURRENT)).await.unwrap().count, 0);
    let app = site.arena.app(&site.tenant).await;
    assert_eq!(count(&app, "SELECT count(*) FROM tenantry_migration_progress").await, 0);
    assert_eq!(refusal(&app, "DELETE FROM tenantry_migration_progress").await, "42501");
}

#[tokio::test]
async fn a_failed_concurrent_index_is_dropped_and_built_again() {
    let site = Site::new().await;
    site.apply(&airline()).await.unwrap();
    let app = site.arena.app(&site.tenant).await;
    app.batch_execute("INSERT INTO aircraft VALUES ('N3', 90)").await.unwrap();
    let unique = with_concurrent_index(
        "-- no-transaction\nCREATE TABLE first (a int);\n\nCREATE UNIQUE INDEX CONCURRENTLY seats_once ON aircraft (seats);",
    );
    for _ in 0..2 {
        let failure = site.failure(&unique).await;
        assert_eq!((failure.sqlstate.as_str(), failure.line, failure.column), ("23505", Some(4), Some(1)));
        assert_eq!(site.versions().await, [1, 2, 3]);
    }
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = 'aircraft'::regclass";
    assert_eq!(count(&app, invalid).await, 1);
    app.batch_execute("DELETE FROM aircraft WHERE tailnum = 'N3'").await.unwrap();
    assert_eq!(site.apply(&unique).await.unwrap().count, 1);
    assert_eq!(count(&app, invalid).await, 0);
    assert_eq!(count(&app, "SELECT count(*) FROM pg_index WHERE indexrelid = 'seats_once'::regclass").await, 1);
}

#[tokio::test]
async fn a_statement_whose_answer_was_lost_is_not_repeated_blindly() {
    let site = Site::new().await;
    site.apply(&airline()).await.unwrap();
    // As a worker leaves it that dies after the server has built the first index and before it could record that.
    let root = site.arena.root(&site.tenant.home.database).await;
    let schema = &site.tenant.home.schema;
    let owner = site.tenant.home.names().owner;
    root.batch_execute(&format!(
        "SET search_path = \"{schema}\"; SET ROLE \"{owner}\";
         CREATE TABLE tenantry_migration_progress (version int8 PRIMARY KEY, done int4 NOT NULL, running bool NOT NULL);
         INSERT INTO tenantry_migration_progress VALUES (4, 0, true);
         CREATE INDEX seats_once ON aircraft (seats);"
    ))
    .await
    .unwrap();
    assert_eq!(site.apply(&with_concurrent_index(CONCURRENT)).await.unwrap().count, 1);
    assert_eq!(site.versions().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn extensions_of_the_allow_list_are_there_beforehand() {
    let site = Site::new().await;
    let sql = "CREATE EXTENSION IF NOT EXISTS citext;\nCREATE TABLE people (mail citext UNIQUE);\n\
               CREATE INDEX people_mail ON people USING gin ((mail::text) gin_trgm_ops);";
    site.apply(&set(&[("V1__people.sql", sql)])).await.unwrap();
    let app = site.arena.app(&site.tenant).await;
    app.batch_execute("INSERT INTO people VALUES ('a@b.c')").await.unwrap();
    assert_eq!(count(&app, "SELECT count(*) FROM people WHERE mail = 'A@B.C'").await, 1);
}

#[tokio::test]
async fn versions_may_be_time_stamps() {
    let site = Site::new().await;
    let stamped = set(&[("V20260131120000__a.sql", "CREATE TABLE a (b int);")]);
    assert_eq!(site.apply(&stamped).await.unwrap().to, SchemaVersion(20_260_131_120_000));
}

const REPEATED: [(&str, &str); 3] = [
    ("V1__seats.sql", "CREATE TABLE seats (row int4); CREATE TABLE runs (file text);"),
    (
        "R__b_count.sql",
        "CREATE OR REPLACE VIEW counted AS SELECT count(*) FROM visible; INSERT INTO runs VALUES ('b');",
    ),
    ("R__a_visible.sql", "CREATE OR REPLACE VIEW visible AS SELECT row FROM seats; INSERT INTO runs VALUES ('a');"),
];

#[tokio::test]
async fn repeatable_files_run_last_by_name_and_again_when_they_change() {
    let site = Site::new().await;
    let applied = site.apply(&set(&REPEATED)).await.unwrap();
    assert_eq!((applied.to, applied.count), (SchemaVersion(1), 3));
    assert_eq!(site.apply(&set(&REPEATED)).await.unwrap().count, 0);
    let mut changed = REPEATED;
    changed[2].1 =
        "CREATE OR REPLACE VIEW visible AS SELECT row FROM seats WHERE row > 1; INSERT INTO runs VALUES ('A');";
    assert_eq!(site.apply(&set(&changed)).await.unwrap().count, 1);
    // With a file less: what it made stays, and it does not run when it comes back as it was.
    assert_eq!(site.apply(&set(&changed[..1])).await.unwrap().count, 0);
    assert_eq!(site.apply(&set(&changed)).await.unwrap().count, 0);
    let app = site.arena.app(&site.tenant).await;
    let rows = app.query("SELECT file FROM runs", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["a", "b", "A"]);
    assert_eq!(count(&app, "SELECT count(*) FROM tenantry_repeatable").await, 2);
    assert_eq!(refusal(&app, "DELETE FROM tenantry_repeatable").await, "42501");
    assert_eq!(site.versions().await, [1], "stock refinery reads nothing of them");
}

#[tokio::test]
async fn a_repeatable_file_that_fails_leaves_nothing_and_is_taken_up_again() {
    let site = Site::new().await;
    let mut files = REPEATED;
    files[1].1 = "INSERT INTO runs VALUES ('b');\nSELECT nowhere FROM seats;";
    let failure = site.failure(&set(&files)).await;
    assert_eq!((failure.file.as_str(), failure.version, failure.line), ("R__b_count.sql", 0, Some(2)));
    assert_eq!(site.versions().await, [1]);
    let app = site.arena.app(&site.tenant).await;
    assert_eq!(count(&app, "SELECT count(*) FROM runs").await, 1);
    // The guards are those of every file.
    files[1].1 = "DO $$ BEGIN EXECUTE 'reset' || ' role'; END $$;";
    assert_eq!(site.failure(&set(&files)).await.sqlstate, "TN004");
    assert_eq!(site.apply(&set(&REPEATED)).await.unwrap().count, 1);
}

#[tokio::test]
async fn a_repeatable_file_outside_a_transaction_begins_anew_once_it_has_changed() {
    let site = Site::new().await;
    let with = |sql| set(&[REPEATED[0], ("R__index.sql", sql)]);
    let first = "-- no-transaction\nINSERT INTO runs VALUES ('one');\nSELECT nowhere FROM seats;";
    assert_eq!(site.failure(&with(first)).await.line, Some(3));
    assert_eq!(site.failure(&with(first)).await.line, Some(3));
    let app = site.arena.app(&site.tenant).await;
    assert_eq!(count(&app, "SELECT count(*) FROM runs").await, 1, "the first statement is done and stays so");
    let second = "-- no-transaction\nINSERT INTO runs VALUES ('two');\n\
                  CREATE INDEX CONCURRENTLY IF NOT EXISTS by_row ON seats (row);";
    assert_eq!(site.apply(&with(second)).await.unwrap().count, 1);
    assert_eq!(count(&app, "SELECT count(*) FROM runs").await, 2);
    assert_eq!(count(&app, "SELECT count(*) FROM tenantry_migration_progress").await, 0);
}

#[tokio::test]
async fn a_home_goes_back_by_its_own_history_or_not_at_all() {
    let site = Site::new().await;
    let files = [
        ("V1__a.sql", "CREATE TABLE a (b int);"),
        ("V2__c.sql", "CREATE TABLE c (d int);"),
        ("V2__c.down.sql", "DROP TABLE c;"),
        ("V3__index.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY by_b ON a (b);"),
        ("V3__index.down.sql", "-- no-transaction\nDROP INDEX CONCURRENTLY by_b;"),
        ("R__view.sql", "CREATE OR REPLACE VIEW v AS SELECT b FROM a;"),
    ];
    site.apply(&set(&files)).await.unwrap();
    let Arena { fleet, target, .. } = &site.arena;
    let (home, password, options) = (&site.tenant.home, &site.tenant.secrets.migrator, ApplyOptions::default());
    let back = async |set: &MigrationSet, version| {
        fleet.go_back(target, home, password, set, SchemaVersion(version), &options).await
    };
    // No file undoes the first, and another set knows nothing of the last: neither is begun.
    assert!(matches!(back(&set(&files), 0).await, Err(FleetError::Refused { .. })));
    assert!(matches!(back(&set(&files[..3]), 1).await, Err(FleetError::Refused { .. })));
    assert_eq!(site.versions().await, [1, 2, 3]);
    let mut switching = files;
    switching[2].1 = "DROP TABLE c; DO $$ BEGIN EXECUTE 'reset' || ' role'; END $$;";
    let Err(FleetError::Migration(failure)) = back(&set(&switching), 1).await else { panic!("a guard slept") };
    assert_eq!((failure.file.as_str(), failure.sqlstate.as_str()), ("V2__c.down.sql", "TN004"));
    assert_eq!(site.versions().await, [1, 2], "the newer one is undone");
    for _ in 0..2 {
        assert_eq!(back(&set(&files), 1).await.unwrap(), SchemaVersion(1));
    }
    let app = site.arena.app(&site.tenant).await;
    assert_eq!(refusal(&app, "SELECT FROM c").await, "42P01");
    // On the way forward the repeatable file runs again too.
    assert_eq!(site.apply(&set(&files)).await.unwrap().count, 3);
    assert_eq!(site.versions().await, [1, 2, 3]);
}
