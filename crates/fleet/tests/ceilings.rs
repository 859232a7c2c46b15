//! What a tenant may hold, what it changes on its own roles, and what it leaves running.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{ADMINS, Admin, Arena, Tenant, count, sqlstate};
use tenantry_domain::{Limits, LoginSlot, RoleName, Secret};
use tenantry_fleet::{IntendedRoles, Leaving, PoolAccess, Stop, random_password};
use tenantry_testkit::eventually;
use tokio_postgres::Client;

const TOO_MANY: &str = "53300";
const NOT_PERMITTED: &str = "28000";

/// As many sessions as a role gets, and the refusal of the next.
async fn fill(arena: &Arena, tenant: &Tenant, role: &RoleName, password: &Secret) -> Vec<Client> {
    let mut sessions = Vec::new();
    loop {
        match arena.log_in(role, password, &tenant.home.database).await {
            Ok(session) => sessions.push(session),
            Err(refused) => {
                assert_eq!(refused, TOO_MANY, "{role}");
                return sessions;
            }
        }
        assert!(sessions.len() < 100, "{role} has no ceiling");
    }
}

/// Ends sessions and waits until the server has noticed.
async fn leave(arena: &Arena, role: &RoleName, sessions: Vec<Client>) {
    let root = arena.root(&arena.target.admin_database).await;
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    let left = count(&root, &sql).await - i64::try_from(sessions.len()).unwrap();
    drop(sessions);
    eventually("the sessions have ended", async || count(&root, &sql).await == left).await;
}

fn intended(tenant: &Tenant, is_open: bool) -> IntendedRoles {
    IntendedRoles {
        home: tenant.home.clone(),
        secrets: tenant.secrets.clone(),
        limits: tenant.limits,
        is_open,
        pool: PoolAccess::ShutOut,
    }
}

