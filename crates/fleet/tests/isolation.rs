//! What one home's roles may do, and above all what they may not: reach another home, by any way in.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{ADMINS, Admin, Arena, Tenant, airline, count, refusal};
use tenantry_domain::{Generation, RouteState, TenantId};
use tenantry_fleet::{ApplyOptions, FleetError, RouteCheck, Stamp, random_password};
use tokio_postgres::Client;
use uuid::Uuid;

/// Two homes that share a database and two that do not, each with the airline's schema.
struct Town {
    arena: Arena,
    sharing: [Tenant; 2],
    apart: [Tenant; 2],
}

impl Town {
    async fn new(admin: Admin) -> Self {
        let arena = Arena::new(admin).await;
        let shared = arena.shared_database().await;
        let template = arena.template_name();
        arena.fleet.ensure_template(&arena.target, &template, Some(&airline())).await.unwrap();
        let sharing = [arena.schema_home(&shared), arena.schema_home(&shared)];
        let apart = [arena.database_home(), arena.database_home()];
        for tenant in &sharing {
            arena.provision(tenant, None, Some(&airline())).await;
        }
        for tenant in &apart {
            arena.provision(tenant, Some(&template), None).await;
        }
        Self { arena, sharing, apart }
    }

    fn all(&self) -> impl Iterator<Item = &Tenant> {
        self.sharing.iter().chain(&self.apart)
    }

    /// Every home with a session of its application, and every other home.
    async fn pairs(&self) -> Vec<(Client, &Tenant, &Tenant)> {
        let mut pairs = Vec::new();
        for one in self.all() {
            for other in self.all().filter(|other| other.home.id != one.home.id) {
                pairs.push((self.arena.app(one).await, one, other));
            }
        }
        pairs
    }
}

