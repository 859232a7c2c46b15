//! Homes come, are used, and go without a trace; each step twice, with both kinds of admin.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{ADMINS, Admin, Arena, airline, count, refusal, set};
use tenantry_domain::{DatabaseName, LoginSlot, SchemaVersion};
use tenantry_fleet::{ApplyOptions, FleetError, random_password, shared_database_roles, template_roles};

async fn for_both_admins(test: impl AsyncFn(Admin, Arena)) {
    for admin in ADMINS {
        test(admin, Arena::new(admin).await).await;
    }
}

#[tokio::test]
async fn a_database_home_is_cloned_used_and_dropped_clean() {
    for_both_admins(async |_, arena| {
        let Arena { fleet, target, .. } = &arena;
        let (template, set) = (arena.template_name(), airline());
        assert_eq!(fleet.ensure_template(target, &template, Some(&set)).await.unwrap(), SchemaVersion(3));
        assert_eq!(fleet.ensure_template(target, &template, Some(&set)).await.unwrap(), SchemaVersion(3));

        let tenant = arena.database_home();
        let home = &tenant.home;
        for _ in 0..2 {
            fleet.ensure_roles(target, &tenant.fence, home, &tenant.secrets, &tenant.limits).await.unwrap();
            fleet.ensure_database(target, home, Some(&template), &tenant.fence).await.unwrap();
            fleet.prepare_home(target, home, Some(&template), &tenant.limits).await.unwrap();
            fleet.write_stamp(target, home, &tenant.fence, &tenant.stamp()).await.unwrap();
        }
        assert_eq!(fleet.read_stamp(target, home).await.unwrap(), Some(tenant.stamp()));

        let options = ApplyOptions::default();
        let applied = fleet.apply(target, home, &tenant.secrets.migrator, &set, &options).await.unwrap();
        assert_eq!((applied.from, applied.to, applied.count), (SchemaVersion(3), SchemaVersion(3), 0));

        let app = arena.app(&tenant).await;
        app.batch_execute("INSERT INTO flights (tailnum, delay) VALUES ('N1', 20)").await.unwrap();
        assert_eq!(count(&app, "SELECT count(*) FROM late").await, 1);
        assert_eq!(count(&app, "SELECT count(*) FROM changes").await, 1);
        drop(app);

        let observed = fleet.observe_home(target, home).await.unwrap();
        assert!(observed.database && observed.schema);
        assert_eq!(observed.roles.len(), 6);

        for _ in 0..2 {
            fleet.disable_logins(target, &tenant.fence, home, false).await.unwrap();
            fleet.drop_database(target, &home.database).await.unwrap();
            fleet.drop_roles(target, &tenant.fence, home).await.unwrap();
            fleet.drop_database(target, &template).await.unwrap();
        }
        assert_nothing_left(&arena).await;
    })
    .await;
}

#[tokio::test]
async fn a_schema_home_is_made_migrated_used_and_dropped_clean() {
    for_both_admins(async |_, arena| {
        let Arena { fleet, target, .. } = &arena;
        let database = arena.shared_name();
        let findings = fleet.ensure_shared_database(target, &database).await.unwrap();
        assert_eq!(fleet.ensure_shared_database(target, &database).await.unwrap(), findings);

        let tenant = arena.schema_home(&database);
        let home = &tenant.home;
        for _ in 0..2 {
            fleet.ensure_roles(target, &tenant.fence, home, &tenant.secrets, &tenant.limits).await.unwrap();
            fleet.ensure_schema(target, home).await.unwrap();
            fleet.prepare_home(target, home, None, &tenant.limits).await.unwrap();
            fleet.write_stamp(target, home, &tenant.fence, &tenant.stamp()).await.unwrap();
        }
        let options = ApplyOptions::default();
        let applied = fleet.apply(target, home, &tenant.secrets.migrator, &airline(), &options).await.unwrap();
        assert_eq!((applied.from, applied.to, applied.count), (SchemaVersion(0), SchemaVersion(3), 3));
        let again = fleet.apply(target, home, &tenant.secrets.migrator, &airline(), &options).await.unwrap();
        assert_eq!((again.from, again.count), (SchemaVersion(3), 0));
        let history = fleet.history(target, home, &tenant.secrets.migrator).await.unwrap();
        assert_eq!(history.iter().map(|row| row.version).collect::<Vec<_>>(), [1, 2, 3]);

        let app = arena.app(&tenant).await;
        app.batch_execute("INSERT INTO flights (tailnum, delay) VALUES ('N1', 20)").await.unwrap();
        assert_eq!(count(&app, "SELECT count(*) FROM late").await, 1);
        drop(app);
        assert_eq!(fleet.schemas(target, &database).await.unwrap(), std::slice::from_ref(&home.schema));

        for _ in 0..2 {
            fleet.disable_logins(target, &tenant.fence, home, false).await.unwrap();
            fleet.drop_schema(target, home).await.unwrap();
            fleet.drop_roles(target, &tenant.fence, home).await.unwrap();
        }
        assert_eq!(fleet.schemas(target, &database).await.unwrap(), []);
        fleet.drop_database(target, &database).await.unwrap();
        fleet.drop_schema(target, home).await.unwrap();
        assert_nothing_left(&arena).await;
    })
    .await;
}