#[tokio::test]
async fn all_logins_of_a_home_together_hold_no_more_than_its_connections() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let mut tenant = arena.database_home();
        tenant.limits = Limits { connections: Some(6), ..Limits::default() };
        arena.provision(&tenant, None, None).await;
        let names = tenant.home.names();
        let writing = fill(&arena, &tenant, &names.login_a, &tenant.secrets.login).await;
        let reading = fill(&arena, &tenant, &names.read_only, &tenant.secrets.read_only).await;
        assert_eq!((writing.len(), reading.len()), (5, 1));
        let refused = arena.log_in(&names.login_b, &tenant.secrets.login, &tenant.home.database).await.err();
        assert!(refused.is_some(), "the slot that is not in use lets nobody in");
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn the_ceiling_holds_while_a_tenant_turns_from_one_login_role_to_the_other() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let (fleet, target) = (&arena.fleet, &arena.target);
        let mut tenant = arena.database_home();
        tenant.limits = Limits { connections: Some(6), ..Limits::default() };
        arena.provision(&tenant, None, None).await;
        let (names, home, fence) = (tenant.home.names(), &tenant.home, &tenant.fence);
        let next = random_password();
        let mut old = fill(&arena, &tenant, &names.login_a, &tenant.secrets.login).await;
        assert_eq!(old.len(), 5);

        fleet.open_login(target, fence, home, LoginSlot::B, &next, &tenant.limits).await.unwrap();
        assert_eq!(arena.log_in(&names.login_b, &next, &home.database).await.unwrap_err(), TOO_MANY);
        let handover = fleet.hand_over_connections(target, fence, home, LoginSlot::A, 0, &tenant.limits).await.unwrap();
        assert_eq!((handover.held, handover.room), (5, Some(1)), "the read-only role lends what it does not use");
        let mut new = fill(&arena, &tenant, &names.login_b, &next).await;
        assert_eq!(old.len() + new.len(), 6);
        assert_eq!(
            arena.log_in(&names.read_only, &tenant.secrets.read_only, &home.database).await.unwrap_err(),
            TOO_MANY
        );

        leave(&arena, &names.login_a, old.split_off(2)).await;
        let again = arena.log_in(&names.login_a, &tenant.secrets.login, &home.database).await;
        drop(again);
        for _ in 0..3 {
            fleet.hand_over_connections(target, fence, home, LoginSlot::A, 0, &tenant.limits).await.unwrap();
        }
        new.extend(fill(&arena, &tenant, &names.login_b, &next).await);
        let reading = fill(&arena, &tenant, &names.read_only, &tenant.secrets.read_only).await;
        assert_eq!((old.len() + new.len() + reading.len(), reading.len()), (6, 1));

        fleet.close_login(target, fence, home, LoginSlot::A).await.unwrap();
        let refused = arena.log_in(&names.login_a, &tenant.secrets.login, &home.database).await.unwrap_err();
        assert!([NOT_PERMITTED, "28P01"].contains(&refused.as_str()), "{refused}");
        old[0].batch_execute("BEGIN").await.unwrap();
        eventually("the idle session has ended and the transaction goes on", async || {
            fleet.end_login_sessions(target, fence, home, LoginSlot::A, Leaving::Idle).await.unwrap() == 1
        })
        .await;
        old[0].batch_execute("COMMIT").await.unwrap();
        assert!(old[1].batch_execute("SELECT 1").await.is_err());
        eventually("the other has ended after its transaction", async || {
            fleet.end_login_sessions(target, fence, home, LoginSlot::A, Leaving::Idle).await.unwrap() == 0
        })
        .await;
        fleet.settle_connections(target, fence, home, LoginSlot::B, &tenant.limits).await.unwrap();
        drop(reading);
        new.extend(fill(&arena, &tenant, &names.login_b, &next).await);
        assert_eq!(new.len(), 5);
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn what_a_tenant_changed_on_its_own_roles_is_found_and_set_right() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let (fleet, target) = (&arena.fleet, &arena.target);
        let shared = arena.shared_database().await;
        let (own, in_schema, untouched) = (arena.database_home(), arena.schema_home(&shared), arena.database_home());
        for tenant in [&own, &in_schema, &untouched] {
            arena.provision(tenant, None, None).await;
        }
        let all = [&own, &in_schema, &untouched].map(|tenant| intended(tenant, true));
        assert_eq!(fleet.role_drift(target, &all).await.unwrap().drifted, Vec::new());

        for tenant in [&own, &in_schema] {
            let names = tenant.home.names();
            let session = arena.app(tenant).await;
            let me = &names.login_a;
            let database = &tenant.home.database;
            for statement in [
                format!("ALTER ROLE \"{me}\" SET statement_timeout = 0"),
                format!("ALTER ROLE \"{me}\" SET work_mem = '512MB'"),
                format!("ALTER ROLE \"{me}\" IN DATABASE \"{database}\" SET lock_timeout = 0"),
                format!("ALTER ROLE \"{me}\" PASSWORD 'mine'"),
            ] {
                session.batch_execute(&statement).await.unwrap();
            }
            // Up to PostgreSQL 15 a session may pass on the very role that it logged in as.
            let stranger = untouched.home.names().login_a;
            let passed_on = session.batch_execute(&format!("GRANT \"{me}\" TO \"{stranger}\"")).await;
            let drifted = fleet.role_drift(target, &[intended(tenant, true)]).await.unwrap().drifted;
            let findings = drifted[0].1.join("; ");
            for part in ["another statement_timeout", "work_mem of its own", "settings for one database"] {
                assert!(findings.contains(part), "{findings}");
            }
            assert_eq!(findings.contains(&format!("{stranger} is a member of {me}")), passed_on.is_ok(), "{findings}");
            assert_eq!(findings.contains("another password"), admin == Admin::Superuser, "{findings}");

            fleet.set_roles_right(target, &tenant.fence, &intended(tenant, true)).await.unwrap();
            assert_eq!(fleet.role_drift(target, &all).await.unwrap().drifted, Vec::new());
            let fresh = arena.app(tenant).await;
            let timeout: String = fresh.query_one("SHOW statement_timeout", &[]).await.unwrap().get(0);
            assert_eq!(timeout, "30s");
        }
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn limits_and_closed_doors_reach_the_roles() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let (fleet, target) = (&arena.fleet, &arena.target);
        let shared = arena.shared_database().await;
        for mut tenant in [arena.database_home(), arena.schema_home(&shared)] {
            arena.provision(&tenant, None, None).await;
            let names = tenant.home.names();
            tenant.limits = Limits {
                connections: Some(2),
                temporary_tables: Some(true),
                statement_timeout_ms: None,
                ..tenant.limits
            };
            let found = fleet.role_drift(target, &[intended(&tenant, true)]).await.unwrap().drifted;
            assert!(found[0].1.len() >= 4, "{found:?}");
            fleet.set_roles_right(target, &tenant.fence, &intended(&tenant, true)).await.unwrap();
            let sessions = fill(&arena, &tenant, &names.login_a, &tenant.secrets.login).await;
            assert_eq!(sessions.len(), 1);
            sessions[0].batch_execute("CREATE TEMPORARY TABLE scratch (a int)").await.unwrap();

            fleet.set_roles_right(target, &tenant.fence, &intended(&tenant, false)).await.unwrap();
            assert_eq!(fleet.role_drift(target, &[intended(&tenant, false)]).await.unwrap().drifted, Vec::new());
            for (role, password) in
                [(&names.login_a, &tenant.secrets.login), (&names.read_only, &tenant.secrets.read_only)]
            {
                let refused = arena.log_in(role, password, &tenant.home.database).await.unwrap_err();
                assert_eq!(refused, NOT_PERMITTED, "{role}");
            }
            let stale = tenantry_fleet::Fence { home: tenant.home.id, epoch: tenant.fence.epoch - 1 };
            let late = fleet.set_roles_right(target, &stale, &intended(&tenant, true)).await;
            assert!(matches!(late, Err(tenantry_fleet::FleetError::StaleEpoch { .. })), "{late:?}");
            drop(sessions);
        }
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn what_tenants_leave_running_is_seen_and_stopped_and_nobody_elses() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let (fleet, target) = (&arena.fleet, &arena.target);
        let (busy, idle) = (arena.database_home(), arena.database_home());
        for tenant in [&busy, &idle] {
            arena.provision(tenant, None, None).await;
        }
        let root = arena.root(&arena.target.admin_database).await;
        root.batch_execute("BEGIN; SELECT 1").await.unwrap();
        let sleeper = arena.app(&busy).await;
        sleeper.batch_execute("SET statement_timeout = 0").await.unwrap();
        let sleeping = tokio::spawn(async move {
            let outcome = sleeper.batch_execute("SELECT pg_sleep(600)").await;
            (sleeper, outcome)
        });
        let waiting = arena.app(&idle).await;
        waiting.batch_execute("BEGIN; SELECT 1").await.unwrap();
        let resting = arena.app(&idle).await;
        resting.batch_execute("SELECT 1").await.unwrap();

        let ours = [busy.home.id, idle.home.id];
        let least = Duration::from_millis(20);
        let mut seen = Vec::new();
        eventually("both are seen", async || {
            seen = fleet.tenant_sessions(target, least).await.unwrap();
            // Other tests have homes on this server too.
            seen.retain(|session| ours.contains(&session.home));
            seen.len() == 2
        })
        .await;
        let of = |home| seen.iter().find(|session| session.home == home).unwrap();
        let (running, open) = (of(busy.home.id), of(idle.home.id));
        assert!(running.statement.unwrap() >= least && running.idle_in_transaction.is_none(), "{running:?}");
        assert!(open.statement.is_none() && open.idle_in_transaction.is_some(), "{open:?}");
        assert!(open.transaction.unwrap() >= least, "{open:?}");

        let mut other = running.clone();
        other.since = "2001-01-01 00:00:00+00".to_owned();
        assert_eq!(
            fleet.stop_sessions(target, &[(&other, Stop::Terminate)]).await.unwrap(),
            0,
            "another session's pid"
        );
        let stops = [(running, Stop::Cancel), (open, Stop::Terminate)];
        assert_eq!(fleet.stop_sessions(target, &stops).await.unwrap(), 2);
        let (sleeper, outcome) = sleeping.await.unwrap();
        assert_eq!(sqlstate(&outcome.unwrap_err()), "57014");
        sleeper.batch_execute("SELECT 1").await.unwrap();
        eventually("the idle transaction has ended", async || waiting.is_closed()).await;
        resting.batch_execute("SELECT 1").await.unwrap();
        root.batch_execute("COMMIT").await.unwrap();
        if admin == Admin::Managed {
            let sql = format!(
                "SELECT count(*) FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
                  WHERE g.rolname = '{}' AND m.rolname = '{}'",
                busy.home.names().login_a,
                target.user
            );
            let joined = count(&root, &sql).await;
            assert!(joined == 0 || target.server_version >= 160_000, "the admin stays out of tenants' roles");
        }
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn a_home_tells_its_size_and_its_connections() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let (fleet, target) = (&arena.fleet, &arena.target);
        let shared = arena.shared_database().await;
        for tenant in [arena.database_home(), arena.schema_home(&shared)] {
            arena.provision(&tenant, None, Some(&common::airline())).await;
            let size = fleet.home_size(target, &tenant.home).await.unwrap();
            assert!(size > 8_192, "{size}");
            assert_eq!(fleet.home_connections(target, &tenant.home).await.unwrap(), 0);
            let session = arena.app(&tenant).await;
            assert_eq!(fleet.home_connections(target, &tenant.home).await.unwrap(), 1);
            drop(session);
        }
        arena.namespace.end().await;
    }
}
