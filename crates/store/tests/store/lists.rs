//! Lists and their pages.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tenantry_domain::{FeedVersion, Labels, OperationKind, OperationState, PlanName, Tenancy, TenantStatus};
use tenantry_store::{OperationFilter, PageRequest, RouterConnection, RouterReport, StoreError, TenantFilter};
use uuid::Uuid;

use crate::catalog::{Catalog, new_operation, new_tenant};

async fn tenant(catalog: &Catalog, slug: &str, labels: &[(&str, &str)]) {
    let tx = catalog.begin().await;
    let operation = new_operation(None);
    tx.insert_operation(&operation).await.unwrap();
    let mut tenant = new_tenant(slug, operation.id);
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    tenant.labels = Labels::new(labels).unwrap();
    tx.insert_tenant(&tenant).await.unwrap();
    tx.commit().await.unwrap();
}

async fn slugs(catalog: &Catalog, filter: &TenantFilter) -> Vec<String> {
    let mut slugs = Vec::new();
    let mut page = PageRequest { limit: 2, cursor: None };
    loop {
        let answer = catalog.store.tenants(filter, &page).await.unwrap();
        assert!(answer.items.len() <= 2);
        slugs.extend(answer.items.iter().map(|tenant| tenant.slug.to_string()));
        match answer.next {
            Some(next) => page.cursor = Some(next),
            None => return slugs,
        }
    }
}

#[tokio::test]
async fn tenants_are_paged_in_the_order_of_their_making_and_filtered() {
    let catalog = Catalog::new().await;
    tenant(&catalog, "b1", &[("tier", "gold"), ("team", "x")]).await;
    tenant(&catalog, "a1", &[("tier", "gold")]).await;
    tenant(&catalog, "b2", &[("tier", "tin")]).await;
    tenant(&catalog, "a2", &[]).await;
    tenant(&catalog, "bx", &[("team", "y")]).await;
    let all = TenantFilter::default();
    assert_eq!(slugs(&catalog, &all).await, ["b1", "a1", "b2", "a2", "bx"]);
    let prefix = TenantFilter { slug_prefix: Some("b".to_owned()), ..all.clone() };
    assert_eq!(slugs(&catalog, &prefix).await, ["b1", "b2", "bx"]);
    let wild = TenantFilter { slug_prefix: Some("_".to_owned()), ..all.clone() };
    assert!(slugs(&catalog, &wild).await.is_empty(), "a prefix is no pattern");
    let gold = TenantFilter { labels: vec![("tier".to_owned(), Some("gold".to_owned()))], ..all.clone() };
    assert_eq!(slugs(&catalog, &gold).await, ["b1", "a1"]);
    let team = TenantFilter { labels: vec![("team".to_owned(), None)], ..all.clone() };
    assert_eq!(slugs(&catalog, &team).await, ["b1", "bx"]);
    let plan = |name| TenantFilter { plan: Some(PlanName::parse(name).unwrap()), ..all.clone() };
    assert_eq!(slugs(&catalog, &plan("team")).await.len(), 5);
    assert!(slugs(&catalog, &plan("enterprise")).await.is_empty());
    let active = TenantFilter { status: vec![TenantStatus::Active], ..all };
    assert!(slugs(&catalog, &active).await.is_empty());
    let counts = catalog.store.count_tenants_by_status().await.unwrap();
    assert_eq!(counts, [(TenantStatus::Provisioning, 5)]);
}

#[tokio::test]
async fn tenants_are_filtered_by_cluster_and_version() {
    let catalog = Catalog::new().await;
    let (one, two) = (catalog.cluster("one", Tenancy::Shared).await, catalog.cluster("two", Tenancy::Shared).await);
    catalog.active_tenant("a", one).await;
    catalog.active_tenant("b", two).await;
    let on_two = TenantFilter { cluster: Some(two), ..TenantFilter::default() };
    assert_eq!(slugs(&catalog, &on_two).await, ["b"]);
    let below = |version| TenantFilter {
        schema_version_below: Some(tenantry_domain::SchemaVersion(version)),
        ..TenantFilter::default()
    };
    assert_eq!(slugs(&catalog, &below(1)).await, ["a", "b"]);
    assert!(slugs(&catalog, &below(0)).await.is_empty());
}

