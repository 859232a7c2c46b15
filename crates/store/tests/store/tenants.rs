//! Tenants, their homes and their placements.

use tenantry_domain::{Generation, ResourceId, SchemaVersion, Slug, Tenancy, TenantState, TenantStatus};
use tenantry_store::{RouteRef, StoreError, TenantChange, TenantRef};

use crate::catalog::{Catalog, activate, new_operation, new_tenant, plan_tenant};

#[tokio::test]
async fn a_tenant_lives_from_its_first_row_to_its_tombstone_and_is_forgotten_by_a_purge() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.plan_tenant("acme", cluster).await;
    let by_slug = TenantRef::Slug(Slug::parse("acme").unwrap());
    let tenant = catalog.store.tenant(&by_slug).await.unwrap();
    assert_eq!(tenant.state, TenantState::Provisioning { operation: acme.operation });
    assert!(!catalog.store.is_live(acme.tenant).await.unwrap());

    let mut tx = catalog.begin().await;
    activate(&mut tx, acme, SchemaVersion(7)).await;
    tx.commit().await.unwrap();
    catalog.finish(acme.operation).await;
    let tenant = catalog.store.tenant(&by_slug).await.unwrap();
    let placement = tenant.state.placement().expect("it is served");
    assert_eq!((placement.home.id, placement.home.cluster, placement.since), (acme.home, cluster, Generation::FIRST));
    assert_eq!(tenant.schema_version, SchemaVersion(7));

    let deletion = new_operation(Some(acme.tenant));
    let mut tx = catalog.begin().await;
    tx.insert_operation(&deletion).await.unwrap();
    let deleting = TenantState::Deleting { operation: deletion.id, grace: None };
    tx.set_tenant_state(acme.tenant, &deleting).await.unwrap();
    tx.remove_route(acme.tenant).await.unwrap();
    tx.commit().await.unwrap();

    let resources: Vec<ResourceId> =
        catalog.store.resources_of_tenant(acme.tenant).await.unwrap().iter().map(|it| it.id).collect();
    assert_eq!(resources.len(), 7);
    let tx = catalog.begin().await;
    tx.resource_dropped(&resources).await.unwrap();
    tx.home_released(acme.home).await.unwrap();
    tx.close_placement(acme.tenant).await.unwrap();
    tx.set_tenant_deleted(acme.tenant).await.unwrap();
    tx.commit().await.unwrap();
    catalog.finish(deletion.id).await;
    assert!(matches!(catalog.store.home(acme.home).await, Err(StoreError::NotFound { .. })));
    let secrets: i64 = catalog.superuser().await.query_one("SELECT count(*) FROM secret", &[]).await.unwrap().get(0);
    assert_eq!(secrets, 1, "only the cluster's own secret is left");

    // The tombstone keeps the slug.
    let mut tx = catalog.begin().await;
    let refused = plan_tenant(&mut tx, "acme", cluster).await.unwrap_err();
    assert!(matches!(refused, StoreError::SlugTaken { slug } if slug == "acme"));
    drop(tx);

    let tx = catalog.begin().await;
    tx.purge_tenant(acme.tenant).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(catalog.store.tenant(&by_slug).await, Err(StoreError::NotFound { .. })));
    catalog.plan_tenant("acme", cluster).await;
}

#[tokio::test]
async fn a_tenant_that_is_not_deleted_is_not_purged() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.active_tenant("acme", cluster).await;
    let tx = catalog.begin().await;
    assert!(matches!(tx.purge_tenant(acme.tenant).await, Err(StoreError::Conflict { .. })));
}

