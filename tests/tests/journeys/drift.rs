//! Schemas that somebody changed behind the migrations are found, explained, and clean again once mended.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry_api::{
    CheckDrift, CreateRollout, CreateWave, CreateWebhook, ErrorBudget, ListDrift, SampleSize, Tenant, WaitSeconds,
};
use tenantry_control::drift::DriftConfig;
use tenantry_control::webhooks::WebhookConfig;
use tenantry_domain::{
    Access, DriftFilter, DriftState, EventKind, Isolation, Labels, RolloutState, Scope, WaveSelection,
};
use tenantry_testkit::eventually;
use tenantry_tests::{Admin, Program, Receiver, Wire, World, files};

/// One tenant of each isolation, and a second one in the shared database.
async fn fleet(world: &World<'_>) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for (slug, isolation) in [
        ("one", Isolation::Schema),
        ("two", Isolation::Schema),
        ("three", Isolation::Database),
        ("four", Isolation::Cluster),
    ] {
        tenants.push(world.tenant(slug).isolation(isolation).await);
    }
    tenants
}

/// Changes a tenant's schema as the owner of its objects, past the control plane.
async fn by_hand(world: &World<'_>, tenant: &Tenant, sql: &str) {
    let route = world.route(tenant).await;
    let cluster = world.cluster_of(tenant).await;
    let (database, schema) = (route.database.expect("a database"), route.schema.expect("a schema"));
    let root = world.root(&cluster, database.as_str()).await;
    let role = route.credential.expect("a credential").role.to_string();
    let owner = format!("{}owner", role.strip_suffix(['a', 'b']).expect("a login role"));
    let settled = format!("SET search_path = \"{schema}\", extensions; SET ROLE \"{owner}\"; {sql}");
    root.batch_execute(&settled).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

fn everybody() -> CheckDrift {
    CheckDrift { all: true, ..CheckDrift::default() }
}

/// Looks at everybody, page by page, and tells how each stands.
async fn look(world: &World<'_>) -> Vec<(String, Option<DriftState>, Option<i64>)> {
    let mut check = everybody();
    let mut all = Vec::new();
    loop {
        let checked = world.client().check_drift(&check, WaitSeconds::new(60).ok()).await.unwrap();
        for item in &checked.items {
            assert_eq!(item.error, None, "{item:?}");
            all.push((item.slug.to_string(), item.state, item.version.map(|version| version.0)));
        }
        check.cursor = checked.next;
        if check.cursor.is_none() {
            assert_eq!(checked.left, 0);
            return all;
        }
    }
}

fn all_clean(at: i64) -> Vec<(String, Option<DriftState>, Option<i64>)> {
    ["one", "two", "three", "four"].map(|slug| (slug.to_owned(), Some(DriftState::Clean), Some(at))).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_hand_is_found_explained_and_clean_again_once_mended() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).dedicated(1).start().await;
        let tenants = fleet(&world).await;
        let program = Program::new(&world.url(), world.token());
        let said = program.run(["migrate", "drift", "--all"]).await.ok();
        assert!(said.stdout.contains("looked at      4"), "{}", said.stdout);
        assert_eq!(look(&world).await, all_clean(3));

        for tenant in [&tenants[1], &tenants[2]] {
            let sql = "DROP INDEX notes_by_body; ALTER TABLE notes ADD sneaky int; \
                       CREATE OR REPLACE VIEW counted AS SELECT id, 0 AS words FROM notes;";
            by_hand(&world, tenant, sql).await;
        }
        let found = program.run(["migrate", "drift", "--all", "--explain"]).await;
        assert_eq!(found.code(), Some(5), "{} {}", found.stdout, found.stderr);
        for expected in [
            "two: its schema is not what the migrations make up to version 3: 1 missing, 1 unexpected, 2 changed",
            "three: its schema is not",
            "missing index notes_by_body\n    expected  CREATE INDEX notes_by_body ON notes USING btree (body)",
            "unexpected column notes.sneaky\n    found     integer",
            "changed view counted\n    expected  SELECT notes.id,",
            "changed table notes\n    expected  (id, body)\n    found     (id, body, sneaky)",
        ] {
            assert!(found.stdout.contains(expected), "{expected}: {}", found.stdout);
        }
        assert!(!found.stdout.contains("one"), "{}", found.stdout);
        let named = program.run(["migrate", "drift", "one", "two", "--output", "json"]).await;
        assert_eq!(named.code(), Some(5), "{}", named.stderr);
        let report: Value = serde_json::from_str(&named.stdout).unwrap();
        assert_eq!((&report["checked"], &report["in_drift"], &report["unchecked"]), (&json!(2), &json!(1), &json!(0)));
        assert_eq!(report["items"][0]["state"], "clean");
        assert_eq!(report["items"][1]["objects"], json!({ "missing": 1, "unexpected": 1, "changed": 2 }));
        assert_eq!(program.run(["migrate", "drift", "one"]).await.code(), Some(0));
        // What was found last is known without a look, and a part of a tenant's explanation.
        let known = program.run(["migrate", "drift"]).await;
        assert_eq!(known.code(), Some(5), "{}", known.stderr);
        assert!(known.stdout.contains("two") && known.stdout.contains("three"), "{}", known.stdout);
        let explained = world.client().explain_tenant(&tenants[1].id.into()).await.unwrap();
        assert!(explained.differences.iter().any(|it| it.contains("1 missing")), "{:?}", explained.differences);

        for tenant in [&tenants[1], &tenants[2]] {
            let sql = "CREATE INDEX notes_by_body ON notes (body); ALTER TABLE notes DROP sneaky; \
                       CREATE OR REPLACE VIEW counted AS SELECT id, word_count(body) AS words FROM notes;";
            by_hand(&world, tenant, sql).await;
        }
        program.run(["migrate", "drift", "--all"]).await.ok();
        program.run(["migrate", "drift"]).await.ok();
        assert_eq!(look(&world).await, all_clean(3));

        // The next version is held against what it makes.
        let next = files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n");
        let rollout = world.begin_rollout(&world.push("next", &next).await).await;
        assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
        assert_eq!(look(&world).await, all_clean(4));

        // Repeatable files belong to what the migrations make, as each home has them.
        let view = |body: &str| {
            let mut with_view = next.clone();
            with_view.push((
                "R__shout.sql".to_owned(),
                format!("CREATE OR REPLACE VIEW shout AS SELECT id, {body} AS body FROM notes;\n"),
            ));
            with_view
        };
        for body in ["upper(body)", "lower(body)"] {
            let rollout = world.begin_rollout(&world.push("with a view", &view(body)).await).await;
            assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
            assert_eq!(look(&world).await, all_clean(4));
        }
        world.push("not applied yet", &view("reverse(body)")).await;
        by_hand(&world, &tenants[2], "DROP VIEW shout").await;
        let found = program.run(["migrate", "drift", "three", "--explain"]).await;
        assert_eq!(found.code(), Some(5), "{}", found.stderr);
        assert!(found.stdout.contains("missing view shout"), "{}", found.stdout);
        by_hand(&world, &tenants[2], "CREATE VIEW shout AS SELECT id, lower(body) AS body FROM notes").await;
        assert_eq!(look(&world).await, all_clean(4));
        let catalog = world.catalog_client().await;
        let left = "SELECT count(*) FROM template WHERE state = 'scratch'";
        assert_eq!(catalog.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_with_other_migrations_than_the_fleet_is_diverged_and_one_ahead_of_it_is_not() {
    let world = World::start().await;
    let one = world.tenant("one").await;
    world.tenant("two").isolation(Isolation::Database).await;

    // The first wave is through and the others are still behind.
    let next = files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n");
    let set = world.push("next", &next).await;
    let wave = |select, bake_seconds| CreateWave { select, bake_seconds, error_budget: ErrorBudget::default() };
    let waves = vec![wave(WaveSelection::Tenants(1), 3_600), wave(WaveSelection::All, 0)];
    let create = CreateRollout { waves: Some(waves), ..CreateRollout::new(set.id.clone()) };
    let rollout = world.client().create_rollout(&create).await.unwrap();
    eventually("the first wave is through", async || {
        world.client().show_rollout(rollout.id).await.unwrap().counts.applied == 1
    })
    .await;
    let stand = look(&world).await;
    assert!(stand.iter().all(|(_, state, _)| *state == Some(DriftState::Clean)), "{stand:?}");
    let mut versions: Vec<_> = stand.iter().filter_map(|(_, _, version)| *version).collect();
    versions.sort_unstable();
    assert_eq!(versions, [3, 4]);
    world.client().abort_rollout(rollout.id).await.unwrap();
    world.rolled_out(rollout.id).await;

    let change = |checksum: &str| format!("UPDATE refinery_schema_history SET checksum = {checksum} WHERE version = 2");
    by_hand(&world, &one, "CREATE TABLE kept AS SELECT checksum FROM refinery_schema_history WHERE version = 2").await;
    by_hand(&world, &one, &change("'7'")).await;
    let program = Program::new(&world.url(), world.token());
    let found = program.run(["migrate", "drift", "one"]).await;
    assert_eq!(found.code(), Some(5), "{}", found.stderr);
    assert!(found.stdout.contains("diverged") && found.stdout.contains("V2__word_count with other content"));
    by_hand(&world, &one, &change("(SELECT checksum FROM kept)")).await;
    by_hand(&world, &one, "DROP TABLE kept").await;
    program.run(["migrate", "drift", "one"]).await.ok();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reconciler_finds_drift_and_tells_when_it_begins_and_when_it_ends() {
    let world = World::builder().configure(|config| {
        config.drift = DriftConfig { interval: Duration::from_millis(1), sample: 10 };
        config.webhooks = WebhookConfig { allow_loopback: true, ..WebhookConfig::default() };
    });
    let world = world.start().await;
    let receiver = Receiver::start().await;
    let events = vec![EventKind::TenantDrifted, EventKind::TenantDriftEnded];
    let create = CreateWebhook { url: receiver.url(), description: String::new(), events };
    world.client().create_webhook(&create).await.unwrap();
    let tenant = world.tenant("acme").await;
    let stands = async |state: DriftState| {
        eventually("the reconciler has looked", async || {
            let tx = world.store().begin().await.unwrap();
            tx.poke_reconciler("drift").await.unwrap();
            tx.commit().await.unwrap();
            world.client().show_drift(&tenant.id.into()).await.unwrap().state == Some(state)
        })
        .await;
    };
    stands(DriftState::Clean).await;
    by_hand(&world, &tenant, "CREATE TABLE extra (a int)").await;
    stands(DriftState::Drifted).await;
    let shown = world.client().show_drift(&tenant.id.into()).await.unwrap();
    let differences = shown.differences.unwrap();
    let told: Vec<_> = differences.iter().map(|it| (it.kind.as_str(), it.name.as_str())).collect();
    assert_eq!(told, [("column", "extra.a"), ("table", "extra")]);
    let since = shown.since.expect("a time");
    // Looks that find the same tell nobody, and the time at which it began stays.
    let seen = shown.checked_at;
    eventually("it is looked at again", async || {
        stands(DriftState::Drifted).await;
        world.client().show_drift(&tenant.id.into()).await.unwrap().checked_at > seen
    })
    .await;
    assert_eq!(world.client().show_drift(&tenant.id.into()).await.unwrap().since, Some(since));
    by_hand(&world, &tenant, "DROP TABLE extra").await;
    stands(DriftState::Clean).await;
    eventually("both ends are told", async || receiver.taken().len() >= 2).await;
    let kinds: Vec<String> = receiver.taken().iter().map(tenantry_tests::Received::kind).collect();
    assert_eq!(kinds, ["tenant.drifted", "tenant.drift_ended"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_cannot_be_looked_at_says_why_and_keeps_what_was_found() {
    let world = World::start().await;
    let acme = world.tenant("acme").isolation(Isolation::Database).await;
    let program = Program::new(&world.url(), world.token());
    program.run(["migrate", "drift", "acme"]).await.ok();
    let route = world.route(&acme).await;
    let database = route.database.expect("a database");
    let root = world.root(world.main_cluster(), database.as_str()).await;
    let home = world.client().show_drift(&acme.id.into()).await.unwrap().home.expect("a home");
    let (high, low) = home.as_uuid().as_u64_pair();
    let lock = |verb: &str| format!("SELECT pg_advisory_{verb}({})", (high ^ low).cast_signed());
    root.batch_execute(&lock("lock")).await.unwrap();
    let refused = program.run(["migrate", "drift", "--all"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.stdout);
    assert!(refused.stdout.contains("migrations run in the home right now"), "{}", refused.stdout);
    let shown = world.client().show_drift(&acme.id.into()).await.unwrap();
    assert_eq!((shown.state, shown.in_drift), (Some(DriftState::Clean), false));
    assert!(shown.error.is_some() && shown.attempted_at > shown.checked_at, "{shown:?}");
    root.batch_execute(&lock("unlock")).await.unwrap();
    program.run(["migrate", "drift", "--all"]).await.ok();
    assert_eq!(world.client().show_drift(&acme.id.into()).await.unwrap().error, None);

    // Suspended tenants are looked at too, and deleted ones are not.
    world.wire().post("/v1/tenants/acme/suspend?wait=60", &json!({})).await.ok();
    program.run(["migrate", "drift", "acme"]).await.ok();
    drop(root);
    world.delete(&acme).await;
    let gone = program.run(["migrate", "drift", "acme"]).await;
    assert_eq!(gone.code(), Some(1), "{}", gone.stdout);
    assert!(gone.stderr.contains("acme` is deleted"), "{}", gone.stderr);
    assert_eq!(world.client().list_drift(&ListDrift::default()).await.unwrap().items, []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_looked_at_in_pages_and_samples() {
    let world = World::builder().without_migrations().start().await;
    let mut slugs = Vec::new();
    for number in 0..5 {
        let slug = format!("t-{number}");
        let labels = [("tier".to_owned(), if number < 2 { "gold" } else { "iron" }.to_owned())];
        world.tenant(&slug).with(|create| create.labels = Labels::new(labels.into()).unwrap()).await;
        slugs.push(slug);
    }
    let check = async |check: Value| world.wire().post("/v1/drift", &check).await.ok().json;
    let slugs_of = |answer: &Value| -> Vec<String> {
        answer["items"].as_array().unwrap().iter().map(|it| it["slug"].as_str().unwrap().to_owned()).collect()
    };
    let first = check(json!({ "all": true, "limit": 3 })).await;
    assert_eq!((slugs_of(&first), &first["left"]), (slugs[..3].to_vec(), &json!(2)));
    let second = check(json!({ "all": true, "limit": 3, "cursor": first["next"] })).await;
    assert_eq!((slugs_of(&second), &second["next"]), (slugs[3..].to_vec(), &Value::Null));
    let gold = check(json!({ "label": "tier=gold" })).await;
    assert_eq!(slugs_of(&gold), slugs[..2]);
    // Those that wait longest: the gold ones were looked at last.
    let sample = check(json!({ "sample": 4, "limit": 3 })).await;
    assert_eq!(slugs_of(&sample), slugs[2..]);
    let rest = check(json!({ "sample": 4, "limit": 3, "cursor": sample["next"] })).await;
    assert_eq!((slugs_of(&rest).len(), &rest["next"], &rest["left"]), (1, &Value::Null, &json!(0)));
    let named = check(json!({ "tenants": ["t-4", "t-0"], "limit": 1 })).await;
    assert_eq!((slugs_of(&named), &named["next"]), (vec!["t-4".to_owned()], &json!("1")));
    let program = Program::new(&world.url(), world.token());
    let said = program.json(["migrate", "drift", "--sample", "100"]).await;
    assert_eq!((&said["checked"], &said["in_drift"]), (&json!(5), &json!(0)));
    assert_eq!(program.json(["migrate", "drift", "--label", "tier=iron"]).await["checked"], 3);
    let list = ListDrift { state: Some(DriftFilter::Drifted), ..ListDrift::default() };
    assert_eq!(world.client().list_drift(&list).await.unwrap().items, []);
    let list = world.wire().get("/v1/drift?state=all&limit=2").await.ok().json;
    assert_eq!((slugs_of(&list), list["next"].is_string()), (slugs[..2].to_vec(), true));
    let one = world.wire().get("/v1/drift?tenant=t-3").await.ok().json;
    assert_eq!(slugs_of(&one), ["t-3"]);

    for body in [
        json!({}),
        json!({ "all": true, "sample": 3 }),
        json!({ "all": true, "limit": 0 }),
        json!({ "all": true, "cursor": "nonsense" }),
        json!({ "sample": 3, "cursor": "nonsense" }),
        json!({ "tenants": [] }),
        json!({ "tenants": ["nobody"] }),
        json!({ "label": "=gold" }),
    ] {
        let answer = world.wire().post("/v1/drift", &body).await;
        assert!([400, 422].contains(&answer.status), "{body}: {} {}", answer.status, answer.text);
    }
    assert_eq!(program.run(["migrate", "drift", "t-1", "--all"]).await.code(), Some(1));
    assert_eq!(world.wire().get("/v1/drift/nobody").await.status, 404);

    let reader = world.token_with(&[Scope::Migrations(Access::Read)], None).await;
    let reader = Wire::new(&world.url(), &reader);
    reader.get("/v1/drift").await.ok();
    assert_eq!(reader.post("/v1/drift", &json!({ "all": true })).await.status, 403);
    let tenant = world.client().show_tenant(&"t-1".parse().unwrap()).await.unwrap().value;
    let bound = world.token_with(&[Scope::Migrations(Access::Write)], Some(&tenant)).await;
    let bound = Wire::new(&world.url(), &bound);
    assert_eq!(bound.post("/v1/drift", &json!({ "all": true })).await.status, 403);
    bound.get("/v1/drift/t-1").await.ok();
    assert_eq!(bound.get("/v1/drift/t-2").await.status, 404);
    let sample = CheckDrift { sample: SampleSize::new(1).ok(), ..CheckDrift::default() };
    assert_eq!(world.client().check_drift(&sample, None).await.unwrap().items.len(), 1);
    world.end().await;
}
