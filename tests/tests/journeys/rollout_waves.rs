//! Rollouts go wave by wave, and stop where too much fails.

use rustix::process::Signal;
use serde_json::json;
use tenantry_api::{BreakerLength, CreateRollout, CreateWave, ErrorBudget, ListQuery, MigrationSet, Rollout, Tenant};
use tenantry_domain::{RolloutState, RolloutStop};
use tenantry_testkit::eventually;
use tenantry_tests::{Program, World, files};

const FRAGILE: (&str, &str) =
    ("V4__no_empty_notes.sql", "ALTER TABLE notes ADD CONSTRAINT notes_say_something CHECK (body <> '');\n");

fn wave(select: &str, budget: Option<u32>) -> CreateWave {
    let error_budget = ErrorBudget { targets: budget, percent: None };
    CreateWave { select: select.parse().unwrap(), bake_seconds: 0, error_budget }
}

async fn fleet(world: &World<'_>, number: usize) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for number in 0..number {
        tenants.push(world.tenant(&format!("t{number}")).await);
    }
    tenants
}

/// A note that the next file refuses.
async fn spoil(world: &World<'_>, tenant: &Tenant) {
    world.connect(tenant).await.run("INSERT INTO notes (body) VALUES ('')").await;
}

async fn label(world: &World<'_>, tenant: &Tenant) {
    let path = format!("/v1/tenants/{}", tenant.id);
    world.wire().patch(&path, &json!({ "labels": { "tier": "canary" } })).await.ok();
}

async fn push(world: &World<'_>) -> MigrationSet {
    world.push("next", &files::notes_and(FRAGILE.0, FRAGILE.1)).await
}

async fn roll_out(world: &World<'_>, create: &CreateRollout) -> Rollout {
    let rollout = world.client().create_rollout(create).await.unwrap();
    world.rolled_out(rollout.id).await
}

async fn version(world: &World<'_>, tenant: &Tenant) -> i64 {
    world.show(tenant).await.schema_version.0
}

