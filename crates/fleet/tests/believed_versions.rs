//! Homes whose version the caller knows: one round trip, one connection for those that share a database, and the home's own
//! history decides all the same.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{ADMINS, Admin, Arena, Tenant, count, set};
use tenantry_domain::{DatabaseName, Isolation, RoleName, SchemaVersion};
use tenantry_fleet::{Applied, ApplyOptions, Fleet, FleetConfig, FleetError, IntendedRoles, PoolAccess};
use tenantry_migration_set::MigrationSet;

const FIRST: (&str, &str) = ("V1__notes.sql", "CREATE TABLE notes (id int);");
/// Tells over which connection, and as whom.
const WHO: (&str, &str) = (
    "V2__who.sql",
    "CREATE TABLE who AS SELECT pg_backend_pid() AS pid, session_user::text AS login, current_user::text AS role;",
);

struct Site {
    arena: Arena,
    shared: DatabaseName,
}

impl Site {
    async fn new(admin: Admin) -> Self {
        let arena = Arena::new(admin).await;
        let shared = arena.shared_database().await;
        Self { arena, shared }
    }

    /// A home with the first file.
    async fn home(&self, isolation: Isolation) -> Tenant {
        let tenant = match isolation {
            Isolation::Schema => self.arena.schema_home(&self.shared),
            _ => self.arena.database_home(),
        };
        self.arena.provision(&tenant, None, Some(&set(&[FIRST]))).await;
        tenant
    }

    async fn apply(&self, tenant: &Tenant, set: &MigrationSet, believed: i64) -> Result<Applied, FleetError> {
        self.apply_with(&self.arena.fleet, tenant, set, believed).await
    }

    async fn apply_with(
        &self,
        fleet: &Fleet,
        tenant: &Tenant,
        set: &MigrationSet,
        believed: i64,
    ) -> Result<Applied, FleetError> {
        let (password, options) = (&tenant.secrets.migrator, ApplyOptions::default());
        let believed = SchemaVersion(believed);
        fleet.apply_from(&self.arena.target, &tenant.home, password, set, believed, &options).await
    }

    async fn versions(&self, tenant: &Tenant) -> Vec<i64> {
        let Arena { fleet, target, .. } = &self.arena;
        let history = fleet.history(target, &tenant.home, &tenant.secrets.migrator).await.unwrap();
        history.iter().map(|row| row.version).collect()
    }

    /// Backend and login that made the table `who`.
    async fn who(&self, tenant: &Tenant) -> (i32, String) {
        let row = self.arena.app(tenant).await.query_one("SELECT pid, login, role FROM who", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>("role"), tenant.home.names().owner.as_str());
        (row.get("pid"), row.get("login"))
    }

    fn shared_migrator(&self) -> String {
        RoleName::shared_migrator(&self.shared).to_string()
    }
}

#[tokio::test]
async fn homes_that_share_a_database_share_a_connection_and_others_have_their_own() {
    for admin in ADMINS {
        let site = Site::new(admin).await;
        let mut seen = Vec::new();
        let mut tenants = Vec::new();
        for isolation in [Isolation::Schema, Isolation::Schema, Isolation::Schema, Isolation::Database] {
            tenants.push(site.home(isolation).await);
        }
        for tenant in tenants {
            let isolation = tenant.home.isolation;
            let applied = site.apply(&tenant, &set(&[FIRST, WHO]), 1).await.unwrap();
            assert_eq!((applied.from.0, applied.to.0, applied.count), (1, 2, 1));
            let more = set(&[
                FIRST,
                WHO,
                (
                    "V3__again.sql",
                    "DELETE FROM who;\nINSERT INTO who SELECT pg_backend_pid(), session_user, current_user;",
                ),
                ("V4__end.sql", "CREATE TABLE ends (id int);"),
            ]);
            let applied = site.apply(&tenant, &more, 2).await.unwrap();
            assert_eq!((applied.from.0, applied.to.0, applied.count), (2, 4, 2));
            assert_eq!(site.versions(&tenant).await, [1, 2, 3, 4]);
            let (pid, login) = site.who(&tenant).await;
            if isolation == Isolation::Schema {
                assert_eq!(login, site.shared_migrator());
                seen.push(pid);
            } else {
                assert_eq!(login, tenant.home.names().migrator.as_str());
            }
            let intended = IntendedRoles {
                home: tenant.home.clone(),
                secrets: tenant.secrets.clone(),
                limits: tenant.limits,
                is_open: true,
                pool: PoolAccess::ShutOut,
            };
            let report = site.arena.fleet.role_drift(&site.arena.target, &[intended]).await.unwrap();
            assert_eq!(report.drifted, []);
        }
        assert!(seen.iter().all(|pid| *pid == seen[0]), "{seen:?}");
        // Of itself the role may nothing.
        let root = site.arena.root(&site.shared).await;
        let may = format!(
            "SELECT count(*) FROM pg_namespace, pg_roles
              WHERE rolname = '{}' AND nspname LIKE 'h\\_%' AND has_schema_privilege(pg_roles.oid, pg_namespace.oid, 'USAGE')",
            site.shared_migrator()
        );
        assert_eq!(count(&root, &may).await, 0);
    }
}

