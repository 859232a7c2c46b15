//! What a catalog of a hundred thousand tenants costs a control plane: memory, and the time of an answer.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tenantry_api::FeedEvent;
use tenantry_domain::Isolation;
use tenantry_tests::{Serve, Wire, World, crowd};
use tokio_postgres::Client;

use tenantry_tests::figures::{Side, figure};

const ASKED: usize = 200;

pub(crate) async fn measure() {
    let mut world = World::builder().start().await;
    let model = world.tenant("model").isolation(Isolation::Database).await;
    let catalog = world.catalog_client().await;
    crowd::fill(&catalog, &model).await;
    world.take_replica(0).stop().await;
    let serve = Serve::start_with(&world, &[("TENANTRY__TELEMETRY__LOG_FILTER", "warn,tenantry=info")]).await;
    world.use_door(serve.url());
    figure("memory_idle_mb", serve.memory_mb("VmRSS"), "MB");

    let ids: Vec<String> = ids(&catalog).await;
    let wire = world.wire();
    let mut worst: f64 = 0.0;
    let asked: [(&str, &dyn Fn(usize) -> String); 9] = [
        ("list_first", &|_| "/v1/tenants".to_owned()),
        ("list_middle", &|number| format!("/v1/tenants?cursor={}", ids[number * 97 % ids.len()])),
        ("list_of_status", &|_| "/v1/tenants?status=suspended".to_owned()),
        ("list_of_plan", &|_| "/v1/tenants?plan=team".to_owned()),
        ("show", &|number| format!("/v1/tenants/{}", ids[number * 131 % ids.len()])),
        ("show_by_slug", &|number| format!("/v1/tenants/company-{}", 1 + number * 491 % 99_999)),
        ("search_prefix", &|number| format!("/v1/tenants?slug_prefix=company-{}", 1_000 + number * 7)),
        ("search_label", &|number| format!("/v1/tenants?labels=account%3D{}", number * 17 % 5_000)),
        ("search_common_label", &|number| {
            format!("/v1/tenants?labels=tier%3D{}", ["gold", "silver", "free"][number % 3])
        }),
    ];
    for (name, path) in asked {
        let p95 = ask(&wire, path).await;
        figure(&format!("{name}_100k_p95_ms"), p95, "ms");
        worst = worst.max(p95);
    }
    figure("list_100k_p95_ms", worst, "ms");
    figure("memory_after_lists_mb", serve.memory_mb("VmRSS"), "MB");

    let (routes, took) = snapshot(&world).await;
    assert!(routes > 95_000, "{routes} routes in the snapshot");
    figure("snapshot_100k_s", took.as_secs_f64(), "s");
    figure("memory_100k_mb", serve.memory_mb("VmRSS"), "MB");
    figure("memory_100k_peak_mb", serve.memory_mb("VmHWM"), "MB");
    crowd::empty(&catalog, &model).await;
    drop(catalog);
    world.end().await;
    assert!(serve.terminate().await.success());
}

async fn ids(catalog: &Client) -> Vec<String> {
    let rows = catalog.query("SELECT id::text FROM tenant WHERE slug LIKE 'company-%' ORDER BY id", &[]).await;
    rows.expect("the tenants").iter().map(|row| row.get(0)).collect()
}

/// The 95th percentile of asking, in milliseconds, once connections and caches are warm.
async fn ask(wire: &Wire, path: &dyn Fn(usize) -> String) -> f64 {
    let mut side = Side::default();
    for number in 0..ASKED + 10 {
        let path = path(number);
        let began = Instant::now();
        let answer = wire.get(&path).await;
        let took = began.elapsed();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        if number >= 10 {
            side.push(took);
        }
    }
    side.percentile_ms(95)
}

/// Reads a snapshot of the feed to its end, as a router does.
async fn snapshot(world: &World<'_>) -> (usize, Duration) {
    let began = Instant::now();
    let mut feed = world.client().feed(None).await.expect("the feed");
    let mut routes = 0;
    while let Some(event) = feed.next().await {
        match event.expect("an event") {
            FeedEvent::Route(_) => routes += 1,
            FeedEvent::SnapshotEnd { .. } => break,
            _ => {}
        }
    }
    (routes, began.elapsed())
}
