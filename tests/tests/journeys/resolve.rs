//! Routes for services that have pools of their own.

use serde_json::{Value, json};
use tenantry_api::CreateTenant;
use tenantry_api::route::ResolveBy;
use tenantry_domain::{HostName, Isolation, Scope, Slug};
use tenantry_tests::{Program, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_found_by_each_of_its_names_with_passwords_for_those_who_may_have_them() {
    let world = World::start().await;
    let acme = world.tenant("acme").isolation(Isolation::Database).await;
    world.client().add_tenant_host(&acme.id.into(), &HostName::parse("app.acme.com").unwrap()).await.unwrap();
    let reader = world.wire().token(&world.token_with(&[Scope::RoutesRead], None).await);
    let keeper = world.wire().token(&world.token_with(&[Scope::RoutesSecrets], None).await);
    let by_id = format!("id={}", acme.id);
    for by in ["slug=acme", "host=app.acme.com", &by_id] {
        let path = format!("/v1/routes/resolve?{by}");
        let open = reader.get(&path).await.ok();
        assert_eq!((&open.json["tenant"], &open.json["state"]), (&json!(acme.id), &json!("active")), "{by}");
        assert_eq!(open.json["credential"]["role"], open.json["role"]);
        for credential in ["credential", "read_only_credential"] {
            assert_eq!(open.json[credential]["password"], Value::Null);
        }
        assert_eq!(open.header("cache-control"), "private, no-cache");

        let whole = keeper.get(&path).await.ok();
        for credential in ["credential", "read_only_credential"] {
            assert!(whole.json[credential]["password"].as_str().is_some_and(|text| text.len() >= 20));
        }
        assert_eq!(whole.header("cache-control"), "private, no-store");
        for answer in [&open, &whole] {
            let vary = answer.headers.get_all("vary").iter().filter_map(|value| value.to_str().ok());
            assert!(vary.flat_map(|value| value.split(", ")).any(|it| it == "authorization"));
        }
        assert_ne!(open.header("etag"), whole.header("etag"));
    }
    world.wire().anonymous().get("/v1/routes/resolve?slug=acme").await.problem(401, "unauthenticated");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_route_already_is_told_so_until_it_changes() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let path = "/v1/routes/resolve?slug=acme";
    let keeper = world.wire().token(&world.token_with(&[Scope::RoutesSecrets], None).await);
    let reader = world.wire().token(&world.token_with(&[Scope::RoutesRead], None).await);
    let endpoint = keeper.get(path).await.ok().json["endpoint"].clone();
    let address = world.server().address();
    assert_eq!((&endpoint["host"], &endpoint["port"]), (&json!(address.ip()), &json!(address.port())));
    assert_eq!((&endpoint["tls_mode"], &endpoint["replicas"]), (&json!("disable"), &json!([])));
    let mut known = keeper.get(path).await.ok().header("etag").to_owned();
    // What another changes: each is news, and then it is known.
    for change in ["/rotate-credentials?wait=60", "/hosts", "", "/suspend?wait=60", "/resume?wait=60"] {
        for sent in [known.clone(), format!("W/{known}"), format!("\"0\", {known}"), "*".to_owned()] {
            let same = keeper.header("if-none-match", &sent).get(path).await;
            assert_eq!((same.status, same.text.as_str(), same.header("etag")), (304, "", known.as_str()), "{sent}");
            assert_eq!(same.header("cache-control"), "private, no-store");
        }
        // One that was read without passwords is another.
        reader.header("if-none-match", &known).get(path).await.ok();
        let url = format!("/v1/tenants/acme{change}");
        match change {
            "" => world.wire().patch(&url, &json!({ "overrides": { "connections": 7 } })).await.ok(),
            "/hosts" => world.wire().post(&url, &json!({ "host": "app.acme.com" })).await.ok(),
            _ => world.wire().post(&url, &json!({})).await.ok(),
        };
        let news = keeper.header("if-none-match", &known).get(path).await.ok();
        assert_ne!(news.header("etag"), known, "{change}");
        known = news.header("etag").to_owned();
    }
    let client = world.client();
    let by = ResolveBy::Id(acme.id);
    let first = client.resolve_route_unless(by.clone(), None).await.unwrap().expect("a route");
    assert_eq!(first.value.route.limits.connections, Some(7));
    assert_eq!(client.resolve_route_unless(by, first.etag.as_deref()).await.unwrap(), None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_in_one_form_is_asked_for() {
    let world = World::builder().without_migrations().start().await;
    let acme = world.tenant("acme").await;
    world.client().add_tenant_host(&acme.id.into(), &HostName::parse("app.acme.com").unwrap()).await.unwrap();
    let wire = world.wire();
    for (query, pointer) in [
        ("", "?"),
        ("?slug=acme&host=app.acme.com", "?"),
        ("?host=App.acme.com", "?host"),
        ("?host=app.acme.com:443", "?host"),
        ("?host=app.acme.com.", "?host"),
        ("?host=acme", "?host"),
        ("?slug=Acme", "?slug"),
        ("?id=acme", "?id"),
        ("?name=acme", "?name"),
    ] {
        let refused = wire.get(&format!("/v1/routes/resolve{query}")).await;
        assert_eq!(refused.problem(400, "invalid_request"), [pointer], "{query}");
    }
    for query in ["slug=nobody", "host=nobody.example.com", "id=01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506"] {
        wire.get(&format!("/v1/routes/resolve?{query}")).await.problem(404, "not_found");
    }
    // Bound to another tenant, there is no such route.
    let other = world.tenant("other").await;
    let bound = world.wire().token(&world.token_with(&[Scope::RoutesSecrets], Some(&other)).await);
    bound.get("/v1/routes/resolve?slug=other").await.ok();
    for query in ["slug=acme", "host=app.acme.com"] {
        bound.get(&format!("/v1/routes/resolve?{query}")).await.problem(404, "not_found");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_not_to_be_reached_is_answered_with_its_state() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let state = async |slug: &str| {
        let answer = world.wire().get(&format!("/v1/routes/resolve?slug={slug}")).await;
        answer.ok().json["state"].as_str().unwrap().to_owned()
    };
    world.wire().post("/v1/tenants/acme/suspend?wait=60", &json!({})).await.ok();
    assert_eq!(state("acme").await, "suspended");

    // Being made: its last step waits for a lock. Nothing is there to be reached yet.
    let catalog = world.catalog_client().await;
    catalog.batch_execute("BEGIN; LOCK TABLE placement IN EXCLUSIVE MODE").await.unwrap();
    let late = world.client().create_tenant(&CreateTenant::new(Slug::parse("late").unwrap()), None).await.unwrap();
    let early = world.wire().get("/v1/routes/resolve?slug=late").await.ok();
    assert_eq!((&early.json["state"], &early.json["endpoint"]), (&json!("provisioning"), &Value::Null));
    catalog.batch_execute("COMMIT").await.unwrap();
    world.settled(late.operation.id).await;
    assert_eq!(state("late").await, "active");

    world.delete(&acme).await;
    world.wire().get("/v1/routes/resolve?slug=acme").await.problem(404, "not_found");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_resolved_on_the_command_line_without_its_passwords_unless_they_are_asked_for() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    world.client().add_tenant_host(&acme.id.into(), &HostName::parse("app.acme.com").unwrap()).await.unwrap();
    let program = Program::new(&world.url(), world.token());
    let password = world.route(&acme).await.credential.unwrap().password.unwrap().into_secret();
    let plain = program.json(["route", "resolve", "acme"]).await;
    assert_eq!((&plain["tenant"], &plain["credential"]["password"]), (&json!(acme.id), &Value::Null));
    let table = program.run(["route", "resolve", "--host", "app.acme.com"]).await.ok().stdout;
    assert!(table.contains("h_") && !table.contains(password.expose()), "{table}");
    let whole = program.json(["route", "resolve", "acme", "--with-passwords"]).await;
    assert_eq!(whole["credential"]["password"], password.expose());
    let poor = Program::new(&world.url(), &world.token_with(&[Scope::RoutesRead], None).await);
    let refused = poor.run(["route", "resolve", "acme", "--with-passwords"]).await;
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("routes:secrets"), "{}", refused.stderr);
    poor.run(["route", "resolve", "acme"]).await.ok();
    world.end().await;
}