#[tokio::test]
async fn the_combined_way_makes_the_same_homes_and_repeats_too() {
    for_both_admins(async |_, arena| {
        let Arena { fleet, target, .. } = &arena;
        let template = arena.template_name();
        fleet.ensure_template(target, &template, Some(&airline())).await.unwrap();
        let cloned = arena.database_home();
        let empty = arena.database_home();
        let shared = arena.shared_database().await;
        let sharing = arena.schema_home(&shared);
        for _ in 0..2 {
            fleet.ensure_home(target, &cloned.spec(Some(&template))).await.unwrap();
            fleet.ensure_home(target, &empty.spec(None)).await.unwrap();
            fleet.ensure_home(target, &sharing.spec(None)).await.unwrap();
        }
        for tenant in [&empty, &sharing] {
            arena.provision(tenant, None, Some(&airline())).await;
        }
        // Once the template is gone, the work can still be repeated.
        fleet.drop_database(target, &template).await.unwrap();
        for tenant in [&cloned, &empty, &sharing] {
            let app = arena.app(tenant).await;
            app.batch_execute("INSERT INTO flights (tailnum, delay) VALUES ('N1', 20)").await.unwrap();
            assert_eq!(count(&app, "SELECT count(*) FROM flights").await, 1);
        }
        fleet.ensure_home(target, &cloned.spec(Some(&template))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn homes_are_made_side_by_side() {
    let arena = Arena::new(Admin::Managed).await;
    let template = arena.template_name();
    arena.fleet.ensure_template(&arena.target, &template, Some(&airline())).await.unwrap();
    let shared = arena.shared_database().await;
    let cloned: Vec<_> = (0..6).map(|_| arena.database_home()).collect();
    let sharing: Vec<_> = (0..6).map(|_| arena.schema_home(&shared)).collect();
    let clones = cloned.iter().map(|tenant| arena.provision(tenant, Some(&template), None));
    let set = airline();
    let shares = sharing.iter().map(|tenant| arena.provision(tenant, None, Some(&set)));
    futures::future::join(futures::future::join_all(clones), futures::future::join_all(shares)).await;
    for tenant in cloned.iter().chain(&sharing) {
        assert_eq!(count(&arena.app(tenant).await, "SELECT count(*) FROM aircraft").await, 2);
    }
    let drops = sharing.iter().map(|tenant| async {
        arena.fleet.drop_schema(&arena.target, &tenant.home).await.unwrap();
        arena.fleet.drop_roles(&arena.target, &tenant.fence, &tenant.home).await.unwrap();
    });
    futures::future::join_all(drops).await;
}

#[tokio::test]
async fn a_template_takes_no_connection() {
    let arena = Arena::new(Admin::Managed).await;
    let template = arena.template_name();
    arena.fleet.ensure_template(&arena.target, &template, Some(&airline())).await.unwrap();
    let mut config = arena.server().config();
    let refused = config.dbname(template.as_str()).connect(tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(common::sqlstate(&refused), "55000");
    let listed = arena.fleet.databases(&arena.target, template.as_str()).await.unwrap();
    assert!(!listed[0].is_open);
    assert!(arena.fleet.roles(&arena.target, template.as_str()).await.unwrap().len() == 1, "its migrator is gone");
}

#[tokio::test]
async fn a_half_made_template_is_finished() {
    let arena = Arena::new(Admin::Superuser).await;
    let Arena { fleet, target, .. } = &arena;
    let template = arena.template_name();
    let broken = set(&[("V1__a.sql", "CREATE TABLE a (b int);"), ("V2__b.sql", "CREATE TABLE c (d nothing);")]);
    assert!(matches!(fleet.ensure_template(target, &template, Some(&broken)).await, Err(FleetError::Migration(_))));
    let whole = set(&[("V1__a.sql", "CREATE TABLE a (b int);"), ("V2__b.sql", "CREATE TABLE c (d int);")]);
    assert_eq!(fleet.ensure_template(target, &template, Some(&whole)).await.unwrap(), SchemaVersion(2));
}

#[tokio::test]
async fn what_belongs_to_a_database_is_dropped_with_it() {
    for_both_admins(async |admin, arena| {
        let tenant = arena.database_home();
        arena.provision(&tenant, None, Some(&airline())).await;
        // Only a superuser ends those of others.
        if admin == Admin::Superuser {
            let root = arena.root(&tenant.home.database).await;
            let slot = format!("h_{}_slot", tenant.home.id.simple());
            root.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot]).await.unwrap();
            let subscription = format!(
                "CREATE SUBSCRIPTION s CONNECTION 'dbname={}' PUBLICATION p WITH (connect = false)",
                tenant.home.database
            );
            root.batch_execute(&subscription).await.unwrap();
            for sql in ["BEGIN", "CREATE TABLE p (q int)", "PREPARE TRANSACTION 'left behind'"] {
                root.batch_execute(sql).await.unwrap();
            }
        }
        arena.fleet.drop_database(&arena.target, &tenant.home.database).await.unwrap();
        arena.fleet.drop_roles(&arena.target, &tenant.fence, &tenant.home).await.unwrap();
        assert_nothing_left(&arena).await;
    })
    .await;
}

#[tokio::test]
async fn disabled_logins_end_and_come_back() {
    for_both_admins(async |_, arena| {
        let Arena { fleet, target, .. } = &arena;
        let shared = arena.shared_database().await;
        let (one, other) = (arena.schema_home(&shared), arena.schema_home(&shared));
        arena.provision(&one, None, Some(&airline())).await;
        arena.provision(&other, None, Some(&airline())).await;
        let (session, neighbour) = (arena.app(&one).await, arena.app(&other).await);
        fleet.disable_logins(target, &one.fence, &one.home, false).await.unwrap();
        assert!(session.simple_query("SELECT 1").await.is_err());
        neighbour.simple_query("SELECT 1").await.unwrap();
        let names = one.home.names();
        let refused = arena.log_in(&names.login_a, &one.secrets.login, &shared).await.err().unwrap();
        assert_eq!(refused, "28000");
        // A home that is shut is still migrated.
        let more = set(&[("V9__later.sql", "CREATE TABLE later (a int);")]);
        let error = fleet.apply(target, &one.home, &one.secrets.migrator, &more, &ApplyOptions::default()).await;
        assert!(matches!(error, Err(FleetError::Diverged { .. })), "the migrator got in");
        fleet.enable_logins(target, &one.fence, &one.home, LoginSlot::A, false).await.unwrap();
        arena.app(&one).await;
        assert!(arena.log_in(&names.login_b, &one.secrets.login, &shared).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_rotation_turns_to_the_other_login() {
    let arena = Arena::new(Admin::Managed).await;
    let mut tenant = arena.database_home();
    arena.provision(&tenant, None, None).await;
    let names = tenant.home.names();
    let old = tenant.secrets.login.clone();
    tenant.secrets.slot = LoginSlot::B;
    tenant.secrets.login = random_password();
    arena.provision(&tenant, None, None).await;
    let database = &tenant.home.database;
    arena.log_in(&names.login_b, &tenant.secrets.login, database).await.unwrap();
    assert_eq!(arena.log_in(&names.login_a, &old, database).await.err().unwrap(), "28P01");
}

#[tokio::test]
async fn a_large_schema_goes_in_batches() {
    let arena = Arena::new(Admin::Managed).await;
    let shared = arena.shared_database().await;
    let tenant = arena.schema_home(&shared);
    let tables: Vec<String> =
        (0..170).map(|n| format!("CREATE TABLE t{n} (id bigserial PRIMARY KEY, name text);")).collect();
    let many = tables.join("\n");
    arena.provision(&tenant, None, Some(&set(&[("V1__many.sql", &many)]))).await;
    arena.fleet.drop_schema(&arena.target, &tenant.home).await.unwrap();
    assert_eq!(arena.fleet.schemas(&arena.target, &shared).await.unwrap(), []);
    let root = arena.root(&shared).await;
    assert_eq!(count(&root, "SELECT count(*) FROM tenantry.stamp").await, 0);
    assert_eq!(refusal(&root, "SELECT FROM t0").await, "42P01");
}

#[tokio::test]
async fn the_roles_that_are_recorded_are_the_roles_that_are_made() {
    let arena = Arena::new(Admin::Managed).await;
    let shared = arena.shared_database().await;
    let made = arena.fleet.roles(&arena.target, shared.as_str()).await.unwrap();
    let mut recorded = shared_database_roles(&shared);
    recorded.sort();
    assert_eq!(made, recorded);
    let template: DatabaseName = arena.template_name();
    arena.fleet.ensure_template(&arena.target, &template, None).await.unwrap();
    for role in arena.fleet.roles(&arena.target, template.as_str()).await.unwrap() {
        assert!(template_roles(&template).contains(&role));
    }
}

/// Only the control database and the admin itself may be there.
async fn assert_nothing_left(arena: &Arena) {
    let objects = arena.namespace.objects().await;
    let ours = |object: &&String| !object.contains(arena.namespace.prefix());
    assert_eq!(objects.iter().filter(ours).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[tokio::test]
async fn a_process_that_the_admin_may_not_end_is_waited_for_when_a_database_is_dropped() {
    let arena = Arena::new(Admin::Managed).await;
    let database = arena.shared_database().await;
    // As autovacuum, a superuser's session is none that this admin may end.
    let foreign = arena.root(&database).await;
    let leave = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        drop(foreign);
    };
    let (dropped, ()) = tokio::join!(arena.fleet.drop_database(&arena.target, &database), leave);
    dropped.unwrap();
    assert_nothing_left(&arena).await;
}