#[tokio::test]
async fn where_the_belief_is_wrong_the_home_decides() {
    let site = Site::new(Admin::Managed).await;
    let more = set(&[FIRST, WHO, ("V3__end.sql", "CREATE TABLE ends (id int);")]);
    for isolation in [Isolation::Schema, Isolation::Database] {
        // It has more than that.
        let tenant = site.home(isolation).await;
        site.apply(&tenant, &set(&[FIRST, WHO]), 1).await.unwrap();
        let applied = site.apply(&tenant, &more, 1).await.unwrap();
        assert_eq!((applied.from.0, applied.to.0, applied.count), (2, 3, 1));
        let applied = site.apply(&tenant, &more, 1).await.unwrap();
        assert_eq!((applied.from.0, applied.to.0, applied.count), (3, 3, 0));
        // It has less.
        let tenant = site.home(isolation).await;
        let applied = site.apply(&tenant, &more, 2).await.unwrap();
        assert_eq!((applied.from.0, applied.to.0, applied.count), (1, 3, 2));
        assert_eq!(site.versions(&tenant).await, [1, 2, 3]);
        // It has something else, which a file that works would not notice.
        let tenant = site.home(isolation).await;
        let edited = set(&[("V1__notes.sql", "CREATE TABLE notes (id bigint);"), WHO]);
        assert!(matches!(site.apply(&tenant, &edited, 1).await, Err(FleetError::Diverged { .. })));
        assert_eq!(site.versions(&tenant).await, [1]);
        // Nothing was ever applied, and what is believed is no version of the set.
        let tenant = site.arena.schema_home(&site.shared);
        site.arena.provision(&tenant, None, None).await;
        for believed in [1, 7] {
            site.apply(&tenant, &more, believed).await.unwrap();
            assert_eq!(site.versions(&tenant).await, [1, 2, 3]);
        }
    }
}