#[tokio::test]
async fn the_application_works_on_data_and_on_nothing_else() {
    for admin in ADMINS {
        let town = Town::new(admin).await;
        for tenant in town.all() {
            let app = town.arena.app(tenant).await;
            app.batch_execute(
                "INSERT INTO flights (tailnum, delay) VALUES ('N1', 1); UPDATE flights SET delay = 2;
                 SELECT nextval('flights_id_seq'), lastval(); DELETE FROM flights; SELECT similarity('a', 'b');",
            )
            .await
            .unwrap();
            for (sql, expected) in [
                ("CREATE TABLE mine (a int)", "42501"),
                ("ALTER TABLE flights ADD a int", "42501"),
                ("DROP TABLE flights", "42501"),
                ("TRUNCATE flights", "42501"),
                ("CREATE SCHEMA mine", "42501"),
                ("CREATE TEMPORARY TABLE t (a int)", "42501"),
                ("CREATE EXTENSION hstore", "42501"),
                ("DELETE FROM refinery_schema_history", "42501"),
                ("INSERT INTO refinery_schema_history VALUES (99, '', '', '')", "42501"),
                ("DELETE FROM tenantry.stamp", "42501"),
                ("UPDATE tenantry.stamp SET generation = 9", "42501"),
                ("CREATE FUNCTION tenantry.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "42501"),
                ("CREATE ROLE r", "42501"),
                ("CREATE DATABASE d", "42501"),
            ] {
                assert_eq!(refusal(&app, sql).await, expected, "{admin:?} {sql}");
            }
            assert_eq!(count(&app, "SELECT count(*) FROM refinery_schema_history").await, 3);
        }
    }
}

#[tokio::test]
async fn the_read_only_role_reads() {
    let town = Town::new(Admin::Managed).await;
    for tenant in town.all() {
        let names = tenant.home.names();
        let reader =
            town.arena.log_in(&names.read_only, &tenant.secrets.read_only, &tenant.home.database).await.unwrap();
        assert_eq!(count(&reader, "SELECT count(*) FROM aircraft").await, 2);
        reader.batch_execute("SET default_transaction_read_only = off").await.unwrap();
        assert_eq!(refusal(&reader, "INSERT INTO aircraft VALUES ('N3', 1)").await, "42501");
        assert_eq!(refusal(&reader, "SELECT nextval('flights_id_seq')").await, "42501");
        assert_eq!(refusal(&reader, &format!("SET ROLE \"{}\"", names.app)).await, "42501");
    }
}

#[tokio::test]
async fn no_home_connects_to_reads_or_becomes_another() {
    for admin in ADMINS {
        let town = Town::new(admin).await;
        for (app, one, other) in town.pairs().await {
            if one.home.database != other.home.database {
                let role = &one.home.names().login_a;
                let refused = town.arena.log_in(role, &one.secrets.login, &other.home.database).await;
                assert_eq!(refused.err().unwrap(), "42501", "CONNECT");
            }
            let table = format!("\"{}\".flights", other.home.schema);
            if one.home.database == other.home.database {
                for sql in [
                    format!("SELECT FROM {table}"),
                    format!("INSERT INTO {table} (delay) VALUES (1)"),
                    format!("CREATE TABLE \"{}\".mine (a int)", other.home.schema),
                    format!("GRANT USAGE ON SCHEMA \"{}\" TO CURRENT_USER", other.home.schema),
                ] {
                    assert_eq!(refusal(&app, &sql).await, "42501", "{sql}");
                }
                app.batch_execute(&format!("SET search_path = \"{}\"", other.home.schema)).await.unwrap();
                assert_eq!(
                    refusal(&app, "SELECT FROM flights").await,
                    "42P01",
                    "the other schema is not even looked into"
                );
            }
            for role in other.home.names().all() {
                for sql in [
                    format!("SET ROLE \"{role}\""),
                    format!("SET SESSION AUTHORIZATION \"{role}\""),
                    format!("DO $$ BEGIN EXECUTE 'SET ROLE \"{role}\"'; END $$"),
                    format!("GRANT \"{role}\" TO CURRENT_USER"),
                    format!("ALTER ROLE \"{role}\" PASSWORD 'mine'"),
                ] {
                    assert_eq!(refusal(&app, &sql).await, "42501", "{sql}");
                }
            }
        }
    }
}

#[tokio::test]
async fn no_large_object_temporary_table_or_query_text_crosses() {
    for admin in ADMINS {
        let town = Town::new(admin).await;
        let [one, other] = &town.sharing;
        let (mine, theirs) = (town.arena.app(one).await, town.arena.app(other).await);
        let made = theirs.query_one("SELECT lo_from_bytea(0, 'secret'::bytea)", &[]).await;
        if admin == Admin::Superuser {
            assert_eq!(common::sqlstate(&made.unwrap_err()), "42501", "no large objects where homes share a database");
        } else {
            let oid: u32 = made.unwrap().get(0);
            assert_eq!(refusal(&mine, &format!("SELECT lo_get({oid})")).await, "42501");
            assert_eq!(refusal(&mine, &format!("SELECT lo_unlink({oid})")).await, "42501");
            assert_eq!(refusal(&mine, &format!("SELECT * FROM pg_largeobject WHERE loid = {oid}")).await, "42501");
        }
        theirs.batch_execute("SELECT 'secret text'").await.unwrap();
        let seen = mine
            .query("SELECT query FROM pg_stat_activity WHERE usename = $1", &[&other.home.names().login_a.as_str()])
            .await
            .unwrap();
        assert!(!seen.is_empty());
        for row in seen {
            assert_eq!(row.get::<_, &str>(0), "<insufficient privilege>");
        }
        assert_eq!(refusal(&mine, "CREATE TEMP TABLE t (a int)").await, "42501");
        assert_eq!(
            count(&mine, "SELECT count(*) FROM pg_stats WHERE schemaname LIKE 'h_%' AND schemaname <> current_schema")
                .await,
            0
        );
    }
}

#[tokio::test]
async fn temporary_tables_come_with_the_plan_and_stay_ones_own() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let shared = arena.shared_database().await;
        let mut pair = [arena.schema_home(&shared), arena.schema_home(&shared)];
        for tenant in &mut pair {
            tenant.limits.temporary_tables = Some(true);
            arena.provision(tenant, None, None).await;
        }
        let (mine, theirs) = (arena.app(&pair[0]).await, arena.app(&pair[1]).await);
        theirs.batch_execute("CREATE TEMP TABLE t AS SELECT 'secret' AS a").await.unwrap();
        let schema: String = theirs
            .query_one("SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(refusal(&mine, &format!("SELECT * FROM {schema}.t")).await, "42501");
        pair[0].limits.temporary_tables = None;
        arena.provision(&pair[0], None, None).await;
        assert_eq!(refusal(&mine, "CREATE TEMP TABLE t (a int)").await, "42501");
    }
}

