//! What a catalog of a hundred thousand tenants costs a control plane: memory, and the time of an answer.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tenantry_api::FeedEvent;
use tenantry_domain::Isolation;
use tenantry_tests::{Serve, Wire, World};
use tokio_postgres::Client;

use crate::figures::{Side, figure};

const TENANTS: i32 = 100_000;
const CLUSTERS: i32 = 20;
const ASKED: usize = 200;

pub(crate) async fn measure() {
    let mut world = World::builder().start().await;
    let model = world.tenant("model").isolation(Isolation::Database).await;
    let catalog = world.catalog_client().await;
    fill(&catalog, &model.id.as_uuid()).await;
    world.take_replica(0).stop().await;
    let serve = Serve::start_with(&world, &[("TENANTRY__TELEMETRY__LOG_FILTER", "warn,tenantry=info")]).await;
    world.use_door(serve.url());
    figure("memory_idle_mb", resident(&serve, "VmRSS"), "MB");

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
    figure("memory_after_lists_mb", resident(&serve, "VmRSS"), "MB");

    let (routes, took) = snapshot(&world).await;
    assert!(routes > 95_000, "{routes} routes in the snapshot");
    figure("snapshot_100k_s", took.as_secs_f64(), "s");
    figure("memory_100k_mb", resident(&serve, "VmRSS"), "MB");
    figure("memory_100k_peak_mb", resident(&serve, "VmHWM"), "MB");
    empty(&catalog, &model.id.as_uuid()).await;
    drop(catalog);
    world.end().await;
    assert!(serve.terminate().await.success());
}

/// Rows as a hundred thousand provisions would have left them. Their passwords are the model's: what opening them costs
/// does not depend on what they are.
async fn fill(catalog: &Client, model: &uuid::Uuid) {
    let sql = format!(
        "SET session_replication_role = replica;
CREATE FUNCTION pg_temp.id(kind text, number integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(1790000000000 + number), 12, '0') || '7' || substr(md5(kind || number), 1, 3) || '8'
            || substr(md5(kind || number), 4, 15))::uuid
$$;
INSERT INTO cluster (id, name, region, tenancy, provider, host, port, tls_mode, admin_user, admin_database, admin_secret,
                     system_identifier, server_version, locale, limits, state, homes, databases)
SELECT pg_temp.id('cluster', number), 'cluster-' || number, 'local', 'shared', 'registered', host, port, tls_mode,
       admin_user, admin_database, admin_secret, number::text, server_version, locale, limits, 'cordoned',
       {TENANTS} / {CLUSTERS}, {TENANTS} / {CLUSTERS}
  FROM cluster, generate_series(1, {CLUSTERS}) AS number WHERE name = 'main';
INSERT INTO tenant (id, slug, name, plan, region, isolation, labels, status, status_reason, suspended_for, suspended_by,
                    suspended_since, generation, schema_version, created_at)
SELECT pg_temp.id('tenant', number), 'company-' || number, 'Company ' || number || ' Ltd',
       CASE WHEN number % 10 = 0 THEN 'team' ELSE 'developer' END, 'local', 'database',
       jsonb_build_object('tier', CASE WHEN number % 20 = 0 THEN 'gold' WHEN number % 4 = 0 THEN 'silver' ELSE 'free' END,
                          'account', (number % 5000)::text, 'country', substr(md5((number % 190)::text), 1, 2)),
       CASE WHEN number % 50 = 0 THEN 'suspended' ELSE 'active' END, CASE WHEN number % 50 = 0 THEN 'unpaid' END,
       CASE WHEN number % 50 = 0 THEN 'payment' END, CASE WHEN number % 50 = 0 THEN 'billing' END,
       CASE WHEN number % 50 = 0 THEN now() END, 1, 3, now() - ({TENANTS} - number) * interval '1 minute'
  FROM generate_series(1, {TENANTS}) AS number;
INSERT INTO home (id, cluster, isolation, database_name, schema_name, migration_set, schema_version, state, login_slot,
                  login_secret, read_only_secret, migrator_secret, tenant, claimed_at, region, residence, connections)
SELECT pg_temp.id('home', number), pg_temp.id('cluster', 1 + number % {CLUSTERS}), 'database',
       'h_' || replace(pg_temp.id('home', number)::text, '-', ''), 'public', migration_set, 3, 'ready', 'a', login_secret,
       read_only_secret, migrator_secret, pg_temp.id('tenant', number), now() - interval '1 day', model.region, residence,
       coalesce((limits ->> 'connections')::bigint, 0)
  FROM generate_series(1, {TENANTS}) AS number JOIN tenant ON tenant.id = pg_temp.id('tenant', number)
  JOIN plan ON plan.name = tenant.plan, home AS model WHERE model.tenant = '{model}';
UPDATE cluster SET connections = (SELECT sum(connections) FROM home WHERE home.cluster = cluster.id)
 WHERE name LIKE 'cluster-%';
INSERT INTO placement (tenant, home, since)
SELECT pg_temp.id('tenant', number), pg_temp.id('home', number), 1 FROM generate_series(1, {TENANTS}) AS number;
INSERT INTO host (name, tenant)
SELECT 'www.company-' || number || '.example', pg_temp.id('tenant', number)
  FROM generate_series(1, {TENANTS}, 3) AS number;
INSERT INTO route (tenant, version, state, generation, home)
SELECT pg_temp.id('tenant', number), 1000 + number, CASE WHEN number % 50 = 0 THEN 'suspended' ELSE 'active' END, 1,
       pg_temp.id('home', number)
  FROM generate_series(1, {TENANTS}) AS number;
UPDATE feed_clock SET version = 1000 + {TENANTS} + 1;
SET session_replication_role = origin;
VACUUM ANALYZE;"
    );
    for statement in sql.split(";\n") {
        let done = catalog.batch_execute(statement).await;
        assert!(done.is_ok(), "{done:?}: {statement}");
    }
}

/// Takes the rows away again, so that the world can be taken down as any other.
async fn empty(catalog: &Client, model: &uuid::Uuid) {
    let sql = format!(
        "SET session_replication_role = replica;
         DELETE FROM route WHERE tenant <> '{model}';
         DELETE FROM placement WHERE tenant <> '{model}';
         DELETE FROM host;
         DELETE FROM home WHERE tenant <> '{model}';
         DELETE FROM tenant WHERE id <> '{model}';
         DELETE FROM cluster WHERE name LIKE 'cluster-%';
         SET session_replication_role = origin"
    );
    catalog.batch_execute(&sql).await.expect("an empty catalog");
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

/// A line of `/proc/…/status` in megabytes.
fn resident(serve: &Serve, line: &str) -> f64 {
    let pid = serve.pid().expect("a process that runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let kilobytes = status.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
    kilobytes.and_then(|text| text.trim().parse::<f64>().ok()).expect("a number of kilobytes") / 1024.0
}
