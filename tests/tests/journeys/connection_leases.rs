//! Routers share the connections of a cluster: never more than its ceiling together, and each where it needs them.

use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tenantry_api::{ClusterDemand, FeedEvent, RouterReport, Tenant};
use tenantry_domain::{ClusterLimits, FeedVersion, Isolation, LeaseSerial, router_application_name};
use tenantry_router::{Router, RouterConfig};
use tenantry_testkit::eventually;
use tenantry_tests::World;
use tokio::task::JoinSet;

const CEILING: u32 = 16;

fn limits() -> ClusterLimits {
    ClusterLimits { router_connections: Some(CEILING), ..ClusterLimits::default() }
}

async fn world() -> (World<'static>, Vec<Tenant>) {
    let world = World::builder().without_migrations().limits(limits()).start().await;
    let mut tenants = Vec::new();
    for number in 0..4 {
        tenants.push(world.tenant(&format!("company-{number}")).isolation(Isolation::Schema).await);
    }
    (world, tenants)
}

async fn router(world: &World<'_>, name: &str) -> Router {
    let config = RouterConfig {
        pool_size: 10,
        wait_timeout: Duration::from_mins(1),
        report_interval: Duration::from_secs(1),
        ..RouterConfig::default()
    };
    let builder = Router::builder().control_plane(world.url(), world.token().clone());
    builder.name(name).config(config).build().await.unwrap()
}

/// Callers who take a connection, hold it for a moment and come again.
fn keep_busy(router: &Router, tenants: &[Tenant], callers: usize) -> JoinSet<()> {
    let mut busy = JoinSet::new();
    for number in 0..callers {
        let (router, tenant) = (router.clone(), tenants[number % tenants.len()].id);
        busy.spawn(async move {
            loop {
                let tenant = router.tenant(tenant).await.unwrap();
                let client = tenant.client().await.unwrap();
                client.batch_execute("SELECT pg_sleep(0.01)").await.unwrap();
            }
        });
    }
    busy
}

/// Connections of each router, as the server counts them.
async fn open(world: &World<'_>, routers: &[&str]) -> Vec<i64> {
    let names: Vec<String> = routers.iter().map(|name| router_application_name(name)).collect();
    let sql = "SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = name)
                 FROM unnest($1::text[]) WITH ORDINALITY AS n (name, place) ORDER BY place";
    let root = world.root(world.main_cluster(), world.admin_database()).await;
    root.query(sql, &[&names]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn leases(world: &World<'_>) -> Vec<Value> {
    let routers = world.wire().get("/v1/routers").await.ok().json["items"].clone();
    routers.as_array().unwrap().iter().flat_map(|it| it["leases"].as_array().unwrap().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_follow_the_demand_within_the_ceiling() {
    let (world, tenants) = world().await;
    let (one, other) = (router(&world, "one").await, router(&world, "other").await);
    eventually("both know all tenants", async || {
        let known =
            async |router: &Router| futures::future::join_all(tenants.iter().map(|it| router.tenant(it.id))).await;
        known(&one).await.iter().chain(&known(&other).await).all(Result::is_ok)
    })
    .await;
    let busy_one = keep_busy(&one, &tenants, 24);
    let within = async |wanted: &str, is_so: &dyn Fn(i64, i64) -> bool| {
        eventually(wanted, async || {
            let open = open(&world, &["one", "other"]).await;
            assert!(open.iter().sum::<i64>() <= CEILING.into(), "{open:?}");
            is_so(open[0], open[1])
        })
        .await;
    };
    within("the first has most", &|one, _| one >= 10).await;
    let mut busy_other = keep_busy(&other, &tenants, 24);
    within("both have as many", &|one, other| one <= 7 && other >= 5).await;
    drop(busy_one);
    within("the second has most", &|_, other| other >= 8).await;
    // What the first had it may have lost altogether.
    let leased = leases(&world).await.iter().map(|lease| lease["connections"].as_u64().unwrap_or(0)).sum::<u64>();
    assert!(leased <= CEILING.into(), "{leased}");
    assert!(busy_other.try_join_next().is_none(), "nobody failed");
    busy_other.shutdown().await;
    one.close();
    other.close();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_router_that_is_gone_had_goes_to_others_once_its_connections_are_gone() {
    let (world, tenants) = world().await;
    let gone = router(&world, "gone").await;
    eventually("it knows the tenant", async || gone.tenant(tenants[0].id).await.is_ok()).await;
    let held = gone.tenant(tenants[0].id).await.unwrap().client().await.unwrap();
    eventually("it is leased some", async || leases(&world).await.iter().any(|it| it["connections"].is_u64())).await;
    let catalog = world.catalog_client().await;
    let look = async || {
        catalog.batch_execute("UPDATE router SET reported_at = now() - interval '1 hour'").await.unwrap();
        let tx = world.store().begin().await.unwrap();
        tx.poke_reconciler("connection_leases").await.unwrap();
        tx.commit().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        leases(&world).await.iter().all(|it| it["connections"].is_null())
    };
    gone.close();
    // It is silent, and its connection is there.
    for _ in 0..5 {
        assert!(!look().await, "a router with a connection keeps what it has");
    }
    drop(held);
    eventually("its lease is taken back", look).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_follows_is_told_what_it_may_hold_by_a_catalog_that_was_restored() {
    let world = World::builder().without_migrations().limits(limits()).start().await;
    let (client, cluster) = (world.client(), world.main_cluster().id);
    let report = async |router: &str, waiting| {
        let demand = ClusterDemand { cluster, open: 0, idle: 0, waiting, acknowledged: None };
        let report = RouterReport { applied_version: FeedVersion(0), routes: 0, pools: 0, clusters: vec![demand] };
        client.report_router(router, &report).await.unwrap();
    };
    report("one", 5).await;
    let feed = client.feed_as("one", None, |event| match event {
        FeedEvent::Lease(lease) => Some((lease.connections, lease.serial)),
        _ => None,
    });
    let mut feed = feed.await.unwrap();
    let mut told = async || {
        let lease = async {
            loop {
                if let Some(lease) = feed.next().await.unwrap().unwrap() {
                    break lease;
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), lease).await.expect("it is told")
    };
    let first = told().await;
    let catalog = world.catalog_client().await;
    let keep = "CREATE TEMP TABLE kept AS SELECT * FROM connection_lease;
                CREATE TEMP TABLE kept_clock AS SELECT * FROM lease_clock";
    catalog.batch_execute(keep).await.unwrap();
    report("other", 100).await;
    let less = told().await;
    assert!(less.0 < first.0 && less.1 > first.1, "{less:?} after {first:?}");

    let restore = "DELETE FROM connection_lease; INSERT INTO connection_lease SELECT * FROM kept;
                   UPDATE lease_clock SET serial = kept.serial FROM kept_clock AS kept";
    catalog.batch_execute(restore).await.unwrap();
    assert_eq!(told().await, first);
    // A catalog that knows of no lease takes back what was leased.
    catalog.batch_execute("DELETE FROM connection_lease; UPDATE lease_clock SET serial = 0").await.unwrap();
    assert_eq!(told().await, (None, LeaseSerial(0)));
    report("one", 5).await;
    assert_eq!(told().await.0, first.0);
    drop(feed);
    world.end().await;
}
