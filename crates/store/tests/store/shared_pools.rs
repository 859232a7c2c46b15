//! Who is pooled with others in a shared database, and who has to be looked at for that.

use std::time::Duration;

use tenantry_domain::{
    ClusterId, DatabaseName, Generation, Home, HomeId, Isolation, OperationState, Overrides, Plan, PlanName,
    RouteState, SchemaName, SchemaVersion, Suspension, SuspensionReason, Tenancy, TenantId, TenantState,
};
use tenantry_store::{NewHome, NewOperation, NewTenant, RouteRef, SharedPool, TenantChange, TenantRef};
use uuid::Uuid;

use crate::catalog::{Catalog, Planned, activate, new_home, new_operation, new_tenant, secret};

/// A database that is there for homes to share.
async fn shared_database(catalog: &Catalog, cluster: ClusterId) -> (Uuid, DatabaseName) {
    let tx = catalog.begin().await;
    let shared = tx.ensure_shared_database(cluster, Uuid::now_v7()).await.unwrap();
    tx.shared_database_ready(shared.id).await.unwrap();
    tx.commit().await.unwrap();
    (shared.id, shared.name)
}

/// A tenant that is served in a schema.
async fn schema_tenant(catalog: &Catalog, slug: &str, cluster: ClusterId) -> Planned {
    let (shared, database) = shared_database(catalog, cluster).await;
    let operation = new_operation(None).id;
    let tenant = NewTenant { isolation: Isolation::Schema, ..new_tenant(slug, operation) };
    let home = new_home(cluster, operation);
    let id = home.home.id;
    let home = NewHome {
        home: Home { isolation: Isolation::Schema, database, schema: SchemaName::of_home(id), ..home.home },
        shared_database: Some(shared),
        tenant: Some(tenant.id),
        ..home
    };
    let mut tx = catalog.begin().await;
    tx.insert_tenant(&tenant).await.unwrap();
    tx.insert_operation(&NewOperation { id: operation, ..new_operation(Some(tenant.id)) }).await.unwrap();
    tx.insert_home(&home).await.unwrap();
    tx.publish_route(tenant.id, RouteState::Provisioning, Generation::default(), None).await.unwrap();
    let planned = Planned { tenant: tenant.id, home: id, operation };
    activate(&mut tx, planned, SchemaVersion(0)).await;
    tx.commit().await.unwrap();
    catalog.finish(operation).await;
    planned
}

/// What a pass of upkeep finds to do, all pages of it.
async fn due(catalog: &Catalog) -> Vec<HomeId> {
    let (mut homes, mut after) = (Vec::new(), None);
    loop {
        let page = catalog.store.due_pooling(after, 2).await.unwrap();
        homes.extend(page.homes);
        if page.last.is_none() {
            return homes;
        }
        after = page.last;
    }
}

/// How many homes the next pass would look at.
async fn marked(catalog: &Catalog) -> i64 {
    let sql = "SELECT count(*) FROM home WHERE pooling_due";
    catalog.superuser().await.query_one(sql, &[]).await.unwrap().get(0)
}

async fn let_in(catalog: &Catalog, planned: Planned) {
    let mut tx = catalog.begin().await;
    assert!(tx.admit_pool(planned.home).await.unwrap());
    tx.set_pooled(planned.tenant, planned.home, true).await.unwrap();
    tx.commit().await.unwrap();
}

async fn let_out(catalog: &Catalog, planned: Planned) {
    let mut tx = catalog.begin().await;
    tx.set_pooled(planned.tenant, planned.home, false).await.unwrap();
    tx.dismiss_pool(planned.home, catalog.store.draw_epoch().await.unwrap()).await.unwrap();
    tx.commit().await.unwrap();
}

/// As whoever changes a tenant writes it.
async fn change(catalog: &Catalog, tenant: TenantId, change: TenantChange) {
    let tx = catalog.begin().await;
    tx.update_tenant(tenant, &change).await.unwrap();
    tx.mark_roles_due(tenant).await.unwrap();
    tx.commit().await.unwrap();
}

async fn override_pooling(catalog: &Catalog, tenant: TenantId, value: Option<bool>) {
    let mut overrides = Overrides::default();
    overrides.limits.shared_pooling = value;
    change(catalog, tenant, TenantChange { overrides: Some(overrides), ..TenantChange::default() }).await;
}