#[tokio::test]
async fn operations_are_listed_newest_first_and_filtered() {
    let catalog = Catalog::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let tx = catalog.begin().await;
        let operation = new_operation(None);
        tx.insert_operation(&operation).await.unwrap();
        tx.commit().await.unwrap();
        ids.insert(0, operation.id);
    }
    let all = OperationFilter::default();
    let page = catalog.store.operations(&all, &PageRequest::default()).await.unwrap();
    assert_eq!(page.items.iter().map(|it| it.id).collect::<Vec<_>>(), ids);
    let queued = OperationFilter {
        state: vec![OperationState::Queued, OperationState::Parked],
        kind: Some(OperationKind::Provision),
        ..all.clone()
    };
    assert_eq!(catalog.store.operations(&queued, &PageRequest::default()).await.unwrap().items.len(), 3);
    let deletes = OperationFilter { kind: Some(OperationKind::Delete), ..all };
    assert!(catalog.store.operations(&deletes, &PageRequest::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn plans_and_routers_are_listed_by_name_and_a_strange_cursor_is_refused() {
    let catalog = Catalog::new().await;
    let plans = catalog.store.plans(&PageRequest { limit: 2, cursor: None }).await.unwrap();
    let names: Vec<&str> = plans.items.iter().map(|plan| plan.name.as_str()).collect();
    assert_eq!(names, ["developer", "enterprise"]);
    let rest = catalog.store.plans(&PageRequest { limit: 2, cursor: plans.next }).await.unwrap();
    assert_eq!((rest.items[0].name.as_str(), rest.next), ("team", None));
    let missing = catalog.store.plan(&PlanName::parse("gold").unwrap()).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "plan", .. })));

    for (name, version) in [("r2", 0), ("r1", 5), ("r2", 1)] {
        let report = RouterReport {
            name: name.to_owned(),
            applied_version: FeedVersion(version),
            detail: json!({ "pools": 1 }),
            demands: Vec::new(),
        };
        catalog.store.report_routers(&[report]).await.unwrap();
    }
    let routers = catalog.store.routers(None, &PageRequest::default()).await.unwrap();
    let seen: Vec<_> = routers.items.iter().map(|it| (it.name.as_str(), it.applied_version.0, it.lag)).collect();
    assert_eq!(seen, [("r1", 5, 0), ("r2", 1, 0)]);

    let strange = PageRequest { limit: 2, cursor: Some("'; --".to_owned()) };
    let refused = catalog.store.tenants(&TenantFilter::default(), &strange).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
}

#[tokio::test]
async fn a_router_is_connected_as_long_as_its_newest_connection_and_its_replica_live() {
    let catalog = Catalog::new().await;
    let (store, replica) = (&catalog.store, Uuid::now_v7());
    store.report_replica(replica).await.unwrap();
    let begun = |name: &str, connection| RouterConnection {
        name: name.to_owned(),
        connection,
        applied_version: FeedVersion(3),
        connected_at: Timestamp::now(),
    };
    let connected = async || {
        let page = store.routers(Some(true), &PageRequest::default()).await.unwrap();
        page.items.into_iter().map(|router| router.name).collect::<Vec<_>>()
    };
    let (old, new, other) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    store.record_router_connections(replica, &[begun("r2", other), begun("r1", old)], &[]).await.unwrap();
    store.record_router_connections(replica, &[begun("r1", new)], &[]).await.unwrap();
    store.record_router_connections(replica, &[], &[old]).await.unwrap();
    assert_eq!(connected().await, ["r1", "r2"], "the end of an older connection changes nothing");
    let all = store.routers(None, &PageRequest::default()).await.unwrap().items;
    assert!(all.iter().all(|it| it.replica == Some(replica) && it.connected_at.is_some() && it.applied_version.0 == 3));
    // A report says more than coming did, and coming again does not undo it; of two by one name the last counts.
    let report = |version| RouterReport {
        name: "r1".to_owned(),
        applied_version: FeedVersion(version),
        detail: json!({ "pools": version }),
        demands: Vec::new(),
    };
    store.report_routers(&[report(4), report(5)]).await.unwrap();
    store.record_router_connections(replica, &[begun("r1", old)], &[new]).await.unwrap();
    let page = store.routers(Some(true), &PageRequest { limit: 1, cursor: None }).await.unwrap();
    assert_eq!((page.items[0].applied_version, &page.items[0].detail), (FeedVersion(5), &json!({ "pools": 5 })));
    let rest = store.routers(Some(true), &PageRequest { limit: 1, cursor: page.next }).await.unwrap();
    assert_eq!((rest.items[0].name.as_str(), rest.next), ("r2", None));
    // Old, but there.
    assert_eq!(store.forget_routers(Duration::ZERO).await.unwrap(), 0);
    store.forget_replica(replica).await.unwrap();
    assert!(connected().await.is_empty());
    assert_eq!(store.routers(Some(false), &PageRequest::default()).await.unwrap().items.len(), 2);
    assert_eq!(store.forget_routers(Duration::from_hours(1)).await.unwrap(), 0);
    assert_eq!(store.forget_routers(Duration::ZERO).await.unwrap(), 2);
}