#[tokio::test]
async fn a_file_that_fails_is_told_as_ever_and_harms_nobody_else() {
    let site = Site::new(Admin::Managed).await;
    for isolation in [Isolation::Schema, Isolation::Database] {
        let (tenant, other) = (site.home(isolation).await, site.home(isolation).await);
        let broken = set(&[
            FIRST,
            (
                "V2__bad.sql",
                "CREATE TABLE bad (a int CHECK (a > 0));\nINSERT INTO bad VALUES (1);\n\n  INSERT INTO bad\n VALUES (0);",
            ),
        ]);
        let Err(FleetError::Migration(failure)) = site.apply(&tenant, &broken, 1).await else { panic!("it passed") };
        assert_eq!((failure.file.as_str(), failure.line, failure.column), ("V2__bad.sql", Some(4), Some(3)));
        let typed = set(&[FIRST, ("V2__bad.sql", "SELECT 1;\nALTER TABLE notes ADD b nothing;")]);
        let Err(FleetError::Migration(failure)) = site.apply(&tenant, &typed, 1).await else { panic!("it passed") };
        assert_eq!((failure.line, failure.column, failure.sqlstate.as_str()), (Some(2), Some(25), "42704"));
        // Nobody can read this as a change of the role beforehand.
        let switch = set(&[FIRST, ("V2__bad.sql", "DO $$ BEGIN EXECUTE 'RESET' || ' ROLE'; END $$;")]);
        let Err(FleetError::Migration(failure)) = site.apply(&tenant, &switch, 1).await else { panic!("it passed") };
        assert_eq!(failure.sqlstate, "TN004");
        assert_eq!(site.versions(&tenant).await, [1]);
        site.apply(&other, &set(&[FIRST, WHO]), 1).await.unwrap();
        site.apply(&tenant, &set(&[FIRST, WHO]), 1).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_file_leaves_in_its_session_is_not_there_for_the_next_home() {
    let site = Site::new(Admin::Managed).await;
    let (first, second) = (site.home(Isolation::Schema).await, site.home(Isolation::Schema).await);
    let leaves = set(&[
        FIRST,
        WHO,
        (
            "V3__leaves.sql",
            "SELECT set_config('work_mem', '77MB', false), set_config('app.left', 'yes', false), pg_advisory_lock(42);\n\
             CREATE TEMP TABLE left_behind (id int);\nPREPARE p AS SELECT 1;\nLISTEN news;\n\
             DECLARE c CURSOR WITH HOLD FOR SELECT 1;",
        ),
    ]);
    site.apply(&first, &leaves, 1).await.unwrap();
    let looks = set(&[
        FIRST,
        WHO,
        (
            "V3__looks.sql",
            "CREATE TABLE seen AS SELECT current_setting('work_mem') AS memory,
                    coalesce(current_setting('app.left', true), '') AS left,
                    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND pid = pg_backend_pid())
                    + (SELECT count(*) FROM pg_class WHERE relname = 'left_behind' AND relpersistence = 't')
                    + (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_cursors WHERE is_holdable)
                    + (SELECT count(*) FROM pg_listening_channels()) AS traces;",
        ),
    ]);
    site.apply(&second, &looks, 1).await.unwrap();
    assert_eq!(site.who(&first).await, site.who(&second).await, "over the same connection");
    let locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                  WHERE l.locktype = 'advisory' AND d.datname = current_database()";
    let root = site.arena.root(&site.shared).await;
    assert_eq!(count(&root, locks).await, 0, "a connection that is kept holds no home");
    let app = site.arena.app(&second).await;
    let row = app.query_one("SELECT memory, \"left\", traces FROM seen", &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, String>(0).as_str(), row.get::<_, String>(1).as_str(), row.get::<_, i64>(2)),
        ("4MB", "", 0)
    );
}

#[tokio::test]
async fn whoever_cannot_use_the_shared_connection_uses_the_homes_own() {
    let site = Site::new(Admin::Managed).await;
    let (first, second) = (site.home(Isolation::Schema).await, site.home(Isolation::Schema).await);
    let who = set(&[FIRST, WHO]);
    site.apply(&first, &who, 1).await.unwrap();
    assert_eq!(site.who(&first).await.1, site.shared_migrator());
    // Made since: the role learns of it by the way.
    let (late, later) = (site.home(Isolation::Schema).await, site.home(Isolation::Schema).await);
    site.apply(&late, &who, 1).await.unwrap();
    assert_eq!(site.who(&late).await.1, late.home.names().migrator.as_str());
    site.apply(&later, &who, 1).await.unwrap();
    assert_eq!(site.who(&later).await.1, site.shared_migrator());
    // Another process makes up a password of its own, and the first one's connection is gone.
    let other = Fleet::new(FleetConfig::default());
    site.apply_with(&other, &second, &who, 1).await.unwrap();
    assert_eq!(site.who(&second).await.1, site.shared_migrator());
    let root = site.arena.root(&site.shared).await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
        site.shared_migrator()
    );
    assert!(count(&root, &end).await >= 2);
    let more = set(&[FIRST, WHO, ("V3__more.sql", "CREATE TABLE more (id int);")]);
    for tenant in [&first, &second, &late, &later] {
        site.apply(tenant, &more, 2).await.unwrap();
        assert_eq!(site.versions(tenant).await, [1, 2, 3]);
    }
    // A file outside a transaction leaves traces that only the home's own session can clear away.
    let index = set(&[
        FIRST,
        WHO,
        ("V3__more.sql", "CREATE TABLE more (id int);"),
        ("V4__index.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY notes_id ON notes (id);"),
    ]);
    assert_eq!(site.apply(&first, &index, 3).await.unwrap().count, 1);
    site.apply(&second, &index, 3).await.unwrap();
}

