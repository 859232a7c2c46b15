//! Rollouts over a hundred thousand tenants.

use std::time::{Duration, Instant};

use serde_json::json;
use tenantry_api::CreateRollout;
use tenantry_domain::{Isolation, RolloutId, RolloutState};
use tenantry_testkit::{BreakableSocket, Server};
use tenantry_tests::crowd::{self, TENANTS};
use tenantry_tests::figures::{Side, figure, percentile};
use tenantry_tests::{Serve, Wire, World, files};

const NOOPS: usize = 7;
/// How long the rollout that has everything to do is looked at.
const LOOKING: Duration = Duration::from_secs(20);

pub(crate) async fn measure() {
    let door = BreakableSocket::before(Server::shared().await.address()).await;
    let mut world = World::builder().homes_at(door.address()).start().await;
    let set = world.push("first", &files::notes()).await;
    let model = world.tenant("model").isolation(Isolation::Database).await;
    let catalog = world.catalog_client().await;
    crowd::fill(&catalog, &model).await;
    world.take_replica(0).stop().await;
    let serve = Serve::start_with(&world, &[("TENANTRY__TELEMETRY__LOG_FILTER", "warn,tenantry=info")]).await;
    world.use_door(serve.url());
    let wire = world.wire();

    // Nothing to do: everybody is there already.
    let (mut took, mut connections) = (Side::default(), Vec::new());
    for _ in 0..NOOPS {
        let (accepted, began) = (door.accepted(), Instant::now());
        let answer = wire.post("/v1/rollouts?wait=60", &json!(CreateRollout::new(set.id.clone()))).await;
        took.push(began.elapsed());
        let rollout: tenantry_api::Rollout = serde_json::from_value(answer.json).expect("a rollout");
        assert_eq!(rollout.state, RolloutState::Succeeded, "{rollout:?}");
        assert_eq!(rollout.counts.already, u64::try_from(TENANTS).expect("a number") + 1, "{rollout:?}");
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        connections.push((door.accepted() - accepted) as f64);
    }
    figure("noop_100k_s", took.percentile_ms(50) / 1e3, "s");
    // The median: a check of the cluster's health may fall into one of them.
    figure("noop_100k_connections", percentile(&connections, 50), "connections");

    // Everything to do. Their homes are rows without objects, so that each fails, after a login that is refused.
    let more = world.push("more", &files::notes_and("V4__more.sql", "CREATE TABLE more (id bigint);")).await;
    let began = Instant::now();
    let answer = wire.post("/v1/rollouts", &json!(CreateRollout::at_once(more.id))).await;
    figure("begin_100k_s", began.elapsed().as_secs_f64(), "s");
    let rollout: tenantry_api::Rollout = serde_json::from_value(answer.json).expect("a rollout");
    assert_eq!(rollout.counts.total(), u64::try_from(TENANTS).expect("a number") + 1);
    look(&wire, rollout.id).await;
    figure("memory_100k_mb", serve.memory_mb("VmHWM"), "MB");
    let aborted = wire.post_text(&format!("/v1/rollouts/{}/abort", rollout.id), "").await;
    assert_eq!(aborted.status, 200, "{}", aborted.text);
    figure("tried_per_second", tried(&wire, rollout.id).await / LOOKING.as_secs_f64(), "1/s");
    crowd::empty(&catalog, &model).await;
    drop(catalog);
    world.end().await;
    assert!(serve.terminate().await.success());
}

/// Asks for the rollout again and again while it runs.
async fn look(wire: &Wire, id: RolloutId) {
    let (began, mut side) = (Instant::now(), Side::default());
    let path = format!("/v1/rollouts/{id}");
    while began.elapsed() < LOOKING {
        let asked = Instant::now();
        let answer = wire.get(&path).await;
        side.push(asked.elapsed());
        // Queued until the first target is claimed.
        assert!(["queued", "running"].iter().any(|state| answer.json["state"] == *state), "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    figure("status_100k_ms", side.percentile_ms(50), "ms");
    figure("status_100k_p95_ms", side.percentile_ms(95), "ms");
}

async fn tried(wire: &Wire, id: RolloutId) -> f64 {
    let counts = wire.get(&format!("/v1/rollouts/{id}")).await.json["counts"].clone();
    counts["failed"].as_f64().unwrap_or(0.0) + counts["applied"].as_f64().unwrap_or(0.0)
}
