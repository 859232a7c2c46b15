//! Homes that wait for their tenants: claimed once each, replaced at a promotion, dropped where nobody wants them.

use std::collections::BTreeSet;
use std::time::Duration;

use tenantry_api::{CreateTenant, Tenant};
use tenantry_domain::{Isolation, OperationState, Slug};
use tenantry_testkit::eventually;
use tenantry_tests::{Serve, World, files};
use tokio_postgres::Client;

/// Waits until exactly so many homes wait for a tenant and no work on any is left.
async fn warm(catalog: &Client, count: i64) -> BTreeSet<String> {
    let mut homes = BTreeSet::new();
    eventually("the pool has its size", async || {
        let sql = "SELECT id::text FROM home WHERE state = 'warm'
                   UNION ALL SELECT 'at work' FROM operation
                    WHERE finished_at IS NULL AND kind IN ('prepare_home', 'drop_home')";
        let rows = catalog.query(sql, &[]).await.unwrap();
        homes = rows.iter().map(|row| row.get(0)).collect();
        !homes.contains("at work") && i64::try_from(homes.len()).unwrap() == count
    })
    .await;
    homes
}

/// The home of a tenant.
async fn home_of(catalog: &Client, tenant: &Tenant) -> String {
    let sql = "SELECT home::text FROM placement WHERE tenant = $1 AND until IS NULL";
    catalog.query_one(sql, &[&tenant.id.as_uuid()]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_gets_a_home_that_was_made_before_it_came() {
    let world = World::builder().warm_pool(2, 4).start().await;
    let catalog = world.catalog_client().await;
    let homes = warm(&catalog, 2).await;
    // Nobody gets in before a tenant is there.
    let server = world.root(world.main_cluster(), "postgres").await;
    let names: Vec<String> = homes.iter().map(|home| format!("h_{}", home.replace('-', ""))).collect();
    let sql = "SELECT count(*) FROM pg_roles r JOIN unnest($1::text[]) AS home ON starts_with(r.rolname, home)
               WHERE r.rolcanlogin";
    assert_eq!(server.query_one(sql, &[&names]).await.unwrap().get::<_, i64>(0), 0);
    let main = world.client().show_cluster(&world.main_cluster().id.into()).await.unwrap().value;
    assert_eq!((main.usage.homes, main.usage.databases, main.usage.warm), (2, 2, 2));

    let acme = world.tenant("acme").plan("team").isolation(Isolation::Database).await;
    let home = home_of(&catalog, &acme).await;
    assert!(homes.contains(&home), "{home} was made for it: {homes:?}");
    let session = world.connect(&acme).await;
    assert_eq!(session.one::<i64>("SELECT count(*) FROM notes").await, 1);
    // What a provision from scratch gives, the plan's limits included.
    session.run("CREATE TEMPORARY TABLE scratch (id int)").await;
    assert_eq!(session.one::<String>("SHOW statement_timeout").await, "1min");
    let sql = "SELECT rolconnlimit FROM pg_roles WHERE rolname = $1";
    assert_eq!(
        server.query_one(sql, &[&session.role()]).await.unwrap().get::<_, i32>(0),
        23,
        "the plan's 30, but for the share of the read-only role"
    );
    drop((session, server));

    let refilled = warm(&catalog, 2).await;
    assert!(!refilled.contains(&home));
    world.assert_nothing_orphaned().await;
    world.delete(&acme).await;
    drop(catalog);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_never_get_the_same_home() {
    let world = World::builder().warm_pool(5, 5).replicas(2).start().await;
    let catalog = world.catalog_client().await;
    let homes = warm(&catalog, 5).await;
    let creating = (0..20).map(|number| {
        let slug = Slug::parse(&format!("t{number}")).unwrap();
        let create = CreateTenant { isolation: Some(Isolation::Database), ..CreateTenant::new(slug) };
        let world = &world;
        async move { world.client().create_tenant(&create, None).await.unwrap() }
    });
    let begun = futures::future::join_all(creating).await;
    let mut given = BTreeSet::new();
    for created in &begun {
        let ended = world.settled(created.operation.id).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
        let tenant = world.show(&created.tenant).await;
        assert!(given.insert(home_of(&catalog, &tenant).await), "a home is given once");
        assert_eq!(world.connect(&tenant).await.one::<i64>("SELECT count(*) FROM notes").await, 1);
    }
    assert!(homes.is_subset(&given), "all five were claimed");
    warm(&catalog, 5).await;
    world.assert_nothing_orphaned().await;
    drop(catalog);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_replaces_the_pool_and_the_template() {
    let world = World::builder().warm_pool(2, 4).start().await;
    let catalog = world.catalog_client().await;
    let old = warm(&catalog, 2).await;
    let set =
        world.push("second", &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n")).await;
    let rollout = world.begin_rollout(&set).await;
    world.rolled_out(rollout.id).await;
    let mut new = BTreeSet::new();
    eventually("the pool is of the new set", async || {
        new = warm(&catalog, 2).await;
        new.is_disjoint(&old)
    })
    .await;
    let acme = world.tenant("acme").isolation(Isolation::Database).await;
    assert!(new.contains(&home_of(&catalog, &acme).await));
    assert_eq!(acme.schema_version.0, 4);
    eventually("one template is left", async || {
        let server = world.root(world.main_cluster(), "postgres").await;
        let sql = "SELECT name FROM template";
        let names: Vec<String> = catalog.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let sql = "SELECT count(*) FROM pg_database WHERE datname = ANY ($1)";
        server.query_one(sql, &[&names]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    world.assert_nothing_orphaned().await;
    drop(catalog);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_nobody_uses_shrinks() {
    let world = World::builder().warm_pool(1, 4).start().await;
    let catalog = world.catalog_client().await;
    warm(&catalog, 1).await;
    for slug in ["one", "two", "three"] {
        world.tenant(slug).isolation(Isolation::Database).await;
    }
    // As many as came lately, as long as that is lately.
    warm(&catalog, 3).await;
    catalog
        .execute("UPDATE home SET claimed_at = now() - interval '1 hour' WHERE tenant IS NOT NULL", &[])
        .await
        .unwrap();
    warm(&catalog, 1).await;
    // In a week nobody remembers the two that were never claimed, nor who made and dropped them.
    let sql = "SELECT count(*) FROM home WHERE tenant IS NULL AND state = 'released'";
    assert_eq!(catalog.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 2);
    catalog
        .execute("UPDATE home SET released_at = now() - interval '8 days' WHERE state = 'released'", &[])
        .await
        .unwrap();
    let sql = "UPDATE operation SET finished_at = now() - interval '8 days' WHERE finished_at IS NOT NULL";
    catalog.execute(sql, &[]).await.unwrap();
    eventually("they are forgotten", async || {
        let sql = "SELECT NOT EXISTS (SELECT FROM home WHERE tenant IS NULL AND state = 'released')
                      AND NOT EXISTS (SELECT FROM operation WHERE kind = 'drop_home')
                      AND (SELECT count(*) FROM operation WHERE kind = 'prepare_home' AND tenant IS NULL) = 1";
        catalog.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;
    world.assert_nothing_orphaned().await;
    drop(catalog);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_homes_never_take_a_tenants_place() {
    let limits = tenantry_domain::ClusterLimits { tenants: 3, databases: 4, ..Default::default() };
    let world = World::builder().limits(limits).warm_pool(3, 3).start().await;
    let catalog = world.catalog_client().await;
    warm(&catalog, 3).await;
    // Schemas need a place each and a database in common; the pool gives way.
    for slug in ["one", "two", "three"] {
        world.tenant(slug).isolation(Isolation::Schema).await;
    }
    warm(&catalog, 0).await;
    let refused = world.client().create_tenant(&CreateTenant::new(Slug::parse("four").unwrap()), None).await;
    assert!(refused.unwrap_err().to_string().contains("as many tenants as its limit allows"));
    world.assert_nothing_orphaned().await;
    drop(catalog);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_outlives_the_crash_of_whoever_carries_it_out() {
    let mut world =
        World::builder().warm_pool(2, 2).configure(|config| config.lease = Duration::from_secs(1)).start().await;
    let catalog = world.catalog_client().await;
    let homes = warm(&catalog, 2).await;
    // Claimed in the catalog, and nobody gets at the fence: the work stands between claim and publication.
    let fences = world.fences().await;
    fences.batch_execute("BEGIN; LOCK TABLE tenantry.fence IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let slug = Slug::parse("acme").unwrap();
    let create = CreateTenant { isolation: Some(Isolation::Database), ..CreateTenant::new(slug) };
    let begun = world.client().create_tenant(&create, None).await.unwrap();
    eventually("the claim is being carried out", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%raise_fence%'";
        fences.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    world.take_replica(0).crash().await;
    let claimed = catalog.query("SELECT id::text FROM home WHERE state = 'claimed'", &[]).await.unwrap();
    let claimed: String = claimed[0].get(0);
    assert!(homes.contains(&claimed));
    fences.batch_execute("ROLLBACK").await.unwrap();
    drop(fences);
    let serve = Serve::start(&world).await;
    world.use_door(serve.url());
    let ended = world.settled(begun.operation.id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let acme = world.show(&begun.tenant).await;
    assert_eq!(home_of(&catalog, &acme).await, claimed);
    assert_eq!(world.connect(&acme).await.one::<i64>("SELECT count(*) FROM notes").await, 1);
    // This one keeps no pool.
    warm(&catalog, 0).await;
    world.assert_nothing_orphaned().await;
    drop(catalog);
    world.end().await;
    assert!(serve.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_damaged_while_it_waited_is_made_whole() {
    let world = World::builder().warm_pool(1, 1).start().await;
    let catalog = world.catalog_client().await;
    let homes = warm(&catalog, 1).await;
    let home = homes.first().unwrap();
    let server = world.root(world.main_cluster(), "postgres").await;
    server.batch_execute(&format!("DROP DATABASE h_{}", home.replace('-', ""))).await.unwrap();
    let acme = world.tenant("acme").isolation(Isolation::Database).await;
    assert_eq!(&home_of(&catalog, &acme).await, home);
    assert_eq!(world.connect(&acme).await.one::<i64>("SELECT count(*) FROM notes").await, 1);
    warm(&catalog, 1).await;
    world.assert_nothing_orphaned().await;
    drop((catalog, server));
    world.end().await;
}
