//! Clusters, shared databases and templates.

use tenantry_domain::{
    ClusterReplicaId, ClusterState, Endpoint, FeedVersion, Isolation, LagMax, OperationId, ReplicaState, SchemaName,
    Tenancy,
};
use tenantry_store::{
    BaseState, ClusterChange, ClusterFilter, ClusterRef, NewClusterReplica, NewHome, PageRequest, ReplicaLook,
    StoreError,
};
use uuid::Uuid;

use crate::catalog::{Catalog, new_cluster, new_home, new_operation, secret};

#[tokio::test]
async fn a_cluster_is_registered_once_and_its_password_comes_back_unsealed() {
    let catalog = Catalog::new().await;
    let cluster = new_cluster("one", Tenancy::Shared);
    let mut tx = catalog.begin().await;
    tx.insert_cluster(&cluster).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = catalog.begin().await;
    let same_name = tx.insert_cluster(&new_cluster("one", Tenancy::Shared)).await;
    assert!(matches!(same_name, Err(StoreError::NameTaken { name, .. }) if name == "one"));
    drop(tx);
    let mut tx = catalog.begin().await;
    let mut same_server = new_cluster("two", Tenancy::Shared);
    same_server.system_identifier.clone_from(&cluster.system_identifier);
    assert!(matches!(tx.insert_cluster(&same_server).await, Err(StoreError::Conflict { .. })));
    drop(tx);

    let access = catalog.store.cluster_access(cluster.id).await.unwrap();
    assert_eq!(access.admin_password.expose(), "the admin's password");
    let sealed: Vec<u8> =
        catalog.superuser().await.query_one("SELECT ciphertext FROM secret", &[]).await.unwrap().get(0);
    assert!(!sealed.windows(5).any(|window| window == b"admin"));

    let mut tx = catalog.begin().await;
    let change = ClusterChange { admin_password: Some(secret("rotated")), ..ClusterChange::default() };
    tx.update_cluster(cluster.id, &change).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(catalog.store.cluster_access(cluster.id).await.unwrap().admin_password.expose(), "rotated");
    let secrets: i64 = catalog.superuser().await.query_one("SELECT count(*) FROM secret", &[]).await.unwrap().get(0);
    assert_eq!(secrets, 1, "the old password is destroyed");
}

#[tokio::test]
async fn a_cluster_counts_what_lives_on_it_and_is_not_removed_while_anything_does() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.active_tenant("acme", cluster).await;
    let by_id = ClusterRef::Id(cluster);
    let usage = catalog.store.cluster(&by_id).await.unwrap().usage;
    assert_eq!((usage.homes, usage.databases), (1, 1));
    let tx = catalog.begin().await;
    assert!(matches!(tx.delete_cluster(cluster).await, Err(StoreError::Conflict { .. })));
    drop(tx);

    let tx = catalog.begin().await;
    tx.home_released(acme.home).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(catalog.store.cluster(&by_id).await.unwrap().usage.homes, 0);
    let tx = catalog.begin().await;
    tx.delete_cluster(cluster).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(catalog.store.cluster(&by_id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(catalog.store.cluster_access(cluster).await, Err(StoreError::NotFound { .. })));
    // Its name is free again.
    catalog.cluster("one", Tenancy::Shared).await;
}

