//! The audit log as auditors use it: exported, verified, out of reach of whoever is audited.

use serde_json::json;
use tenantry_api::{AuditVerification, ListAuditChains};
use tenantry_testkit::Server;
use tenantry_tests::{Program, Serve, World};

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
    assert!(exported.lines().count() >= 7, "{exported}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_under_a_runtime_role_does_everything_but_change_the_log() {
    // Homes on a server of their own: `serve` keeps tenants off the catalog's.
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    world.take_replica(0).stop().await;
    let (runtime, owner) = (world.runtime_role().await, world.catalog().0.expose().to_owned());
    // The owner lets the role in with the command; its password is in the environment, where `ps` does not show it.
    let program = Program::new(&world.url(), world.token());
    let granted =
        program.json(["catalog", "migrate", "--catalog-url", owner.as_str(), "--runtime-role", runtime.name()]).await;
    assert_eq!(granted["runtime_roles"], json!([runtime.name()]), "{granted}");
    let again = ["catalog", "migrate", "--catalog-url", owner.as_str(), "--runtime-role", "nobody_by_that_name"];
    let refused = program.run(again).await;
    assert!(refused.stderr.contains("there is no role"), "{}", refused.stderr);

    let settings = [("TENANTRY__CATALOG__URL", runtime.url()), ("TENANTRY__CATALOG__REQUIRE_RUNTIME_ROLE", "true")];
    let serve = Serve::start_with(&world, &settings).await;
    world.use_door(serve.url());
    assert!(!serve.log().contains("could change the audit log"), "it is no owner");
    let acme = world.tenant("acme").await;
    world.connect(&acme).await.run("SELECT 1").await;
    let set =
        world.push("next", &tenantry_tests::files::notes_and("V4__more.sql", "CREATE TABLE more (id int);\n")).await;
    let rollout = world.begin_rollout(&set).await;
    world.rolled_out(rollout.id).await;
    world.wire().patch("/v1/tenants/acme", &json!({ "name": "Acme Airlines" })).await.ok();
    world.delete(&acme).await;
    world.wire().post("/v1/tenants/acme/purge", &json!({})).await.ok();

    let client = runtime.connect().await;
    for sql in [
        "UPDATE audit_log SET actor = 'x'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "DROP TRIGGER append_only ON audit_log",
        "DELETE FROM audit_chain",
        "SET session_replication_role = replica",
        "UPDATE operation_event SET kind = 'x'",
        "DELETE FROM refinery_schema_history",
        "CREATE TABLE public.mine (id int)",
    ] {
        let refused = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(tenantry_tests::sqlstate(&refused), "42501", "{sql}");
    }
    drop(client);
    let program = Program::new(serve.url(), world.token());
    assert_eq!(program.json(["audit", "verify"]).await["sound"], true);
    world.end().await;
    assert!(serve.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_the_catalogs_owner_did_to_the_log() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    for number in 0..120 {
        world.wire().patch("/v1/tenants/acme", &json!({ "name": format!("Acme {number}") })).await.ok();
    }
    let program = Program::new(&world.url(), world.token());
    let well = program.json(["doctor"]).await;
    assert_eq!(well["findings"], json!([]), "{well}");
    // A round is as long as it is asked to be, and all rounds together are the whole log.
    let wire = world.wire();
    let (mut entries, mut rounds) = (0, 0);
    let mut cursor = wire.get("/v1/doctor").await.ok().json["next"].as_str().map(str::to_owned);
    while let Some(at) = cursor {
        let round = wire.get(&format!("/v1/doctor?limit=1&cursor={at}")).await.ok().json;
        let checked = round["checked"].as_u64().unwrap();
        assert!(checked <= 100, "{round}");
        (entries, rounds) = (entries + checked, rounds + 1);
        cursor = round["next"].as_str().map(str::to_owned);
    }
    let catalog = world.catalog_client().await;
    let all: i64 = catalog.query_one("SELECT count(*) FROM audit_log", &[]).await.unwrap().get(0);
    assert!(rounds > 1 && i64::try_from(entries).unwrap() == all, "{entries} in {rounds} rounds, of {all}");
    wire.get("/v1/doctor?cursor=nonsense").await.problem(400, "invalid_request");

    let tamper = async |sql: &str| {
        let guarded = catalog.batch_execute(sql).await.unwrap_err();
        assert_eq!(tenantry_tests::sqlstate(&guarded), "23001", "{sql}");
        // Whoever owns the table can switch off what guards it.
        let off = "ALTER TABLE audit_log DISABLE TRIGGER ALL";
        catalog.batch_execute(&format!("{off}; {sql}; {}", off.replace("DISABLE", "ENABLE"))).await.unwrap();
    };
    tamper("UPDATE audit_log SET actor = 'nobody' WHERE after ->> 'name' = 'Acme 60'").await;
    tamper("DELETE FROM audit_log WHERE id = (SELECT last_entry FROM audit_chain WHERE chain = 'platform')").await;
    drop(catalog);
    let unwell = program.run(["doctor", "--output", "json"]).await;
    assert_eq!(unwell.code(), Some(5), "{}{}", unwell.stdout, unwell.stderr);
    let report: serde_json::Value = serde_json::from_str(&unwell.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let told = |subject: &str| {
        let finding = findings.iter().find(|finding| finding["subject"] == subject);
        let finding = finding.unwrap_or_else(|| panic!("{subject}: {report}"));
        assert_eq!(finding["check"], "audit_log");
        finding["message"].as_str().unwrap().to_owned()
    };
    assert!(told(&format!("audit-log/{}", acme.id)).contains("was changed"), "{report}");
    assert!(told("audit-log/platform").contains("one entry is gone from its end"), "{report}");
    assert_eq!(findings.len(), 2, "{report}");
    program.run(["doctor", "--without-audit-log"]).await.ok();
    world.end().await;
}
