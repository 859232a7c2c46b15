//! Plans change, and what holds for a tenant follows.

use serde_json::{Value, json};
use tenantry_domain::{Access, Scope};
use tenantry_testkit::eventually;
use tenantry_tests::{Program, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_made_changed_and_deleted_once_nobody_has_it() {
    let world = World::start().await;
    let wire = world.wire();
    let body = json!({
        "name": "business", "isolation": "schema", "quotas": { "seats": 10 }, "features": ["sso"],
        "limits": { "connections": 12, "requests_per_minute": 600 }, "price": { "currency": "EUR", "monthly_minor": 4900 },
    });
    let made = wire.post("/v1/plans", &body).await.ok();
    assert_eq!(made.status, 201);
    for field in ["name", "isolation", "quotas", "features", "limits", "price"] {
        assert_eq!(made.json[field], body[field], "{field}");
    }
    wire.post("/v1/plans", &body).await.problem(409, "conflict");

    let change = json!({ "limits": { "connections": 20, "requests_per_minute": null }, "quotas": { "flights": 5 } });
    let changed = wire.patch("/v1/plans/business", &change).await.ok().json;
    assert_eq!(changed["limits"], json!({ "connections": 20 }));
    assert_eq!(changed["quotas"], json!({ "seats": 10, "flights": 5 }));
    assert_eq!(changed["features"], json!(["sso"]));

    let tenant = world.tenant("acme").plan("business").await;
    let refused = wire.delete("/v1/plans/business").await;
    refused.problem(409, "conflict");
    assert!(refused.text.contains("1 tenant"), "{}", refused.text);
    world.delete(&tenant).await;
    let refused = wire.delete("/v1/plans/business").await;
    refused.problem(409, "conflict");
    assert!(refused.text.contains("purge"), "a tombstone keeps its plan: {}", refused.text);
    world.client().purge_tenant(&tenant.id.into()).await.unwrap();
    assert_eq!(wire.delete("/v1/plans/business").await.status, 204);
    wire.get("/v1/plans/business").await.problem(404, "not_found");
    wire.delete("/v1/plans/developer").await.problem(409, "conflict");

    let audited = wire.get("/v1/audit-log").await.ok().json;
    let entries = audited["items"].as_array().unwrap();
    let of = |action: &str| entries.iter().find(|entry| entry["action"] == action).unwrap_or(&Value::Null).clone();
    assert_eq!(of("plan.update")["before"]["limits"]["connections"], 12);
    assert_eq!(of("plan.update")["after"]["limits"]["connections"], 20);
    assert_eq!(of("plan.delete")["target"], "plan/business");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_one_is_refused_and_the_field_is_named() {
    let world = World::start().await;
    let wire = world.wire();
    for (field, value) in [
        ("limits", json!({ "connections": 0 })),
        ("limits", json!({ "pool_size": 1_000_000 })),
        ("quotas", json!({ "seats": -1 })),
        ("quotas", json!({ "Not A Name": 1 })),
        ("features", json!(["sso", "sso"])),
        ("features", json!([""])),
        ("price", json!({ "monthly_minor": 5 })),
        ("price", json!({ "currency": "euro" })),
    ] {
        let mut body = json!({ "name": "bad", "isolation": "schema" });
        body[field] = value.clone();
        let answer = wire.post("/v1/plans", &body).await;
        assert_eq!(answer.problem(400, "invalid_request"), [format!("/{field}")], "{value}");
        let update = json!({ field: value });
        wire.patch("/v1/plans/team", &update).await.problem(400, "invalid_request");
    }
    for body in
        [json!({ "name": "Bad", "isolation": "schema" }), json!({ "name": "bad" }), json!({ "isolation": "schema" })]
    {
        wire.post("/v1/plans", &body).await.problem(400, "invalid_request");
    }
    let overrides = json!({ "slug": "acme", "overrides": { "quotas": { "seats": -1 } } });
    let answer = wire.post("/v1/tenants", &overrides).await;
    assert_eq!(answer.problem(400, "invalid_request"), ["/overrides"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_that_holds_for_a_tenant_says_where_it_comes_from() {
    let world = World::start().await;
    let wire = world.wire();
    let body = json!({ "name": "business", "isolation": "schema", "quotas": { "seats": 10 }, "features": ["sso"],
        "limits": { "connections": 12, "pool_size": 3 } });
    wire.post("/v1/plans", &body).await.ok();
    let tenant = world.tenant("acme").plan("business").await;
    let change = json!({ "overrides": { "pool_size": 5, "quotas": { "seats": 50 }, "features": { "beta": true } } });
    wire.patch("/v1/tenants/acme", &change).await.ok();
    let effective = wire.get("/v1/tenants/acme/effective-plan").await.ok().json;
    assert_eq!((&effective["tenant"], &effective["plan"]), (&json!(tenant.id), &json!("business")));
    assert_eq!(effective["limits"]["connections"], json!({ "value": 12, "origin": "plan" }));
    assert_eq!(effective["limits"]["pool_size"], json!({ "value": 5, "origin": "override" }));
    assert_eq!(effective["limits"]["statement_timeout_ms"], json!({ "value": null, "origin": "plan" }));
    assert_eq!(effective["quotas"]["seats"], json!({ "value": 50, "origin": "override" }));
    assert_eq!(effective["features"]["sso"], json!({ "value": true, "origin": "plan" }));
    assert_eq!(effective["features"]["beta"], json!({ "value": true, "origin": "override" }));
    let cleared = wire.patch("/v1/tenants/acme", &json!({ "overrides": { "quotas": null } })).await.ok().json;
    assert_eq!(cleared["overrides"], json!({ "pool_size": 5, "features": { "beta": true } }));
    wire.get("/v1/tenants/nobody/effective-plan").await.problem(404, "not_found");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_limit_of_a_plan_reaches_the_routes_of_its_tenants_and_of_no_other() {
    let world = World::start().await;
    let (first, second) =
        (world.tenant("first").plan("developer").await, world.tenant("second").plan("developer").await);
    let other = world.tenant("other").plan("team").await;
    let untouched = world.route(&other).await.version;
    world.wire().patch("/v1/plans/developer", &json!({ "limits": { "pool_size": 7 } })).await.ok();
    for tenant in [&first, &second] {
        let before = world.route(tenant).await.version;
        eventually("the route is told", async || {
            let route = world.route(tenant).await;
            route.limits.pool_size == Some(7) && (route.version > before || before > untouched)
        })
        .await;
    }
    let mut known = (world.route(&first).await.version, world.route(&second).await.version);
    world.wire().patch("/v1/plans/developer", &json!({ "limits": { "pool_size": 6 } })).await.ok();
    eventually("both routes have a new version", async || {
        let now = (world.route(&first).await.version, world.route(&second).await.version);
        let both = now.0 > known.0 && now.1 > known.1;
        if both {
            known = now;
        }
        both
    })
    .await;
    assert_eq!(world.route(&other).await.version, untouched);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_bound_to_a_tenant_changes_neither_plans_nor_its_own_limits() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    let scopes = [Scope::Tenants(Access::Write), Scope::Plans(Access::Write)];
    let token = world.token_with(&scopes, Some(&tenant)).await;
    let wire = tenantry_tests::Wire::new(&world.url(), &token);
    wire.patch("/v1/tenants/acme", &json!({ "name": "Acme" })).await.ok();
    for change in [json!({ "overrides": { "connections": 500 } }), json!({ "plan": "enterprise" })] {
        wire.patch("/v1/tenants/acme", &change).await.problem(403, "forbidden");
    }
    wire.post("/v1/plans", &json!({ "name": "mine", "isolation": "schema" })).await.problem(403, "forbidden");
    wire.patch("/v1/plans/developer", &json!({ "limits": null })).await.problem(403, "forbidden");
    wire.delete("/v1/plans/team").await.problem(403, "forbidden");
    wire.get("/v1/tenants/acme/effective-plan").await.ok();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_on_the_command_line() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    let create = [
        "plan",
        "create",
        "business",
        "--isolation",
        "schema",
        "--limit",
        "connections=12",
        "--quota",
        "seats=10",
        "--feature",
        "sso",
        "--currency",
        "EUR",
        "--monthly-minor",
        "4900",
    ];
    let made = program.json(create).await;
    assert_eq!((&made["limits"]["connections"], &made["quotas"]["seats"]), (&json!(12), &json!(10)));
    let update = [
        "plan",
        "update",
        "business",
        "--remove-limit",
        "connections",
        "--limit",
        "temporary_tables=true",
        "--add-feature",
        "export",
        "--remove-feature",
        "sso",
        "--yearly-minor",
        "49000",
    ];
    let changed = program.json(update).await;
    assert_eq!(changed["limits"], json!({ "temporary_tables": true }));
    assert_eq!(changed["features"], json!(["export"]));
    assert_eq!(changed["price"], json!({ "currency": "EUR", "monthly_minor": 4900, "yearly_minor": 49000 }));
    program
        .run(["tenant", "create", "acme", "--plan", "business", "--quota", "seats=99", "--feature", "beta=true"])
        .await
        .ok();
    let effective = program.json(["tenant", "effective-plan", "acme"]).await;
    assert_eq!(effective["quotas"]["seats"], json!({ "value": 99, "origin": "override" }));
    let table = program.run(["tenant", "effective-plan", "acme"]).await.ok().stdout;
    assert!(table.contains("seats=99 (override)") && table.contains("export=true"), "{table}");
    let updated =
        program.json(["tenant", "update", "acme", "--remove-quota", "seats", "--feature", "beta=false"]).await;
    assert_eq!(updated["overrides"], json!({ "features": { "beta": false } }));
    let refused = program.run(["plan", "delete", "business"]).await;
    assert!(refused.code() != Some(0) && refused.stderr.contains("1 tenant"), "{}", refused.stderr);
    program.run(["plan", "delete", "enterprise"]).await.ok();
    assert!(!program.run(["plan", "list"]).await.ok().stdout.contains("enterprise"));
    world.end().await;
}
