//! Every mutating call is in the audit log: who, what, how it was and is, in which request, and which operation follows.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tenantry_api::{ListOrphans, Tenant};
use tenantry_control::webhooks::WebhookConfig;
use tenantry_domain::OperationId;
use tenantry_testkit::{Server, eventually};
use tenantry_tests::{Receiver, Serve, Wire, World, files};
use uuid::Uuid;

/// A mutating route, the action and the kind of target that its entry has, and which of `before`, `after` and `operation`
/// it has. A route that is added belongs here, and into the journey below.
const ROUTES: &[(&str, &str, &str, &str)] = &[
    ("POST /v1/tenants", "tenant.create", "tenant/", "after operation"),
    ("PATCH /v1/tenants/{tenant}", "tenant.update", "tenant/", "before after"),
    ("DELETE /v1/tenants/{tenant}", "tenant.delete", "tenant/", "before after operation"),
    ("POST /v1/tenants/{tenant}/restore", "tenant.restore", "tenant/", "before after operation"),
    ("POST /v1/tenants/{tenant}/purge", "tenant.purge", "tenant/", "before"),
    ("POST /v1/tenants/{tenant}/suspend", "tenant.suspend", "tenant/", "before after operation"),
    ("POST /v1/tenants/{tenant}/resume", "tenant.resume", "tenant/", "before after operation"),
    ("POST /v1/tenants/{tenant}/rotate-credentials", "tenant.rotate_credentials", "tenant/", "before after operation"),
    ("POST /v1/tenants/{tenant}/migrate-down", "tenant.migrate_down", "tenant/", "before after operation"),
    ("POST /v1/tenants/{tenant}/hosts", "tenant.add_host", "tenant/", "before after"),
    ("DELETE /v1/tenants/{tenant}/hosts/{host}", "tenant.remove_host", "tenant/", "before after"),
    ("POST /v1/tenants/bulk", "tenant.update", "tenant/", "before after"),
    // It reads what is the tenants' own.
    ("POST /v1/query", "tenant.query", "tenants", "after"),
    ("POST /v1/tenants/adopt", "tenant.adopt", "tenant/", "after operation"),
    ("POST /v1/tenants/{tenant}/adopt-confirm", "tenant.adopt_confirm", "tenant/", "before after operation"),
    ("POST /v1/tenants/{tenant}/adopt-cancel", "tenant.adopt_cancel", "tenant/", "before after operation"),
    ("POST /v1/clusters", "cluster.register", "cluster/", "after"),
    ("PATCH /v1/clusters/{cluster}", "cluster.update", "cluster/", "before after"),
    ("DELETE /v1/clusters/{cluster}", "cluster.remove", "cluster/", "before"),
    ("POST /v1/clusters/{cluster}/cordon", "cluster.cordon", "cluster/", "before after"),
    ("POST /v1/clusters/{cluster}/uncordon", "cluster.uncordon", "cluster/", "before after"),
    ("POST /v1/clusters/{cluster}/drain", "cluster.drain", "cluster/", "before after"),
    ("POST /v1/clusters/{cluster}/replicas", "cluster.add_replica", "cluster/", "after"),
    ("DELETE /v1/clusters/{cluster}/replicas/{replica}", "cluster.remove_replica", "cluster/", "before"),
    ("PUT /v1/region-groups/{group}", "region_group.put", "region_group/", "before after"),
    ("DELETE /v1/region-groups/{group}", "region_group.delete", "region_group/", "before"),
    ("POST /v1/plans", "plan.create", "plan/", "after"),
    ("PATCH /v1/plans/{plan}", "plan.update", "plan/", "before after"),
    ("DELETE /v1/plans/{plan}", "plan.delete", "plan/", "before"),
    ("POST /v1/operations/{operation}/cancel", "operation.cancel", "operation/", "before after operation"),
    ("POST /v1/operations/{operation}/retry", "operation.retry", "operation/", "before after operation"),
    ("POST /v1/operations/{operation}/skip", "operation.skip", "operation/", "before after operation"),
    ("POST /v1/operations/{operation}/abandon", "operation.abandon", "operation/", "before after operation"),
    ("POST /v1/migration-sets", "migration_set.push", "migration_set/", "after"),
    ("POST /v1/seeds", "seed.push", "seed/", "after"),
    ("DELETE /v1/seeds/{seed}", "seed.retire", "seed/", "before"),
    ("POST /v1/rollouts", "rollout.create", "rollout/", "after"),
    // It undoes all that it does, and keeps programs waiting meanwhile.
    ("POST /v1/rollouts/dry-run", "rollout.dry_run", "migration_set/", "after"),
    ("POST /v1/rollouts/{rollout}/pause", "rollout.pause", "rollout/", "before after"),
    ("POST /v1/rollouts/{rollout}/resume", "rollout.resume", "rollout/", "before after"),
    ("POST /v1/rollouts/{rollout}/abort", "rollout.abort", "rollout/", "before after"),
    ("POST /v1/rollouts/{rollout}/retry", "rollout.retry", "rollout/", "before after"),
    ("POST /v1/tokens", "token.create", "token/", "after"),
    ("DELETE /v1/tokens/{token}", "token.revoke", "token/", "before after"),
    ("POST /v1/webhooks", "webhook.create", "webhook/", "after"),
    ("PATCH /v1/webhooks/{webhook}", "webhook.update", "webhook/", "before after"),
    ("DELETE /v1/webhooks/{webhook}", "webhook.delete", "webhook/", "before"),
    ("POST /v1/webhooks/{webhook}/rotate-secret", "webhook.rotate_secret", "webhook/", "before after"),
    ("POST /v1/webhooks/{webhook}/test", "webhook.test", "webhook/", "after"),
    ("POST /v1/webhooks/{webhook}/deliveries/{delivery}/redeliver", "webhook.redeliver", "webhook/", "after"),
    ("POST /v1/secrets/rotate-master", "master_key.rotate", "master_key/", "before after"),
    // It changes nothing by itself.
    ("POST /v1/orphans/scan", "orphan.scan", "orphans", ""),
    ("POST /v1/orphans/{orphan}/remove", "orphan.remove", "orphan/", "before"),
];