#[tokio::test]
async fn a_lock_that_is_held_is_waited_for_once() {
    let site = Site::new(Admin::Managed).await;
    for isolation in [Isolation::Schema, Isolation::Database] {
        let tenant = site.home(isolation).await;
        let app = site.arena.app(&tenant).await;
        app.batch_execute("BEGIN; SELECT FROM notes").await.unwrap();
        let more = set(&[FIRST, ("V2__more.sql", "ALTER TABLE notes ADD more int;")]);
        assert!(matches!(site.apply(&tenant, &more, 1).await, Err(FleetError::Busy { .. })));
        app.batch_execute("COMMIT").await.unwrap();
        assert_eq!(site.apply(&tenant, &more, 1).await.unwrap().count, 1);
    }
}

#[tokio::test]
async fn no_file_becomes_the_owner_of_another_home_whenever_it_tries() {
    let site = Site::new(Admin::Managed).await;
    let (victim, attacker) = (site.home(Isolation::Schema).await, site.home(Isolation::Schema).await);
    let names = [&victim, &attacker].map(|tenant| (tenant.home.names().owner, tenant.home.schema.clone()));
    let [(owner, schema), (own, own_schema)] = &names;
    // Put together so that nobody can read it beforehand.
    let act = format!(
        "EXECUTE 'SET R' || 'OLE \"{owner}\"'; EXECUTE 'INSERT INTO \"{schema}\".notes VALUES (666)';
         EXECUTE 'SET R' || 'OLE \"{own}\"';"
    );
    let trigger =
        format!("CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {act} RETURN NEW; END $$;\n");
    let at_once = format!("DO $$ BEGIN {act} END $$;");
    let at_the_end = format!(
        "{trigger}CREATE CONSTRAINT TRIGGER act AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION act();\nINSERT INTO notes VALUES (1);"
    );
    // Harmless when it fires first, and then it puts itself off.
    let again_at_the_end = format!(
        "CREATE TABLE seen (id int);
         CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF EXISTS (SELECT FROM \"{own_schema}\".seen) THEN {act} ELSE
                 INSERT INTO seen VALUES (1); SET CONSTRAINTS ALL DEFERRED; INSERT INTO notes VALUES (2);
             END IF; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER act AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION act();\nINSERT INTO notes VALUES (1);"
    );
    let with_the_row = format!(
        "{trigger}CREATE TRIGGER act BEFORE INSERT ON refinery_schema_history FOR EACH ROW EXECUTE FUNCTION act();"
    );
    let with_a_cursor = format!(
        "CREATE FUNCTION act() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {act} RETURN 1; END $$;
         DECLARE c CURSOR WITH HOLD FOR SELECT act();"
    );
    let root = site.arena.root(&site.shared).await;
    let traces = format!("SELECT count(*) FROM \"{schema}\".notes");
    for (attack, works) in
        [(at_once, false), (at_the_end, false), (again_at_the_end, false), (with_the_row, false), (with_a_cursor, true)]
    {
        let result = site.apply(&attacker, &set(&[FIRST, ("V2__act.sql", &attack)]), 1).await;
        assert_eq!(result.is_ok(), works, "{attack}: {result:?}");
        if let Err(error) = result {
            assert!(matches!(error, FleetError::Migration(_)), "{error:?}");
        }
        assert_eq!(count(&root, &traces).await, 0, "{attack}");
    }
    // Where nothing encloses it, the same gets through.
    root.batch_execute(&format!(
        "SET SESSION AUTHORIZATION \"{}\"; SET ROLE \"{own}\"; DO $$ BEGIN {act} END $$; RESET SESSION AUTHORIZATION;",
        site.shared_migrator()
    ))
    .await
    .unwrap();
    assert_eq!(count(&root, &traces).await, 1);
}
