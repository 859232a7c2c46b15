//! Rollouts over tenants that are not as others are.

use serde_json::json;
use tenantry_api::{CreateRollout, Rollout, RolloutTarget, Tenant};
use tenantry_domain::{Isolation, RolloutId, RolloutState, TargetState};
use tenantry_testkit::eventually;
use tenantry_tests::{HomeSession, Program, World, files};

const STARS: (&str, &str) = ("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n");

async fn targets(world: &World<'_>, rollout: RolloutId) -> Vec<RolloutTarget> {
    let page = world.wire().get(&format!("/v1/rollouts/{rollout}/targets?limit=500")).await.ok();
    serde_json::from_value(page.json["items"].clone()).unwrap()
}

async fn target(world: &World<'_>, rollout: RolloutId, tenant: &Tenant) -> RolloutTarget {
    let found = targets(world, rollout).await.into_iter().find(|target| target.tenant == tenant.id);
    found.unwrap_or_else(|| panic!("{} is no target", tenant.slug))
}

/// As the cluster's superuser, in the tenant's database.
async fn root(world: &World<'_>, tenant: &Tenant, sql: &str) {
    let route = world.route(tenant).await;
    let client = world.root(world.main_cluster(), route.database.unwrap().as_str()).await;
    let path = format!("SET search_path = {}", route.schema.unwrap());
    client.batch_execute(&format!("{path}; {sql}")).await.unwrap();
}

/// Begins a rollout that begins no tenant before [`go`].
async fn begin_held(world: &World<'_>, files: &files::Files) -> Rollout {
    let set = world.push("next", files).await;
    let later = jiff::Timestamp::now() + std::time::Duration::from_hours(12);
    let hour = later.to_zoned(jiff::tz::TimeZone::UTC).hour();
    let hours = format!("{hour:02}:00-{hour:02}:30").parse().ok();
    let create = CreateRollout { hours, ..CreateRollout::at_once(set.id) };
    world.client().create_rollout(&create).await.unwrap()
}

async fn go(world: &World<'_>, rollout: RolloutId) {
    let catalog = world.catalog_client().await;
    catalog.execute("UPDATE rollout SET hours = NULL WHERE id = $1", &[&rollout.as_uuid()]).await.unwrap();
    world.client().pause_rollout(rollout).await.unwrap();
    world.client().resume_rollout(rollout).await.unwrap();
}

async fn columns(session: &HomeSession) -> Vec<String> {
    let sql = "SELECT attname FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attnum > 0 ORDER BY attnum";
    session.texts(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_suspended_busy_behind_or_newly_born_comes_along_and_whoever_is_broken_is_told() {
    let world = World::start().await;
    let ahead = world.tenant("ahead").isolation(Isolation::Database).await;
    // One tenant is a version ahead of all others: a rollout ended behind its canary.
    world.wire().patch(&format!("/v1/tenants/{}", ahead.id), &json!({ "labels": { "tier": "canary" } })).await.ok();
    let canary = tenant_wave("label:tier=canary");
    let rest = tenantry_api::CreateWave { bake_seconds: 3_600, ..tenant_wave("all") };
    let canary = tenantry_api::CreateWave { bake_seconds: 3_600, ..canary };
    let first = world.push("first-of-two", &files::notes_and(STARS.0, STARS.1)).await;
    let others = [world.tenant("busy").await, world.tenant("suspended").await, world.tenant("broken").await];
    let [busy, suspended, broken] = &others;
    let gone = world.tenant("gone").await;
    let create = CreateRollout { waves: Some(vec![canary, rest]), ..CreateRollout::new(first.id) };
    let rollout = world.client().create_rollout(&create).await.unwrap();
    eventually("the canary is migrated", async || world.show(&ahead).await.schema_version.0 == 4).await;
    world.client().abort_rollout(rollout.id).await.unwrap();

    let mut files = files::notes_and(STARS.0, STARS.1);
    files.push(("V5__mood.sql".to_owned(), "ALTER TABLE notes ADD COLUMN mood text;\n".to_owned()));
    let rollout = begin_held(&world, &files).await;
    assert_eq!((rollout.counts.pending, rollout.counts.total()), (5, 5));
    let reader = world.connect(busy).await;
    reader.run("BEGIN; SELECT FROM notes").await;
    world.wire().post(&format!("/v1/tenants/{}/suspend?wait=30", suspended.id), &json!({})).await.ok();
    root(&world, broken, "ALTER TABLE notes RENAME TO remarks").await;
    world.delete(&gone).await;
    let born = world.tenant("born").isolation(Isolation::Database).await;
    assert_eq!(born.schema_version.0, 3, "nothing was promoted yet");
    go(&world, rollout.id).await;

    eventually("the busy one has stepped aside", async || {
        let target = target(&world, rollout.id, busy).await;
        target.state == TargetState::Pending && target.error.is_some_and(|error| error["message"].is_string())
    })
    .await;
    reader.run("COMMIT").await;
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.stop.as_ref()), (RolloutState::Failed, None), "{ended:?}");
    let counts = (ended.counts.applied, ended.counts.failed, ended.counts.skipped);
    assert_eq!(counts, (4, 1, 1), "{ended:?}");
    for tenant in [&ahead, busy, suspended, &born] {
        let target = target(&world, rollout.id, tenant).await;
        let from = if tenant.id == ahead.id { 4 } else { 3 };
        assert_eq!((target.state, target.from_version.unwrap().0), (TargetState::Applied, from), "{}", tenant.slug);
        assert_eq!(world.show(tenant).await.schema_version.0, 5, "{}", tenant.slug);
    }
    let error = target(&world, rollout.id, broken).await.error.unwrap();
    assert_eq!((&error["sqlstate"], &error["file"]), (&json!("42P01"), &json!("V4__stars.sql")), "{error}");

    let program = Program::new(&world.url(), world.token());
    let watched = program.run(["migrate", "watch"]).await;
    assert_eq!(watched.status.code(), Some(3), "within the budget: {}", watched.stderr);
    root(&world, broken, "ALTER TABLE remarks RENAME TO notes").await;
    let retried = program.run(["migrate", "retry"]).await;
    assert_eq!(retried.status.code(), Some(0), "{}", retried.stderr);
    assert_eq!(columns(&world.connect(broken).await).await, ["id", "body", "stars", "mood"]);
    world.wire().post(&format!("/v1/tenants/{}/resume?wait=30", suspended.id), &json!({})).await.ok();
    assert_eq!(columns(&world.connect(&world.show(suspended).await).await).await.len(), 4);
    world.end().await;
}

