//! Who may do what, what is remembered of it, and what is never told.

use serde_json::{Value, json};
use tenantry_api::{CreateToken, ListAuditLog};
use tenantry_domain::{Access, DisplayName, Isolation, Scope, ScopeSet, Secret};
use tenantry_store::AuditMark;
use tenantry_tests::{Serve, Wire, World, files};

fn token_request(scopes: &[&str]) -> Value {
    json!({ "name": "ci", "scopes": scopes })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_its_scopes_say_and_nothing_else() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let paths = [
        (Scope::Tenants(Access::Read), "/v1/tenants"),
        (Scope::Clusters(Access::Read), "/v1/clusters"),
        (Scope::Plans(Access::Read), "/v1/plans"),
        (Scope::Operations(Access::Read), "/v1/operations"),
        (Scope::Migrations(Access::Read), "/v1/migration-sets"),
        (Scope::Migrations(Access::Read), "/v1/rollouts"),
        (Scope::Tokens(Access::Read), "/v1/tokens"),
        (Scope::Audit(Access::Read), "/v1/audit-log"),
        (Scope::RoutesRead, "/v1/routes/resolve?slug=acme"),
    ];
    for (scope, _) in paths {
        let wire = world.wire().token(&world.token_with(&[scope], None).await);
        for (needed, path) in paths {
            let answer = wire.get(path).await;
            if scope == needed {
                answer.ok();
            } else {
                answer.problem(403, "forbidden");
            }
        }
        // Reading is not writing.
        wire.delete("/v1/tenants/acme").await.problem(403, "forbidden");
        wire.post("/v1/clusters/main/cordon", &json!({})).await.problem(403, "forbidden");
        wire.post("/v1/tokens", &token_request(&["tenants:read"])).await.problem(403, "forbidden");
    }
    assert_eq!(world.show(&acme).await.status, acme.status);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_bound_to_one_tenant_sees_that_one_only() {
    let world = World::start().await;
    let (mine, theirs) = (world.tenant("mine").await, world.tenant("theirs").await);
    let all = [
        Scope::Tenants(Access::Write),
        Scope::Operations(Access::Write),
        Scope::Clusters(Access::Write),
        Scope::Migrations(Access::Write),
        Scope::Audit(Access::Read),
        Scope::Tokens(Access::Write),
        Scope::RoutesSecrets,
    ];
    let wire = world.wire().token(&world.token_with(&all, Some(&mine)).await);
    let listed = wire.get("/v1/tenants").await.ok();
    assert_eq!(listed.json["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed.json["items"][0]["slug"], "mine");
    wire.get("/v1/tenants/mine").await.ok();
    for reference in ["theirs".to_owned(), theirs.id.to_string()] {
        wire.get(&format!("/v1/tenants/{reference}")).await.problem(404, "not_found");
        let patched = wire.patch(&format!("/v1/tenants/{reference}"), &json!({ "name": "Mine" })).await;
        patched.problem(404, "not_found");
        wire.get(&format!("/v1/tenants/{reference}/operations")).await.problem(404, "not_found");
    }
    wire.get("/v1/routes/resolve?slug=mine").await.ok();
    wire.get("/v1/routes/resolve?slug=theirs").await.problem(404, "not_found");
    let operations = wire.get("/v1/operations").await.ok();
    assert!(operations.json["items"].as_array().unwrap().iter().all(|it| it["tenant"] == mine.id.to_string()));
    let log = wire.get("/v1/audit-log").await.ok();
    assert!(!log.text.contains(&theirs.id.to_string()), "{}", log.text);
    // The fleet is not its business.
    wire.get("/v1/clusters").await.problem(403, "forbidden");
    wire.post("/v1/tenants", &json!({ "slug": "third" })).await.problem(403, "forbidden");
    let greedy = json!({ "applied_version": 0, "routes": 0, "pools": 0 });
    wire.post("/v1/routers/mine/report", &greedy).await.problem(403, "forbidden");
    // Nor does it get out of its bounds by a token that it makes.
    let made = wire.post("/v1/tokens", &token_request(&["tenants:read"])).await.ok();
    assert_eq!(made.json["tenant"], mine.id.to_string());
    let beyond = json!({ "name": "x", "scopes": ["tenants:read"], "tenant": "theirs" });
    assert!([400, 403, 404].contains(&wire.post("/v1/tokens", &beyond).await.status));
    wire.post("/v1/tokens", &token_request(&["admin"])).await.problem(403, "forbidden");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_and_ends_when_it_is_revoked_or_expires() {
    let world = World::start().await;
    let made = world.wire().post("/v1/tokens", &token_request(&["tenants:read"])).await.ok();
    let secret = Secret::new(made.json["secret"].as_str().unwrap().to_owned());
    assert!(secret.expose().starts_with("tenantry_"));
    let wire = world.wire().token(&secret);
    wire.get("/v1/tenants").await.ok();
    assert!(!world.wire().get("/v1/tokens").await.ok().text.contains(secret.expose()));
    let path = format!("/v1/tokens/{}", made.json["id"].as_str().unwrap());
    world.wire().delete(&path).await.ok();
    wire.get("/v1/tenants").await.problem(401, "unauthenticated");
    // Once more changes nothing.
    world.wire().delete(&path).await.ok();
    world.wire().delete("/v1/tokens/01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506").await.problem(404, "not_found");

    let past = json!({ "name": "x", "scopes": ["tenants:read"], "expires_at": "2020-01-01T00:00:00Z" });
    assert_eq!(world.wire().post("/v1/tokens", &past).await.problem(400, "invalid_request"), ["/expires_at"]);
    let create = CreateToken {
        name: DisplayName::parse("short").unwrap(),
        scopes: ScopeSet::new([Scope::Tenants(Access::Read)]),
        tenant: None,
        expires_at: Some("2999-01-01T00:00:00Z".parse().unwrap()),
    };
    let short = world.client().create_token(&create).await.unwrap();
    let wire = world.wire().token(short.secret.as_secret());
    wire.get("/v1/tenants").await.ok();
    let catalog = world.catalog_client().await;
    let expire = "UPDATE token SET expires_at = now() WHERE id = $1";
    catalog.execute(expire, &[&short.token.id.as_uuid()]).await.unwrap();
    drop(catalog);
    wire.get("/v1/tenants").await.problem(401, "unauthenticated");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_with_one_key_make_one_tenant() {
    let world = World::builder().replicas(2).start().await;
    let wires: Vec<Wire> = world
        .replicas()
        .iter()
        .map(|replica| Wire::new(&replica.url(), world.token()).header("idempotency-key", "one-and-only"))
        .collect();
    let body = json!({ "slug": "acme" });
    let calls = (0..50).map(|number| {
        let (wire, body) = (wires[number % 2].clone(), body.clone());
        async move { wire.post("/v1/tenants?wait=60", &body).await }
    });
    let answers = futures::future::join_all(calls).await;
    let ids: std::collections::BTreeSet<_> =
        answers.iter().filter(|it| it.status < 300).map(|it| it.json["tenant"]["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "one tenant, however often it is asked for");
    for answer in answers.iter().filter(|it| it.status >= 300) {
        // Somebody else was at it: the key is taken, and may be asked again.
        assert!(["conflict", "unavailable"].contains(&answer.json["code"].as_str().unwrap()), "{}", answer.text);
    }
    let tenants = world.wire().get("/v1/tenants").await.ok();
    assert_eq!(tenants.json["items"].as_array().unwrap().len(), 1);

    // Without a key the slug decides.
    let plain: Vec<Wire> = world.replicas().iter().map(|it| Wire::new(&it.url(), world.token())).collect();
    let body = json!({ "slug": "other" });
    let calls = (0..50).map(|number| plain[number % 2].post("/v1/tenants?wait=60", &body));
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|it| it.status < 300).count(), 1);
    for answer in answers.iter().filter(|it| it.status >= 300) {
        answer.problem(409, "slug_taken");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_in_the_audit_log_with_who_and_when() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let narrow = world.token_with(&[Scope::Tenants(Access::Write)], None).await;
    let wire = world.wire().token(&narrow);
    let changed = wire.patch("/v1/tenants/acme", &json!({ "name": "Acme Airlines" })).await.ok();
    wire.post("/v1/tenants", &json!({ "slug": "acme" })).await.problem(409, "slug_taken");
    world.delete(&acme).await;
    let list = ListAuditLog { tenant: Some(acme.id.into()), ..ListAuditLog::default() };
    let mut entries = world.client().list_audit_log(&list).await.unwrap().items;
    entries.reverse();
    let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["tenant.create", "tenant.update", "tenant.delete"], "what was refused changed nothing");
    let update = &entries[1];
    assert_eq!(update.request_id.as_deref(), Some(changed.header("x-request-id")));
    assert!(update.actor.contains("a narrow one"), "{}", update.actor);
    assert_eq!(update.target, format!("tenant/{}", acme.id));
    assert_eq!(update.before.as_ref().unwrap()["name"], "acme");
    assert_eq!(update.after.as_ref().unwrap()["name"], "Acme Airlines");
    assert!(entries[0].operation.is_some() && entries.is_sorted_by_key(|entry| entry.at));
    let hashes: std::collections::BTreeSet<_> = entries.iter().map(|entry| &entry.hash).collect();
    assert_eq!(hashes.len(), entries.len());

    let all = world.wire().get("/v1/audit-log?limit=500").await.ok();
    for action in ["cluster.register", "migration_set.push", "rollout.create", "token.create"] {
        assert!(all.text.contains(action), "{action}");
    }
    let verdict = world.store().verify_audit(&AuditMark::default(), 1_000).await.unwrap();
    assert_eq!((verdict.breaches, verdict.next), (Vec::new(), None));
    // Nobody rewrites it, not even with the catalog's own credential.
    let catalog = world.catalog_client().await;
    for sql in ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        let refused = catalog.batch_execute(sql).await.unwrap_err();
        assert_eq!(tenantry_tests::sqlstate(&refused), "23001", "{sql}");
    }
    drop(catalog);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_an_answer_in_the_catalog_or_in_a_log() {
    let server = tenantry_testkit::Server::own().await;
    let mut world = World::builder().homes_on(&server).start().await;
    world.take_replica(0).stop().await;
    let serve = Serve::start(&world).await;
    world.use_door(serve.url());
    let mut secrets = vec![world.token().expose().to_owned(), server.cluster().password().to_owned()];
    for isolation in [Isolation::Schema, Isolation::Database] {
        let tenant = world.tenant(&format!("a-{isolation}")).isolation(isolation).await;
        let route = world.route(&tenant).await;
        for credential in [route.credential, route.read_only_credential].into_iter().flatten() {
            secrets.push(credential.password.unwrap().as_secret().expose().to_owned());
        }
        world.connect(&tenant).await.run("SELECT 1").await;
    }
    let next = files::notes_and("V4__broken.sql", "SELECT 1 / 0;\n");
    let set = world.push("broken", &next).await;
    let rollout = world.begin_rollout(&set).await;
    world.rolled_out(rollout.id).await;
    let poor = world.token_with(&[Scope::RoutesRead, Scope::Tenants(Access::Read)], None).await;
    secrets.push(poor.expose().to_owned());

    let mut said = serve.log();
    assert!(said.len() > 1000, "a log to look through");
    for path in [
        "/v1/tenants",
        "/v1/tenants/a-database",
        "/v1/clusters",
        "/v1/clusters/main",
        "/v1/operations",
        "/v1/tokens",
        "/v1/audit-log?limit=500",
        "/v1/migration-sets",
        "/v1/rollouts",
        "/v1/routers",
        "/metrics",
    ] {
        said.push_str(&world.wire().get(path).await.ok().text);
    }
    said.push_str(&world.wire().token(&poor).get("/v1/routes/resolve?slug=a-database").await.ok().text);
    let wrong = Secret::new("tenantry_this_is_no_token_but_it_might_be_one".to_owned());
    said.push_str(&world.wire().token(&wrong).get("/v1/tenants").await.text);
    secrets.push(wrong.expose().to_owned());
    // The catalog: sealed or hashed only.
    let catalog = world.catalog_client().await;
    let tables = catalog.query("SELECT relname::text FROM pg_stat_user_tables", &[]).await.unwrap();
    for table in tables {
        let table: String = table.get(0);
        let rows = catalog.query(&format!("SELECT row_to_json(it)::text FROM \"{table}\" it"), &[]).await.unwrap();
        for row in rows {
            said.push_str(&row.get::<_, String>(0));
        }
    }
    drop(catalog);
    said.push_str(&serve.log());
    for (number, secret) in secrets.iter().enumerate() {
        assert!(!said.contains(secret.as_str()), "secret number {number} was told");
    }
    world.end().await;
    assert!(serve.terminate().await.success());
}
