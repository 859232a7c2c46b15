//! The audit log.

use serde_json::json;
use tenantry_domain::{OperationId, RequestId, TenantId};
use tenantry_store::{AuditEntry, AuditFilter, PageRequest};
use uuid::Uuid;

use crate::catalog::Catalog;

fn entry(action: &str, tenant: Option<TenantId>) -> AuditEntry {
    AuditEntry {
        actor: "token/ci".to_owned(),
        action: action.to_owned(),
        target: "tenant/x".to_owned(),
        tenant,
        request_id: Some(RequestId::new(Uuid::now_v7())),
        operation: Some(OperationId::new(Uuid::now_v7())),
        before: Some(json!({ "b": [1, 2.5, -3], "a": null, "ü": "\u{1f600}\"" })),
        after: Some(json!({ "z": { "y": true, "x": "1" } })),
    }
}

async fn write(catalog: &Catalog, entry: &AuditEntry) {
    let tx = catalog.begin().await;
    tx.audit(entry).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn entries_come_back_as_they_were_written_newest_first_and_filtered() {
    let catalog = Catalog::new().await;
    let acme = TenantId::new(Uuid::now_v7());
    let (first, second, third) =
        (entry("tenant.create", Some(acme)), entry("cluster.register", None), entry("tenant.update", Some(acme)));
    for entry in [&first, &second, &third] {
        write(&catalog, entry).await;
    }
    let all = catalog.store.audit_log(&AuditFilter::default(), &PageRequest::default()).await.unwrap();
    let entries: Vec<_> = all.items.iter().map(|record| &record.entry).collect();
    assert_eq!(entries, [&third, &second, &first]);
    let of_acme = AuditFilter { tenant: Some(acme), ..AuditFilter::default() };
    let page = PageRequest { limit: 1, ..PageRequest::default() };
    let newest = catalog.store.audit_log(&of_acme, &page).await.unwrap();
    assert_eq!(newest.items[0].entry, third);
    let next = PageRequest { cursor: newest.next, ..page };
    let oldest = catalog.store.audit_log(&of_acme, &next).await.unwrap();
    assert_eq!((&oldest.items[0].entry, oldest.next), (&first, None));
    let registered = AuditFilter {
        action: Some("cluster.register".to_owned()),
        actor: Some("token/ci".to_owned()),
        since: Some(all.items[2].at),
        until: Some(all.items[0].at),
        ..AuditFilter::default()
    };
    let found = catalog.store.audit_log(&registered, &PageRequest::default()).await.unwrap();
    assert_eq!(found.items.iter().map(|record| &record.entry).collect::<Vec<_>>(), [&second]);
}

#[tokio::test]
async fn chains_stay_whole_under_concurrent_writers() {
    let catalog = Catalog::new().await;
    let tenants = [None, Some(TenantId::new(Uuid::now_v7()))];
    let writers = (0..8).map(|writer| {
        let catalog = &catalog;
        async move {
            for _ in 0..10 {
                write(catalog, &entry("tenant.update", tenants[writer % 2])).await;
            }
        }
    });
    futures::future::join_all(writers).await;
    for tenant in tenants {
        let verdict = catalog.store.verify_audit(tenant).await.unwrap();
        assert_eq!((verdict.sound, verdict.broken_at), (40, None));
    }
}

#[tokio::test]
async fn the_log_refuses_changes_and_shows_those_that_a_superuser_forces() {
    let catalog = Catalog::new().await;
    for _ in 0..5 {
        write(&catalog, &entry("tenant.update", None)).await;
    }
    let superuser = catalog.superuser().await;
    let ids: Vec<i64> = superuser
        .query("SELECT id FROM audit_log ORDER BY id", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    for sql in ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        assert!(superuser.batch_execute(sql).await.is_err(), "{sql}");
    }
    assert_eq!(catalog.store.verify_audit(None).await.unwrap().broken_at, None);

    superuser.batch_execute("SET session_replication_role = replica").await.unwrap();
    let tamper = "UPDATE audit_log SET after = '{\"forged\": true}' WHERE id = $1";
    superuser.execute(tamper, &[&ids[3]]).await.unwrap();
    let verdict = catalog.store.verify_audit(None).await.unwrap();
    assert_eq!((verdict.sound, verdict.broken_at), (3, Some(ids[3])));

    superuser.execute("DELETE FROM audit_log WHERE id = $1", &[&ids[1]]).await.unwrap();
    let verdict = catalog.store.verify_audit(None).await.unwrap();
    assert_eq!((verdict.sound, verdict.broken_at), (1, Some(ids[2])));
}
