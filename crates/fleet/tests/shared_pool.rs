//! The role that routers log in as for tenants whose connections are pooled together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{ADMINS, Arena, Tenant, airline, refusal};
use tenantry_domain::{DatabaseName, LoginSlot, RoleName, Secret};
use tenantry_fleet::random_password;
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
