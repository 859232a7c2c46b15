//! Repeatable migrations: the fleet has them as the set has them, whatever way a tenant came to it.

use serde_json::json;
use tenantry_api::{ListTargets, Tenant, WaitSeconds};
use tenantry_domain::{Isolation, RolloutState};
use tenantry_testkit::eventually;
use tenantry_tests::{World, files};

const VIEW: &str = "CREATE OR REPLACE VIEW shout AS SELECT id, upper(body) AS body FROM notes;\n";
const OTHER_VIEW: &str = "CREATE OR REPLACE VIEW shout AS SELECT id, body || '!' AS body FROM notes;\n";

fn with_view(view: &str) -> files::Files {
    files::notes_and("R__shout.sql", view)
}

async fn shouts(world: &World<'_>, tenant: &Tenant) -> Vec<String> {
    world.connect(tenant).await.texts("SELECT body FROM shout ORDER BY id").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_view_reaches_everybody_although_the_version_is_the_same() {
    let world = World::builder().dedicated(1).start().await;
    let mut fleet = Vec::new();
    for (slug, isolation) in [
        ("one", Isolation::Schema),
        ("two", Isolation::Schema),
        ("three", Isolation::Database),
        ("four", Isolation::Cluster),
    ] {
        fleet.push(world.tenant(slug).isolation(isolation).await);
    }
    let first = world.push("first", &with_view(VIEW)).await;
    assert_eq!(first.latest_version.0, 3);
    let listed = first.repeatables.clone().unwrap();
    assert_eq!(
        listed.iter().map(|file| (file.name.as_str(), file.transactional)).collect::<Vec<_>>(),
        [("shout", true)]
    );
    let rollout = world.begin_rollout(&first).await;
    let rollout = world.rolled_out(rollout.id).await;
    assert_eq!((rollout.state, rollout.counts.applied), (RolloutState::Succeeded, 4));
    // Born after it, from a template and by replay.
    for (slug, isolation) in [("five", Isolation::Database), ("six", Isolation::Schema)] {
        fleet.push(world.tenant(slug).isolation(isolation).await);
    }
    for tenant in &fleet {
        assert_eq!(shouts(&world, tenant).await, ["THE FIRST NOTE"], "{}", tenant.slug);
        let session = world.connect(tenant).await;
        assert_eq!(session.refusal("UPDATE tenantry_repeatable SET checksum = '0'").await, "42501");
    }
    // Everybody has it, so nobody is connected to.
    let again = world.begin_rollout(&first).await;
    let again = world.rolled_out(again.id).await;
    assert_eq!((again.state, again.counts.already, again.counts.total()), (RolloutState::Succeeded, 6, 6));

    let second = world.push("second", &with_view(OTHER_VIEW)).await;
    assert_ne!(second.id, first.id);
    let rollout = world.begin_rollout(&second).await;
    let rollout = world.rolled_out(rollout.id).await;
    assert_eq!((rollout.state, rollout.counts.applied), (RolloutState::Succeeded, 6));
    fleet.push(world.tenant("seven").isolation(Isolation::Database).await);
    for tenant in &fleet {
        assert_eq!(shouts(&world, tenant).await, ["the first note!"], "{}", tenant.slug);
        assert_eq!(world.show(tenant).await.schema_version.0, 3);
    }
    // A set without the file leaves what it made.
    let without = world.push("without", &files::notes()).await;
    let rollout = world.begin_rollout(&without).await;
    let rollout = world.rolled_out(rollout.id).await;
    assert_eq!((rollout.state, rollout.counts.already), (RolloutState::Succeeded, 7));
    assert_eq!(shouts(&world, &fleet[0]).await, ["the first note!"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeatable_file_that_fails_is_told_and_the_versions_before_it_stay() {
    let world = World::start().await;
    let tenant = world.tenant("one").await;
    let mut files = with_view("SELECT 1;\nCREATE OR REPLACE VIEW shout AS SELECT loud FROM notes;\n");
    files.push(("V4__stars.sql".to_owned(), "ALTER TABLE notes ADD COLUMN stars integer;\n".to_owned()));
    let set = world.push("broken", &files).await;
    let rollout = world.begin_rollout(&set).await;
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Failed);
    let targets = world.client().list_rollout_targets(rollout.id, &ListTargets::default()).await.unwrap();
    let error = targets.items[0].error.clone().unwrap();
    assert_eq!((&error["file"], &error["line"], &error["version"]), (&json!("R__shout.sql"), &json!(2), &json!(null)));
    assert_eq!(world.show(&tenant).await.schema_version.0, 4);
    files[3].1 = VIEW.to_owned();
    let mended = world.push("mended", &files).await;
    let rollout = world.begin_rollout(&mended).await;
    assert_eq!(world.rolled_out(rollout.id).await.counts.applied, 1, "at the version, but not with the file");
    assert_eq!(shouts(&world, &tenant).await, ["THE FIRST NOTE"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_restored_gets_the_files_that_changed_meanwhile() {
    let world = World::start().await;
    let first = world.push("first", &with_view(VIEW)).await;
    let rollout = world.begin_rollout(&first).await;
    world.rolled_out(rollout.id).await;
    let tenant = world.tenant("one").await;
    world.wire().delete(&format!("/v1/tenants/{}?wait=60", tenant.slug)).await.ok();
    let second = world.push("second", &with_view(OTHER_VIEW)).await;
    let rollout = world.begin_rollout(&second).await;
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
    world.client().restore_tenant(&tenant.id.into(), WaitSeconds::new(60).ok()).await.unwrap();
    eventually("the view is the new one", async || shouts(&world, &tenant).await == ["the first note!"]).await;
    world.end().await;
}
