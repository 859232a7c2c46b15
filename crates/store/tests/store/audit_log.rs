//! The audit log.

use serde_json::json;
use tenantry_domain::{OperationId, RequestId, TenantId};
use tenantry_store::{AuditEntry, AuditExport, AuditFilter, AuditMark, BreachKind, PageRequest};
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

/// Follows all chains in rounds of several sizes, which must find the same: how many entries there are, and what is wrong
/// with which chain.
async fn verdict(catalog: &Catalog) -> (u64, Vec<(String, BreachKind)>) {
    let mut verdicts = Vec::new();
    for entries_max in [1, 3, 10_000] {
        let (mut entries, mut breaches, mut mark) = (0, Vec::new(), Some(AuditMark::default()));
        while let Some(from) = mark {
            let round = catalog.store.verify_audit(&from, entries_max).await.unwrap();
            assert!(round.entries <= entries_max as u64);
            entries += round.entries;
            breaches.extend(round.breaches.into_iter().map(|breach| (breach.chain, breach.kind)));
            mark = round.next.map(|next| next.to_string().parse().unwrap());
        }
        breaches.sort_by(|left, right| left.0.cmp(&right.0));
        verdicts.push((entries, breaches));
    }
    // Where a chain is broken, the rest of it may be passed over.
    let looked_at = verdicts.iter().map(|(entries, _)| *entries).max().unwrap();
    assert!(verdicts.iter().all(|(_, breaches)| *breaches == verdicts[0].1), "{verdicts:?}");
    (looked_at, verdicts.remove(0).1)
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
    let by = AuditEntry { actor: r"token/a_b%\/0192".to_owned(), ..first };
    write(&catalog, &by).await;
    for (actor, count) in [
        (r"token/a_b%\", 1),
        (r"token/a_b%\/0192", 1),
        ("token/a", 0),
        ("token/axb%", 0),
        ("token/%", 0),
        ("%", 0),
        ("token", 4),
    ] {
        let named = AuditFilter { actor: Some(actor.to_owned()), ..AuditFilter::default() };
        let found = catalog.store.audit_log(&named, &PageRequest::default()).await.unwrap();
        assert_eq!(found.items.len(), count, "{actor}");
    }
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
    assert_eq!(verdict(&catalog).await, (80, Vec::new()));
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
    assert_eq!(verdict(&catalog).await, (5, Vec::new()));

    superuser.batch_execute("SET session_replication_role = replica").await.unwrap();
    let tamper = "UPDATE audit_log SET after = '{\"forged\": true}' WHERE id = $1";
    superuser.execute(tamper, &[&ids[3]]).await.unwrap();
    let broken_at = |id: i64| vec![("platform".to_owned(), BreachKind::Entry(id))];
    assert_eq!(verdict(&catalog).await.1, broken_at(ids[3]));

    superuser.execute("DELETE FROM audit_log WHERE id = $1", &[&ids[1]]).await.unwrap();
    assert_eq!(verdict(&catalog).await.1, broken_at(ids[2]));
}

#[tokio::test]
async fn a_tail_that_a_superuser_cuts_off_is_missed_and_chains_only_grow() {
    let catalog = Catalog::new().await;
    let tenant = TenantId::new(Uuid::now_v7());
    let acme = Some(tenant);
    for tenant in [acme, None, acme, acme] {
        write(&catalog, &entry("tenant.update", tenant)).await;
    }
    let chains = catalog.store.audit_chains(None, &PageRequest::default()).await.unwrap().items;
    assert_eq!(chains.iter().map(|chain| (chain.tenant, chain.entries)).collect::<Vec<_>>(), [(acme, 3), (None, 1)]);
    let page = PageRequest { limit: 1, ..PageRequest::default() };
    let first = catalog.store.audit_chains(None, &page).await.unwrap();
    let rest = catalog.store.audit_chains(None, &PageRequest { cursor: first.next, ..page }).await.unwrap();
    assert_eq!([first.items, rest.items].concat(), chains);

    let superuser = catalog.superuser().await;
    for sql in [
        "UPDATE audit_chain SET entries = 1",
        "UPDATE audit_chain SET head = decode(repeat('00', 32), 'hex')",
        "DELETE FROM audit_chain",
        "TRUNCATE audit_chain",
    ] {
        assert!(superuser.batch_execute(sql).await.is_err(), "{sql}");
    }
    superuser.batch_execute("SET session_replication_role = replica").await.unwrap();
    let cut = "DELETE FROM audit_log WHERE id = (SELECT last_entry FROM audit_chain WHERE tenant IS NOT NULL)";
    superuser.execute(cut, &[]).await.unwrap();
    let chain = tenant.to_string();
    assert_eq!(verdict(&catalog).await, (3, vec![(chain.clone(), BreachKind::Missing(1))]));
    superuser.batch_execute(&format!("DELETE FROM audit_log WHERE chain = '{chain}'")).await.unwrap();
    assert_eq!(verdict(&catalog).await, (1, vec![(chain.clone(), BreachKind::Missing(3))]));
    // A last entry in another's place, hashed as it should be, does not fit the head; nor does a chain without one.
    superuser.batch_execute("UPDATE audit_chain SET head = decode(repeat('00', 32), 'hex')").await.unwrap();
    let forged = [(chain, BreachKind::Missing(3)), ("platform".to_owned(), BreachKind::Head)];
    assert_eq!(verdict(&catalog).await.1, forged);
    superuser.batch_execute("DELETE FROM audit_chain").await.unwrap();
    assert_eq!(verdict(&catalog).await.1, forged[1..]);
}

#[tokio::test]
async fn an_export_bears_the_hash_before_each_entry_even_where_it_begins_in_the_middle() {
    let catalog = Catalog::new().await;
    let acme = Some(TenantId::new(Uuid::now_v7()));
    for tenant in [None, acme, None, acme, None] {
        write(&catalog, &entry("tenant.update", tenant)).await;
    }
    let upto = catalog.store.last_audit_entry().await.unwrap();
    write(&catalog, &entry("too.late", None)).await;
    let all = catalog.store.export_audit(&AuditExport::default(), 0, upto).await.unwrap();
    assert_eq!(all.len(), 5);
    assert_eq!((all[0].previous, all[1].previous), (None, None));
    assert_eq!(all[4].previous, Some(all[2].record.hash));
    let since = AuditExport { tenant: acme, since: Some(all[3].record.at), until: None };
    let middle = catalog.store.export_audit(&since, 0, upto).await.unwrap();
    assert_eq!((middle.len(), middle[0].previous), (1, Some(all[1].record.hash)));
    assert_eq!(catalog.store.export_audit(&AuditExport::default(), all[2].record.id, upto).await.unwrap(), all[3..]);
}

#[tokio::test]
async fn the_first_entry_of_a_chain_is_bound_to_those_that_follow_and_is_first() {
    let catalog = Catalog::new().await;
    let acme = TenantId::new(Uuid::now_v7());
    let first = entry("tenant.create", Some(acme));
    let tx = catalog.begin().await;
    tx.audit_first(&first).await.unwrap();
    tx.commit().await.unwrap();
    write(&catalog, &entry("tenant.update", Some(acme))).await;
    assert_eq!(verdict(&catalog).await, (2, Vec::new()));
    let tx = catalog.begin().await;
    assert!(tx.audit_first(&first).await.is_err(), "the chain has begun");
    drop(tx);
    assert_eq!(verdict(&catalog).await, (2, Vec::new()));
}
