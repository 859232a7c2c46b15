//! A tenant is shut out and let in again: at once, inside PostgreSQL and in routers, and nobody else is touched.

use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use tenantry_api::{ResumeTenant, SuspendTenant, Tenant, WaitSeconds};
use tenantry_domain::{Isolation, OperationState, SuspensionReason, TenantStatus};
use tenantry_router::{Router, RouterError};
use tenantry_testkit::{Server, eventually};
use tenantry_tests::{Admin, HomeSession, Serve, World};

const ISOLATIONS: [Isolation; 3] = [Isolation::Schema, Isolation::Database, Isolation::Cluster];

fn wait() -> Option<WaitSeconds> {
    WaitSeconds::new(60).ok()
}

async fn suspend(world: &World<'_>, tenant: &Tenant) -> Tenant {
    let begun = world.client().suspend_tenant(&tenant.id.into(), &SuspendTenant::default(), wait()).await.unwrap();
    assert_eq!(begun.operation.state, OperationState::Succeeded, "{:?}", begun.operation);
    begun.tenant
}

async fn resume(world: &World<'_>, tenant: &Tenant) -> Tenant {
    let begun = world.client().resume_tenant(&tenant.id.into(), &ResumeTenant::default(), wait()).await.unwrap();
    assert_eq!(begun.operation.state, OperationState::Succeeded, "{:?}", begun.operation);
    begun.tenant
}