/// Routes that change nothing that anybody could be asked about, and why.
const EXEMPT: &[(&str, &str)] = &[
    ("POST /v1/drift", "a look, whose answer is what was there before"),
    ("POST /v1/placement/explain", "a question, whose words do not fit into a query"),
    ("POST /v1/rollouts/plan", "a question, whose words do not fit into a query"),
    (
        "POST /v1/routers/{router}/report",
        "what a router says of itself every few seconds; each takes the last one's place",
    ),
];

/// The second master key, beside the one of every world.
const NEXT_KEY: &str = "2:3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c";

/// Calls, each of which is looked for in the audit log.
struct Calls {
    wire: Wire,
    actor: String,
    catalog: tokio_postgres::Client,
    called: BTreeSet<String>,
}

impl Calls {
    /// Calls a route, which must succeed, with these names in the place of its path's parameters. Answers with what it
    /// answered.
    async fn call(&mut self, route: &str, names: &[&str], query: &str, body: &Value) -> Value {
        let known = ROUTES.iter().find(|(name, ..)| *name == route);
        let &(_, action, target, keeps) = known.unwrap_or_else(|| panic!("{route} is not in the list"));
        let (method, template) = route.split_once(' ').unwrap();
        let mut names = names.iter();
        let fill =
            |part: &str| if part.starts_with('{') { (*names.next().unwrap()).to_owned() } else { part.to_owned() };
        let path = template.split('/').map(fill).collect::<Vec<_>>().join("/") + query;
        let request = Uuid::now_v7();
        let wire = self.wire.header("x-request-id", &request.to_string());
        let answer = match method {
            "POST" => wire.post(&path, body).await,
            "PATCH" => wire.patch(&path, body).await,
            "PUT" => wire.put(&path, body).await,
            "DELETE" => wire.delete(&path).await,
            other => panic!("{other}"),
        };
        assert!((200..300).contains(&answer.status), "{route}: {} {}", answer.status, answer.text);

        let sql = "SELECT actor, action, target, before IS NOT NULL, after IS NOT NULL, operation
                   FROM audit_log WHERE request_id = $1 ORDER BY id";
        let entries = self.catalog.query(sql, &[&request]).await.unwrap();
        let [entry] = entries.as_slice() else { panic!("{route}: {} entries instead of one", entries.len()) };
        let text = |column: usize| entry.get::<_, String>(column);
        assert_eq!((text(0), text(1)), (self.actor.clone(), action.to_owned()), "{route}");
        assert!(text(2).starts_with(target), "{route}: {}", text(2));
        let operation: Option<Uuid> = entry.get(5);
        let kept = [("before", entry.get(3)), ("after", entry.get(4)), ("operation", operation.is_some())];
        let kept: Vec<&str> = kept.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
        assert_eq!(kept.join(" "), keeps, "{route}");
        // The operation that the answer names, whether it is a part of it or the whole.
        let whole = route.contains("{operation}").then_some(&answer.json["id"]);
        let named = answer.json["operation"]["id"].as_str().or(whole.and_then(Value::as_str));
        if let (Some(named), Some(operation)) = (named, operation) {
            assert_eq!(named, operation.to_string(), "{route}");
        }
        self.called.insert(route.to_owned());
        answer.json
    }