#[tokio::test]
async fn a_dedicated_cluster_is_claimed_by_one_tenant() {
    let catalog = Catalog::new().await;
    let shared = catalog.cluster("shared", Tenancy::Shared).await;
    let own = catalog.cluster("own", Tenancy::Dedicated).await;
    let (acme, other) = (catalog.plan_tenant("acme", shared).await, catalog.plan_tenant("other", shared).await);
    let tx = catalog.begin().await;
    assert!(!tx.claim_cluster(shared, acme.tenant).await.unwrap());
    assert!(tx.claim_cluster(own, acme.tenant).await.unwrap());
    assert!(tx.claim_cluster(own, acme.tenant).await.unwrap(), "twice is as once");
    assert!(!tx.claim_cluster(own, other.tenant).await.unwrap());
    tx.release_clusters_of(acme.tenant).await.unwrap();
    assert!(tx.claim_cluster(own, other.tenant).await.unwrap());
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn schema_homes_fill_one_shared_database_and_then_the_next() {
    let catalog = Catalog::new().await;
    let mut cluster = new_cluster("one", Tenancy::Shared);
    cluster.limits.schemas_per_database = 2;
    let mut tx = catalog.begin().await;
    tx.insert_cluster(&cluster).await.unwrap();
    tx.commit().await.unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        let tx = catalog.begin().await;
        let operation = new_operation(None);
        tx.insert_operation(&operation).await.unwrap();
        let shared = tx.ensure_shared_database(cluster.id, Uuid::now_v7()).await.unwrap();
        assert_eq!(shared.state, BaseState::Planned);
        let plain = new_home(cluster.id, operation.id);
        let schema = SchemaName::of_home(plain.home.id);
        let mut home = plain.home.clone();
        (home.isolation, home.database, home.schema) = (Isolation::Schema, shared.name.clone(), schema);
        let new = NewHome { home, shared_database: Some(shared.id), resources: Vec::new(), ..plain };
        tx.insert_home(&new).await.unwrap();
        tx.commit().await.unwrap();
        names.push(shared.name);
        let record = catalog.store.home(new.home.id).await.unwrap();
        assert_eq!((record.home, record.shared_database), (new.home, Some(shared.id)));
        assert_eq!(record.secrets.migrator.expose(), "migrator password");
    }
    assert_eq!(names[0], names[1]);
    assert_ne!(names[1], names[2]);
    let usage = catalog.store.cluster(&ClusterRef::Id(cluster.id)).await.unwrap().usage;
    assert_eq!((usage.homes, usage.databases), (3, 2));
    let tx = catalog.begin().await;
    let candidates = tx.placement_candidates(None).await.unwrap();
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].open_schemas, 1);
    assert_eq!(tx.bases_of_cluster(cluster.id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_template_is_planned_per_cluster_and_set_however_many_ask() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let asks = (0..6).map(|_| async {
        let tx = catalog.begin().await;
        let template = tx.ensure_template(cluster, None, Uuid::now_v7()).await.unwrap();
        tx.commit().await.unwrap();
        template
    });
    let templates = futures::future::join_all(asks).await;
    assert!(templates.iter().all(|template| template.id == templates[0].id));
    assert_eq!(templates[0].state, BaseState::Planned);
    let tx = catalog.begin().await;
    tx.template_ready(templates[0].id, tenantry_domain::SchemaVersion(12)).await.unwrap();
    tx.commit().await.unwrap();
    let ready = catalog.store.template(cluster, None).await.unwrap().unwrap();
    assert_eq!((ready.state, ready.schema_version.0), (BaseState::Ready, 12));
}

#[tokio::test]
async fn a_name_on_a_cluster_is_recorded_once_for_ever() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.plan_tenant("acme", cluster).await;
    let resources = catalog.store.resources_of_home(acme.home).await.unwrap();
    let tx = catalog.begin().await;
    tx.resource_dropped(&[resources[0].id]).await.unwrap();
    let again = tenantry_store::NewResource {
        id: tenantry_domain::ResourceId::new(Uuid::now_v7()),
        cluster,
        kind: resources[0].kind,
        name: resources[0].name.clone(),
        parent: None,
    };
    let refused = tx.insert_resources(acme.operation, Some(acme.home), &[again]).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
}

#[tokio::test]
async fn clusters_are_listed_by_state_and_changed_under_a_lock() {
    let catalog = Catalog::new().await;
    let one = catalog.cluster("one", Tenancy::Shared).await;
    catalog.cluster("two", Tenancy::Dedicated).await;
    let tx = catalog.begin().await;
    let before = tx.lock_cluster(&ClusterRef::Id(one)).await.unwrap();
    let after = tx.set_cluster_state(one, ClusterState::Cordoned).await.unwrap();
    tx.add_cluster_findings(one, &["a".to_owned(), "b".to_owned()]).await.unwrap();
    tx.add_cluster_findings(one, &["b".to_owned()]).await.unwrap();
    tx.commit().await.unwrap();
    assert!(after.updated_at > before.updated_at);
    let cordoned = ClusterFilter { state: Some(ClusterState::Cordoned), ..ClusterFilter::default() };
    let found = catalog.store.clusters(&cordoned, &PageRequest::default()).await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert_eq!((found.items[0].id, found.items[0].health.findings.len()), (one, 2));
    let tx = catalog.begin().await;
    assert_eq!(tx.regions().await.unwrap().len(), 1);
    let nobody = OperationId::new(Uuid::now_v7());
    assert!(tx.insert_home(&new_home(one, nobody)).await.is_err(), "a home belongs to an operation");
}