/// As whoever changes a plan writes it, and the upkeep that tells its tenants.
async fn limit_pooling(catalog: &Catalog, plan: &PlanName, value: Option<bool>) {
    let mut tx = catalog.begin().await;
    let mut changed: Plan = tx.plan(plan).await.unwrap();
    changed.limits.shared_pooling = value;
    tx.update_plan(&changed, true).await.unwrap();
    while let Some(untold) = tx.untold_plan().await.unwrap() {
        tx.tell_tenants_of_plan(&untold, 10).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn set_state(catalog: &Catalog, tenant: TenantId, state: &TenantState) {
    let tx = catalog.begin().await;
    tx.set_tenant_state(tenant, state).await.unwrap();
    tx.commit().await.unwrap();
}

fn suspension() -> Suspension {
    Suspension {
        reason: SuspensionReason::Admin,
        note: None,
        by: "somebody".to_owned(),
        since: jiff::Timestamp::UNIX_EPOCH,
        until: None,
        with: None,
    }
}

#[tokio::test]
async fn a_pool_keeps_the_password_that_it_was_given_first() {
    let catalog = Catalog::new().await;
    let (cluster, elsewhere) =
        (catalog.cluster("one", Tenancy::Shared).await, catalog.cluster("two", Tenancy::Shared).await);
    let (id, database) = shared_database(&catalog, cluster).await;
    assert_eq!(catalog.store.shared_pools(cluster).await.unwrap(), []);
    let given = ["first", "second", "third"].map(secret);
    let asked = futures::future::join_all(given.iter().map(async |password| {
        let tx = catalog.begin().await;
        let kept = tx.shared_pool_password(id, password).await.unwrap();
        tx.commit().await.unwrap();
        kept
    }))
    .await;
    assert!(asked.iter().all(|kept| *kept == asked[0] && given.contains(kept)), "one for everybody");
    let expected = SharedPool { database, password: asked[0].clone() };
    assert_eq!(catalog.store.shared_pools(cluster).await.unwrap(), [expected]);
    assert_eq!(catalog.store.shared_pools(elsewhere).await.unwrap(), []);
    let tx = catalog.begin().await;
    let missing = tx.shared_pool_password(Uuid::now_v7(), &given[0]).await.unwrap_err();
    assert!(matches!(missing, tenantry_store::StoreError::NotFound { .. }), "{missing:?}");
    drop(tx);

    let count = "SELECT count(*) FROM secret WHERE purpose = 'shared_pool'";
    let superuser = catalog.superuser().await;
    assert_eq!(superuser.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);
    let tx = catalog.begin().await;
    tx.delete_cluster(cluster).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(superuser.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0, "it goes with its database");
}

#[tokio::test]
async fn a_route_says_that_it_is_pooled_only_while_the_pool_is_let_in() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let acme = schema_tenant(&catalog, "acme", cluster).await;
    let shared = catalog.store.home(acme.home).await.unwrap().shared_database.unwrap();
    let route = async || catalog.store.resolve(&RouteRef::Id(acme.tenant), true).await.unwrap();
    let before = route().await;
    let mut tx = catalog.begin().await;
    tx.set_pooled(acme.tenant, acme.home, true).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(route().await, before, "it is not let in");

    let tx = catalog.begin().await;
    tx.shared_pool_password(shared, &secret("of the pool")).await.unwrap();
    tx.commit().await.unwrap();
    let_in(&catalog, acme).await;
    let pooled = route().await;
    let access = pooled.target.unwrap().shared.unwrap();
    assert_eq!(access.credential.password, Some(secret("of the pool")));
    assert!(pooled.version > before.version);
    let tx = catalog.begin().await;
    tx.dismiss_pool(acme.home, catalog.store.draw_epoch().await.unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.home(acme.home).await.unwrap().pool_member, "its route says that it is pooled");
    let_in(&catalog, acme).await;
    assert_eq!(route().await.version, pooled.version, "nothing new is told to nobody");

    // An operation that came later than the epoch may have let it in again.
    let late = catalog.store.draw_epoch().await.unwrap();
    let mut tx = catalog.begin().await;
    tx.set_pooled(acme.tenant, acme.home, false).await.unwrap();
    tx.insert_operation(&new_operation(Some(acme.tenant))).await.unwrap();
    tx.commit().await.unwrap();
    let claimed = catalog.store.claim_operation(Uuid::now_v7(), Duration::from_mins(1)).await.unwrap().unwrap();
    let tx = catalog.begin().await;
    tx.dismiss_pool(acme.home, late).await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.home(acme.home).await.unwrap().pool_member);
    let tx = catalog.begin().await;
    tx.set_state(&claimed.lease, OperationState::Succeeded, None).await.unwrap();
    tx.commit().await.unwrap();
    let_out(&catalog, acme).await;
    assert!(!catalog.store.home(acme.home).await.unwrap().pool_member);
    assert_eq!(route().await.target.unwrap().shared, None);

    let_in(&catalog, acme).await;
    let tx = catalog.begin().await;
    tx.home_released(acme.home).await.unwrap();
    assert!(!tx.admit_pool(acme.home).await.unwrap(), "nobody is let into what is gone");
    tx.commit().await.unwrap();
    assert_eq!(due(&catalog).await, []);
}

