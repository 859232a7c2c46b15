//! A tenant is made, found, used, deleted and forgotten.

use futures::StreamExt;
use serde_json::json;
use tenantry_api::{ListTenants, TenantRef, WaitSeconds};
use tenantry_domain::{Isolation, OperationState, Slug, TenantStatus};
use tenantry_tests::{Admin, World};

const ISOLATIONS: [Isolation; 3] = [Isolation::Schema, Isolation::Database, Isolation::Cluster];

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_is_enough_to_get_a_home() {
    let world = World::start().await;
    let answer = world.wire().post("/v1/tenants?wait=60", &json!({ "slug": "acme" })).await.ok();
    let tenant = &answer.json["tenant"];
    for (field, value) in [
        ("slug", "acme"),
        ("name", "acme"),
        ("status", "active"),
        ("plan", "developer"),
        ("region", "local"),
        ("isolation", "schema"),
    ] {
        assert_eq!(tenant[field], value, "{tenant}");
    }
    assert_eq!((&tenant["schema_version"], &tenant["generation"]), (&json!(3), &json!(1)));
    assert_eq!(tenant["cluster"], world.main_cluster().id.to_string());
    assert_eq!(answer.json["operation"]["state"], "succeeded");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_every_isolation_lives_and_dies() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).dedicated(1).start().await;
        for isolation in ISOLATIONS {
            let tenant = world.tenant(&format!("a-{isolation}")).isolation(isolation).await;
            assert_eq!((tenant.isolation, tenant.schema_version.0), (isolation, 3));
            let session = world.connect(&tenant).await;
            assert_eq!(session.one::<String>("SELECT body FROM notes").await, "the first note");
            assert_eq!(session.one::<i32>("SELECT words FROM counted").await, 3);
            session.run("INSERT INTO notes (body) VALUES ('one more'); UPDATE notes SET body = body || '!'").await;
            assert_eq!(session.one::<i64>("SELECT count(*) FROM notes").await, 2);
            assert_eq!(session.refusal("CREATE TABLE more (a int)").await, "42501");
            drop(session);
            let login = world.login(&tenant).await;
            world.assert_nothing_orphaned().await;
            world.delete(&tenant).await;
            let gone = world.show(&tenant).await;
            assert_eq!((gone.status, gone.cluster), (TenantStatus::Deleted, None));
            assert!(tenantry_tests::HomeSession::log_in(&login).await.is_err(), "the login of a deleted tenant");
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_ones_own_is_free_again_after_its_tenant() {
    let world = World::builder().dedicated(1).start().await;
    let first = world.tenant("first").plan("enterprise").await;
    assert_ne!(first.cluster, Some(world.main_cluster().id));
    let taken = world.wire().post("/v1/tenants", &json!({ "slug": "second", "plan": "enterprise" })).await;
    taken.problem(409, "no_capacity");
    world.delete(&first).await;
    let second = world.tenant("second").plan("enterprise").await;
    assert_eq!(second.cluster, first.cluster);
    assert_eq!(world.connect(&second).await.one::<i64>("SELECT count(*) FROM notes").await, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_does_not_wait_unless_asked_and_the_events_tell_the_rest() {
    let world = World::start().await;
    let answer = world.wire().post("/v1/tenants", &json!({ "slug": "acme", "isolation": "database" })).await.ok();
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json["tenant"]["status"], "provisioning");
    let operation = answer.json["operation"]["id"].as_str().unwrap().parse().unwrap();
    let events = world.client().operation_events(operation, None).await.unwrap();
    let events: Vec<_> = events.map(Result::unwrap).collect().await;
    let steps: Vec<_> = events.iter().filter_map(|event| event.step.as_deref()).collect();
    for step in ["ensure_base", "ensure_home", "publish_route"] {
        assert!(steps.contains(&step), "{step} is missing in {events:?}");
    }
    assert!(events.is_sorted_by_key(|event| event.id));
    let ended = world.client().show_operation(operation).await.unwrap();
    assert_eq!(ended.state, OperationState::Succeeded);
    assert!(ended.finished_at.is_some());

    // Whoever comes back reads on where they were.
    let rest = world.client().operation_events(operation, Some(events[1].id)).await.unwrap();
    let rest: Vec<_> = rest.map(Result::unwrap).collect().await;
    assert_eq!(rest, events[2..]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_keeps_its_slug_until_it_is_purged() {
    let world = World::start().await;
    let first = world.tenant("acme").await;
    world.delete(&first).await;
    world.wire().post("/v1/tenants", &json!({ "slug": "acme" })).await.problem(409, "slug_taken");
    assert_eq!(world.show(&first).await.status, TenantStatus::Deleted);
    let by_slug = TenantRef::Slug(Slug::parse("acme").unwrap());
    world.client().purge_tenant(&by_slug).await.unwrap();
    world.wire().get("/v1/tenants/acme").await.problem(404, "not_found");
    let second = world.tenant("acme").await;
    assert_ne!(second.id, first.id);
    world.wire().post("/v1/tenants/acme/purge", &json!({})).await.problem(409, "invalid_state");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_listed_in_pages_and_found_by_what_they_are() {
    let world = World::start().await;
    for number in 0..5 {
        let slug = format!("t{number}");
        world
            .tenant(&slug)
            .with(|create| {
                let tier = if number < 2 { "gold" } else { "iron" };
                create.labels = tenantry_domain::Labels::new([("tier".to_owned(), tier.to_owned())].into()).unwrap();
            })
            .await;
    }
    let mut list = ListTenants { limit: tenantry_api::PageLimit::new(2).ok(), ..ListTenants::default() };
    let mut seen = Vec::new();
    loop {
        let page = world.client().list_tenants(&list).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|tenant| tenant.slug.to_string()));
        let Some(next) = page.next else { break };
        list.cursor = Some(next);
    }
    assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4"]);
    for (query, expected) in [
        ("labels=tier%3Dgold", 2),
        ("labels=tier", 5),
        ("slug_prefix=t4", 1),
        ("status=active&isolation=schema", 5),
        ("status=failed", 0),
        ("cluster=main", 5),
        ("schema_version_below=4", 5),
        ("schema_version_below=3", 0),
    ] {
        let answer = world.wire().get(&format!("/v1/tenants?{query}")).await.ok();
        assert_eq!(answer.json["items"].as_array().unwrap().len(), expected, "{query}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_made_once_and_on_what_was_read() {
    let world = World::start().await;
    let tenant = world.tenant("acme").await;
    let read = world.wire().get("/v1/tenants/acme").await.ok();
    let stale = world.wire().header("if-match", read.header("etag"));
    let change = json!({ "name": "Acme Airlines", "labels": { "tier": "gold" } });
    let changed = stale.patch("/v1/tenants/acme", &change).await.ok();
    assert_eq!((&changed.json["name"], &changed.json["labels"]), (&change["name"], &change["labels"]));
    stale.patch("/v1/tenants/acme", &json!({ "name": "Other" })).await.problem(412, "precondition_failed");
    assert_eq!(world.show(&tenant).await.name.as_str(), "Acme Airlines");
    let fresh = world.wire().header("if-match", changed.header("etag"));
    fresh.patch("/v1/tenants/acme", &json!({ "labels": { "tier": null } })).await.ok();
    assert_eq!(world.show(&tenant).await.labels.as_map().len(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_call_comes_back_at_its_time_with_what_there_is() {
    let world = World::start().await;
    // Nobody works on it: the only replica that could is held up by a lock on the row that every provision takes.
    let catalog = world.catalog_client().await;
    catalog.batch_execute("BEGIN; LOCK TABLE resource IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let create = tenantry_api::CreateTenant::new(Slug::parse("acme").unwrap());
    let calling = tokio::spawn({
        let client = world.client().clone();
        async move { client.create_tenant(&create, WaitSeconds::new(1).ok()).await }
    });
    tenantry_testkit::eventually("the call waits for the lock", async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'resource'::regclass";
        catalog.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    catalog.batch_execute("ROLLBACK").await.unwrap();
    let begun = calling.await.unwrap().unwrap();
    let ended = world.settled(begun.operation.id).await;
    assert_eq!(ended.state, OperationState::Succeeded);
    world.end().await;
}