#[tokio::test]
async fn a_stamp_shows_itself_to_its_own_home_only() {
    for admin in ADMINS {
        let town = Town::new(admin).await;
        for tenant in town.all() {
            let app = town.arena.app(tenant).await;
            let rows = app.query("SELECT tenant::text FROM tenantry.stamp", &[]).await.unwrap();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].get::<_, &str>(0), tenant.id.to_string());
        }
    }
}

#[tokio::test]
async fn attaching_needs_the_right_tenant_the_right_generation_and_an_active_state() {
    for admin in ADMINS {
        let town = Town::new(admin).await;
        for tenant in town.all() {
            let app = town.arena.app(tenant).await;
            let attach = |tenant: &str, generation: &str| format!("SELECT tenantry.attach({tenant}, {generation})");
            let id = format!("'{}'", tenant.id);
            let stranger = format!("'{}'", Uuid::now_v7());
            for wrong in [
                attach(&id, "2"),
                attach(&id, "0"),
                attach(&stranger, "1"),
                attach("NULL", "1"),
                attach(&id, "NULL"),
                attach("NULL", "NULL"),
            ] {
                assert_eq!(refusal(&app, &wrong).await, "TN001", "{wrong}");
            }
            app.batch_execute("SET search_path = nowhere").await.unwrap();
            app.batch_execute(&attach(&id, "1")).await.unwrap();
            assert_eq!(count(&app, "SELECT count(*) FROM aircraft").await, 2);

            let suspended = Stamp { state: RouteState::Suspended, ..tenant.stamp() };
            let Arena { fleet, target, .. } = &town.arena;
            fleet.write_stamp(target, &tenant.home, &tenant.fence, &suspended).await.unwrap();
            assert_eq!(refusal(&app, &attach(&id, "1")).await, "TN002");
        }
    }
}

#[tokio::test]
async fn a_home_that_waits_for_its_tenant_lets_nobody_attach() {
    let arena = Arena::new(Admin::Managed).await;
    let tenant = arena.database_home();
    let mut spec = tenant.spec(None);
    spec.stamp = None;
    arena.fleet.ensure_home(&arena.target, &spec).await.unwrap();
    assert_eq!(arena.fleet.read_stamp(&arena.target, &tenant.home).await.unwrap(), None);
    let names = tenant.home.names();
    let logged_in = arena.log_in(&names.login_a, &tenant.secrets.login, &tenant.home.database).await;
    assert_eq!(logged_in.err().as_deref(), Some("28000"));
    // Even where somebody opens the door, nobody's stamp is there to agree with.
    let root = arena.root(&tenant.home.database).await;
    root.batch_execute(&format!("ALTER ROLE {} LOGIN", names.login_a)).await.unwrap();
    let app = arena.app(&tenant).await;
    let attach = format!("SELECT tenantry.attach('{}', 1)", tenant.id);
    assert_eq!(refusal(&app, &attach).await, "TN001");
    assert_eq!(refusal(&app, "SELECT tenantry.attach(NULL, NULL)").await, "TN001");
}

