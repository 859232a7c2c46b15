//! One tenant goes back to an earlier version, and the fleet does not.

use serde_json::json;
use tenantry_api::{CreateRollout, MigrateDown, Tenant, WaitSeconds};
use tenantry_domain::{Isolation, OperationState, RolloutState, SchemaVersion, TenantStatus};
use tenantry_tests::{Program, World, files};

use crate::rollout_queue::not_now;

/// Two versions more than `notes` has, both with a way back.
fn with_downs() -> files::Files {
    let mut files =
        files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer NOT NULL DEFAULT 3;\n");
    files.push(("V4__stars.down.sql".to_owned(), "ALTER TABLE notes DROP COLUMN stars;\n".to_owned()));
    files.push(("V5__tags.sql".to_owned(), "CREATE TABLE tags (name text PRIMARY KEY);\n".to_owned()));
    files.push(("V5__tags.down.sql".to_owned(), "DROP TABLE tags;\n".to_owned()));
    files
}

async fn brought_to(world: &World<'_>, files: &files::Files) {
    let set = world.push("with downs", files).await;
    let rollout = world.begin_rollout(&set).await;
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
}

async fn back_to(world: &World<'_>, tenant: &Tenant, version: i64) -> OperationState {
    let down = MigrateDown { version: SchemaVersion(version), migration_set: None };
    let wait = WaitSeconds::new(60).ok();
    world.client().migrate_tenant_down(&tenant.id.into(), &down, wait).await.unwrap().operation.state
}

async fn versions(world: &World<'_>, tenant: &Tenant) -> Vec<String> {
    world.connect(tenant).await.texts("SELECT version::text FROM refinery_schema_history ORDER BY version").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_goes_back_alone_and_the_next_rollout_brings_it_along() {
    let world = World::builder().dedicated(1).start().await;
    let mut fleet = Vec::new();
    for (slug, isolation) in [
        ("one", Isolation::Schema),
        ("two", Isolation::Database),
        ("three", Isolation::Cluster),
        ("four", Isolation::Schema),
    ] {
        fleet.push(world.tenant(slug).isolation(isolation).await);
    }
    brought_to(&world, &with_downs()).await;
    for tenant in &fleet[..3] {
        let before = world.route(tenant).await.version;
        assert_eq!(back_to(&world, tenant, 4).await, OperationState::Succeeded);
        let (shown, route) = (world.show(tenant).await, world.route(tenant).await);
        assert_eq!((shown.schema_version.0, route.schema_version.0, shown.status), (4, 4, TenantStatus::Active));
        assert!(route.version > before, "routers hear of it");
        assert_eq!(versions(&world, tenant).await, ["1", "2", "3", "4"]);
        assert_eq!(world.connect(tenant).await.refusal("SELECT FROM tags").await, "42P01");
        assert_eq!(back_to(&world, tenant, 3).await, OperationState::Succeeded);
        // Nothing is left to do, and that is no failure.
        assert_eq!(back_to(&world, tenant, 3).await, OperationState::Succeeded);
        let session = world.connect(tenant).await;
        assert_eq!(session.refusal("SELECT stars FROM notes").await, "42703");
        assert_eq!(session.texts("SELECT body FROM notes").await, ["the first note"]);
    }
    assert_eq!(world.show(&fleet[3]).await.schema_version.0, 5, "nobody else goes back");
    let set = world.push("with downs", &with_downs()).await;
    let rollout = world.begin_rollout(&set).await;
    let rollout = world.rolled_out(rollout.id).await;
    assert_eq!((rollout.state, rollout.counts.applied), (RolloutState::Succeeded, 3));
    for tenant in &fleet {
        assert_eq!(versions(&world, tenant).await, ["1", "2", "3", "4", "5"]);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_down_file_that_fails_leaves_catalog_and_home_agreed() {
    let world = World::start().await;
    let tenant = world.tenant("one").await;
    let mut files = with_downs();
    files[4].1 = "DROP TABLE stars;\n".to_owned();
    brought_to(&world, &files).await;
    assert_eq!(back_to(&world, &tenant, 3).await, OperationState::Failed);
    assert_eq!(versions(&world, &tenant).await, ["1", "2", "3", "4"], "the newer one is undone, and stays so");
    let shown = world.show(&tenant).await;
    assert_eq!((shown.schema_version.0, shown.status), (4, TenantStatus::Active));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_way_back_is_told_which_file_is_missing() {
    let world = World::start().await;
    let tenant = world.tenant("one").await;
    let mut files = with_downs();
    files.remove(4);
    brought_to(&world, &files).await;
    let path = format!("/v1/tenants/{}/migrate-down", tenant.slug);
    let wire = world.wire();
    let refused = wire.post(&path, &json!({ "version": 3 })).await;
    refused.problem(422, "migration_refused");
    assert!(refused.text.contains("V4__stars.down.sql"), "{}", refused.text);
    wire.post(&path, &json!({ "version": 9 })).await.problem(400, "invalid_request");
    let program = Program::new(&world.url(), world.token());
    let refused = program.run(["migrate", "down", "one", "--to", "3", "--yes"]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("V4__stars.down.sql"), "{}", refused.stderr);
    let several = program.run(["migrate", "down", "one", "two", "--to", "4"]).await;
    assert_eq!(several.status.code(), Some(1), "{}", several.stderr);
    let down = program.json(["migrate", "down", "one", "--to", "4", "--yes"]).await;
    assert_eq!((&down["operation"]["kind"], &down["tenant"]["schema_version"]), (&json!("migrate_down"), &json!(4)));
    assert_eq!(versions(&world, &tenant).await, ["1", "2", "3", "4"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_back_while_a_rollout_is_under_way_paused_or_not() {
    let world = World::start().await;
    let tenant = world.tenant("one").await;
    brought_to(&world, &with_downs()).await;
    let mut files = with_downs();
    files.push(("V6__more.sql".to_owned(), "CREATE TABLE more (id bigint);\n".to_owned()));
    let set = world.push("more", &files).await;
    let held = CreateRollout { hours: not_now().parse().ok(), ..CreateRollout::at_once(set.id) };
    let rollout = world.client().create_rollout(&held).await.unwrap();
    let (path, wire) = (format!("/v1/tenants/{}/migrate-down", tenant.slug), world.wire());
    for is_paused in [false, true] {
        if is_paused {
            world.client().pause_rollout(rollout.id).await.unwrap();
        }
        let refused = wire.post(&path, &json!({ "version": 4 })).await;
        refused.problem(409, "invalid_state");
        assert!(refused.text.contains(&rollout.id.to_string()), "{}", refused.text);
    }
    world.client().abort_rollout(rollout.id).await.unwrap();
    assert_eq!(back_to(&world, &tenant, 4).await, OperationState::Succeeded);
    world.end().await;
}
