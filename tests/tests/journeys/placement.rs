//! Where a home goes: by region, tenancy, state and load.

use serde_json::json;
use tenantry_domain::{ClusterLimits, ClusterState, Isolation, Region, Tenancy};
use tenantry_tests::{Admin, World};

fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_stays_in_its_region() {
    let mut world = World::start().await;
    let far = world.add_cluster("far", Admin::Superuser, |wish| wish.region = region("elsewhere")).await;
    let wire = world.wire();
    let there =
        world.tenant("there").isolation(Isolation::Database).with(|it| it.region = Some(region("elsewhere"))).await;
    assert_eq!(there.cluster, Some(far.id));
    let here = world.tenant("here").await;
    assert_eq!(here.cluster, Some(world.main_cluster().id));
    for reference in ["far".to_owned(), far.id.to_string()] {
        let across = json!({ "slug": "across", "region": "local", "cluster": reference });
        wire.post("/v1/tenants", &across).await.problem(422, "residency_violation");
    }
    assert_eq!(wire.get("/v1/tenants").await.ok().json["items"].as_array().unwrap().len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_spreads_over_clusters_and_a_cordoned_one_takes_nobody() {
    let mut world = World::start().await;
    let other = world.add_cluster("other", Admin::Superuser, |_| ()).await;
    let mut clusters = Vec::new();
    for number in 0..4 {
        clusters.push(world.tenant(&format!("t{number}")).await.cluster.unwrap());
    }
    assert_eq!(clusters.iter().filter(|id| **id == other.id).count(), 2, "{clusters:?}");
    let cordoned = world.client().cordon_cluster(&other.id.into()).await.unwrap();
    assert_eq!(cordoned.state, ClusterState::Cordoned);
    for number in 4..6 {
        assert_eq!(world.tenant(&format!("t{number}")).await.cluster, Some(world.main_cluster().id));
    }
    world.client().uncordon_cluster(&other.id.into()).await.unwrap();
    assert_eq!(world.tenant("t6").await.cluster, Some(other.id));
    // Nobody forgets a cluster that somebody lives on.
    world.client().cordon_cluster(&other.id.into()).await.unwrap();
    world.wire().delete("/v1/clusters/other").await.problem(409, "conflict");
    let shown = world.wire().get("/v1/clusters/other").await.ok();
    assert_eq!(shown.json["usage"]["homes"], 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_shared_database_is_followed_by_another() {
    let limits = ClusterLimits { schemas_per_database: 2, ..ClusterLimits::default() };
    let world = World::builder().limits(limits).start().await;
    let mut databases = std::collections::BTreeMap::<String, u32>::new();
    for number in 0..5 {
        let tenant = world.tenant(&format!("t{number}")).isolation(Isolation::Schema).await;
        let database = world.route(&tenant).await.database.unwrap();
        *databases.entry(database.to_string()).or_default() += 1;
    }
    let mut counts: Vec<u32> = databases.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 2]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_stay_off_the_server_of_the_catalog() {
    let world = World::builder().configure(|config| config.place_on_catalog_server = false).start().await;
    for isolation in ["schema", "database"] {
        let answer = world.wire().post("/v1/tenants", &json!({ "slug": "acme", "isolation": isolation })).await;
        answer.problem(409, "no_capacity");
        assert!(answer.json["detail"].as_str().unwrap().contains("catalog"), "{}", answer.text);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_closes_what_it_may_and_reports_the_rest() {
    let mut world = World::start().await;
    for (name, admin) in [("own", Admin::Superuser), ("managed", Admin::Managed)] {
        let cluster = world.add_cluster(name, admin, |wish| wish.tenancy = Tenancy::Dedicated).await;
        let server = world.root(&cluster, "postgres").await;
        let open = "SELECT datname::text FROM pg_database d
                    WHERE datallowconn AND has_database_privilege('public', d.oid, 'CONNECT') ORDER BY 1";
        let open: Vec<String> = server.query(open, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        match admin {
            Admin::Superuser => {
                assert_eq!(open, Vec::<String>::new());
                assert_eq!(cluster.health.findings, Vec::<String>::new());
            }
            Admin::Managed => {
                assert_eq!(open, ["postgres", "template1"], "another role's");
                for database in &open {
                    let told = cluster.health.findings.iter().any(|finding| finding.contains(&format!("`{database}`")));
                    assert!(told, "{database}: {:?}", cluster.health.findings);
                }
            }
        }
    }
    world.end().await;
}