#[tokio::test]
async fn a_route_is_checked_as_its_tenant() {
    let arena = Arena::new(Admin::Managed).await;
    let tenant = arena.database_home();
    arena.provision(&tenant, None, None).await;
    let names = tenant.home.names();
    let good = RouteCheck {
        database: &tenant.home.database,
        role: &names.login_a,
        password: &tenant.secrets.login,
        tenant: tenant.id,
        generation: Generation::FIRST,
    };
    arena.fleet.check_route(&arena.target, &good).await.unwrap();
    let foreign = RouteCheck { tenant: TenantId::new(Uuid::now_v7()), ..good.clone() };
    assert!(matches!(arena.fleet.check_route(&arena.target, &foreign).await, Err(FleetError::StampMismatch { .. })));
    let wrong = random_password();
    let refused = RouteCheck { password: &wrong, ..good };
    assert!(matches!(arena.fleet.check_route(&arena.target, &refused).await, Err(FleetError::Refused { .. })));
}

#[tokio::test]
async fn whoever_comes_with_an_older_epoch_changes_nothing() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let Arena { fleet, target, .. } = &arena;
        let shared = arena.shared_database().await;
        let mut tenant = arena.schema_home(&shared);
        tenant.fence.epoch = 7;
        arena.provision(&tenant, None, None).await;
        let mut old = tenant.fence;
        old.epoch = 6;
        let home = &tenant.home;
        let is_stale = |result: Result<(), FleetError>| {
            assert!(
                matches!(result, Err(FleetError::StaleEpoch { home, epoch: 6 }) if home == tenant.home.id),
                "{result:?}"
            );
        };
        is_stale(fleet.ensure_roles(target, &old, home, &tenant.secrets, &tenant.limits).await);
        is_stale(fleet.disable_logins(target, &old, home, false).await);
        is_stale(fleet.drop_roles(target, &old, home).await);
        is_stale(fleet.write_stamp(target, home, &old, &tenant.stamp()).await);
        arena.app(&tenant).await;
        fleet.drop_schema(target, home).await.unwrap();
        fleet.drop_roles(target, &tenant.fence, home).await.unwrap();
        // Also when everything is gone, nobody makes it again.
        is_stale(fleet.ensure_roles(target, &old, home, &tenant.secrets, &tenant.limits).await);
        assert_eq!(fleet.observe_home(target, home).await.unwrap().roles, []);
    }
}

#[tokio::test]
async fn a_stamp_never_goes_back_a_generation() {
    let arena = Arena::new(Admin::Managed).await;
    let tenant = arena.database_home();
    arena.provision(&tenant, None, None).await;
    let newer = Stamp { generation: Generation(5), ..tenant.stamp() };
    arena.fleet.write_stamp(&arena.target, &tenant.home, &tenant.fence, &newer).await.unwrap();
    let back = arena.fleet.write_stamp(&arena.target, &tenant.home, &tenant.fence, &tenant.stamp()).await;
    assert!(matches!(back, Err(FleetError::StaleEpoch { .. })));
    assert_eq!(arena.fleet.read_stamp(&arena.target, &tenant.home).await.unwrap(), Some(newer));
}

#[tokio::test]
async fn a_connection_limit_holds_inside_the_server() {
    let arena = Arena::new(Admin::Managed).await;
    let mut tenant = arena.database_home();
    // One of the three is for reading only.
    tenant.limits.connections = Some(3);
    arena.provision(&tenant, None, None).await;
    let _held = (arena.app(&tenant).await, arena.app(&tenant).await);
    let names = tenant.home.names();
    let third = arena.log_in(&names.login_a, &tenant.secrets.login, &tenant.home.database).await;
    assert_eq!(third.err().unwrap(), "53300");
}