fn tenant_wave(select: &str) -> tenantry_api::CreateWave {
    let error_budget = tenantry_api::ErrorBudget::default();
    tenantry_api::CreateWave { select: select.parse().unwrap(), bake_seconds: 0, error_budget }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrent_index_that_cannot_be_built_is_built_by_the_retry() {
    let world = World::start().await;
    let (good, bad) = (world.tenant("good").await, world.tenant("bad").await);
    world.connect(&bad).await.run("INSERT INTO notes (body) VALUES ('twice'), ('twice')").await;
    let file = "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY notes_once ON notes (body);\n";
    let set = world.push("next", &files::notes_and("V4__once.sql", file)).await;
    let rollout = world.begin_rollout(&set).await;
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.applied, ended.counts.failed), (RolloutState::Failed, 1, 1), "{ended:?}");
    let error = target(&world, rollout.id, &bad).await.error.unwrap();
    assert_eq!((&error["sqlstate"], &error["line"]), (&json!("23505"), &json!(2)), "{error}");
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'notes_once'::regclass";
    let session = world.connect(&bad).await;
    assert!(!session.one::<bool>(valid).await, "PostgreSQL leaves it behind");
    session.run("DELETE FROM notes WHERE id = (SELECT max(id) FROM notes)").await;
    world.client().retry_rollout(rollout.id).await.unwrap();
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
    for tenant in [&good, &bad] {
        assert!(world.connect(tenant).await.one::<bool>(valid).await, "{}", tenant.slug);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_verifies_finds_a_history_that_is_not_the_sets() {
    let world = World::start().await;
    let (good, changed) = (world.tenant("good").await, world.tenant("changed").isolation(Isolation::Database).await);
    let program = Program::new(&world.url(), world.token());
    let set = world.push("same", &files::notes()).await.id.to_string();
    let apply = ["migrate", "apply", "--set", &set, "--wave", "all,budget=any"];
    assert_eq!(program.run(apply).await.status.code(), Some(0));
    root(&world, &changed, "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 2").await;
    let trusting = program.json(apply).await;
    assert_eq!(trusting["rollout"]["counts"]["already"], 2, "the catalog knows nothing of it: {trusting}");
    let verifying = program.run(apply.into_iter().chain(["--verify"])).await;
    assert_eq!(verifying.status.code(), Some(5), "{}{}", verifying.stdout, verifying.stderr);
    assert!(verifying.stdout.contains("V2__word_count"), "{}", verifying.stdout);
    let rollout = world.client().list_rollouts(&tenantry_api::ListQuery::default()).await.unwrap().items.remove(0);
    assert_eq!((rollout.counts.already, rollout.counts.failed), (1, 1), "{rollout:?}");
    assert_eq!(target(&world, rollout.id, &good).await.state, TargetState::Already);

    world.end().await;
}
