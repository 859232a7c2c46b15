//! Rollouts wait for each other, for their time and for their hours.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tenantry_api::{CreateRollout, Rollout};
use tenantry_domain::{RolloutState, RolloutStop};
use tenantry_testkit::eventually;
use tenantry_tests::{Program, World, files};

fn with(number: usize) -> files::Files {
    let mut files = files::notes();
    for version in 4..4 + number {
        files.push((format!("V{version}__step.sql"), format!("CREATE TABLE step_{version} (id bigint);\n")));
    }
    files
}

/// Hours that begin in half a day and last an hour.
pub(crate) fn not_now() -> String {
    let begins = Timestamp::now() + Duration::from_hours(12);
    let at = begins.to_zoned(jiff::tz::TimeZone::UTC);
    format!("{:02}:00-{:02}:30", at.hour(), at.hour())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_waits_for_the_other_and_one_that_was_overtaken_ends() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    let sets = [world.push("one", &with(1)).await, world.push("two", &with(2)).await];
    // The first is under way, and holds the others up, until it is resumed.
    let held = CreateRollout { hours: not_now().parse().ok(), ..CreateRollout::at_once(sets[0].id.clone()) };
    let first = world.client().create_rollout(&held).await.unwrap();
    assert!(first.began_at.is_some() && first.opens_at.is_some(), "{first:?}");

    let program = Program::new(&world.url(), world.token());
    let two = sets[1].id.to_string();
    let refused = program.run(["migrate", "apply", "--set", &two, "--no-wait"]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("Another rollout is under way"), "{}", refused.stderr);
    let queue = ["migrate", "apply", "--set", &two, "--no-wait", "--queue", "--wave", "all"];
    let urgent: Rollout =
        serde_json::from_value(program.json(queue.into_iter().chain(["--priority", "10"])).await).unwrap();
    assert_eq!((urgent.state, urgent.began_at, urgent.priority), (RolloutState::Queued, None, 10));
    let behind = CreateRollout { queue: true, ..CreateRollout::at_once(sets[0].id.clone()) };
    let behind = world.client().create_rollout(&behind).await.unwrap();
    assert_eq!(world.show(&tenant).await.schema_version.0, 3, "its hours are over");

    world.client().abort_rollout(first.id).await.unwrap();
    let ended = world.rolled_out(urgent.id).await;
    assert_eq!((ended.state, ended.counts.applied), (RolloutState::Succeeded, 1), "{ended:?}");
    let ended = world.rolled_out(behind.id).await;
    let version = tenantry_domain::SchemaVersion(5);
    assert_eq!((ended.state, ended.stop), (RolloutState::Failed, Some(RolloutStop::Overtaken { version })));
    let watched = program.run(["migrate", "watch", &behind.id.to_string()]).await;
    assert_eq!(watched.status.code(), Some(2), "nobody was touched: {}", watched.stderr);

    let versions = world.client().show_fleet_versions(behind.id).await.unwrap().items;
    assert_eq!((versions.len(), versions[0].version.0, versions[0].tenants, versions[0].behind), (1, 5, 1, 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_waits_for_its_time_and_can_be_ended_before() {
    let world = World::start().await;
    world.tenant("acme").await;
    let set = world.push("one", &with(1)).await;
    let soon = Some(Timestamp::now() + Duration::from_secs(2));
    let waits = CreateRollout { not_before: soon, ..CreateRollout::at_once(set.id.clone()) };
    let rollout = world.client().create_rollout(&waits).await.unwrap();
    assert_eq!((rollout.state, rollout.began_at), (RolloutState::Queued, None));
    let never = CreateRollout { not_before: Some(Timestamp::now() + Duration::from_hours(9)), ..waits };
    let never = world.client().create_rollout(&never).await.unwrap();
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.applied), (RolloutState::Succeeded, 1));
    assert!(ended.began_at >= soon, "{ended:?}");
    let aborted = world.client().abort_rollout(never.id).await.unwrap();
    assert_eq!((aborted.state, aborted.counts.total()), (RolloutState::Aborted, 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_begin_again_let_the_rollout_go_on() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    let set = world.push("one", &with(1)).await;
    let wire = world.wire();
    for (field, value) in [
        ("hours", json!("22:00-05:00 Mars/Olympus")),
        ("hours", json!("at night")),
        ("priority", json!(1_000)),
        ("not_before", json!("tomorrow")),
    ] {
        let body = json!({ "migration_set": set.id, field: value });
        wire.post("/v1/rollouts", &body).await.problem(400, "invalid_request");
    }
    let held = CreateRollout { hours: not_now().parse().ok(), ..CreateRollout::at_once(set.id.clone()) };
    let rollout = world.client().create_rollout(&held).await.unwrap();
    let status = Program::new(&world.url(), world.token()).run(["migrate", "status"]).await.ok();
    assert!(status.stdout.contains("hours begin"), "{}", status.stdout);
    assert_eq!(world.client().show_rollout(rollout.id).await.unwrap().counts.pending, 1);
    // Half a day later.
    let catalog = world.catalog_client().await;
    catalog.execute("UPDATE rollout SET hours = '00:00-24:00' WHERE id = $1", &[&rollout.id.as_uuid()]).await.unwrap();
    world.client().pause_rollout(rollout.id).await.unwrap();
    world.client().resume_rollout(rollout.id).await.unwrap();
    eventually("the tenant is migrated", async || world.show(&tenant).await.schema_version.0 == 4).await;
    world.rolled_out(rollout.id).await;
    drop(catalog);
    world.end().await;
}
