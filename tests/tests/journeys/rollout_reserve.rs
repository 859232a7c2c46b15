//! Rollouts over tenants that take no time, which are claimed before their turn.

use tenantry_api::{Concurrency, CreateRollout, ErrorBudget, Rollout, Tenant};
use tenantry_domain::{Isolation, RolloutId, RolloutState, TargetState};
use tenantry_testkit::eventually;
use tenantry_tests::{World, files};

const CONCURRENCY: u64 = 4;

/// Fast enough to be claimed ahead, and slow enough to be met under way.
const STEP: &str = "SELECT pg_sleep(0.1);\nALTER TABLE notes ADD CONSTRAINT notes_say_something CHECK (body <> '');\n";

async fn fleet(world: &World<'_>, number: usize) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for number in 0..number {
        tenants.push(world.tenant(&format!("t{number}")).isolation(Isolation::Schema).await);
    }
    tenants
}

async fn begin(world: &World<'_>, error_budget: ErrorBudget) -> Rollout {
    let set = world.push("next", &files::notes_and("V4__step.sql", STEP)).await;
    let concurrency = Concurrency::new(CONCURRENCY).ok();
    let create = CreateRollout { concurrency, error_budget, ..CreateRollout::at_once(set.id) };
    world.client().create_rollout(&create).await.unwrap()
}

async fn show(world: &World<'_>, id: RolloutId) -> Rollout {
    world.client().show_rollout(id).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_gives_back_what_was_not_begun_and_counts_no_attempt() {
    let world = World::start().await;
    fleet(&world, 40).await;
    let rollout = begin(&world, ErrorBudget::default()).await;
    let mut most = 0;
    eventually("some were claimed ahead", async || {
        let counts = show(&world, rollout.id).await.counts;
        most = most.max(counts.running);
        most > CONCURRENCY
    })
    .await;
    world.client().pause_rollout(rollout.id).await.unwrap();
    eventually("nobody is in hand", async || show(&world, rollout.id).await.counts.running == 0).await;
    let paused = show(&world, rollout.id).await;
    assert_eq!(paused.state, RolloutState::Paused);
    assert!(paused.counts.pending > 0, "{paused:?}");
    assert_eq!(paused.counts.applied + paused.counts.pending, 40, "{paused:?}");

    world.client().resume_rollout(rollout.id).await.unwrap();
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.applied), (RolloutState::Succeeded, 40), "{ended:?}");
    let page = world.wire().get(&format!("/v1/rollouts/{}/targets?limit=500", rollout.id)).await.ok();
    let attempts = page.json["items"].as_array().unwrap().iter().map(|target| target["attempts"].as_u64());
    assert!(attempts.clone().count() == 40 && attempts.flatten().all(|attempts| attempts == 1), "{}", page.text);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_skips_what_was_claimed_ahead() {
    let world = World::start().await;
    fleet(&world, 40).await;
    let rollout = begin(&world, ErrorBudget::default()).await;
    eventually("some were claimed ahead", async || show(&world, rollout.id).await.counts.running > CONCURRENCY).await;
    world.client().abort_rollout(rollout.id).await.unwrap();
    eventually("nobody is in hand", async || show(&world, rollout.id).await.counts.running == 0).await;
    let aborted = show(&world, rollout.id).await;
    assert!(aborted.counts.skipped > 0, "{aborted:?}");
    assert_eq!(aborted.counts.applied + aborted.counts.skipped, 40, "{aborted:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_beyond_the_budget_ends_what_was_claimed_ahead() {
    let world = World::start().await;
    let tenants = fleet(&world, 40).await;
    world.connect(&tenants[20]).await.run("INSERT INTO notes (body) VALUES ('')").await;
    let rollout = begin(&world, ErrorBudget { targets: Some(0), percent: None }).await;
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.failed, ended.counts.running), (RolloutState::Failed, 1, 0), "{ended:?}");
    assert!(ended.stop.is_some() && ended.counts.pending > 0, "{ended:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_work_is_left_some_and_no_more_run_than_may() {
    let world = World::builder().replicas(2).start().await;
    let tenants = fleet(&world, 60).await;
    let database = world.route(&tenants[0]).await.database.unwrap();
    let homes = world.root(world.main_cluster(), database.as_str()).await;
    let rollout = begin(&world, ErrorBudget::default()).await;
    let catalog = world.catalog_client().await;
    eventually("both replicas work", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep(0.1)%'
                      AND pid <> pg_backend_pid()";
        let at_once: i64 = homes.query_one(sql, &[]).await.unwrap().get(0);
        assert!(at_once <= i64::try_from(CONCURRENCY).unwrap(), "{at_once} at the same time");
        let sql = "SELECT count(DISTINCT lease_owner) FROM rollout_target WHERE rollout = $1 AND state = $2";
        let running = TargetState::Running.as_str();
        let owners: i64 = catalog.query_one(sql, &[&rollout.id.as_uuid(), &running]).await.unwrap().get(0);
        owners == 2
    })
    .await;
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.applied), (RolloutState::Succeeded, 60), "{ended:?}");
    world.end().await;
}
