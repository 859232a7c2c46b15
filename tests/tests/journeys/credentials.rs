//! Credentials are rotated under load, and roles and sessions are held to what the plan says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tenantry_api::Tenant;
use tenantry_control::reconcilers;
use tenantry_domain::{Isolation, Limits, LoginSlot, OperationState};
use tenantry_router::{Router, RouterConfig};
use tenantry_testkit::eventually;
use tenantry_tests::{Admin, HomeSession, Program, World, sqlstate};
use tokio::task::JoinSet;

async fn router(world: &World<'_>, name: &str) -> Router {
    let config = RouterConfig {
        // Acknowledgements come with the reports; nobody waits ten seconds for one here.
        report_interval: Duration::from_millis(100),
        // A busy machine does not make one router open what the other needs.
        return_patience: Duration::from_secs(20),
        ..RouterConfig::default()
    };
    let builder = Router::builder().control_plane(world.url(), world.token().clone()).name(name).config(config);
    builder.build().await.expect("a router")
}

/// Transactions without a pause, some of them long and some read-only, until told to stop. Fails at the first error.
fn work(load: &mut JoinSet<()>, router: &Router, tenant: &Tenant, stop: &Arc<AtomicBool>, done: &Arc<AtomicU64>) {
    for worker in 0..6_u32 {
        let (router, id, stop, done) = (router.clone(), tenant.id, Arc::clone(stop), Arc::clone(done));
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let tenant = router.tenant(id).await.expect("a tenant that is served");
                if worker == 0 {
                    let client = tenant.read_only().client().await.expect("a connection for reading");
                    client.query_one("SELECT count(*) FROM notes", &[]).await.expect("an answer");
                } else {
                    let mut client = tenant.client().await.expect("a connection");
                    let transaction = client.transaction().await.expect("a transaction");
                    transaction.execute("INSERT INTO notes (body) VALUES ('x')", &[]).await.expect("a row");
                    if worker == 1 {
                        transaction.execute("SELECT pg_sleep(0.3)", &[]).await.expect("a nap");
                    }
                    transaction.commit().await.expect("a commit");
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_of_a_router_sees_an_error_while_credentials_are_rotated() {
    let world = World::start().await;
    let limits = Limits { connections: Some(8), pool_size: Some(4), ..Limits::default() };
    for isolation in [Isolation::Schema, Isolation::Database] {
        let tenant =
            world.tenant(&format!("in-a-{isolation}")).isolation(isolation).with(|it| it.overrides = limits.into());
        let tenant = tenant.await;
        let routers = [router(&world, "one").await, router(&world, "two").await];
        // A router that starts has a picture of a while ago, and hears of what changed since a moment later.
        for router in &routers {
            eventually("the router knows the tenant", async || router.tenant(tenant.id).await.is_ok()).await;
        }
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut load = JoinSet::new();
        for router in &routers {
            work(&mut load, router, &tenant, &stop, &done);
        }
        let mut old = world.login(&tenant).await;
        for _ in 0..2 {
            let before = done.load(Ordering::Relaxed);
            let begun = world.client().rotate_credentials(&tenant.id.into(), None).await.unwrap();
            let ended = world.settled(begun.operation.id).await;
            assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
            eventually("work goes on with the new credentials", async || done.load(Ordering::Relaxed) > before + 20)
                .await;
            let new = world.login(&tenant).await;
            assert_ne!(new.get_user(), old.get_user());
            assert_ne!(new.get_password(), old.get_password());
            let refused = sqlstate(&HomeSession::log_in(&old).await.expect_err("the old login is of no use"));
            assert!(["28000", "28P01"].contains(&refused.as_str()), "{refused}");
            old = new;
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(worker) = load.join_next().await {
            worker.expect("no error at any client");
        }
        for router in routers {
            router.close();
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_told_a_login_right_before_its_rotation_has_time_to_use_it() {
    let world = World::builder().configure(|config| config.rotation_overlap = Duration::from_secs(10)).start().await;
    let tenant = world.tenant("acme").isolation(Isolation::Database).await;
    let old = world.login(&tenant).await;
    let begun = world.client().rotate_credentials(&tenant.id.into(), None).await.unwrap();
    eventually("others are told the new login", async || world.login(&tenant).await.get_user() != old.get_user()).await;
    let late = HomeSession::log_in(&old).await.expect("a login that is not closed yet");
    late.run("INSERT INTO notes (body) VALUES ('late')").await;
    world.connect(&tenant).await;
    drop(late);
    assert_eq!(world.settled(begun.operation.id).await.state, OperationState::Succeeded);
    assert!(HomeSession::log_in(&old).await.is_err());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_rotated_by_one_operation_at_a_time() {
    let world = World::start().await;
    let tenant = world.tenant("acme").isolation(Isolation::Database).await;
    let wire = world.wire();
    wire.post("/v1/tenants/nobody/rotate-credentials", &json!({})).await.problem(404, "not_found");
    wire.header("if-match", "\"1\"")
        .post("/v1/tenants/acme/rotate-credentials", &json!({}))
        .await
        .problem(412, "precondition_failed");
    let before = world.login(&tenant).await;
    let begun = world.client().rotate_credentials(&tenant.id.into(), None).await.unwrap();
    let second = wire.post("/v1/tenants/acme/rotate-credentials", &json!({})).await;
    assert!(second.status == 409 || second.status == 202, "{}", second.text);
    assert_eq!(world.settled(begun.operation.id).await.state, OperationState::Succeeded);
    if let Some(id) = second.json["operation"]["id"].as_str() {
        assert_eq!(world.settled(id.parse().unwrap()).await.state, OperationState::Succeeded);
    }
    assert!(HomeSession::log_in(&before).await.is_err());
    world.connect(&tenant).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_cannot_change_what_its_own_roles_are_for_long() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).start().await;
        let tenant = world.tenant("acme").isolation(Isolation::Database).await;
        let login = world.login(&tenant).await;
        let me = login.get_user().unwrap().to_owned();
        let session = world.connect(&tenant).await;
        session.run(&format!("ALTER ROLE \"{me}\" SET statement_timeout = 0")).await;
        session.run(&format!("ALTER ROLE \"{me}\" SET work_mem = '256MB'")).await;
        if admin == Admin::Superuser {
            session.run(&format!("ALTER ROLE \"{me}\" PASSWORD 'mine'")).await;
        }
        let control = world.replicas()[0].control();
        reconcilers::poke(control, "role_drift").await.unwrap();
        eventually("the roles are as they were", async || {
            let Ok(fresh) = HomeSession::log_in(&login).await else { return false };
            fresh.one::<String>("SHOW statement_timeout").await == "30s"
                && fresh.one::<String>("SHOW work_mem").await != "256MB"
        })
        .await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_limit_reaches_the_roles_without_a_router() {
    let world = World::start().await;
    let tenant = world.tenant("acme").plan("developer").await;
    let login = world.login(&tenant).await;
    world
        .wire()
        .patch("/v1/plans/developer", &json!({ "limits": { "connections": 2, "statement_timeout_ms": 7000 } }))
        .await
        .ok();
    eventually("new sessions begin with the plan's timeout", async || {
        HomeSession::log_in(&login).await.expect("a login").one::<String>("SHOW statement_timeout").await == "7s"
    })
    .await;
    let root = world.root(world.main_cluster(), "postgres").await;
    let mine = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", login.get_user().unwrap());
    eventually("earlier sessions are gone", async || root.query_one(&mine, &[]).await.unwrap().get::<_, i64>(0) == 0)
        .await;
    let held = HomeSession::log_in(&login).await.unwrap();
    let refused = HomeSession::log_in(&login).await.expect_err("one is for writing, one for reading");
    assert_eq!(sqlstate(&refused), "53300");
    drop(held);
    world.wire().patch("/v1/tenants/acme", &json!({ "overrides": { "statement_timeout_ms": 9000 } })).await.ok();
    eventually("an override reaches them too", async || match HomeSession::log_in(&login).await {
        Ok(session) => session.one::<String>("SHOW statement_timeout").await == "9s",
        Err(_) => false,
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_past_a_ceiling_is_stopped_even_where_the_tenant_switched_its_timeouts_off() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).start().await;
        let limits = Limits {
            statement_timeout_ms: Some(1_000),
            idle_in_transaction_timeout_ms: Some(1_000),
            transaction_timeout_ms: Some(60_000),
            ..Limits::default()
        };
        let strict = world.tenant("strict").with(|it| it.overrides = limits.into()).await;
        let lax = world.tenant("lax").plan("enterprise").isolation(Isolation::Database).await;
        let (sleeper, idler) = (world.connect(&strict).await, world.connect(&strict).await);
        let free = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";
        sleeper.run(free).await;
        idler.run(&format!("{free}; BEGIN; SELECT 1")).await;
        let neighbour = world.connect(&lax).await;
        neighbour.run("BEGIN; SELECT 1").await;
        assert_eq!(sleeper.refusal("SELECT pg_sleep(600)").await, "57014");
        sleeper.run("SELECT 1").await;
        eventually("the idle transaction has ended", async || idler.is_closed()).await;
        neighbour.run("SELECT 1; COMMIT").await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_health_says_what_is_well_and_what_is_not() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    for isolation in [Isolation::Schema, Isolation::Database] {
        let slug = format!("in-a-{isolation}");
        let tenant = world.tenant(&slug).isolation(isolation).await;
        let session = world.connect(&tenant).await;
        let well = program.json(["tenant", "health", &slug]).await;
        assert_eq!((&well["healthy"], &well["status"]), (&json!(true), &json!("active")), "{well}");
        assert_eq!((&well["schema_version"], &well["connections"]["now"]), (&json!(3), &json!(1)), "{well}");
        assert!(well["size_bytes"].as_u64().unwrap() > 8_192, "{well}");
        assert_eq!(well["last_operation"]["kind"], "provision");
        drop(session);

        let root = world.root(world.main_cluster(), "postgres").await;
        let login = world.login(&tenant).await;
        root.batch_execute(&format!("ALTER ROLE \"{}\" NOLOGIN", login.get_user().unwrap())).await.unwrap();
        let ill = program.run(["tenant", "health", &slug]).await;
        assert_ne!(ill.code(), Some(0));
        assert!(ill.stdout.contains("login") && ill.stdout.contains("not permitted to log in"), "{}", ill.stdout);
        reconcilers::poke(world.replicas()[0].control(), "role_drift").await.unwrap();
        eventually("it is well again", async || {
            world.client().tenant_health(&tenant.id.into()).await.expect("an answer").healthy
        })
        .await;
    }
    let nobody = program.run(["tenant", "health", "nobody"]).await;
    assert!(nobody.code() != Some(0) && nobody.stderr.contains("nobody"), "{}", nobody.stderr);
    let rotated = program.json(["tenant", "rotate-credentials", "in-a-schema"]).await;
    assert_eq!(rotated["operation"]["state"], "succeeded", "{rotated}");
    let slot = world.store().home(home_of(&world, "in-a-schema").await).await.unwrap().login;
    assert_eq!(slot, LoginSlot::B);
    world.end().await;
}

async fn home_of(world: &World<'_>, slug: &str) -> tenantry_domain::HomeId {
    let tenant = tenantry_store::TenantRef::Slug(slug.parse().unwrap());
    world.store().tenant(&tenant).await.unwrap().state.placement().expect("a home").home.id
}