#[tokio::test]
async fn routers_hear_of_a_replica_as_long_as_it_follows_and_it_goes_with_its_cluster() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let replica = |port| NewClusterReplica {
        id: ClusterReplicaId::new(Uuid::now_v7()),
        cluster,
        endpoint: Endpoint::new("db-2.example.com", port).unwrap(),
        tls_mode: None,
        tls_ca: None,
        lag_max: LagMax::from_ms(500).unwrap(),
        lag_ms: Some(7),
    };
    let (first, second) = (replica(5432), replica(5433));
    let mut tx = catalog.begin().await;
    tx.insert_cluster_replica(&second).await.unwrap();
    let recorded = tx.insert_cluster_replica(&first).await.unwrap();
    assert_eq!((recorded.health.state, recorded.health.lag_ms), (ReplicaState::Healthy, Some(7)));
    assert!(matches!(tx.insert_cluster_replica(&replica(5432)).await, Err(StoreError::Conflict { .. })));
    tx.commit().await.unwrap();

    let told = async || catalog.store.cluster_route(cluster).await.unwrap();
    let state = async || {
        let page = catalog.store.cluster_replicas(cluster, &PageRequest::default()).await.unwrap();
        page.items.into_iter().find(|it| it.id == first.id).unwrap().health.state
    };
    let ids = |version: &mut FeedVersion, route: tenantry_store::ClusterRoute| {
        let is_news = std::mem::replace(version, route.version) != route.version;
        (is_news, route.replicas.into_iter().map(|it| it.id).collect::<Vec<_>>())
    };
    let mut version = FeedVersion::default();
    let both = vec![first.id, second.id];
    assert_eq!(ids(&mut version, told().await), (true, both.clone()));
    let promoted = || ReplicaLook::NotStandby { error: "promoted".to_owned() };
    for (look, expected, is_news, heard) in [
        (ReplicaLook::Standby { lag_ms: Some(501) }, ReplicaState::Lagging, false, &both),
        (ReplicaLook::Standby { lag_ms: None }, ReplicaState::Lagging, false, &both),
        (ReplicaLook::Silent { error: "away".to_owned() }, ReplicaState::Unreachable, false, &both),
        (ReplicaLook::Standby { lag_ms: Some(500) }, ReplicaState::Healthy, false, &both),
        (promoted(), ReplicaState::NotStandby, true, &vec![second.id]),
        (promoted(), ReplicaState::NotStandby, false, &vec![second.id]),
        // It is not known to follow again before it says so.
        (ReplicaLook::Silent { error: "away".to_owned() }, ReplicaState::Unreachable, false, &vec![second.id]),
        (ReplicaLook::Standby { lag_ms: Some(0) }, ReplicaState::Healthy, true, &both),
    ] {
        catalog.store.record_replica_look(first.id, &look).await.unwrap();
        assert_eq!(state().await, expected, "{look:?}");
        assert_eq!(ids(&mut version, told().await), (is_news, heard.clone()), "{look:?}");
    }

    let mut tx = catalog.begin().await;
    let other = ClusterReplicaId::new(Uuid::now_v7());
    assert!(matches!(tx.delete_cluster_replica(cluster, other).await, Err(StoreError::NotFound { .. })));
    tx.delete_cluster_replica(cluster, second.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(ids(&mut version, told().await), (true, vec![first.id]));
    let tx = catalog.begin().await;
    tx.delete_cluster(cluster).await.unwrap();
    tx.commit().await.unwrap();
    let left = catalog.store.cluster_replicas(cluster, &PageRequest::default()).await.unwrap();
    assert!(left.items.is_empty());
}
