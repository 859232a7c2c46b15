//! A deletion can be taken back as long as its grace period lasts; then nothing can.

use serde_json::json;
use tenantry_api::{DeleteTenant, GraceSeconds, ResumeTenant, SuspendTenant, Tenant, WaitSeconds};
use tenantry_domain::{Isolation, OperationState, RolloutState, TargetState, TenantStatus};
use tenantry_router::{Router, RouterError};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tenantry_tests::{Admin, HomeSession, World, files};

fn wait() -> Option<WaitSeconds> {
    WaitSeconds::new(60).ok()
}

fn with_grace(seconds: u64) -> DeleteTenant {
    DeleteTenant { grace: GraceSeconds::new(seconds).ok(), wait: wait() }
}

async fn restore(world: &World<'_>, tenant: &Tenant) -> Tenant {
    let restored = world.client().restore_tenant(&tenant.id.into(), wait()).await.unwrap();
    assert_eq!(restored.operation.state, OperationState::Cancelled, "{:?}", restored.operation);
    restored.tenant
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_shuts_the_tenant_out_and_can_be_taken_back() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).dedicated(1).start().await;
        let router = Router::builder().control_plane(world.url(), world.token().clone()).build().await.unwrap();
        for isolation in [Isolation::Schema, Isolation::Database, Isolation::Cluster] {
            let tenant = world.tenant(&format!("a-{isolation}")).isolation(isolation).await;
            let login = world.login(&tenant).await;
            let session = world.connect(&tenant).await;
            session.run("INSERT INTO notes (body) VALUES ('worth keeping')").await;
            eventually("the router knows it", async || router.tenant(tenant.id).await.is_ok()).await;

            // Seven days unless somebody says otherwise. The call comes back once the tenant is shut out.
            let deleted = world.wire().delete(&format!("/v1/tenants/{}?wait=60", tenant.slug)).await.ok();
            assert_eq!(
                (deleted.status, &deleted.json["operation"]["state"]),
                (202, &json!("waiting")),
                "{}",
                deleted.text
            );
            let due: jiff::Timestamp = deleted.json["tenant"]["deletes_at"].as_str().unwrap().parse().unwrap();
            let days = due.duration_since(jiff::Timestamp::now()).as_hours() / 24;
            assert_eq!((world.show(&tenant).await.status, days), (TenantStatus::Deleting, 6));
            assert!(session.batch_execute("SELECT 1").await.is_err());
            assert!(HomeSession::log_in(&login).await.is_err());
            eventually("the router forgets it", async || {
                matches!(router.tenant(tenant.id).await, Err(RouterError::Unknown { .. }))
            })
            .await;
            let path = format!("/v1/tenants/{}", tenant.slug);
            world.wire().patch(&path, &json!({ "name": "Other" })).await.problem(409, "invalid_state");
            world.wire().post(&format!("{path}/suspend"), &json!({})).await.problem(409, "invalid_state");
            world.wire().post(&format!("{path}/purge"), &json!({})).await.problem(409, "invalid_state");

            let restored = restore(&world, &tenant).await;
            assert_eq!(
                (restored.status, restored.deletes_at, restored.cluster),
                (TenantStatus::Active, None, tenant.cluster)
            );
            let session = world.connect(&restored).await;
            assert_eq!(session.one::<i64>("SELECT count(*) FROM notes WHERE body = 'worth keeping'").await, 1);
            eventually("the router serves it again", async || router.tenant(tenant.id).await.is_ok()).await;
        }
        drop(router);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_restored_as_suspended() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    let login = world.login(&tenant).await;
    let why = SuspendTenant { note: Some("abuse".parse().unwrap()), ..SuspendTenant::default() };
    // The deletion may come before the suspension is through: then the restoration sees to it.
    world.client().suspend_tenant(&tenant.id.into(), &why, None).await.unwrap();
    world.client().delete_tenant(&tenant.id.into(), &with_grace(3_600)).await.unwrap();
    let restored = restore(&world, &tenant).await;
    assert_eq!((restored.status, restored.status_reason.as_deref()), (TenantStatus::Suspended, Some("admin: abuse")));
    assert!(HomeSession::log_in(&login).await.is_err());
    world.client().resume_tenant(&tenant.id.into(), &ResumeTenant::default(), wait()).await.unwrap();
    world.connect(&tenant).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_restored_after_a_rollout_is_brought_to_the_fleets_version() {
    let world = World::builder().replicas(2).dedicated(1).start().await;
    let mut gone = Vec::new();
    for isolation in [Isolation::Schema, Isolation::Database, Isolation::Cluster] {
        gone.push(world.tenant(&format!("a-{isolation}")).isolation(isolation).await);
    }
    let shut = world.tenant("shut").await;
    world.client().suspend_tenant(&shut.id.into(), &SuspendTenant::default(), wait()).await.unwrap();
    gone.push(shut);
    for tenant in &gone {
        world.client().delete_tenant(&tenant.id.into(), &with_grace(3_600)).await.unwrap();
    }
    let stays = world.tenant("stays").await;
    let set = world.push("next", &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars int;\n")).await;
    let rollout = world.begin_rollout(&set).await;
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.total()), (RolloutState::Succeeded, 1), "{ended:?}");
    for tenant in &gone {
        let restored = restore(&world, tenant).await;
        eventually("it is at the fleet's version", async || world.show(tenant).await.schema_version.0 == 4).await;
        assert_eq!(world.route(tenant).await.schema_version.0, 4);
        if restored.status == TenantStatus::Active {
            assert_eq!(world.connect(tenant).await.one::<i64>("SELECT count(stars) FROM notes").await, 0);
        }
        let health = world.wire().get(&format!("/v1/tenants/{}/health", tenant.slug)).await.ok();
        assert_eq!(health.json["healthy"], true, "{}", health.text);
    }
    // The rollout is what it was.
    assert_eq!(world.client().show_rollout(rollout.id).await.unwrap().finished_at, ended.finished_at);
    assert_eq!(world.show(&stays).await.schema_version.0, 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_tenant_that_cannot_be_brought_along_is_served_and_tells_why() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    world.connect(&tenant).await.run("INSERT INTO notes (body) VALUES ('')").await;
    world.client().delete_tenant(&tenant.id.into(), &with_grace(3_600)).await.unwrap();
    let strict = "ALTER TABLE notes ADD CONSTRAINT notes_say_something CHECK (body <> '');\n";
    let set = world.push("next", &files::notes_and("V4__strict.sql", strict)).await;
    let rollout = world.begin_rollout(&set).await;
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
    let restored = restore(&world, &tenant).await;
    assert_eq!(restored.status, TenantStatus::Active);
    let told = async || world.wire().get("/v1/tenants/acme/explain").await.ok().json["differences"].to_string();
    eventually("the explanation says why", async || told().await.contains("notes_say_something")).await;
    let health = world.wire().get("/v1/tenants/acme/health").await.ok();
    assert_eq!(health.json["healthy"], false);
    let checks = health.json["checks"].as_array().unwrap();
    let schema = checks.iter().find(|check| check["name"] == "schema").unwrap();
    let why = schema["why"].as_str().unwrap();
    assert!(why.contains("at version 3") && why.contains("ends at 4") && why.contains("attempt"), "{why}");
    assert_eq!(world.connect(&tenant).await.one::<i64>("SELECT count(*) FROM notes").await, 2, "it is served");

    // Mended, it need not wait for the next attempt: any rollout takes it along.
    world.connect(&tenant).await.run("DELETE FROM notes WHERE body = ''").await;
    let rollout = world.begin_rollout(&set).await;
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
    assert_eq!(world.show(&tenant).await.schema_version.0, 4);
    assert_eq!(told().await, "[]");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_restored_while_a_rollout_is_open_is_its_target() {
    let world = World::start().await;
    let (gone, late) = (world.tenant("gone").await, world.tenant("late").await);
    world.client().delete_tenant(&gone.id.into(), &with_grace(3_600)).await.unwrap();
    let set = world.push("next", &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars int;\n")).await;
    // The one waits for a lock until the rollout is paused, so that stays open.
    let route = world.route(&late).await;
    let root = world.root(&world.cluster_of(&late).await, route.database.unwrap().as_str()).await;
    root.batch_execute(&format!("BEGIN; LOCK TABLE {}.notes", route.schema.unwrap())).await.unwrap();
    let rollout = world.begin_rollout(&set).await;
    let target = async |tenant: &Tenant| {
        let list = tenantry_api::ListTargets::default();
        let targets = world.client().list_rollout_targets(rollout.id, &list).await.unwrap().items;
        targets.into_iter().find(|target| target.tenant == tenant.id).map(|target| target.state)
    };
    eventually("the rollout is at it", async || target(&late).await == Some(TargetState::Running)).await;
    world.client().pause_rollout(rollout.id).await.unwrap();
    assert_eq!(target(&gone).await, None, "who can only be restored is no target");
    restore(&world, &gone).await;
    root.batch_execute("COMMIT").await.unwrap();
    world.client().resume_rollout(rollout.id).await.unwrap();
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.total()), (RolloutState::Succeeded, 2), "{ended:?}");
    assert_eq!(target(&gone).await, Some(TargetState::Applied));
    assert_eq!(world.show(&gone).await.schema_version.0, 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_grace_is_over_the_tenant_is_gone() {
    let world = World::start().await;
    let tenant = world.tenant("acme").isolation(Isolation::Database).await;
    let begun = world.client().delete_tenant(&tenant.id.into(), &with_grace(2)).await.unwrap();
    eventually("it is gone", async || world.show(&tenant).await.status == TenantStatus::Deleted).await;
    assert_eq!(world.settled(begun.operation.id).await.state, OperationState::Succeeded);
    world.wire().post("/v1/tenants/acme/restore", &json!({})).await.problem(409, "invalid_state");
    world.assert_nothing_orphaned().await;

    // A second deletion hastens the first, and never puts it off.
    let other = world.tenant("other").await;
    let begun = world.client().delete_tenant(&other.id.into(), &with_grace(3_600)).await.unwrap();
    let due = begun.tenant.deletes_at.unwrap();
    let later = world.client().delete_tenant(&other.id.into(), &with_grace(7_200)).await.unwrap();
    assert_eq!(later.tenant.deletes_at, Some(due));
    let now = world.client().delete_tenant(&other.id.into(), &with_grace(0)).await.unwrap();
    assert_eq!((now.operation.id, now.operation.state), (begun.operation.id, OperationState::Succeeded));
    assert_eq!(now.tenant.status, TenantStatus::Deleted);
    for grace in ["-1", "31536001", "soon"] {
        let refused = world.wire().delete(&format!("/v1/tenants/other?grace={grace}")).await;
        assert_eq!(refused.problem(400, "invalid_request"), ["?grace"]);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_whose_cluster_is_away_does_not_let_the_tenant_in_again() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = World::builder()
        .homes_on(&server)
        .homes_at(socket.address())
        .configure(|config| config.attempts_max = 2)
        .start()
        .await;
    let tenant = world.tenant("acme").await;
    socket.go_down();
    let deleting = DeleteTenant { wait: None, ..with_grace(3_600) };
    let begun = world.client().delete_tenant(&tenant.id.into(), &deleting).await.unwrap();
    let parked = world.settled(begun.operation.id).await;
    assert_eq!(parked.state, OperationState::Parked, "{parked:?}");
    assert_eq!(world.show(&tenant).await.status, TenantStatus::Deleting);
    // Neither given up, which would lose a tenant that can be restored, nor restored before its cluster is back.
    assert!(world.client().abandon_operation(parked.id).await.is_err());
    socket.come_up();
    world.client().restore_tenant(&tenant.id.into(), wait()).await.unwrap();
    assert_eq!(world.show(&tenant).await.status, TenantStatus::Active);
    world.connect(&tenant).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_nested_without_circles_and_found_by_what_is_above_them() {
    let world = World::start().await;
    let mut chain: Vec<Tenant> = Vec::new();
    for depth in 1..=8 {
        let parent = chain.last().map(|parent| parent.id);
        let make = world.tenant(&format!("d{depth}"));
        chain.push(make.with(|create| create.parent = parent.map(Into::into)).await);
    }
    let wire = world.wire();
    let too_deep = wire.post("/v1/tenants", &json!({ "slug": "d9", "parent": "d8" })).await;
    assert_eq!(too_deep.problem(400, "invalid_request"), ["/parent"]);
    for parent in ["d1", "d4"] {
        let circle = wire.patch("/v1/tenants/d1", &json!({ "parent": parent })).await;
        assert_eq!(circle.problem(400, "invalid_request"), ["/parent"], "{parent}");
    }
    let nobody = wire.patch("/v1/tenants/d2", &json!({ "parent": "nobody" })).await;
    assert_eq!(nobody.problem(400, "invalid_request"), ["/parent"]);
    world.tenant("top").await;
    // The whole chain would be nine deep: only the catalog sees that, because what is below counts.
    wire.patch("/v1/tenants/d1", &json!({ "parent": "top" })).await.problem(409, "conflict");
    let listed = wire.get("/v1/tenants?below=d6").await.ok();
    let slugs: Vec<_> = listed.json["items"].as_array().unwrap().iter().map(|it| it["slug"].clone()).collect();
    assert_eq!(slugs, ["d7", "d8"]);
    wire.delete("/v1/tenants/d7?grace=0").await.problem(409, "invalid_state");

    wire.patch("/v1/tenants/d7", &json!({ "parent": null })).await.ok();
    wire.patch("/v1/tenants/d1", &json!({ "parent": "top" })).await.ok();
    assert_eq!(wire.get("/v1/tenants?below=top&limit=3").await.ok().json["items"].as_array().unwrap().len(), 3);
    assert_eq!(wire.get("/v1/tenants?below=d7").await.ok().json["items"][0]["slug"], "d8");
    // Two that are right by themselves and wrong together: one of each pair is refused, whatever their order.
    let ids = [&chain[6], &chain[0]].map(|tenant| tenant.id);
    for _ in 0..5 {
        for id in ids {
            wire.patch(&format!("/v1/tenants/{id}"), &json!({ "parent": null })).await.ok();
        }
        let put = async |below: usize, above: usize| {
            let body = json!({ "parent": ids[above] });
            wire.patch(&format!("/v1/tenants/{}", ids[below]), &body).await.status
        };
        let (one, other) = tokio::join!(put(0, 1), put(1, 0));
        assert!(one >= 400 || other >= 400, "{one} {other}: each is above the other");
    }
    world.end().await;
}
