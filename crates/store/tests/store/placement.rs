//! Where homes may be, how many a cluster takes, and what is known of its health.

use std::collections::BTreeSet;

use tenantry_domain::{
    Check, ClusterId, ClusterLimits, ClusterObservation, GroupRegions, HealthState, Region, Tenancy,
};
use tenantry_store::{ClusterLook, ClusterRef, NewHome, NewOperation, NewTenant, StoreError};
use uuid::Uuid;

use crate::catalog::{Catalog, activate, new_cluster, new_home, new_operation, new_tenant, plan_tenant};

fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

fn regions(names: &[&str]) -> GroupRegions {
    GroupRegions::new(names.iter().map(|name| region(name)).collect::<BTreeSet<_>>()).unwrap()
}

async fn cluster_in(catalog: &Catalog, name: &str, region_name: &str) -> ClusterId {
    let mut cluster = new_cluster(name, Tenancy::Shared);
    cluster.region = region(region_name);
    let mut tx = catalog.begin().await;
    tx.insert_cluster(&cluster).await.unwrap();
    tx.commit().await.unwrap();
    cluster.id
}

async fn put_group(catalog: &Catalog, name: &str, members: &[&str]) -> Result<(), StoreError> {
    let tx = catalog.begin().await;
    tx.lock_region_group(&region(name)).await?;
    tx.put_region_group(&region(name), &regions(members)).await?;
    tx.commit().await
}

/// Records a tenant whose region is called so, with a home on the cluster.
async fn place(catalog: &Catalog, slug: &str, residence: &str, cluster: ClusterId) -> Result<(), StoreError> {
    let mut tx = catalog.begin().await;
    let operation = new_operation(None).id;
    let tenant = NewTenant { region: region(residence), ..new_tenant(slug, operation) };
    tx.insert_tenant(&tenant).await?;
    tx.insert_operation(&NewOperation { id: operation, ..new_operation(Some(tenant.id)) }).await?;
    let home = NewHome { tenant: Some(tenant.id), ..new_home(cluster, operation) };
    tx.insert_home(&home).await?;
    tx.publish_route(
        tenant.id,
        tenantry_domain::RouteState::Provisioning,
        tenantry_domain::Generation::default(),
        None,
    )
    .await?;
    tx.commit().await
}

#[tokio::test]
async fn a_home_outside_the_regions_of_its_tenant_is_impossible_whoever_writes_it() {
    let catalog = Catalog::new().await;
    let (central, west, far) = (
        cluster_in(&catalog, "central", "eu-central-1").await,
        cluster_in(&catalog, "west", "eu-west-1").await,
        cluster_in(&catalog, "far", "us-1").await,
    );
    put_group(&catalog, "eu", &["eu-central-1", "eu-west-1"]).await.unwrap();
    place(&catalog, "a", "eu-central-1", central).await.unwrap();
    place(&catalog, "b", "eu", central).await.unwrap();
    place(&catalog, "c", "eu", west).await.unwrap();
    for (slug, residence, cluster) in [("d", "eu-central-1", west), ("e", "eu", far), ("f", "us-1", central)] {
        let refused = place(&catalog, slug, residence, cluster).await;
        assert!(matches!(refused, Err(StoreError::Residency)), "{slug}: {refused:?}");
    }
    // Not even past every use-case: each of these would leave somebody outside.
    let root = catalog.superuser().await;
    for sql in [
        "UPDATE tenant SET region = 'us-1' WHERE slug = 'b'",
        "UPDATE tenant SET region = 'eu-central-1' WHERE slug = 'c'",
        "UPDATE cluster SET region = 'us-1' WHERE name = 'central'",
        "UPDATE home SET residence = 'us-1' WHERE residence = 'eu'",
        "DELETE FROM residency WHERE residence = 'eu' AND region = 'eu-west-1'",
        "DELETE FROM region_group WHERE name = 'eu'",
    ] {
        let refused = root.batch_execute(sql).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "23503", "{sql}: {refused}");
    }
    // What leaves nobody outside is allowed, and carried through.
    root.batch_execute("UPDATE tenant SET region = 'eu' WHERE slug = 'a'").await.unwrap();
    root.batch_execute("UPDATE cluster SET region = 'eu-west-1' WHERE name = 'central'").await.unwrap();
    let moved: i64 = root
        .query_one("SELECT count(*) FROM home WHERE region = 'eu-west-1' AND residence = 'eu'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(moved, 3);
}

