//! Hosts: names of a tenant's own, until they are taken away.

use serde_json::json;
use tenantry_api::ListQuery;
use tenantry_api::route::ResolveBy;
use tenantry_domain::{Access, HostName, Scope};
use tenantry_router::Router;
use tenantry_testkit::eventually;
use tenantry_tests::{Program, World};
use uuid::Uuid;

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_leads_to_its_tenant_until_it_is_taken_away() {
    let world = World::builder().without_migrations().start().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let router = Router::builder().control_plane(world.url(), world.token().clone()).build().await.unwrap();
    let wire = world.wire();
    let before = wire.get("/v1/tenants/acme").await.ok();

    let keyed = wire.header("idempotency-key", &Uuid::now_v7().to_string());
    let added = keyed.post("/v1/tenants/acme/hosts", &json!({ "host": "app.acme.com" })).await;
    assert_eq!(added.status, 201, "{}", added.text);
    assert_eq!((&added.json["host"], &added.json["tenant"]), (&json!("app.acme.com"), &json!(acme.id)));
    assert_eq!(added.header("location"), format!("/v1/tenants/{}/hosts/app.acme.com", acme.id));
    let again = keyed.post("/v1/tenants/acme/hosts", &json!({ "host": "app.acme.com" })).await;
    assert_eq!((again.status, again.json), (201, added.json));
    let another = keyed.post("/v1/tenants/acme/hosts", &json!({ "host": "www.acme.com" })).await;
    another.problem(422, "idempotency_mismatch");

    // Everything that tells of the tenant tells of it.
    let after = wire.get("/v1/tenants/acme").await.ok();
    assert_eq!(after.json["hosts"], json!(["app.acme.com"]));
    assert_ne!(before.header("etag"), after.header("etag"), "the tenant is another version of itself");
    let listed = wire.get("/v1/tenants").await.ok();
    assert_eq!(listed.json["items"][0]["hosts"], json!(["app.acme.com"]));
    let resolved = world.client().resolve_route(ResolveBy::Host(host("app.acme.com"))).await.unwrap();
    assert_eq!((resolved.tenant, resolved.hosts), (acme.id, vec![host("app.acme.com")]));
    assert!(router.await_version(resolved.version, std::time::Duration::from_mins(1)).await);
    assert_eq!(router.lookup("app.acme.com").unwrap().id(), acme.id);

    // It is nobody else's meanwhile, and not to be had twice.
    let taken = wire.post("/v1/tenants/other/hosts", &json!({ "host": "app.acme.com" })).await;
    taken.problem(409, "conflict");
    assert!(taken.text.contains("`acme`"), "{}", taken.text);
    wire.post("/v1/tenants/acme/hosts", &json!({ "host": "app.acme.com" })).await.problem(409, "conflict");
    wire.delete("/v1/tenants/other/hosts/app.acme.com").await.problem(404, "not_found");

    assert_eq!(wire.delete(&format!("/v1/tenants/{}/hosts/app.acme.com", acme.id)).await.status, 204);
    wire.delete("/v1/tenants/acme/hosts/app.acme.com").await.problem(404, "not_found");
    wire.get("/v1/routes/resolve?host=app.acme.com").await.problem(404, "not_found");
    eventually("the router forgets it", async || router.lookup("app.acme.com").is_err()).await;
    world.client().add_tenant_host(&other.id.into(), &host("app.acme.com")).await.unwrap();
    assert_eq!(world.show(&other).await.hosts, [host("app.acme.com")]);
    router.close();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_host_is_refused_and_says_why() {
    let world = World::builder().without_migrations().start().await;
    world.tenant("acme").await;
    let wire = world.wire();
    let long = format!("{}.com", ["a"; 130].join("."));
    for bad in
        ["acme", "App.acme.com", "app.acme.com:443", "app.acme.com.", "https://acme.com", "*.acme.com", "", &long]
    {
        let refused = wire.post("/v1/tenants/acme/hosts", &json!({ "host": bad })).await;
        assert_eq!(refused.problem(400, "invalid_request"), ["/host"], "{bad}");
    }
    let unknown = wire.post("/v1/tenants/acme/hosts", &json!({ "host": "a.b", "port": 1 })).await;
    assert_eq!(unknown.problem(400, "invalid_request"), ["/port"]);
    wire.post("/v1/tenants/nobody/hosts", &json!({ "host": "a.b" })).await.problem(404, "not_found");
    wire.get("/v1/tenants/nobody/hosts").await.problem(404, "not_found");
    let named = wire.delete("/v1/tenants/acme/hosts/A.b").await;
    assert_eq!(named.problem(400, "invalid_request"), ["{host}"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_a_hundred_hosts_at_most_and_they_come_in_pages() {
    let world = World::builder().without_migrations().start().await;
    let acme = world.tenant("acme").await;
    let name = |number: usize| host(&format!("h{number:03}.acme.com"));
    for number in (0..100).rev() {
        world.client().add_tenant_host(&acme.id.into(), &name(number)).await.unwrap();
    }
    let over = world.wire().post("/v1/tenants/acme/hosts", &json!({ "host": "one-more.acme.com" })).await;
    over.problem(429, "limit_exceeded");
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let list = ListQuery { limit: Some(tenantry_api::PageLimit::new(40).unwrap()), cursor };
        let page = world.client().list_tenant_hosts(&acme.id.into(), &list).await.unwrap();
        assert!(page.items.len() <= 40);
        seen.extend(page.items.into_iter().map(|it| it.host));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..100).map(name).collect::<Vec<_>>());
    assert_eq!(world.show(&acme).await.hosts, seen);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_want_a_host_at_once_one_gets_it() {
    let world = World::builder().without_migrations().start().await;
    let (acme, other) = (world.tenant("acme").await.id.into(), world.tenant("other").await.id.into());
    for round in 0..8 {
        let name = host(&format!("r{round}.example.com"));
        let (one, two) =
            tokio::join!(world.client().add_tenant_host(&acme, &name), world.client().add_tenant_host(&other, &name),);
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let refused = one.err().or(two.err()).unwrap();
        assert_eq!(refused.code(), Some(tenantry_api::Code::Conflict), "{refused:?}");
    }
    let mut hosts = 0;
    for tenant in [acme, other] {
        hosts += world.client().show_tenant(&tenant).await.unwrap().value.hosts.len();
    }
    assert_eq!(hosts, 8);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_an_admins_to_give() {
    let world = World::builder().without_migrations().start().await;
    let (mine, theirs) = (world.tenant("mine").await, world.tenant("theirs").await);
    world.client().add_tenant_host(&mine.id.into(), &host("app.mine.com")).await.unwrap();
    let reader = world.wire().token(&world.token_with(&[Scope::Tenants(Access::Read)], None).await);
    assert_eq!(reader.get("/v1/tenants/mine/hosts").await.ok().json["items"][0]["host"], "app.mine.com");
    let bound = world.wire().token(&world.token_with(&[Scope::Tenants(Access::Write)], Some(&mine)).await);
    assert_eq!(bound.get("/v1/tenants/mine/hosts").await.ok().json["items"][0]["host"], "app.mine.com");
    bound.get(&format!("/v1/tenants/{}/hosts", theirs.id)).await.problem(404, "not_found");
    for wire in [reader, bound] {
        // Whether somebody has it is nobody's business who may not have it.
        for name in ["app.mine.com", "free.mine.com"] {
            wire.post("/v1/tenants/mine/hosts", &json!({ "host": name })).await.problem(403, "forbidden");
        }
        wire.delete("/v1/tenants/mine/hosts/app.mine.com").await.problem(403, "forbidden");
    }
    assert_eq!(world.show(&mine).await.hosts, [host("app.mine.com")]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_keeps_its_hosts_until_it_is_deleted_for_good() {
    let world = World::builder().without_migrations().start().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    world.client().add_tenant_host(&acme.id.into(), &host("app.acme.com")).await.unwrap();
    let wire = world.wire();
    wire.delete("/v1/tenants/acme?grace=3600&wait=60").await.ok();
    wire.post("/v1/tenants/other/hosts", &json!({ "host": "app.acme.com" })).await.problem(409, "conflict");
    wire.post("/v1/tenants/acme/hosts", &json!({ "host": "www.acme.com" })).await.problem(409, "invalid_state");
    wire.delete("/v1/tenants/acme/hosts/app.acme.com").await.problem(409, "invalid_state");
    wire.get("/v1/routes/resolve?host=app.acme.com").await.problem(404, "not_found");
    wire.post("/v1/tenants/acme/restore?wait=60", &json!({})).await.ok();
    let resolved = world.client().resolve_route(ResolveBy::Host(host("app.acme.com"))).await.unwrap();
    assert_eq!(resolved.tenant, acme.id);
    // Suspended, it is still the tenant's, and may be changed.
    wire.post("/v1/tenants/acme/suspend?wait=60", &json!({})).await.ok();
    world.client().add_tenant_host(&acme.id.into(), &host("www.acme.com")).await.unwrap();

    world.delete(&acme).await;
    assert!(world.show(&acme).await.hosts.is_empty());
    for name in ["app.acme.com", "www.acme.com"] {
        world.client().add_tenant_host(&other.id.into(), &host(name)).await.unwrap();
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_given_and_taken_on_the_command_line() {
    let world = World::builder().without_migrations().start().await;
    world.tenant("acme").await;
    let program = Program::new(&world.url(), world.token());
    let added = program.json(["tenant", "host", "add", "acme", "app.acme.com"]).await;
    assert_eq!(added["host"], "app.acme.com");
    let listed = program.json(["tenant", "host", "list", "acme"]).await;
    assert_eq!((listed["items"].as_array().map(Vec::len), &listed["next"]), (Some(1), &json!(null)));
    let table = program.run(["tenant", "show", "acme"]).await.ok().stdout;
    assert!(table.contains("app.acme.com"), "{table}");
    let refused = program.run(["tenant", "host", "add", "acme", "app.acme.com:443"]).await;
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("lower-case DNS labels"), "{}", refused.stderr);
    program.run(["tenant", "host", "remove", "acme", "app.acme.com"]).await.ok();
    let gone = program.run(["tenant", "host", "remove", "acme", "app.acme.com"]).await;
    assert_eq!(gone.code(), Some(1));
    assert!(gone.stderr.contains("no host `app.acme.com`"), "{}", gone.stderr);
    let help = program.run(["tenant", "host", "add", "--help"]).await.ok().stdout;
    assert!(help.contains("Examples"), "{help}");
    world.end().await;
}