#[tokio::test]
async fn a_hostile_file_finds_no_neighbour_and_leaves_nothing() {
    for admin in ADMINS {
        let town = Town::new(admin).await;
        let [one, other] = &town.sharing;
        let victim = &other.home;
        let owner = victim.names().owner;
        for attack in [
            hidden(&format!("SET ROLE \"{owner}\"")),
            hidden(&format!("SET LOCAL ROLE \"{owner}\"")),
            hidden(&format!("SET SESSION AUTHORIZATION \"{owner}\"")),
            hidden("RESET ROLE"),
            hidden("SET ROLE NONE"),
            hidden("COMMIT"),
            hidden(&format!("ALTER ROLE \"{}\" PASSWORD 'mine'", victim.names().login_a)),
            hidden(&format!("GRANT \"{owner}\" TO \"{}\"", one.home.names().owner)),
            format!("SELECT * FROM \"{}\".aircraft;", victim.schema),
            format!("DROP SCHEMA \"{}\" CASCADE;", victim.schema),
            format!("DROP SCHEMA \"{}\" CASCADE;", one.home.schema),
            format!("ALTER TABLE aircraft OWNER TO \"{owner}\";"),
            "UPDATE tenantry.stamp SET state = 'moving';".to_owned(),
            "CREATE TABLE extensions.trap (a int);".to_owned(),
            "CREATE TABLE public.trap (a int);".to_owned(),
            // Allowed and without effect: the schema is not the owner's to give away.
            format!("GRANT USAGE ON SCHEMA \"{}\" TO PUBLIC;", one.home.schema),
        ] {
            let file = format!("CREATE TABLE left_behind (a int);\n{attack}\nCREATE TABLE left_too (a int);");
            let mut files =
                airline().files().iter().map(|(name, sql)| (name.clone(), (*sql).to_owned())).collect::<Vec<_>>();
            files.push(("V4__hostile.sql".to_owned(), file));
            let set = tenantry_migration_set::MigrationSet::from_files("hostile", &files).unwrap();
            let Arena { fleet, target, .. } = &town.arena;
            let result = fleet.apply(target, &one.home, &one.secrets.migrator, &set, &ApplyOptions::default()).await;
            let left = town.arena.root(&one.home.database).await;
            let refused = matches!(&result, Err(FleetError::Migration(failure)) if ["42501", "TN004", "0A000"].contains(&failure.sqlstate.as_str()));
            let harmless = attack.starts_with("GRANT") && result.is_ok();
            assert!(refused || harmless, "{attack}: {result:?}");
            if refused {
                assert_eq!(
                    count(&left, "SELECT count(*) FROM pg_class WHERE relname LIKE 'left_%'").await,
                    0,
                    "{attack}"
                );
            }
        }
        // Whatever was granted, the neighbour sees as little as before.
        let neighbour = town.arena.app(other).await;
        assert_eq!(refusal(&neighbour, &format!("SELECT FROM \"{}\".aircraft", one.home.schema)).await, "42501");
        assert_eq!(count(&neighbour, "SELECT count(*) FROM aircraft").await, 2);
    }
}

/// A statement that no reading of the file can find.
fn hidden(statement: &str) -> String {
    let bytes: Vec<String> = statement.bytes().map(|byte| format!("{byte:02x}")).collect();
    let hex = bytes.concat();
    format!("DO $$ BEGIN EXECUTE convert_from(decode('{hex}', 'hex'), 'UTF8'); END $$;")
}

#[tokio::test]
async fn the_migrator_is_nobody_without_its_owner() {
    let town = Town::new(Admin::Managed).await;
    for tenant in town.all() {
        let names = tenant.home.names();
        let migrator =
            town.arena.log_in(&names.migrator, &tenant.secrets.migrator, &tenant.home.database).await.unwrap();
        for other in town.all().filter(|other| other.home.id != tenant.home.id) {
            let sql = format!("SET ROLE \"{}\"", other.home.names().owner);
            assert_eq!(refusal(&migrator, &sql).await, "42501");
        }
        for sql in ["CREATE ROLE r", "CREATE DATABASE d", "CREATE SCHEMA s", "DELETE FROM tenantry.stamp"] {
            assert_eq!(refusal(&migrator, sql).await, "42501", "{sql}");
        }
    }
}
