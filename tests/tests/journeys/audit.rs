//! The audit log as auditors use it: exported, verified, out of reach of whoever is audited.

use serde_json::json;
use tenantry_api::{AuditVerification, ListAuditChains};
use tenantry_tests::{Program, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_export_verifies_anywhere_and_a_forged_line_is_found() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    for name in ["Acme One", "Acme Two"] {
        world.wire().patch("/v1/tenants/acme", &json!({ "name": name })).await.ok();
    }
    let program = Program::new(&world.url(), world.token());
    let verdict = program.json(["audit", "verify"]).await;
    assert_eq!(verdict["sound"], true, "{verdict}");
    assert!(verdict["chains"].as_u64().unwrap() >= 2, "{verdict}");
    let verdict = program.json(["audit", "verify", "--tenant", "acme"]).await;
    assert_eq!((verdict["entries"].as_u64(), verdict["chains"].as_u64()), (Some(3), Some(1)));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let path = file.to_str().unwrap();
    let exported = program.run(["audit", "export"]).await.ok().stdout;
    assert!(exported.lines().count() >= 8, "{exported}");
    std::fs::write(&file, &exported).unwrap();
    // Without a control plane.
    let alone = Program::new("http://127.0.0.1:1", world.token());
    assert_eq!(alone.json(["audit", "verify", "--file", path]).await["sound"], true);
    std::fs::write(&file, exported.replace("Acme One", "Acme 0ne")).unwrap();
    let forged = alone.run(["audit", "verify", "--file", path]).await;
    assert_eq!(forged.code(), Some(5), "{}{}", forged.stdout, forged.stderr);
    std::fs::write(&file, "{}\n").unwrap();
    let strange = alone.run(["audit", "verify", "--file", path]).await;
    assert_eq!(strange.code(), Some(1));
    assert!(strange.stderr.contains("line 1"), "{}", strange.stderr);

    // The chain outlives its tenant.
    world.delete(&acme).await;
    world.wire().post("/v1/tenants/acme/purge", &json!({})).await.ok();
    let verdict = program.json(["audit", "verify", "--tenant", &acme.id.to_string()]).await;
    assert_eq!((verdict["sound"].as_bool(), verdict["entries"].as_u64()), (Some(true), Some(5)), "{verdict}");

    // What a superuser removes or rewrites is found.
    let list = ListAuditChains { tenant: Some(acme.id.into()), ..ListAuditChains::default() };
    let head = world.client().list_audit_chains(&list).await.unwrap().items.remove(0);
    let catalog = world.catalog_client().await;
    let cut = format!("DELETE FROM audit_log WHERE id = {}", head.last_entry);
    catalog.batch_execute(&format!("SET session_replication_role = replica; {cut}")).await.unwrap();
    drop(catalog);
    let ended = program.run(["audit", "verify", "--tenant", &acme.id.to_string()]).await;
    assert_eq!(ended.code(), Some(5), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("entries are missing: 1"), "{}", ended.stdout);
    assert_eq!(AuditVerification::against([head]).finish().len(), 1, "a head that was kept tells as much");
    world.end().await;
}
