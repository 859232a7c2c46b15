//! The role that routers log in as for tenants whose connections are pooled together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{ADMINS, Admin, Arena, Tenant, airline, refusal};
use tenantry_domain::{DatabaseName, LoginSlot, RoleName, Secret};
use tenantry_fleet::{Fence, FleetError, IntendedPool, IntendedRoles, PoolAccess, random_password};
use tokio_postgres::Client;

const NOT_ALLOWED: &str = "42501";

struct Pool {
    role: RoleName,
    password: Secret,
    database: DatabaseName,
}

impl Pool {
    async fn of(arena: &Arena, database: &DatabaseName) -> Self {
        let password = random_password();
        arena.fleet.ensure_shared_pool(&arena.target, database, &password).await.unwrap();
        Self { role: RoleName::shared_pool(database), password, database: database.clone() }
    }

    async fn log_in(&self, arena: &Arena) -> Client {
        arena.log_in(&self.role, &self.password, &self.database).await.unwrap()
    }

    /// What is wrong with its role.
    async fn findings(&self, arena: &Arena) -> Vec<String> {
        let intended = IntendedPool { database: self.database.clone(), password: self.password.clone() };
        let report = arena.fleet.shared_pool_drift(&arena.target, &[intended]).await.unwrap();
        report.drifted.into_values().flatten().collect()
    }
}

fn intended(tenant: &Tenant, pool: PoolAccess) -> IntendedRoles {
    IntendedRoles {
        home: tenant.home.clone(),
        secrets: tenant.secrets.clone(),
        limits: tenant.limits,
        is_open: true,
        pool,
    }
}

/// What is wrong with a home's roles.
async fn findings(arena: &Arena, tenant: &Tenant, pool: PoolAccess) -> Vec<String> {
    let report = arena.fleet.role_drift(&arena.target, &[intended(tenant, pool)]).await.unwrap();
    report.drifted.into_iter().flat_map(|(_, findings)| findings).collect()
}

async fn set_right(arena: &Arena, tenant: &Tenant, pool: PoolAccess) {
    arena.fleet.set_roles_right(&arena.target, &tenant.fence, &intended(tenant, pool)).await.unwrap();
}

/// What a router does at a checkout.
fn assume(tenant: &Tenant) -> String {
    format!("SET ROLE \"{}\"", tenant.home.names().app)
}