#[tokio::test]
async fn a_tenant_lives_in_a_home_of_its_own_and_a_released_one_ties_nobody() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    put_group(&catalog, "eu", &["eu-central-1"]).await.unwrap();
    let (acme, other) = (catalog.plan_tenant("acme", cluster).await, catalog.plan_tenant("other", cluster).await);
    let tx = catalog.begin().await;
    let crossed = tx.open_placement(acme.tenant, other.home, tenantry_domain::Generation::FIRST).await;
    assert!(crossed.is_err(), "another tenant's home");
    drop(tx);
    let mut tx = catalog.begin().await;
    activate(&mut tx, acme, tenantry_domain::SchemaVersion(0)).await;
    tx.commit().await.unwrap();
    let root = catalog.superuser().await;
    assert!(root.batch_execute("UPDATE tenant SET region = 'eu-west-9' WHERE slug = 'other'").await.is_err());
    let tx = catalog.begin().await;
    tx.home_released(other.home).await.unwrap();
    tx.commit().await.unwrap();
    root.batch_execute("UPDATE tenant SET region = 'eu-west-9' WHERE slug = 'other'").await.unwrap();
}

#[tokio::test]
async fn a_group_changes_without_leaving_anybody_outside_and_no_name_is_both_group_and_region() {
    let catalog = Catalog::new().await;
    let west = cluster_in(&catalog, "west", "eu-west-1").await;
    put_group(&catalog, "eu", &["eu-west-1", "eu-north-1"]).await.unwrap();
    place(&catalog, "acme", "eu", west).await.unwrap();
    put_group(&catalog, "eu", &["eu-west-1"]).await.unwrap();
    let shrunk = put_group(&catalog, "eu", &["eu-north-1"]).await;
    assert!(matches!(shrunk, Err(StoreError::Residency)), "{shrunk:?}");
    let tx = catalog.begin().await;
    let outside = tx.residents_outside(&region("eu"), &["eu-north-1"], 5).await.unwrap();
    assert_eq!((outside.len(), outside[0].slug.as_str(), outside[0].region.as_str()), (1, "acme", "eu-west-1"));
    assert_eq!(tx.allowed_regions(&region("eu")).await.unwrap(), [region("eu-west-1")]);
    assert_eq!(tx.allowed_regions(&region("eu-west-1")).await.unwrap(), [region("eu-west-1")]);
    drop(tx);
    let as_group = put_group(&catalog, "eu-west-1", &["eu-north-1"]).await;
    assert!(matches!(as_group, Err(StoreError::Conflict { .. })), "{as_group:?}");
    let mut cluster = new_cluster("confused", Tenancy::Shared);
    cluster.region = region("eu");
    let mut tx = catalog.begin().await;
    let as_region = tx.insert_cluster(&cluster).await;
    assert!(matches!(as_region, Err(StoreError::Conflict { .. })), "{as_region:?}");
    drop(tx);
    let listed = catalog.store.region_groups(&tenantry_store::PageRequest::default()).await.unwrap();
    assert_eq!(listed.items.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["eu"]);
}

#[tokio::test]
async fn a_limit_holds_however_many_come_at_once() {
    let catalog = Catalog::new().await;
    let mut cluster = new_cluster("one", Tenancy::Shared);
    cluster.limits = ClusterLimits { tenants: 7, connections: Some(150), ..cluster.limits };
    let mut tx = catalog.begin().await;
    tx.insert_cluster(&cluster).await.unwrap();
    tx.commit().await.unwrap();
    let come = (0..24).map(|number| {
        let catalog = &catalog;
        async move {
            let mut tx = catalog.begin().await;
            // Each brings a ceiling of 30 connections, so that five fill 150 of them.
            plan_tenant(&mut tx, &format!("t{number}"), cluster.id).await?;
            tx.commit().await
        }
    });
    let came = futures::future::join_all(come).await;
    assert_eq!(came.iter().filter(|it| it.is_ok()).count(), 5);
    let refused: Vec<_> = came.into_iter().filter_map(Result::err).collect();
    assert!(refused.iter().all(|it| matches!(it, StoreError::Full { limit: "connections" })), "{refused:?}");
    let usage = catalog.store.cluster(&ClusterRef::Id(cluster.id)).await.unwrap().usage;
    assert_eq!((usage.homes, usage.connections), (5, 150));
}

