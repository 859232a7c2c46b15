//! The route feed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenantry_domain::{FeedVersion, Generation, HostName, RouteState, Slug, Tenancy, TenantId};
use tenantry_store::{RouteChange, RouteRef, StoreError};

use crate::catalog::{Catalog, new_operation, new_tenant};

const WRITERS: usize = 8;
const CHANGES: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_every_version_once_and_in_order_while_eight_writers_commit() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let working = AtomicUsize::new(WRITERS);
    let writers = futures::future::join_all((0..WRITERS).map(|writer| {
        let (store, working) = (&catalog.store, &working);
        async move {
            for number in 0..CHANGES {
                let pause = Duration::from_micros(rand::random_range(0..3_000));
                let mut tx = store.begin().await.unwrap();
                let operation = new_operation(None);
                tx.insert_operation(&operation).await.unwrap();
                let tenant = new_tenant(&format!("w{writer}-{number}"), operation.id);
                tx.insert_tenant(&tenant).await.unwrap();
                tx.publish_route(tenant.id, RouteState::Provisioning, Generation::default(), None).await.unwrap();
                tokio::time::sleep(pause).await;
                // Every fifth thinks better of it: a rolled back version must leave no hole.
                if number % 5 == 4 {
                    drop(tx);
                } else {
                    tx.commit().await.unwrap();
                }
            }
            working.fetch_sub(1, Ordering::SeqCst);
        }
    }));
    let reader = async {
        let mut seen = Vec::new();
        let mut after = FeedVersion::default();
        loop {
            let is_last_look = working.load(Ordering::SeqCst) == 0;
            let current = catalog.store.feed_version().await.unwrap().current;
            let changes = catalog.store.routes_after(after, current, 7, false).await.unwrap();
            for item in &changes.items {
                assert!(item.version() > after && item.version() <= changes.upto);
                seen.push(item.version().0);
            }
            after = changes.upto;
            if is_last_look && after == current {
                return seen;
            }
        }
    };
    let (_, seen) = tokio::join!(writers, reader);
    let expected: Vec<i64> = (1..).take(1 + WRITERS * CHANGES * 4 / 5).collect();
    assert_eq!(seen, expected, "one cluster and every committed route, none missing, none twice");
    assert!(catalog.store.cluster(&tenantry_store::ClusterRef::Id(cluster)).await.is_ok());
}