async fn is_promoted(world: &World<'_>, set: &MigrationSet) -> bool {
    world.client().show_migration_set(&set.id).await.unwrap().promoted_at.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_among_the_canaries_reaches_nobody_else() {
    let world = World::start().await;
    let tenants = fleet(&world, 5).await;
    spoil(&world, &tenants[3]).await;
    label(&world, &tenants[3]).await;
    let set = push(&world).await;
    let waves = Some(vec![wave("label:tier=canary", Some(0)), wave("all", Some(0))]);
    let create = CreateRollout { waves, ..CreateRollout::new(set.id.clone()) };
    let stopped = roll_out(&world, &create).await;
    assert_eq!(stopped.stop, Some(RolloutStop::WaveBudget { wave: 0, failed: 1 }), "{stopped:?}");
    assert_eq!((stopped.state, stopped.wave, stopped.counts.failed), (RolloutState::Failed, 0, 1));
    assert_eq!((stopped.counts.applied, stopped.counts.pending), (0, 4));
    for tenant in &tenants {
        assert_eq!(version(&world, tenant).await, 3);
    }
    assert!(!is_promoted(&world, &set).await);
    assert_eq!(world.tenant("born-meanwhile").await.schema_version.0, 3);

    // Mended, it goes on with the canary, and then with all, those born meanwhile included.
    world.connect(&tenants[3]).await.run("DELETE FROM notes WHERE body = ''").await;
    world.client().retry_rollout(stopped.id).await.unwrap();
    let ended = world.rolled_out(stopped.id).await;
    assert_eq!(
        (ended.state, ended.stop.clone(), ended.counts.applied),
        (RolloutState::Succeeded, None, 6),
        "{ended:?}"
    );
    assert!(is_promoted(&world, &set).await);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_promoted_once_its_canaries_are_through() {
    let world = World::start().await;
    let tenants = fleet(&world, 4).await;
    let held = &tenants[2];
    let reader = world.connect(held).await;
    reader.run("BEGIN; SELECT FROM notes").await;
    for tenant in &tenants[..2] {
        label(&world, tenant).await;
    }
    let set = push(&world).await;
    let bakes = CreateWave { bake_seconds: 1, ..wave("label:tier=canary", Some(0)) };
    let create = CreateRollout { waves: Some(vec![bakes]), ..CreateRollout::new(set.id.clone()) };
    let rollout = world.client().create_rollout(&create).await.unwrap();
    eventually("the canaries are through and bake", async || {
        world.client().show_rollout(rollout.id).await.unwrap().bakes_until.is_some()
    })
    .await;
    let baking = world.client().show_rollout(rollout.id).await.unwrap();
    if baking.wave == 0 {
        assert_eq!((baking.counts.applied, baking.counts.pending), (2, 2), "{baking:?}");
    }
    eventually("the set is promoted", async || is_promoted(&world, &set).await).await;
    // The last wave cannot end while a reader is in the way, and new tenants have the set all the same.
    assert_eq!(world.tenant("born-later").await.schema_version.0, 4);
    assert!(!world.client().show_rollout(rollout.id).await.unwrap().state.is_finished());
    reader.run("COMMIT").await;
    let ended = world.rolled_out(rollout.id).await;
    let by_wave: Vec<u64> = ended.waves.iter().map(|wave| wave.counts.applied).collect();
    assert_eq!((ended.state, by_wave), (RolloutState::Succeeded, vec![2, 2]), "{ended:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_within_the_budget_hold_up_nobody() {
    let world = World::start().await;
    let tenants = fleet(&world, 4).await;
    spoil(&world, &tenants[1]).await;
    let set = push(&world).await;
    let waves = Some(vec![wave("2", Some(1)), wave("all", Some(1))]);
    let budget = ErrorBudget { targets: Some(1), percent: None };
    let create = CreateRollout { waves, error_budget: budget, ..CreateRollout::new(set.id.clone()) };
    let ended = roll_out(&world, &create).await;
    assert_eq!((ended.state, ended.stop.clone()), (RolloutState::Failed, None), "a live tenant is below: {ended:?}");
    assert_eq!((ended.counts.applied, ended.counts.failed), (3, 1));
    world.connect(&tenants[1]).await.run("DELETE FROM notes WHERE body = ''").await;
    world.client().retry_rollout(ended.id).await.unwrap();
    assert_eq!(world.rolled_out(ended.id).await.state, RolloutState::Succeeded);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_when_all_fail_alike() {
    let world = World::start().await;
    let tenants = fleet(&world, 6).await;
    for tenant in &tenants {
        spoil(&world, tenant).await;
    }
    let set = push(&world).await;
    let create = CreateRollout {
        breaker: BreakerLength::new(2).ok(),
        concurrency: tenantry_api::Concurrency::new(1).ok(),
        ..CreateRollout::at_once(set.id.clone())
    };
    let stopped = roll_out(&world, &create).await;
    assert_eq!(stopped.stop, Some(RolloutStop::Breaker { sqlstate: "23514".to_owned(), times: 2 }), "{stopped:?}");
    assert_eq!((stopped.state, stopped.counts.failed), (RolloutState::Failed, 2));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_on_the_command_line() {
    let world = World::start().await;
    let tenants = fleet(&world, 5).await;
    spoil(&world, &tenants[4]).await;
    label(&world, &tenants[4]).await;
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files::notes_and(FRAGILE.0, FRAGILE.1) {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let folder = directory.path().to_str().unwrap();
    let program = Program::new(&world.url(), world.token());
    let bad = program.run(["migrate", "apply", "--dir", folder, "--wave", "a-few"]).await;
    assert_eq!(bad.code(), Some(1), "{}", bad.stderr);
    assert!(bad.stderr.contains("label:KEY=VALUE"), "{}", bad.stderr);

    // The advice is heard, and overruled.
    let overruled = ["--allow", "squawk/constraint-missing-not-valid"];
    let waves = ["--wave", "label:tier=canary", "--wave", "all"];
    let apply = ["migrate", "apply", "--dir", folder].into_iter().chain(overruled).chain(waves);
    let stopped = program.run(apply).await;
    assert_eq!(stopped.code(), Some(4), "{}{}", stopped.stdout, stopped.stderr);
    for said in ["label:tier=canary", "stopped", "waits", "notes_say_something"] {
        assert!(stopped.stdout.contains(said), "{said}: {}", stopped.stdout);
    }
    assert!(stopped.stderr.contains("1 failed in wave 1, more than its error budget"), "{}", stopped.stderr);

    let report = directory.path().join("rollout.xml");
    let again = program.run(["migrate", "retry", "--junit", report.to_str().unwrap()]).await;
    assert_eq!(again.code(), Some(4), "the canary is broken still: {}", again.stderr);
    let report = std::fs::read_to_string(report).unwrap();
    for said in [r#"tests="5" skipped="4" failures="1""#, r#"name="t4""#, "notes_say_something", "not begun"] {
        assert!(report.contains(said), "{said}: {report}");
    }
    world.connect(&tenants[4]).await.run("DELETE FROM notes WHERE body = ''").await;
    let ended = program.run(["migrate", "retry", "--output", "json"]).await;
    assert_eq!(ended.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&json["rollout"]["state"], &json["rollout"]["wave"]), (&json!("succeeded"), &json!(1)), "{json}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_ended_leaves_its_rollout_running_or_paused_as_it_chose() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    // The program may have to be built first; a transaction that sits idle for a minute is ended.
    program.run(["--version"]).await.ok();
    let held = world.tenant("held").await;
    let reader = world.connect(&held).await;
    reader.run("BEGIN; SELECT FROM notes").await;
    let set = world.push("next", &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars int;\n")).await;
    let id = set.id.to_string();
    let newest = async || world.client().list_rollouts(&ListQuery::default()).await.unwrap().items.into_iter().next();
    let is_running = async || newest().await.is_some_and(|rollout| rollout.state == RolloutState::Running);
    let running = async || eventually("the rollout runs", is_running).await;

    let arguments = ["migrate", "apply", "--set", &id, "--wave", "all,budget=any", "--when-interrupted", "pause"];
    let paused = program.interrupt(arguments, Signal::TERM, running()).await;
    assert_eq!(paused.code(), Some(6), "{}", paused.stderr);
    let rollout = newest().await.unwrap();
    assert_eq!(rollout.state, RolloutState::Paused);
    assert!(paused.stderr.contains(&format!("tenantry migrate resume {}", rollout.id)), "{}", paused.stderr);

    reader.run("SELECT FROM notes").await;
    let left = program.interrupt(["migrate", "resume"], Signal::INT, running()).await;
    assert_eq!(left.code(), Some(6), "{}", left.stderr);
    assert!(left.stderr.contains("tenantry migrate watch"), "{}", left.stderr);
    assert!(!newest().await.unwrap().state.is_finished());
    reader.run("COMMIT").await;
    let ended = program.run(["migrate", "watch"]).await;
    assert_eq!(ended.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    world.end().await;
}