#[tokio::test]
async fn of_two_that_want_one_slug_at_the_same_time_one_gets_it() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let attempts = (0..8).map(|_| async {
        let mut tx = catalog.begin().await;
        plan_tenant(&mut tx, "acme", cluster).await?;
        tx.commit().await
    });
    let outcomes = futures::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(()) | Err(StoreError::SlugTaken { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_tenant_has_one_open_placement_and_a_home_one_tenant() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.active_tenant("acme", cluster).await;
    let other = catalog.plan_tenant("other", cluster).await;
    let tx = catalog.begin().await;
    let second = tx.open_placement(acme.tenant, other.home, Generation(2)).await;
    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    drop(tx);
    let tx = catalog.begin().await;
    let shared = tx.open_placement(other.tenant, acme.home, Generation(1)).await;
    assert!(matches!(shared, Err(StoreError::Conflict { .. })), "{shared:?}");
}

#[tokio::test]
async fn a_tenant_that_lives_nowhere_cannot_become_active() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.plan_tenant("acme", cluster).await;
    let tx = catalog.begin().await;
    tx.set_tenant_active(acme.tenant, Generation::FIRST, SchemaVersion(1)).await.unwrap();
    assert!(tx.commit().await.is_err());
    let tenant = catalog.store.tenant(&TenantRef::Id(acme.tenant)).await.unwrap();
    assert_eq!(tenant.state.status(), TenantStatus::Provisioning);
}

#[tokio::test]
async fn a_change_touches_what_it_names_and_reaches_routers() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.active_tenant("acme", cluster).await;
    let before = catalog.store.feed_version().await.unwrap().current;
    let limits = tenantry_domain::Limits { pool_size: Some(3), ..Default::default() };
    let overrides = tenantry_domain::Overrides::from(limits);
    let mut tx = catalog.begin().await;
    let locked = tx.lock_tenant(&TenantRef::Id(acme.tenant)).await.unwrap();
    let change = TenantChange { overrides: Some(overrides.clone()), ..TenantChange::default() };
    let changed = tx.update_tenant(acme.tenant, &change).await.unwrap();
    tx.touch_route(acme.tenant).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((changed.name, changed.plan, changed.overrides), (locked.name, locked.plan, overrides));
    assert!(changed.updated_at > locked.updated_at);
    let route = catalog.store.resolve(&RouteRef::Id(acme.tenant), false).await.unwrap();
    assert!(route.version > before);
    assert_eq!((route.limits.pool_size, route.limits.connections), (Some(3), Some(30)));
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing_and_its_connection_is_usable() {
    let catalog = Catalog::new().await;
    for _ in 0..30 {
        let tx = catalog.begin().await;
        tx.insert_tenant(&new_tenant("acme", new_operation(None).id)).await.unwrap();
        drop(tx);
    }
    let acme = TenantRef::Slug(Slug::parse("acme").unwrap());
    assert!(matches!(catalog.store.tenant(&acme).await, Err(StoreError::NotFound { .. })));
    // A future that is dropped in the middle of a statement.
    let blocker = catalog.begin().await;
    blocker.insert_tenant(&new_tenant("acme", new_operation(None).id)).await.unwrap();
    let waiter = catalog.begin().await;
    let tenant = new_tenant("acme", new_operation(None).id);
    tokio::select! {
        outcome = waiter.insert_tenant(&tenant) => panic!("it should wait: {outcome:?}"),
        () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
    }
    drop(waiter);
    drop(blocker);
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let superuser = catalog.superuser().await;
    tenantry_testkit::eventually("no transaction stays open", async || {
        superuser.query_one(idle, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert!(matches!(catalog.store.tenant(&acme).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn statements_of_one_join_reach_the_server_in_their_order_prepared_or_not() {
    let catalog = Catalog::new().await;
    let tx = catalog.begin().await;
    // From here on this connection knows the second statement and not the first.
    tx.insert_operation(&new_operation(None)).await.unwrap();
    let operation = new_operation(None);
    let tenant = new_tenant("acme", operation.id);
    let operation = tenantry_store::NewOperation { tenant: Some(tenant.id), ..operation };
    let (recorded, queued) = futures::join!(tx.insert_tenant(&tenant), tx.insert_operation(&operation));
    assert_eq!(recorded.unwrap().state, TenantState::Provisioning { operation: operation.id });
    assert_eq!(queued.unwrap().tenant, Some(tenant.id), "it refers to the tenant, so it came second");
    tx.commit().await.unwrap();
}