    async fn park(&self, operation: &str, step: &str) {
        let sql = "UPDATE operation SET state = 'parked', step = $2 WHERE id = $1";
        let operation = Uuid::parse_str(operation).unwrap();
        assert_eq!(self.catalog.execute(sql, &[&operation, &step]).await.unwrap(), 1);
    }
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("an id: {answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutating_route_leaves_an_entry_that_says_all() {
    let homes = Server::own().await;
    let mut world = World::builder()
        .homes_on(&homes)
        .configure(|control| control.webhooks = WebhookConfig { allow_loopback: true, ..WebhookConfig::default() })
        .start()
        .await;
    let own_token = world.wire().get("/v1/tokens").await.ok().json["items"][0].clone();
    let mut calls = Calls {
        wire: world.wire(),
        actor: format!("token/everything/{}", id(&own_token)),
        catalog: world.catalog_client().await,
        called: BTreeSet::new(),
    };
    settings(&mut calls).await;
    webhooks(&mut calls).await;
    clusters(&mut calls).await;
    adoptions(&mut calls, &world).await;
    tenants(&mut calls, &world).await;
    let next = files::push("next", &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars int;\n"));
    let set = id(&calls.call("POST /v1/migration-sets", &[], "", &serde_json::to_value(next).unwrap()).await);
    // From here on nobody works, so that work can be met in every state.
    world.rest().await;
    calls.wire = world.wire();
    let cancelled = operations(&mut calls).await;
    let rollout = rollouts(&mut calls, &set).await;
    world.add_replica(|_| ()).await;
    world.settled(cancelled).await;
    world.rolled_out(rollout.parse().unwrap()).await;

    // A replica that has a second key. The others say goodbye, but for the one that only opened its door.
    while !world.replicas().is_empty() {
        world.take_replica(0).stop().await;
    }
    calls.catalog.batch_execute("DELETE FROM replica").await.unwrap();
    let keys = format!("{},{NEXT_KEY}", world.catalog().1.expose());
    let serve = Serve::start_with(&world, &[("TENANTRY__SECRETS__MASTER_KEYS", &keys)]).await;
    world.use_door(serve.url());
    calls.wire = world.wire();
    calls.call("POST /v1/secrets/rotate-master", &[], "", &json!({})).await;

    let served = calls.wire.get("/openapi.json").await.ok().json;
    let mut mutating = mutating_routes(&served);
    for (route, _) in EXEMPT {
        assert!(mutating.remove(*route), "{route} is no route any longer");
    }
    assert_eq!(calls.called, mutating, "left: what was called and looked for; right: the routes that are served");
    drop(calls);
    world.end().await;
    assert!(serve.terminate().await.success());
}

fn mutating_routes(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = |(path, item): (&String, &Value)| {
        let mutating = ["post", "put", "patch", "delete"].into_iter().filter(|method| item.get(*method).is_some());
        mutating.map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(methods).collect()
}

/// Plans, region groups, tokens and seeds.
async fn settings(calls: &mut Calls) {
    calls.call("POST /v1/plans", &[], "", &json!({ "name": "gold", "isolation": "schema" })).await;
    calls.call("PATCH /v1/plans/{plan}", &["gold"], "", &json!({ "quotas": { "seats": 5 } })).await;
    calls.call("DELETE /v1/plans/{plan}", &["gold"], "", &json!({})).await;
    calls.wire.put("/v1/region-groups/eu", &json!({ "regions": ["local"] })).await.ok();
    let regions = json!({ "regions": ["local", "elsewhere"] });
    calls.call("PUT /v1/region-groups/{group}", &["eu"], "", &regions).await;
    calls.call("DELETE /v1/region-groups/{group}", &["eu"], "", &json!({})).await;
    let token = json!({ "name": "ci", "scopes": ["tenants:read"] });
    let token = calls.call("POST /v1/tokens", &[], "", &token).await;
    calls.call("DELETE /v1/tokens/{token}", &[&id(&token)], "", &json!({})).await;
    let seed = json!({ "name": "first", "sql": "INSERT INTO notes (body) VALUES ('seed');" });
    calls.call("POST /v1/seeds", &[], "", &seed).await;
    calls.call("DELETE /v1/seeds/{seed}", &["first"], "", &json!({})).await;
}

async fn webhooks(calls: &mut Calls) {
    let receiver = Receiver::start().await;
    let webhook = id(&calls.call("POST /v1/webhooks", &[], "", &json!({ "url": receiver.url() })).await);
    let name = [webhook.as_str()];
    calls.call("PATCH /v1/webhooks/{webhook}", &name, "", &json!({ "description": "billing" })).await;
    calls.call("POST /v1/webhooks/{webhook}/rotate-secret", &name, "", &json!({})).await;
    let delivery = id(&calls.call("POST /v1/webhooks/{webhook}/test", &name, "?wait=30", &json!({})).await);
    let redeliver = "POST /v1/webhooks/{webhook}/deliveries/{delivery}/redeliver";
    calls.call(redeliver, &[&webhook, &delivery], "", &json!({})).await;
    calls.call("DELETE /v1/webhooks/{webhook}", &name, "", &json!({})).await;
}

async fn clusters(calls: &mut Calls) {
    let server = Server::own().await;
    let (address, cluster) = (server.address(), server.cluster());
    let wish = json!({
        "name": "second", "region": "elsewhere", "tenancy": "shared", "host": address.ip(), "port": address.port(),
        "user": cluster.user(), "password": cluster.password(),
    });
    calls.call("POST /v1/clusters", &[], "", &wish).await;
    calls.call("PATCH /v1/clusters/{cluster}", &["second"], "", &json!({ "limits": { "tenants": 5 } })).await;
    for action in ["cordon", "uncordon", "drain"] {
        calls.call(&format!("POST /v1/clusters/{{cluster}}/{action}"), &["second"], "", &json!({})).await;
    }
    let standby = server.standby().await;
    let wish = json!({ "host": standby.address().ip(), "port": standby.address().port() });
    let replica = id(&calls.call("POST /v1/clusters/{cluster}/replicas", &["second"], "", &wish).await);
    let named = ["second", replica.as_str()];
    calls.call("DELETE /v1/clusters/{cluster}/replicas/{replica}", &named, "", &json!({})).await;
    calls.call("DELETE /v1/clusters/{cluster}", &["second"], "", &json!({})).await;
}

async fn adoptions(calls: &mut Calls, world: &World<'_>) {
    let root = world.root(world.main_cluster(), "postgres").await;
    for slug in ["kept", "returned"] {
        root.batch_execute(&format!("CREATE ROLE {slug}_owner")).await.unwrap();
        root.batch_execute(&format!("CREATE DATABASE {slug}_prod OWNER {slug}_owner")).await.unwrap();
        let inside = world.root(world.main_cluster(), &format!("{slug}_prod")).await;
        let table = format!("SET ROLE {slug}_owner; CREATE TABLE notes (id int, body text)");
        inside.batch_execute(&table).await.unwrap();
        drop(inside);
        let wish =
            json!({ "slug": slug, "cluster": "main", "database": format!("{slug}_prod"), "baseline_version": 3 });
        calls.call("POST /v1/tenants/adopt", &[], "?wait=60", &wish).await;
    }
    calls.call("POST /v1/tenants/{tenant}/adopt-confirm", &["kept"], "?wait=60", &json!({})).await;
    calls.call("POST /v1/tenants/{tenant}/adopt-cancel", &["returned"], "?wait=60", &json!({})).await;
}

async fn tenants(calls: &mut Calls, world: &World<'_>) {
    let wish = json!({ "slug": "acme", "isolation": "database", "plan": "developer" });
    let acme = calls.call("POST /v1/tenants", &[], "?wait=60", &wish).await["tenant"].clone();
    let acme: Tenant = serde_json::from_value(acme).unwrap();
    let database = world.route(&acme).await.database.unwrap();
    let name = ["acme"];
    calls.call("PATCH /v1/tenants/{tenant}", &name, "", &json!({ "name": "Acme" })).await;
    calls.call("POST /v1/tenants/{tenant}/hosts", &name, "", &json!({ "host": "app.acme.com" })).await;
    calls.call("DELETE /v1/tenants/{tenant}/hosts/{host}", &["acme", "app.acme.com"], "", &json!({})).await;
    for action in ["suspend", "resume", "rotate-credentials"] {
        calls.call(&format!("POST /v1/tenants/{{tenant}}/{action}"), &name, "?wait=60", &json!({})).await;
    }
    calls.call("POST /v1/query", &[], "", &json!({ "sql": "SELECT 1", "tenants": ["acme"] })).await;
    let stay = json!({ "version": 3 });
    calls.call("POST /v1/tenants/{tenant}/migrate-down", &name, "?wait=60", &stay).await;
    let filter = json!({ "slug_prefix": "acme" });
    let change = json!({ "action": "change_plan", "plan": "team", "filter": filter, "expected": 1 });
    calls.call("POST /v1/tenants/bulk", &[], "", &change).await;
    calls.call("DELETE /v1/tenants/{tenant}", &name, "?grace=3600&wait=60", &json!({})).await;
    calls.call("POST /v1/tenants/{tenant}/restore", &name, "?wait=60", &json!({})).await;
    world.delete(&acme).await;

    // What a backend whose client is gone would make late.
    let root = world.root(world.main_cluster(), "postgres").await;
    root.batch_execute(&format!("CREATE DATABASE {}", database.as_str())).await.unwrap();
    let mut orphan = None;
    calls.call("POST /v1/orphans/scan", &[], "", &json!({})).await;
    eventually("the orphan is found", async || {
        let found = world.client().list_orphans(&ListOrphans::default()).await.unwrap().items;
        orphan = found.into_iter().find(|it| it.name == database.as_str()).map(|it| it.id.to_string());
        orphan.is_some()
    })
    .await;
    calls.call("POST /v1/orphans/{orphan}/remove", &[&orphan.unwrap()], "", &json!({})).await;
    calls.call("POST /v1/tenants/{tenant}/purge", &name, "", &json!({})).await;
}

/// One operation that is given up after everything else was tried, and one that is cancelled, which is answered with.
async fn operations(calls: &mut Calls) -> OperationId {
    let stuck = calls.wire.post("/v1/tenants", &json!({ "slug": "stuck" })).await.ok().json["operation"].clone();
    let stuck = id(&stuck);
    for decision in ["retry", "skip", "abandon"] {
        calls.park(&stuck, "ensure_base").await;
        let route = format!("POST /v1/operations/{{operation}}/{decision}");
        calls.call(&route, &[&stuck], "", &json!({ "reason": "because" })).await;
    }
    let undone = calls.wire.post("/v1/tenants", &json!({ "slug": "undone" })).await.ok().json["operation"].clone();
    calls.call("POST /v1/operations/{operation}/cancel", &[&id(&undone)], "", &json!({})).await;
    id(&undone).parse().unwrap()
}

/// One rollout that is aborted, and one that is tried again, which is answered with.
async fn rollouts(calls: &mut Calls, set: &str) -> String {
    let wish = json!({ "migration_set": set });
    calls.call("POST /v1/rollouts/dry-run", &[], "", &json!({ "migration_set": set, "tenants": 1 })).await;
    let first = id(&calls.call("POST /v1/rollouts", &[], "", &wish).await);
    for action in ["pause", "resume", "abort"] {
        calls.call(&format!("POST /v1/rollouts/{{rollout}}/{action}"), &[&first], "", &json!({})).await;
    }
    let second = id(&calls.wire.post("/v1/rollouts", &wish).await.ok().json);
    let failed = format!("UPDATE rollout SET state = 'failed', finished_at = now() WHERE id = '{second}'");
    calls.catalog.batch_execute(&failed).await.unwrap();
    calls.call("POST /v1/rollouts/{rollout}/retry", &[&second], "", &json!({})).await;
    second
}
