//! Changes of routes straight in the catalog, as the control plane commits them.

use std::time::Duration;

use tenantry_domain::{
    Affinity, DisplayName, FeedVersion, Generation, Isolation, Labels, OperationId, Overrides, PlanName, Region,
    RouteState, Slug, TenantId,
};
use tenantry_store::{NewTenant, Store};
use uuid::Uuid;

/// Publishes the routes of tenants that are nowhere yet, in one transaction that waits a while before its commit.
pub async fn publish(store: &Store, slugs: &[String], pause: Duration) -> Vec<TenantId> {
    let mut tx = store.begin().await.expect("a transaction");
    let mut tenants = Vec::new();
    for slug in slugs {
        let id = TenantId::new(Uuid::now_v7());
        let tenant = NewTenant {
            id,
            slug: Slug::parse(slug).expect("a slug"),
            name: DisplayName::parse(slug).expect("a name"),
            plan: PlanName::parse("developer").expect("a plan"),
            region: Region::parse("local").expect("a region"),
            isolation: Isolation::Schema,
            parent: None,
            labels: Labels::default(),
            overrides: Overrides::default(),
            affinity: Affinity::default(),
            trial_ends_at: None,
            operation: OperationId::new(Uuid::now_v7()),
        };
        tx.insert_tenant(&tenant).await.expect("a tenant");
        tx.publish_route(id, RouteState::Provisioning, Generation::default(), None).await.expect("a route");
        tenants.push(id);
    }
    tokio::time::sleep(pause).await;
    tx.commit().await.expect("a commit");
    tenants
}

/// Changes each route once, in one transaction.
pub async fn touch(store: &Store, tenants: &[TenantId]) {
    let mut tx = store.begin().await.expect("a transaction");
    for tenant in tenants {
        tx.touch_route(*tenant).await.expect("a route");
    }
    tx.commit().await.expect("a commit");
}

/// Takes a route away.
pub async fn remove(store: &Store, tenant: TenantId) {
    let mut tx = store.begin().await.expect("a transaction");
    tx.remove_route(tenant).await.expect("a route");
    tx.commit().await.expect("a commit");
}

/// The newest version of the feed.
pub async fn clock(store: &Store) -> FeedVersion {
    store.feed_version().await.expect("an answer").current
}