#[tokio::test]
async fn one_transaction_gives_each_change_a_version_of_its_own() {
    let catalog = Catalog::new().await;
    let mut tx = catalog.begin().await;
    let mut tenants = BTreeSet::new();
    for number in 0..3 {
        let operation = new_operation(None);
        tx.insert_operation(&operation).await.unwrap();
        let tenant = new_tenant(&format!("t{number}"), operation.id);
        tx.insert_tenant(&tenant).await.unwrap();
        tx.publish_route(tenant.id, RouteState::Provisioning, Generation::default(), None).await.unwrap();
        tx.touch_route(tenant.id).await.unwrap();
        tenants.insert(tenant.id);
    }
    tx.commit().await.unwrap();
    let clock = catalog.store.feed_version().await.unwrap();
    let changes = catalog.store.routes_after(FeedVersion(0), clock.current, 100, false).await.unwrap();
    let versions: Vec<i64> = changes.items.iter().map(|item| item.version().0).collect();
    assert_eq!(versions, [1, 2, 3]);
    let told: BTreeSet<TenantId> = changes
        .items
        .iter()
        .map(|item| match item {
            RouteChange::Route(route) => route.tenant,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, tenants);
}

#[tokio::test]
async fn a_snapshot_has_clusters_and_routes_with_passwords_only_where_asked_for() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.active_tenant("acme", cluster).await;
    let gone = catalog.plan_tenant("gone", cluster).await;
    let mut tx = catalog.begin().await;
    tx.remove_route(gone.tenant).await.unwrap();
    tx.commit().await.unwrap();
    for with_secrets in [true, false] {
        let clusters = catalog.store.cluster_routes().await.unwrap();
        let routes = catalog.store.routes_page(None, 100, with_secrets).await.unwrap();
        let ([first], [route]) = (clusters.as_slice(), routes.as_slice()) else { panic!("{clusters:?} {routes:?}") };
        assert!(catalog.store.routes_page(Some(route.tenant), 100, with_secrets).await.unwrap().is_empty());
        assert_eq!((first.cluster, first.endpoint.host()), (cluster, "db.example.com"));
        assert_eq!((route.tenant, route.state, route.generation), (acme.tenant, RouteState::Active, Generation::FIRST));
        let target = route.target.as_ref().expect("it is served");
        assert_eq!(target.credential.role.as_str(), format!("h_{}_a", acme.home.simple()));
        let password = target.credential.password.as_ref().map(|password| password.expose().to_owned());
        assert_eq!(password.as_deref(), with_secrets.then_some("login password"));
        let password = target.read_only_credential.password.as_ref().map(|password| password.expose().to_owned());
        assert_eq!(password.as_deref(), with_secrets.then_some("read-only password"));
    }
    let clock = catalog.store.feed_version().await.unwrap();
    let changes = catalog.store.routes_after(FeedVersion(0), clock.current, 100, false).await.unwrap();
    assert!(changes.items.iter().any(|it| matches!(it, RouteChange::Removed { tenant, .. } if *tenant == gone.tenant)));
    assert!(matches!(catalog.store.resolve(&RouteRef::Id(gone.tenant), false).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_route_is_found_by_id_slug_and_host() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.active_tenant("acme", cluster).await;
    let other = catalog.active_tenant("other", cluster).await;
    let host = HostName::parse("flights.acme.example").unwrap();
    let mut tx = catalog.begin().await;
    tx.add_host(acme.tenant, &host).await.unwrap();
    tx.commit().await.unwrap();
    let slug = Slug::parse("acme").unwrap();
    for by in [RouteRef::Id(acme.tenant), RouteRef::Slug(slug), RouteRef::Host(host.clone())] {
        let route = catalog.store.resolve(&by, true).await.unwrap();
        assert_eq!((route.tenant, route.hosts.as_slice()), (acme.tenant, [host.clone()].as_slice()));
    }
    let mut tx = catalog.begin().await;
    assert!(matches!(tx.add_host(other.tenant, &host).await, Err(StoreError::Conflict { .. })));
    drop(tx);
    let mut tx = catalog.begin().await;
    assert!(matches!(tx.remove_host(other.tenant, &host).await, Err(StoreError::NotFound { .. })));
    tx.remove_host(acme.tenant, &host).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(catalog.store.resolve(&RouteRef::Host(host), false).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_lower_generation_is_never_published() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.active_tenant("acme", cluster).await;
    let before = catalog.store.resolve(&RouteRef::Id(acme.tenant), false).await.unwrap();
    let clock = catalog.store.feed_version().await.unwrap();
    let mut tx = catalog.begin().await;
    tx.publish_route(acme.tenant, RouteState::Active, Generation(0), Some(acme.home)).await.unwrap();
    assert!(tx.commit().await.is_err());
    assert_eq!(catalog.store.resolve(&RouteRef::Id(acme.tenant), false).await.unwrap(), before);
    assert_eq!(catalog.store.feed_version().await.unwrap(), clock);
    let superuser = catalog.superuser().await;
    assert!(superuser.batch_execute("UPDATE feed_clock SET version = version - 1").await.is_err());
    assert!(superuser.batch_execute("DELETE FROM feed_clock").await.is_err());
}

#[tokio::test]
async fn a_changed_cluster_is_told_again() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let before = catalog.store.feed_version().await.unwrap().current;
    let mut tx = catalog.begin().await;
    let endpoint = tenantry_domain::Endpoint::new("new.example.com", 6432).unwrap();
    let change = tenantry_store::ClusterChange { endpoint: Some(endpoint.clone()), ..Default::default() };
    tx.update_cluster(cluster, &change).await.unwrap();
    tx.commit().await.unwrap();
    let now = catalog.store.feed_version().await.unwrap().current;
    let changes = catalog.store.routes_after(before, now, 100, false).await.unwrap();
    let [RouteChange::Cluster(told)] = changes.items.as_slice() else { panic!("{:?}", changes.items) };
    assert_eq!((told.cluster, &told.endpoint, told.version), (cluster, &endpoint, now));
}

#[tokio::test]
async fn writers_that_touch_one_route_at_the_same_time_each_raise_its_version() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.active_tenant("acme", cluster).await;
    let before = catalog.store.feed_version().await.unwrap().current.0;
    let writers = (0..8).map(|_| async {
        for _ in 0..10 {
            let mut tx = catalog.begin().await;
            tx.touch_route(acme.tenant).await.unwrap();
            tx.commit().await.unwrap();
        }
    });
    futures::future::join_all(writers).await;
    let current = catalog.store.feed_version().await.unwrap().current;
    assert_eq!(current.0, before + 80);
    assert_eq!(catalog.store.resolve(&RouteRef::Id(acme.tenant), false).await.unwrap().version, current);
}

#[tokio::test]
async fn forgotten_removals_raise_the_oldest_version_that_can_be_resumed() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let stays = catalog.active_tenant("stays", cluster).await;
    let mut removed = Vec::new();
    for number in 0..5 {
        let gone = catalog.plan_tenant(&format!("gone-{number}"), cluster).await;
        let mut tx = catalog.begin().await;
        tx.remove_route(gone.tenant).await.unwrap();
        tx.commit().await.unwrap();
        removed.push(catalog.store.feed_version().await.unwrap().current);
    }
    let store = &catalog.store;
    assert_eq!(store.purge_removed_routes(Duration::from_hours(1), 100).await.unwrap(), 0);
    assert_eq!(store.feed_version().await.unwrap().oldest, FeedVersion(0));
    // Some at a time, oldest first.
    assert_eq!(store.purge_removed_routes(Duration::ZERO, 2).await.unwrap(), 2);
    let clock = store.feed_version().await.unwrap();
    assert_eq!(clock.oldest, removed[1]);
    let changes = store.routes_after(FeedVersion(0), clock.current, 100, false).await.unwrap();
    assert_eq!(changes.oldest, removed[1], "whoever read from the beginning missed two");
    let left = changes.items.iter().filter(|item| matches!(item, RouteChange::Removed { .. })).count();
    assert_eq!(left, 3);
    assert_eq!(store.purge_removed_routes(Duration::ZERO, 100).await.unwrap(), 3);
    assert_eq!(store.purge_removed_routes(Duration::ZERO, 100).await.unwrap(), 0);
    let clock = store.feed_version().await.unwrap();
    assert_eq!(clock.oldest, removed[4]);
    assert_eq!(store.count_routes().await.unwrap(), (clock.current, 1));
    assert_eq!(store.resolve(&RouteRef::Id(stays.tenant), false).await.unwrap().state, RouteState::Active);
}