/// Whether the tenant's own login gets in and attaches.
async fn gets_in(world: &World<'_>, tenant: &Tenant, login: &tokio_postgres::Config) -> bool {
    match HomeSession::log_in(login).await {
        Ok(session) => {
            let attach = format!("SELECT tenantry.attach('{}', {})", tenant.id, world.show(tenant).await.generation);
            session.batch_execute(&attach).await.is_ok()
        }
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenants_sessions_end_and_nobody_elses() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).dedicated(2).start().await;
        let router = Router::builder().control_plane(world.url(), world.token().clone()).build().await.unwrap();
        for isolation in ISOLATIONS {
            let one = world.tenant(&format!("one-{isolation}")).isolation(isolation).await;
            let other = world.tenant(&format!("other-{isolation}")).isolation(isolation).await;
            let (login, others_login) = (world.login(&one).await, world.login(&other).await);
            let (session, others) = (world.connect(&one).await, world.connect(&other).await);
            eventually("the router knows both", async || {
                router.tenant(one.id).await.is_ok() && router.tenant(other.id).await.is_ok()
            })
            .await;

            let suspended = suspend(&world, &one).await;
            assert_eq!(
                (suspended.status, suspended.status_reason.as_deref()),
                (TenantStatus::Suspended, Some("admin"))
            );
            assert_eq!(suspended.generation, one.generation, "a suspension is no move");
            assert!(session.batch_execute("SELECT 1").await.is_err(), "{isolation}: the session goes on");
            assert!(HomeSession::log_in(&login).await.is_err(), "{isolation}: the login gets in");
            assert_eq!(others.one::<i64>("SELECT count(*) FROM notes").await, 1, "{isolation}: the other is served on");
            assert!(gets_in(&world, &other, &others_login).await);
            eventually("the router refuses it", async || {
                matches!(router.tenant(one.id).await, Err(RouterError::Suspended { .. }))
            })
            .await;
            assert!(router.tenant(other.id).await.is_ok());

            let resumed = resume(&world, &one).await;
            assert_eq!((resumed.status, resumed.status_reason, resumed.suspension), (TenantStatus::Active, None, None));
            assert!(gets_in(&world, &one, &login).await, "{isolation}: the login does not get in again");
            eventually("the router serves it again", async || router.tenant(one.id).await.is_ok()).await;
        }
        drop(router);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_why_and_until_when_is_told_and_a_second_suspension_only_changes_that() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    let until = Timestamp::now() + Duration::from_hours(1);
    let first = json!({ "reason": "payment", "note": "invoice 4711", "until": until });
    let first = world.wire().post("/v1/tenants/acme/suspend?wait=60", &first).await.ok();
    assert_eq!(first.status, 200, "{}", first.text);
    let told = &first.json["tenant"];
    assert_eq!(
        (&told["status_reason"], &told["suspension"]["by"]),
        (&json!("payment: invoice 4711"), &json!("token/everything"))
    );
    let second = world.wire().post("/v1/tenants/acme/suspend?wait=60", &json!({})).await.ok();
    let now = &second.json["tenant"]["suspension"];
    assert_eq!((&now["reason"], &now["until"], &now["note"]), (&json!("admin"), &Value::Null, &Value::Null));
    assert_eq!(now["since"], told["suspension"]["since"]);
    assert_eq!(second.json["operation"]["id"], first.json["operation"]["id"], "there is nothing more to do");

    for (body, pointer) in [
        (json!({ "reason": "boredom" }), "/reason"),
        (json!({ "reason": "trial_ended" }), "/reason"),
        (json!({ "until": "2001-01-01T00:00:00Z" }), "/until"),
        (json!({ "note": "" }), "/note"),
        (json!({ "why": "so" }), "/why"),
    ] {
        let refused = world.wire().post("/v1/tenants/acme/suspend", &body).await;
        assert_eq!(refused.problem(400, "invalid_request"), [pointer], "{body}");
    }
    world.wire().post("/v1/tenants/nobody/suspend", &json!({})).await.problem(404, "not_found");
    assert_eq!(world.show(&tenant).await.status, TenantStatus::Suspended);
    resume(&world, &tenant).await;
    world.wire().post("/v1/tenants/acme/resume", &json!({})).await.problem(409, "invalid_state");
    let log = world.wire().get("/v1/audit-log?limit=50").await.ok();
    let entries = log.json["items"].as_array().unwrap();
    let named = |action: &str| entries.iter().filter(|entry| entry["action"] == action).count();
    assert_eq!((named("tenant.suspend"), named("tenant.resume")), (2, 1), "{}", log.text);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_tenant_that_is_served_can_be_suspended() {
    let world = World::start().await;
    let gone = world.tenant("gone").await;
    world.delete(&gone).await;
    for action in ["suspend", "resume", "restore"] {
        let refused = world.wire().post(&format!("/v1/tenants/gone/{action}"), &json!({})).await;
        refused.problem(409, "invalid_state");
    }
    let active = world.tenant("active").await;
    world.wire().post("/v1/tenants/active/restore", &json!({})).await.problem(409, "invalid_state");
    let bound = world.token_with(&[tenantry_domain::Scope::Admin], Some(&active)).await;
    let own = world.wire().token(&bound);
    own.post("/v1/tenants/active/suspend", &json!({})).await.problem(403, "forbidden");
    own.patch("/v1/tenants/active", &json!({ "trial_ends_at": null })).await.problem(403, "forbidden");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_and_its_end_may_cross_and_the_last_one_counts() {
    let world = World::builder().replicas(2).start().await;
    let tenant = world.tenant("acme").isolation(Isolation::Database).await;
    let login = world.login(&tenant).await;
    for round in 0..6 {
        // None of them waits for the one before.
        let suspended =
            world.client().suspend_tenant(&tenant.id.into(), &SuspendTenant::default(), None).await.unwrap();
        let resumed = world.client().resume_tenant(&tenant.id.into(), &ResumeTenant::default(), None).await.unwrap();
        let last = if round % 2 == 0 {
            resumed.operation.id
        } else {
            let again =
                world.client().suspend_tenant(&tenant.id.into(), &SuspendTenant::default(), None).await.unwrap();
            again.operation.id
        };
        let ended = world.settled(last).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
        assert!(world.settled(suspended.operation.id).await.state.is_finished());
        assert!(world.settled(resumed.operation.id).await.state.is_finished());
        let is_in = gets_in(&world, &tenant, &login).await;
        let status = world.show(&tenant).await.status;
        let expected = if round % 2 == 0 { TenantStatus::Active } else { TenantStatus::Suspended };
        assert_eq!((status, is_in), (expected, expected == TenantStatus::Active), "round {round}");
        if round % 2 == 1 {
            resume(&world, &tenant).await;
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_holds_other_work_back_and_takes_its_lease_away() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    let login = world.login(&tenant).await;
    // Work that another replica has claimed and that never gets on, as if that replica were paused. Its code is newer than
    // ours, so nobody here takes it up once it is let go.
    let catalog = world.catalog_client().await;
    let work = uuid::Uuid::now_v7();
    let insert =
        "INSERT INTO operation (id, kind, code_version, tenant, input, progress, state, lease_owner, lease_epoch,
                                         lease_until)
                  VALUES ($1, 'drop_home', 1000, $2, '{}', '{}', 'running', $3, nextval('lease_epoch'),
                          now() + interval '1 day')
                  RETURNING lease_epoch";
    let row = catalog.query_one(insert, &[&work, &tenant.id.as_uuid(), &uuid::Uuid::now_v7()]).await.unwrap();
    let epoch: i64 = row.get(0);

    suspend(&world, &tenant).await;
    let look = "SELECT state, held_by IS NULL, lease_owner IS NULL,
                       ARRAY(SELECT kind FROM operation_event WHERE operation = $1 ORDER BY id)
                  FROM operation WHERE id = $1";
    let row = catalog.query_one(look, &[&work]).await.unwrap();
    assert_eq!(row.get::<_, Vec<String>>(3)[..2], ["held", "let_go"], "held back, and let go once the tenant was out");
    assert!(row.get::<_, bool>(1));
    // What the paused replica would do on the cluster when it wakes: its epoch is too low.
    let admin = world.root(world.main_cluster(), world.admin_database()).await;
    let home: uuid::Uuid = {
        let sql = "SELECT home FROM placement WHERE tenant = $1 AND until IS NULL";
        catalog.query_one(sql, &[&tenant.id.as_uuid()]).await.unwrap().get(0)
    };
    let late = admin.execute("SELECT tenantry.raise_fence($1, $2)", &[&home, &epoch]).await;
    assert_eq!(late.unwrap_err().code().unwrap().code(), "TN003");
    assert!(!gets_in(&world, &tenant, &login).await);
    let end = "UPDATE operation SET state = 'cancelled', finished_at = now(), lease_owner = NULL, lease_until = NULL WHERE id = $1";
    catalog.execute(end, &[&work]).await.unwrap();
    drop((catalog, admin));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replica_does_not_let_a_suspended_tenant_in_when_it_wakes() {
    // Not the catalog's server, because `serve` keeps tenants off that.
    let server = Server::own().await;
    let mut world = World::builder().homes_on(&server).start().await;
    let tenant = world.tenant("acme").isolation(Isolation::Database).await;
    let login = world.login(&tenant).await;
    suspend(&world, &tenant).await;
    world.take_replica(0).stop().await;
    let (first, second) = (Serve::start(&world).await, Serve::start(&world).await);
    // Whichever of the two takes the work up is stopped by the lock, and then by the signal.
    let admin = world.root(world.main_cluster(), world.admin_database()).await;
    admin.batch_execute("BEGIN; LOCK TABLE tenantry.fence IN ACCESS EXCLUSIVE MODE").await.unwrap();
    world.use_door(first.url());
    let resumed = world.client().resume_tenant(&tenant.id.into(), &ResumeTenant::default(), None).await.unwrap();
    eventually("the work has begun", async || {
        let state = world.client().show_operation(resumed.operation.id).await.unwrap().state;
        matches!(state, OperationState::Running | OperationState::Waiting)
    })
    .await;
    second.signal(Signal::STOP);
    let suspended = world.client().suspend_tenant(&tenant.id.into(), &SuspendTenant::default(), None).await.unwrap();
    admin.batch_execute("ROLLBACK").await.unwrap();
    let ended = world.settled(suspended.operation.id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    assert!(!gets_in(&world, &tenant, &login).await);
    second.signal(Signal::CONT);
    // It has nothing left that is its own; a tenant that it makes shows that it works again.
    world.use_door(second.url());
    world.tenant("beta").await;
    assert_eq!(world.show(&tenant).await.status, TenantStatus::Suspended);
    assert!(!gets_in(&world, &tenant, &login).await);
    let superseded = world.client().show_operation(resumed.operation.id).await.unwrap();
    assert_eq!(superseded.state, OperationState::Cancelled);
    drop(admin);
    world.end().await;
    assert!(first.terminate().await.success());
    assert!(second.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_with_an_end_and_a_trial_end_by_themselves() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    let soon = SuspendTenant { until: Some(Timestamp::now() + Duration::from_secs(1)), ..SuspendTenant::default() };
    world.client().suspend_tenant(&tenant.id.into(), &soon, wait()).await.unwrap();
    eventually("it is let in again", async || world.show(&tenant).await.status == TenantStatus::Active).await;
    world.connect(&tenant).await;

    let trial = json!({ "trial_ends_at": Timestamp::now() - Duration::from_secs(1) });
    world.wire().patch("/v1/tenants/acme", &trial).await.ok();
    eventually("its trial ends", async || world.show(&tenant).await.status == TenantStatus::Suspended).await;
    let suspension = world.show(&tenant).await.suspension.unwrap();
    assert_eq!((suspension.reason, suspension.by.as_str()), (SuspensionReason::TrialEnded, "tenantry"));
    let refused = world.wire().post("/v1/tenants/acme/resume", &json!({})).await;
    refused.problem(409, "invalid_state");
    assert!(refused.text.contains("trial_ends_at"), "{}", refused.text);
    world.wire().patch("/v1/tenants/acme", &json!({ "trial_ends_at": null })).await.ok();
    assert_eq!(resume(&world, &tenant).await.status, TenantStatus::Active);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subtree_is_suspended_and_only_what_went_along_comes_back() {
    let world = World::start().await;
    let under = |parent: &Tenant| {
        let parent = parent.id;
        move |create: &mut tenantry_api::CreateTenant| create.parent = Some(parent.into())
    };
    let top = world.tenant("top").await;
    let left = world.tenant("left").with(under(&top)).await;
    let right = world.tenant("right").with(under(&top)).await;
    let leaf = world.tenant("leaf").with(under(&left)).await;
    let apart = world.tenant("apart").await;
    suspend(&world, &right).await;

    let whole = SuspendTenant { subtree: true, ..SuspendTenant::default() };
    let begun = world.client().suspend_tenant(&top.id.into(), &whole, wait()).await.unwrap();
    let taken: Vec<_> = begun.below.iter().map(|it| (it.tenant.slug.as_str(), it.tenant.status)).collect();
    assert_eq!(taken, [("left", TenantStatus::Suspended), ("leaf", TenantStatus::Suspended)]);
    for tenant in [&left, &leaf] {
        let suspension = world.show(tenant).await.suspension.unwrap();
        assert_eq!((suspension.reason, suspension.with), (SuspensionReason::Parent, Some(top.id)));
    }
    assert_eq!(world.show(&apart).await.status, TenantStatus::Active);
    let born = json!({ "slug": "born", "parent": "top" });
    assert_eq!(world.wire().post("/v1/tenants", &born).await.problem(400, "invalid_request"), ["/parent"]);

    resume(&world, &top).await;
    for (tenant, status) in [(&left, "active"), (&leaf, "active"), (&right, "suspended")] {
        assert_eq!(world.show(tenant).await.status.as_str(), status, "{}", tenant.slug);
    }
    world.connect(&leaf).await;
    world.end().await;
}