#[tokio::test]
async fn the_pool_becomes_the_roles_of_homes_that_let_it_in_and_of_no_others() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let database = arena.shared_database().await;
        let (one, other) = (arena.schema_home(&database), arena.schema_home(&database));
        arena.provision(&one, None, Some(&airline())).await;
        arena.provision(&other, None, Some(&airline())).await;
        let pool = Pool::of(&arena, &database).await;
        for _ in 0..2 {
            arena.fleet.join_shared_pool(&arena.target, &one.fence, &one.home).await.unwrap();
        }
        let session = pool.log_in(&arena).await;
        assert_eq!(refusal(&session, "SELECT * FROM tenantry.stamp").await, NOT_ALLOWED);
        assert_eq!(refusal(&session, &assume(&other)).await, NOT_ALLOWED);
        session.batch_execute(&assume(&one)).await.unwrap();
        session.batch_execute(&format!("RESET ROLE; SET ROLE \"{}\"", one.home.names().read_only)).await.unwrap();
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn shutting_a_home_out_ends_while_others_of_the_pool_keep_coming_back() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let (fleet, target) = (&arena.fleet, &arena.target);
        let database = arena.shared_database().await;
        let (one, other) = (arena.schema_home(&database), arena.schema_home(&database));
        let pool = Pool::of(&arena, &database).await;
        for tenant in [&one, &other] {
            arena.provision(tenant, None, Some(&airline())).await;
            fleet.join_shared_pool(target, &tenant.fence, &tenant.home).await.unwrap();
        }
        let session = pool.log_in(&arena).await;
        session.batch_execute(&assume(&one)).await.unwrap();
        let is_over = AtomicBool::new(false);
        // Always at least one session of the pool, as where routers serve its other tenants.
        let neighbour = async {
            let mut held = None;
            while !is_over.load(Ordering::SeqCst) {
                // Ended in the middle of it, it comes again.
                let Ok(session) = arena.log_in(&pool.role, &pool.password, &pool.database).await else { continue };
                session.batch_execute(&assume(&other)).await.ok();
                held = Some(session);
            }
            held
        };
        let shutting = async {
            let outcome = fleet.disable_logins(target, &one.fence, &one.home, true).await;
            is_over.store(true, Ordering::SeqCst);
            outcome
        };
        let (_held, outcome) = tokio::join!(neighbour, shutting);
        outcome.unwrap();
        assert!(session.batch_execute("SELECT 1").await.is_err(), "whoever had become the home's role is gone");
        let session = pool.log_in(&arena).await;
        assert_eq!(refusal(&session, &assume(&one)).await, NOT_ALLOWED);
        session.batch_execute(&assume(&other)).await.unwrap();

        fleet.enable_logins(target, &one.fence, &one.home, LoginSlot::A, true).await.unwrap();
        session.batch_execute(&format!("RESET ROLE; {}", assume(&one))).await.unwrap();
        for _ in 0..2 {
            fleet.leave_shared_pool(target, &one.fence, &one.home).await.unwrap();
        }
        assert_eq!(refusal(&pool.log_in(&arena).await, &assume(&one)).await, NOT_ALLOWED);
        arena.app(&one).await;
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn what_somebody_changed_on_the_pools_role_is_found_and_set_right() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let database = arena.shared_database().await;
        let (one, alone) = (arena.schema_home(&database), arena.schema_home(&database));
        for tenant in [&one, &alone] {
            arena.provision(tenant, None, Some(&airline())).await;
        }
        let pool = Pool::of(&arena, &database).await;
        arena.fleet.join_shared_pool(&arena.target, &one.fence, &one.home).await.unwrap();
        assert_eq!(pool.findings(&arena).await, [""; 0]);
        let root = arena.root(&database).await;
        let (role, homes) = (&pool.role, RoleName::shared_homes(&database));
        // By a tenant.
        let session = pool.log_in(&arena).await;
        for (statement, finding) in [
            ("ALTER ROLE CURRENT_USER SET work_mem = '1MB'".to_owned(), "has a work_mem of its own".to_owned()),
            (
                format!("ALTER ROLE CURRENT_USER IN DATABASE \"{database}\" SET search_path = pg_catalog"),
                format!("has a search_path of its own in {database}"),
            ),
            ("ALTER ROLE CURRENT_USER PASSWORD 'mine'".to_owned(), "has another password".to_owned()),
        ] {
            session.batch_execute(&statement).await.unwrap();
            let is_hidden = admin == Admin::Managed && finding.contains("password");
            let found = pool.findings(&arena).await;
            assert_eq!(found.contains(&format!("{role} {finding}")), !is_hidden, "{statement}: {found:?}");
        }
        assert!(arena.log_in(role, &pool.password, &database).await.is_err(), "the tenant has shut everybody out");
        // By hand.
        for (statement, finding) in [
            (format!("REVOKE CONNECT ON DATABASE \"{database}\" FROM \"{role}\""), "may not connect"),
            (format!("ALTER ROLE \"{role}\" INHERIT"), "without becoming one"),
            (format!("ALTER ROLE \"{role}\" CREATEDB"), "may create databases"),
            (format!("ALTER ROLE \"{role}\" CREATEROLE"), "may create roles"),
            (format!("ALTER ROLE \"{role}\" CONNECTION LIMIT 0"), "connection limit"),
            (format!("ALTER ROLE \"{role}\" VALID UNTIL '2001-01-01'"), "password that ends"),
            (format!("ALTER ROLE \"{role}\" NOLOGIN"), "may not log in"),
            (format!("GRANT pg_read_all_data TO \"{role}\""), "is a member of pg_read_all_data"),
            (format!("GRANT \"{homes}\" TO \"{role}\""), "_homes"),
        ] {
            root.batch_execute(&statement).await.unwrap();
            let found = pool.findings(&arena).await;
            assert!(found.iter().any(|it| it.contains(finding)), "{statement}: {found:?}");
        }
        if admin == Admin::Superuser {
            for (attribute, finding) in
                [("SUPERUSER", "is a superuser"), ("REPLICATION", "replicate"), ("BYPASSRLS", "row-level security")]
            {
                root.batch_execute(&format!("ALTER ROLE \"{role}\" {attribute}")).await.unwrap();
                let found = pool.findings(&arena).await;
                assert!(found.iter().any(|it| it.contains(finding)), "{attribute}: {found:?}");
            }
        }

        arena.fleet.ensure_shared_pool(&arena.target, &database, &pool.password).await.unwrap();
        assert_eq!(pool.findings(&arena).await, [""; 0]);
        let session = pool.log_in(&arena).await;
        let shown: String = session.query_one("SHOW search_path", &[]).await.unwrap().get(0);
        assert!(shown.contains("public"), "{shown}");
        assert_eq!(refusal(&session, &assume(&alone)).await, NOT_ALLOWED);
        session.batch_execute(&assume(&one)).await.expect("who was let in is in still");
        drop(session);
        root.batch_execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await.unwrap();
        assert_eq!(pool.findings(&arena).await, [format!("{role} is missing")]);
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn homes_are_in_the_pool_or_out_of_it_as_they_should_be() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let database = arena.shared_database().await;
        let (one, other) = (arena.schema_home(&database), arena.schema_home(&database));
        for tenant in [&one, &other] {
            arena.provision(tenant, None, Some(&airline())).await;
            assert_eq!(findings(&arena, tenant, PoolAccess::ShutOut).await, [""; 0], "there is no pool");
            set_right(&arena, tenant, PoolAccess::ShutOut).await;
        }
        let pool = Pool::of(&arena, &database).await;
        let (names, role) = (one.home.names(), &pool.role);

        // Who should be in and is not.
        let without =
            [format!("{role} is no member of {}", names.app), format!("{role} is no member of {}", names.read_only)];
        assert_eq!(findings(&arena, &one, PoolAccess::LetIn).await, without);
        assert_eq!(findings(&arena, &one, PoolAccess::Changing).await, [""; 0]);
        set_right(&arena, &one, PoolAccess::Changing).await;
        assert_eq!(findings(&arena, &one, PoolAccess::LetIn).await, without, "what is on its way is left alone");
        set_right(&arena, &one, PoolAccess::LetIn).await;
        assert_eq!(findings(&arena, &one, PoolAccess::LetIn).await, [""; 0]);
        assert_eq!(findings(&arena, &one, PoolAccess::Changing).await, [""; 0]);
        let held = pool.log_in(&arena).await;
        held.batch_execute(&assume(&one)).await.unwrap();
        set_right(&arena, &one, PoolAccess::Changing).await;
        set_right(&arena, &one, PoolAccess::LetIn).await;
        held.batch_execute("SELECT 1").await.expect("nobody was to be shut out");

        // Who should be out and is not.
        let root = arena.root(&database).await;
        root.batch_execute(&format!("GRANT \"{}\" TO \"{role}\"", other.home.names().app)).await.unwrap();
        let intruder = pool.log_in(&arena).await;
        intruder.batch_execute(&assume(&other)).await.unwrap();
        let within = [format!("{role} is a member of {}", other.home.names().app)];
        assert_eq!(findings(&arena, &other, PoolAccess::ShutOut).await, within);
        let stale = Fence { epoch: other.fence.epoch - 1, ..other.fence };
        let late = arena.fleet.set_roles_right(&arena.target, &stale, &intended(&other, PoolAccess::ShutOut)).await;
        assert!(matches!(late, Err(FleetError::StaleEpoch { .. })), "{late:?}");
        intruder.batch_execute("SELECT 1").await.unwrap();
        set_right(&arena, &other, PoolAccess::ShutOut).await;
        assert_eq!(findings(&arena, &other, PoolAccess::ShutOut).await, [""; 0]);
        assert!(intruder.batch_execute("SELECT 1").await.is_err(), "whoever had become the home's role is gone");
        let session = pool.log_in(&arena).await;
        assert_eq!(refusal(&session, &assume(&other)).await, NOT_ALLOWED);
        session.batch_execute(&assume(&one)).await.unwrap();

        // What no pool may ever be: another's, or the owner of what a home holds.
        let elsewhere = arena.shared_database().await;
        let foreign = Pool::of(&arena, &elsewhere).await;
        let wrong = [(&names.app, &foreign.role), (&names.owner, role)];
        for (group, member) in wrong {
            root.batch_execute(&format!("GRANT \"{group}\" TO \"{member}\"")).await.unwrap();
        }
        for access in [PoolAccess::Changing, PoolAccess::LetIn] {
            let found = findings(&arena, &one, access).await;
            assert_eq!(found.len(), 2, "{found:?}");
            for (group, member) in wrong {
                assert!(found.contains(&format!("{member} is a member of {group}")), "{found:?}");
            }
        }
        set_right(&arena, &one, PoolAccess::LetIn).await;
        assert_eq!(findings(&arena, &one, PoolAccess::LetIn).await, [""; 0]);
        session.batch_execute("SELECT 1").await.unwrap();
        arena.namespace.end().await;
    }
}
