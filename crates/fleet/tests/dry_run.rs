//! Trying a set on a home: everything is told, and nothing is kept.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Admin, Arena, Tenant, airline, count, refusal, set};
use tenantry_domain::{LockMode, SchemaVersion};
use tenantry_fleet::{ApplyOptions, DryRun, FleetError, TakenLock, TrialOutcome, TriedFile};
use tenantry_migration_set::MigrationSet;
use tenantry_testkit::eventually;

const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

struct Site {
    arena: Arena,
    tenants: Vec<Tenant>,
}

impl Site {
    /// A home in a schema and one in a database, with the airline's schema and a few rows.
    async fn new() -> Self {
        let arena = Arena::new(Admin::Managed).await;
        let shared = arena.shared_database().await;
        let tenants = vec![arena.schema_home(&shared), arena.database_home()];
        for tenant in &tenants {
            arena.provision(tenant, None, Some(&airline())).await;
            let rows =
                "INSERT INTO flights (tailnum, delay) SELECT 'N1', number FROM generate_series(1, 500) AS number";
            arena.app(tenant).await.batch_execute(rows).await.unwrap();
        }
        Self { arena, tenants }
    }

    async fn try_on(&self, tenant: &Tenant, set: &MigrationSet) -> Result<DryRun, FleetError> {
        let limit = Duration::from_mins(1);
        let Arena { fleet, target, .. } = &self.arena;
        fleet.dry_run(target, &tenant.home, &tenant.secrets.migrator, set, LOCK_TIMEOUT, limit).await
    }
}

fn airline_and(files: &[(&str, &str)]) -> MigrationSet {
    let all = airline();
    let known = all.files();
    let mut all: Vec<(&str, &str)> = known.iter().map(|(name, sql)| (name.as_str(), *sql)).collect();
    all.extend(files);
    set(&all)
}

fn failed(file: &TriedFile) -> (&str, Option<u32>) {
    match &file.outcome {
        TrialOutcome::Failed(failure) => (&failure.sqlstate, failure.line),
        other => panic!("{}: {other:?}", file.file),
    }
}

fn untried(file: &TriedFile) -> &str {
    match &file.outcome {
        TrialOutcome::Untried(reason) => reason,
        other => panic!("{}: {other:?}", file.file),
    }
}

fn lock<'a>(file: &'a TriedFile, relation: &str) -> &'a TakenLock {
    file.locks.iter().find(|lock| lock.relation == relation).unwrap_or_else(|| panic!("{relation}: {:?}", file.locks))
}

#[tokio::test]
async fn locks_are_told_with_table_line_and_time_and_nothing_is_kept() {
    let site = Site::new().await;
    let next = airline_and(&[
        (
            "V4__gates.sql",
            "CREATE TABLE gates (id int);\n\nALTER TABLE flights ADD COLUMN gate int;\nUPDATE aircraft SET seats = 1;",
        ),
        (
            "V5__wide.sql",
            "ALTER TABLE flights ADD COLUMN drawn float8 DEFAULT random();\nALTER TABLE aircraft ADD COLUMN x int;",
        ),
    ]);
    for tenant in &site.tenants {
        let run = site.try_on(tenant, &next).await.unwrap();
        let names: Vec<&str> = run.files.iter().map(|file| file.file.as_str()).collect();
        assert_eq!((run.from, names.as_slice()), (SchemaVersion(3), ["V4__gates.sql", "V5__wide.sql"].as_slice()));
        assert!(run.files.iter().all(|file| file.outcome == TrialOutcome::Passed), "{run:?}");
        let [gates, wide] = run.files.as_slice() else { panic!("{run:?}") };

        let flights = lock(gates, "flights");
        assert_eq!((flights.mode, flights.line, flights.existed), (LockMode::AccessExclusive, 3, true));
        assert!(flights.bytes.unwrap() > 0 && flights.held >= flights.held_in_file, "{flights:?}");
        assert!(!flights.rewritten && lock(wide, "flights").rewritten, "the second file does: {run:?}");
        assert!(!lock(gates, "gates").existed);
        let aircraft = lock(gates, "aircraft");
        assert_eq!((aircraft.mode, aircraft.line, aircraft.rewritten), (LockMode::RowExclusive, 4, false));
        assert!(
            run.files.iter().flat_map(|file| &file.locks).all(|lock| !lock.relation.contains("history")),
            "{run:?}"
        );
        // One that a file before it held is told again where it is stronger now.
        assert_eq!(lock(wide, "aircraft").mode, LockMode::AccessExclusive);

        let app = site.arena.app(tenant).await;
        assert_eq!(refusal(&app, "SELECT gate FROM flights").await, "42703");
        assert_eq!(refusal(&app, "SELECT FROM gates").await, "42P01");
        assert_eq!(count(&app, "SELECT count(*) FROM aircraft WHERE seats = 1").await, 0);
        let Arena { fleet, target, .. } = &site.arena;
        let history = fleet.history(target, &tenant.home, &tenant.secrets.migrator).await.unwrap();
        assert_eq!(history.len(), 3);
    }
}