#[tokio::test]
async fn only_homes_for_which_something_changed_are_looked_at() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let mut fleet = Vec::new();
    for number in 0..5 {
        fleet.push(schema_tenant(&catalog, &format!("t-{number}"), cluster).await);
    }
    catalog.active_tenant("apart", cluster).await;
    assert_eq!(marked(&catalog).await, 5, "whoever came may have come with the wish");
    assert_eq!(due(&catalog).await, []);
    assert_eq!(marked(&catalog).await, 0);
    // Not as it should be, which nobody wrote down: not looked at.
    let sql = "UPDATE tenant SET overrides = '{\"shared_pooling\": true}'";
    catalog.superuser().await.execute(sql, &[]).await.unwrap();
    assert_eq!(due(&catalog).await, []);
    catalog.superuser().await.execute("UPDATE tenant SET overrides = '{}'", &[]).await.unwrap();

    let [one, two, ..] = fleet[..] else { panic!("{fleet:?}") };
    // An override, there and back.
    override_pooling(&catalog, one.tenant, Some(true)).await;
    assert_eq!(marked(&catalog).await, 1);
    for _ in 0..2 {
        assert_eq!(due(&catalog).await, [one.home], "until it is settled");
    }
    let_in(&catalog, one).await;
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 0));
    override_pooling(&catalog, one.tenant, None).await;
    assert_eq!(due(&catalog).await, [one.home]);
    let_out(&catalog, one).await;
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 0));

    // The plan's limits, which an override is above.
    let team = PlanName::parse("team").unwrap();
    override_pooling(&catalog, two.tenant, Some(false)).await;
    limit_pooling(&catalog, &team, Some(true)).await;
    let expected: Vec<HomeId> = fleet.iter().filter(|it| it.home != two.home).map(|it| it.home).collect();
    assert_eq!(due(&catalog).await, expected);
    assert_eq!(marked(&catalog).await, 4);
    limit_pooling(&catalog, &team, None).await;
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 0));

    // Another plan.
    let crowd = PlanName::parse("crowd").unwrap();
    let tx = catalog.begin().await;
    let mut plan = Plan { name: crowd.clone(), ..tx.plan(&team).await.unwrap() };
    plan.limits.shared_pooling = Some(true);
    tx.insert_plan(&plan).await.unwrap();
    tx.commit().await.unwrap();
    change(&catalog, one.tenant, TenantChange { plan: Some(crowd), ..TenantChange::default() }).await;
    assert_eq!(due(&catalog).await, [one.home]);
    change(&catalog, one.tenant, TenantChange { plan: Some(team), ..TenantChange::default() }).await;
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 0));
}

#[tokio::test]
async fn suspended_tenants_are_taken_out_at_once_and_let_in_once_they_are_back() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let acme = schema_tenant(&catalog, "acme", cluster).await;
    assert_eq!(due(&catalog).await, []);
    let active = catalog.store.tenant(&TenantRef::Id(acme.tenant)).await.unwrap().state;
    let home = active.placement().unwrap().clone();
    let suspended = TenantState::Suspended { home, suspension: suspension() };

    set_state(&catalog, acme.tenant, &suspended).await;
    assert_eq!(marked(&catalog).await, 1);
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 0));
    override_pooling(&catalog, acme.tenant, Some(true)).await;
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 0), "nobody is let in now");
    set_state(&catalog, acme.tenant, &active).await;
    assert_eq!(due(&catalog).await, [acme.home]);
    let_in(&catalog, acme).await;
    set_state(&catalog, acme.tenant, &suspended).await;
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 0), "it comes back as it was");
    override_pooling(&catalog, acme.tenant, None).await;
    assert_eq!(due(&catalog).await, [acme.home]);

    // Whoever works on the tenant decides for now, and it is not forgotten.
    let operation = new_operation(Some(acme.tenant));
    let tx = catalog.begin().await;
    tx.insert_operation(&operation).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 1));
    catalog.finish(operation.id).await;
    assert_eq!(due(&catalog).await, [acme.home]);
    let_out(&catalog, acme).await;
    assert_eq!((due(&catalog).await, marked(&catalog).await), (Vec::new(), 0));
}

#[tokio::test]
async fn a_change_in_the_middle_of_a_look_is_not_lost() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let acme = schema_tenant(&catalog, "acme", cluster).await;
    assert_eq!(marked(&catalog).await, 1);
    let mut overrides = Overrides::default();
    overrides.limits.shared_pooling = Some(true);
    let tx = catalog.begin().await;
    tx.update_tenant(acme.tenant, &TenantChange { overrides: Some(overrides), ..TenantChange::default() })
        .await
        .unwrap();
    assert_eq!(due(&catalog).await, [], "it is not committed");
    tx.mark_roles_due(acme.tenant).await.unwrap();
    assert_eq!(due(&catalog).await, [], "nor waited for");
    tx.commit().await.unwrap();
    assert_eq!(due(&catalog).await, [acme.home]);
}