#[tokio::test]
async fn ceilings_are_counted_anew_where_a_plan_or_an_override_changed_them() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let (acme, other) = (catalog.active_tenant("acme", cluster).await, catalog.active_tenant("other", cluster).await);
    let counted = async || catalog.store.cluster(&ClusterRef::Id(cluster)).await.unwrap().usage.connections;
    assert_eq!((catalog.store.recount_connections(100).await.unwrap(), counted().await), (0, 60));
    let root = catalog.superuser().await;
    let limited = "UPDATE cluster SET limits = limits || '{\"connections\": 70}'";
    root.batch_execute(limited).await.unwrap();
    let raise = format!("UPDATE tenant SET overrides = '{{\"connections\": 90}}' WHERE id = '{}'", acme.tenant);
    root.batch_execute(&raise).await.unwrap();
    assert_eq!(catalog.store.recount_connections(100).await.unwrap(), 1, "past the limit, and counted all the same");
    assert_eq!(counted().await, 120);
    root.batch_execute("UPDATE plan SET limits = limits - 'connections' WHERE name = 'team'").await.unwrap();
    assert_eq!((catalog.store.recount_connections(100).await.unwrap(), counted().await), (1, 90));
    let tx = catalog.begin().await;
    for home in [acme.home, other.home] {
        tx.home_released(home).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(counted().await, 0);
}

#[tokio::test]
async fn silence_keeps_the_last_figures_and_counts_until_an_answer() {
    let catalog = Catalog::new().await;
    let id = catalog.cluster("one", Tenancy::Shared).await;
    let health = async || catalog.store.cluster(&ClusterRef::Id(id)).await.unwrap().health;
    assert_eq!(health().await.state, HealthState::Unknown);
    let observed = ClusterObservation {
        server_version: 160_004,
        in_recovery: false,
        connections_max: 100,
        connections_reserved: 3,
        connections_open: 7,
        databases: 4,
        disk_bytes: 5_000_000_000,
        disk_measured_at: None,
        clock_ahead_ms: -12,
    };
    let checks = vec![Check::warning("wal_level", "wal_level is replica", "set it to logical")];
    let answered = ClusterLook::Answered { observed: observed.clone(), checks: checks.clone() };
    catalog.store.record_cluster_look(id, &answered).await.unwrap();
    let cluster = catalog.store.cluster(&ClusterRef::Id(id)).await.unwrap();
    assert_eq!((cluster.health.state, &cluster.health.observed), (HealthState::Healthy, &Some(observed.clone())));
    assert_eq!((cluster.server_version, cluster.usage.disk_bytes), (160_004, Some(5_000_000_000)));
    let silent = ClusterLook::Silent { error: "it is away".to_owned() };
    for failures in 1..=3 {
        catalog.store.record_cluster_look(id, &silent).await.unwrap();
        let health = health().await;
        assert_eq!((health.state, health.failures), (HealthState::Unreachable, failures));
        assert_eq!((health.observed, health.checks), (Some(observed.clone()), checks.clone()));
    }
    let standby = ClusterObservation { in_recovery: true, ..observed };
    let answered = ClusterLook::Answered { observed: standby, checks: Vec::new() };
    catalog.store.record_cluster_look(id, &answered).await.unwrap();
    assert_eq!((health().await.state, health().await.failures, health().await.error), (HealthState::ReadOnly, 0, None));
    // A look that ends after its cluster was forgotten leaves nothing.
    let nobody = ClusterId::new(Uuid::now_v7());
    catalog.store.record_cluster_look(nobody, &silent).await.unwrap();
}