#[tokio::test]
async fn a_home_without_a_history_gets_none() {
    let arena = Arena::new(Admin::Managed).await;
    let tenant = arena.database_home();
    arena.provision(&tenant, None, None).await;
    let site = Site { arena, tenants: vec![tenant] };
    let run = site.try_on(&site.tenants[0], &airline()).await.unwrap();
    assert_eq!((run.from, run.files.len()), (SchemaVersion(0), 3));
    let root = site.arena.root(&site.tenants[0].home.database).await;
    assert_eq!(count(&root, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").await, 0);
}

#[tokio::test]
async fn what_fails_is_told_and_ends_the_trial() {
    let site = Site::new().await;
    let tenant = &site.tenants[0];
    let next = airline_and(&[
        ("V4__good.sql", "ALTER TABLE flights ADD COLUMN good int;"),
        ("V5__bad.sql", "SELECT 1;\nALTER TABLE flights\n    ADD CONSTRAINT short CHECK (delay < 100);"),
        ("V6__after.sql", "CREATE TABLE after (a int);"),
    ]);
    let run = site.try_on(tenant, &next).await.unwrap();
    assert_eq!(run.files[0].outcome, TrialOutcome::Passed);
    assert_eq!(lock(&run.files[0], "flights").mode, LockMode::AccessExclusive, "told although it failed later");
    assert_eq!(failed(&run.files[1]), ("23514", Some(2)));
    assert!(untried(&run.files[2]).contains("V5__bad.sql"));
    // What is checked when a file is committed is checked at its end here.
    let next = airline_and(&[(
        "V4__deferred.sql",
        "ALTER TABLE flights ADD CONSTRAINT known FOREIGN KEY (tailnum) REFERENCES aircraft DEFERRABLE INITIALLY DEFERRED;\n\
         INSERT INTO flights (tailnum) VALUES ('N9');",
    )]);
    let run = site.try_on(tenant, &next).await.unwrap();
    assert_eq!(failed(&run.files[0]).0, "23503");
    // A history that has diverged is an error: nothing can be tried.
    let mut edited: Vec<(String, String)> =
        airline().files().into_iter().map(|(name, sql)| (name, sql.to_owned())).collect();
    edited[0].1.push_str("\nSELECT 1;");
    let edited = MigrationSet::from_files("edited", &edited).unwrap();
    assert!(matches!(site.try_on(tenant, &edited).await, Err(FleetError::Diverged { .. })));
}

#[tokio::test]
async fn what_cannot_be_undone_is_not_tried() {
    let site = Site::new().await;
    let tenant = &site.tenants[1];
    let next = airline_and(&[
        ("V4__concurrently.sql", "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY flights_by_id ON flights (id);"),
        ("V5__apart.sql", "CREATE TABLE apart (a int);"),
        ("V6__on_it.sql", "ALTER TABLE flights ADD CONSTRAINT by_id UNIQUE USING INDEX flights_by_id;"),
        ("V7__after.sql", "CREATE TABLE after (a int);"),
    ]);
    let run = site.try_on(tenant, &next).await.unwrap();
    assert!(untried(&run.files[0]).contains("no-transaction"));
    assert_eq!(run.files[1].outcome, TrialOutcome::Passed);
    assert!(untried(&run.files[2]).contains("V4__concurrently.sql"), "{run:?}");
    assert!(untried(&run.files[3]).contains("V6__on_it.sql"));
    // What is wrong whatever the file left out does is a failure.
    let next = airline_and(&[
        ("V4__concurrently.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY flights_by_id ON flights (id);"),
        ("V5__wrong.sql", "SELECT 1 / 0;"),
    ]);
    assert_eq!(failed(&site.try_on(tenant, &next).await.unwrap().files[1]).0, "22012");
    // A value of an enumeration is usable once it is committed.
    let next = airline_and(&[
        ("V4__state.sql", "CREATE TYPE state AS ENUM ('off'); CREATE TABLE states (state state);"),
        ("V5__more.sql", "CREATE TYPE mood AS ENUM ('sad');"),
    ]);
    site.arena
        .fleet
        .apply(&site.arena.target, &tenant.home, &tenant.secrets.migrator, &next, &ApplyOptions::default())
        .await
        .unwrap();
    let mut files: Vec<(String, String)> = next.files().into_iter().map(|(name, sql)| (name, sql.to_owned())).collect();
    files.push(("V6__on.sql".into(), "ALTER TYPE state ADD VALUE 'on';".into()));
    files.push(("V7__use.sql".into(), "INSERT INTO states VALUES ('on');".into()));
    let run = site.try_on(tenant, &MigrationSet::from_files("more", &files).unwrap()).await.unwrap();
    assert_eq!(run.files[0].outcome, TrialOutcome::Passed);
    assert!(untried(&run.files[1]).contains("commit first"), "{run:?}");
}

#[tokio::test]
async fn repeatable_files_are_tried_after_the_others_and_where_they_changed() {
    let site = Site::new().await;
    let Arena { fleet, target, .. } = &site.arena;
    let with = |body: &str| {
        let view = format!("CREATE OR REPLACE VIEW tardy AS {body};");
        airline_and(&[("R__tardy.sql", &view), ("V4__gate.sql", "ALTER TABLE flights ADD COLUMN gate int;")])
    };
    for tenant in &site.tenants {
        let first = with("SELECT id, gate FROM flights");
        let names = |run: &DryRun| run.files.iter().map(|file| file.file.clone()).collect::<Vec<_>>();
        let run = site.try_on(tenant, &first).await.unwrap();
        assert_eq!(names(&run), ["V4__gate.sql", "R__tardy.sql"]);
        assert!(run.files.iter().all(|file| file.outcome == TrialOutcome::Passed), "{run:?}");
        fleet.apply(target, &tenant.home, &tenant.secrets.migrator, &first, &ApplyOptions::default()).await.unwrap();
        assert!(site.try_on(tenant, &first).await.unwrap().files.is_empty(), "it has all of it");
        let run = site.try_on(tenant, &with("SELECT id, nothing FROM flights")).await.unwrap();
        assert_eq!((names(&run), failed(&run.files[0]).0), (vec!["R__tardy.sql".to_owned()], "42703"));
    }
}

#[tokio::test]
async fn whoever_reads_is_not_waited_for_long() {
    let site = Site::new().await;
    let tenant = &site.tenants[0];
    let reader = site.arena.app(tenant).await;
    reader.batch_execute("BEGIN; SELECT FROM flights").await.unwrap();
    let next = airline_and(&[("V4__gate.sql", "ALTER TABLE flights ADD COLUMN gate int;")]);
    assert_eq!(failed(&site.try_on(tenant, &next).await.unwrap().files[0]), ("55P03", Some(1)));
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(site.try_on(tenant, &next).await.unwrap().files[0].outcome, TrialOutcome::Passed);
}

#[tokio::test]
async fn a_trial_ends_at_its_time_and_leaves_nothing_running() {
    let site = Site::new().await;
    let tenant = &site.tenants[0];
    let next = airline_and(&[
        ("V4__gate.sql", "ALTER TABLE flights ADD COLUMN gate int;"),
        ("V5__slow.sql", "SELECT pg_sleep(600);"),
        ("V6__after.sql", "SELECT 1;"),
    ]);
    let Arena { fleet, target, .. } = &site.arena;
    let limit = Duration::from_secs(2);
    let run = fleet.dry_run(target, &tenant.home, &tenant.secrets.migrator, &next, LOCK_TIMEOUT, limit).await.unwrap();
    assert_eq!(lock(&run.files[0], "flights").mode, LockMode::AccessExclusive);
    assert_eq!(failed(&run.files[1]).0, "57014");
    assert!(untried(&run.files[2]).len() > 10, "{run:?}");
    let root = site.arena.root(&tenant.home.database).await;
    let migrator = tenant.home.names().migrator;
    let theirs = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{migrator}'");
    eventually("the migrator's session ends", async || count(&root, &theirs).await == 0).await;
    site.arena.app(tenant).await.batch_execute("SELECT delay FROM flights").await.unwrap();
}

#[tokio::test]
async fn homes_are_measured_wherever_they_live() {
    let site = Site::new().await;
    let Arena { fleet, target, .. } = &site.arena;
    let grow = "INSERT INTO flights (delay) SELECT number FROM generate_series(1, 20000) AS number";
    site.arena.app(&site.tenants[0]).await.batch_execute(grow).await.unwrap();
    let nowhere = site.arena.database_home();
    let homes: Vec<_> = site.tenants.iter().chain([&nowhere]).map(|tenant| tenant.home.clone()).collect();
    let sizes = fleet.home_sizes(target, &homes).await.unwrap();
    assert_eq!(sizes.len(), 2, "one that is not there has no size");
    let of = |tenant: &Tenant| sizes.iter().find(|(home, _)| *home == tenant.home.id).unwrap().1;
    assert!(of(&site.tenants[0]) > 1_000_000, "{sizes:?}");
    assert!(of(&site.tenants[1]) > 1_000_000, "{sizes:?}");
}
