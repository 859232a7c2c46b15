//! What looks at tenants' schemas found.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tenantry_domain::{DriftState, MigrationSetId, SchemaVersion, Tenancy};
use tenantry_store::{DriftFinding, DriftListFilter, DriftSubject, NewReference, PageRequest, StoreError};
use uuid::Uuid;

use crate::catalog::{Catalog, Planned};

fn finding(state: DriftState) -> DriftFinding {
    let number = u32::from(state == DriftState::Drifted);
    DriftFinding {
        state,
        version: SchemaVersion(3),
        fingerprint: "f".repeat(64),
        reason: state.is_in_drift().then(|| "an index is missing".to_owned()),
        missing: number,
        unexpected: 0,
        changed: 0,
        differences: json!([{ "kind": "index", "name": "i", "expected": "CREATE INDEX", "found": null }]),
    }
}

#[tokio::test]
async fn the_last_look_is_kept_and_one_that_came_to_nothing_leaves_it() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let Planned { tenant, home, .. } = catalog.active_tenant("acme", cluster).await;
    let (store, subject) = (&catalog.store, DriftSubject { tenant, home, cluster });
    let listed = store.drifts(&DriftListFilter::default(), &PageRequest::default()).await.unwrap().items;
    assert_eq!(listed.iter().map(|it| (it.tenant, it.found.is_some())).collect::<Vec<_>>(), [(tenant, false)]);

    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    store.record_drift(&subject, at(10), Err("the cluster is away")).await.unwrap();
    let first = store.drift(tenant).await.unwrap();
    assert_eq!((first.found, first.error.as_deref()), (None, Some("the cluster is away")));

    let drifted = finding(DriftState::Drifted);
    for seconds in [20, 30] {
        store.record_drift(&subject, at(seconds), Ok(&drifted)).await.unwrap();
    }
    let kept = store.drift(tenant).await.unwrap();
    assert_eq!((kept.found.as_ref(), kept.error.as_ref()), (Some(&drifted), None));
    assert_eq!((kept.since, kept.checked_at), (Some(at(20)), Some(at(30))));
    store.record_drift(&subject, at(40), Err("busy")).await.unwrap();
    let kept = store.drift(tenant).await.unwrap();
    assert_eq!((kept.found, kept.attempted_at, kept.checked_at), (Some(drifted), Some(at(40)), Some(at(30))));

    let in_drift = DriftListFilter { in_drift: true, ..DriftListFilter::default() };
    let listed = store.drifts(&in_drift, &PageRequest::default()).await.unwrap().items;
    assert_eq!(listed[0].found.as_ref().unwrap().differences, json!([]), "a list is without objects");
    assert_eq!(store.count_drift().await.unwrap(), [(Some(DriftState::Drifted), 1)]);
    store.record_drift(&subject, at(50), Ok(&finding(DriftState::Clean))).await.unwrap();
    assert_eq!(store.drift(tenant).await.unwrap().since, None);
    assert_eq!(store.drifts(&in_drift, &PageRequest::default()).await.unwrap().items, []);

    // A look at a home in which the tenant does not live any more tells nothing of it.
    let elsewhere = catalog.active_tenant("other", cluster).await;
    let stale = DriftSubject { home: elsewhere.home, ..subject };
    store.record_drift(&stale, at(60), Ok(&finding(DriftState::Diverged))).await.unwrap();
    assert_eq!(store.drift(tenant).await.unwrap().checked_at, Some(at(50)));
    let both = store.drifts_of(&[elsewhere.tenant, tenant]).await.unwrap();
    assert_eq!(both.iter().map(|it| it.tenant).collect::<Vec<_>>(), [elsewhere.tenant, tenant]);
}

#[tokio::test]
async fn those_come_first_who_wait_longest_and_those_in_drift_sooner() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let now = Timestamp::now();
    let ago = |minutes| now - SignedDuration::from_mins(minutes);
    let mut tenants = Vec::new();
    for (slug, state, minutes) in [
        ("late", Some(DriftState::Clean), 300),
        ("fresh", Some(DriftState::Clean), 30),
        ("drifted", Some(DriftState::Drifted), 30),
        ("never", None, 0),
    ] {
        let Planned { tenant, home, .. } = catalog.active_tenant(slug, cluster).await;
        if let Some(state) = state {
            let subject = DriftSubject { tenant, home, cluster };
            catalog.store.record_drift(&subject, ago(minutes), Ok(&finding(state))).await.unwrap();
        }
        tenants.push(tenant);
    }
    catalog.plan_tenant("on-its-way", cluster).await;
    let due = async |limit| -> Vec<_> {
        let due = catalog.store.drift_due(ago(120), ago(10), limit).await.unwrap();
        due.into_iter().map(|subject| subject.tenant).collect()
    };
    assert_eq!(due(10).await, [tenants[3], tenants[0], tenants[2]]);
    assert_eq!(due(1).await, [tenants[3]]);
}

#[tokio::test]
async fn a_reference_is_kept_once_and_its_database_is_planned_used_and_retired() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let (store, digest) = (&catalog.store, MigrationSetId::from_digest([7; 32]));
    assert_eq!(store.drift_reference(&digest, 15, 1).await.unwrap(), None);
    let reference = |fingerprint: &str, format| NewReference {
        digest: digest.clone(),
        server_major: 15,
        format,
        version: SchemaVersion(3),
        fingerprint: fingerprint.to_owned(),
        objects: json!([{ "kind": "table" }]),
    };
    for fingerprint in ["first", "second"] {
        store.keep_drift_reference(&reference(fingerprint, 1)).await.unwrap();
    }
    assert_eq!(store.drift_reference(&digest, 15, 1).await.unwrap().as_deref(), Some("first"));
    assert_eq!(store.drift_reference(&digest, 16, 1).await.unwrap(), None);
    assert_eq!(store.drift_reference_objects(&digest, 15, 1).await.unwrap(), Some(json!([{ "kind": "table" }])));
    store.keep_drift_reference(&reference("newer", 2)).await.unwrap();
    assert_eq!(store.drift_reference(&digest, 15, 1).await.unwrap(), None, "an older format tells nothing");

    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    let tx = catalog.begin().await;
    for id in ids {
        tx.plan_scratch(cluster, id).await.unwrap();
    }
    // Nobody clones it, and it does not stand in the way of a template for no set.
    let template = tx.ensure_template(cluster, None, Uuid::now_v7()).await.unwrap();
    assert!(!ids.contains(&template.id));
    tx.retire_scratch(ids[0]).await.unwrap();
    assert_eq!(tx.retire_templates(None).await.unwrap(), 0, "one in use stays");
    tx.commit().await.unwrap();
    let retired: Vec<Uuid> = store.retired_templates(10).await.unwrap().iter().map(|it| it.id).collect();
    assert_eq!(retired, [ids[0]]);
    let aged = "UPDATE template SET created_at = now() - interval '2 hours' WHERE state = 'scratch'";
    catalog.superuser().await.batch_execute(aged).await.unwrap();
    let tx = catalog.begin().await;
    assert_eq!(tx.retire_templates(None).await.unwrap(), 1, "one that was left is retired");
    tx.commit().await.unwrap();
    assert!(matches!(
        store.drift(tenantry_domain::TenantId::new(Uuid::now_v7())).await,
        Err(StoreError::NotFound { .. })
    ));
}
