//! What a rollout would do is told before, tried before, and held to.

use serde_json::{Value, json};
use tenantry_api::{CreateRollout, DryRunLine, DryRunOutcome, DryRunSize, ListQuery, RolloutDryRun};
use tenantry_domain::{Access, Isolation, LockMode, RolloutState, Scope};
use tenantry_tests::{Program, World, files};

async fn fleet(world: &World<'_>) -> Vec<tenantry_api::Tenant> {
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

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_the_rollout_then_does_or_the_rollout_is_refused() {
    let world = World::builder().dedicated(1).start().await;
    let tenants = fleet(&world).await;
    let program = Program::new(&world.url(), world.token());
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n") {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let (directory, file) = (text(folder.path()), folder.path().join("plan.json"));
    let planning = ["migrate", "plan", "--dir", directory, "--wave", "1", "--wave", "all", "--per-cluster", "2"];

    let shown = program.run(planning.iter().chain(&["--sql"])).await.ok().stdout;
    for said in ["to migrate", "V4__stars.sql", "ADD COLUMN stars integer"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let plan = program.json(planning.iter().chain(&["--out", text(&file)])).await;
    assert_eq!(plan, serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap());
    assert_eq!((&plan["pending"], &plan["already"], &plan["latest_version"]), (&json!(4), &json!(0), &json!(4)));
    assert_eq!(plan["starts"], json!([{ "from_version": 3, "tenants": 4, "migrations": [4] }]));
    let [migration] = plan["migrations"].as_array().unwrap().as_slice() else { panic!("{plan}") };
    assert_eq!((&migration["file"], &migration["transactional"]), (&json!("V4__stars.sql"), &json!(true)));
    let waves: Vec<u64> = plan["waves"].as_array().unwrap().iter().map(|it| it["tenants"].as_u64().unwrap()).collect();
    assert_eq!(waves, [1, 3]);
    for tenant in &tenants {
        assert_eq!(world.show(tenant).await.schema_version.0, 3, "planning changes nothing");
    }
    assert_eq!(world.client().list_rollouts(&ListQuery::default()).await.unwrap().items.len(), 1, "the first one");

    // One tenant more, and it is another plan.
    let more = world.tenant("more").await;
    let refused = program.run(["migrate", "apply", "--plan", text(&file)]).await;
    assert_eq!(refused.code(), Some(2), "{}{}", refused.stdout, refused.stderr);
    for said in ["5 tenants instead of 4", "in wave 2 (all): 4", "migrate plan"] {
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    let wish: CreateRollout = serde_json::from_value(json!({
        "migration_set": plan["migration_set"], "plan": plan["digest"], "per_cluster": 2,
        "waves": [{ "select": "1", "error_budget": { "targets": 0 } }, { "select": "all", "error_budget": { "targets": 0 } }],
    }))
    .unwrap();
    let mut body = serde_json::to_value(&wish).unwrap();
    world.wire().post("/v1/rollouts", &body).await.problem(409, "conflict");
    // Whoever waits would begin on another fleet.
    body["queue"] = json!(true);
    assert_eq!(world.wire().post("/v1/rollouts", &body).await.problem(400, "invalid_request"), ["/plan"]);
    world.delete(&more).await;

    // As it was, and the canary is the one that was named.
    let canary = plan["waves"][0]["first"][0]["id"].clone();
    let applied = program.json(["migrate", "apply", "--plan", text(&file)]).await;
    assert_eq!(
        (&applied["rollout"]["state"], &applied["rollout"]["counts"]["applied"]),
        (&json!("succeeded"), &json!(4))
    );
    let id = applied["rollout"]["id"].as_str().unwrap();
    let targets = world.wire().get(&format!("/v1/rollouts/{id}/targets")).await.ok().json;
    let first: Vec<&Value> = targets["items"].as_array().unwrap().iter().filter(|it| it["wave"] == 0).collect();
    assert_eq!((first.len(), &first[0]["tenant"]), (1, &canary));

    // It is carried out once: everybody is there now.
    assert_eq!(program.run(["migrate", "apply", "--plan", text(&file)]).await.code(), Some(2));
    let plan = program.json(planning).await;
    assert_eq!((&plan["pending"], &plan["already"], &plan["migrations"]), (&json!(0), &json!(4), &json!([])));
    std::fs::write(&file, "{}").unwrap();
    let ended = program.run(["migrate", "apply", "--plan", text(&file)]).await;
    assert!(ended.code() == Some(1) && ended.stderr.contains("is no plan"), "{}", ended.stderr);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_tried_on_tenants_of_different_sizes_and_nothing_is_kept() {
    let world = World::builder().dedicated(1).start().await;
    let tenants = fleet(&world).await;
    let program = Program::new(&world.url(), world.token());
    // The larger of the two schemas holds what the file does not bear.
    let session = world.connect(&tenants[1]).await;
    session.run("INSERT INTO notes (body) SELECT repeat('x', 500) FROM generate_series(1, 2000)").await;
    session.run("INSERT INTO notes (body) VALUES ('')").await;
    let next = files::notes_and(
        "V4__strict.sql",
        "ALTER TABLE notes ADD COLUMN stars integer;\n\nALTER TABLE notes ADD CHECK (body <> '');\n",
    );
    let set = world.push("next", &next).await;
    let tried = program.run(["migrate", "plan", "--set", set.id.as_str(), "--dry-run", "20"]).await;
    assert_eq!(tried.code(), Some(2), "{}{}", tried.stdout, tried.stderr);
    for said in ["passed", "V4__strict.sql:3: ", "23514", "ACCESS EXCLUSIVE", "two"] {
        assert!(tried.stdout.contains(said), "{said}: {}", tried.stdout);
    }
    assert!(tried.stderr.contains("1 of the 4 tenants"), "{}", tried.stderr);

    session.run("DELETE FROM notes WHERE body = ''").await;
    let wish =
        RolloutDryRun { migration_set: set.id.clone(), tenants: DryRunSize::new(2).unwrap(), timeout_seconds: None };
    let mut lines = world.client().dry_run(&wish).await.unwrap();
    let mut seen = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        seen.push(line);
    }
    let [
        DryRunLine::Sample(sample),
        DryRunLine::Tenant(smallest),
        DryRunLine::Tenant(largest),
        DryRunLine::Summary(sum),
    ] = seen.as_slice()
    else {
        panic!("{seen:?}")
    };
    assert_eq!((sample.pending, sample.tenants.len(), sum.tenants, sum.failed), (4, 2, 2, 0));
    assert!(smallest.tenant.bytes < largest.tenant.bytes, "{sample:?}");
    assert_eq!(smallest.tenant.slug.as_ref().map(ToString::to_string).as_deref(), Some("one"));
    for tenant in [smallest, largest] {
        assert_eq!((tenant.passed, tenant.from_version.map(|it| it.0), tenant.files.len()), (true, Some(3), 1));
        let file = &tenant.files[0];
        assert_eq!(file.outcome, DryRunOutcome::Passed);
        let lock = file.locks.iter().find(|lock| lock.relation == "notes").unwrap();
        assert_eq!((lock.mode, lock.existed, lock.rewritten), (LockMode::AccessExclusive, true, false));
    }
    for tenant in &tenants {
        assert_eq!(world.show(tenant).await.schema_version.0, 3);
        assert_eq!(world.connect(tenant).await.refusal("SELECT stars FROM notes").await, "42703");
    }
    let json =
        program.json(["migrate", "plan", "--set", set.id.as_str(), "--dry-run", "1", "--dry-run-timeout", "30s"]).await;
    assert_eq!((&json["pending"], &json["dry_run"][0]["passed"]), (&json!(4), &json!(true)));
    // What was tried is what is then done.
    let rollout = world.begin_rollout(&set).await;
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_needs_less_than_trying_and_neither_shows_more_than_it_may() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let set = world.push("next", &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars int;\n")).await;
    let (plan, try_it) = (json!({ "migration_set": set.id }), json!({ "migration_set": set.id, "tenants": 1 }));
    let reader = world.token_with(&[Scope::Migrations(Access::Read)], None).await;
    let reader = world.wire().token(&reader);
    let planned = reader.post("/v1/rollouts/plan", &plan).await.ok().json;
    assert_eq!(planned["waves"][0]["first"], json!([{ "id": acme.id, "slug": null }]));
    reader.post("/v1/rollouts/dry-run", &try_it).await.problem(403, "forbidden");
    let bound = world.token_with(&[Scope::Migrations(Access::Write)], Some(&acme)).await;
    world.wire().token(&bound).post("/v1/rollouts/plan", &plan).await.problem(403, "forbidden");
    let stranger = world.token_with(&[Scope::Tenants(Access::Write)], None).await;
    world.wire().token(&stranger).post("/v1/rollouts/plan", &plan).await.problem(403, "forbidden");
    let wire = world.wire();
    let unknown = json!({ "migration_set": "0".repeat(64), "tenants": 1 });
    wire.post("/v1/rollouts/dry-run", &unknown).await.problem(400, "invalid_request");
    for (field, value) in [("tenants", json!(0)), ("tenants", json!(21)), ("timeout_seconds", json!(601))] {
        let mut body = try_it.clone();
        body[field] = value;
        let answer = wire.post("/v1/rollouts/dry-run", &body).await;
        assert_eq!(answer.problem(400, "invalid_request"), [format!("/{field}")]);
    }
    let mut body = plan.clone();
    body["plan"] = json!("not a digest");
    assert_eq!(wire.post("/v1/rollouts", &body).await.problem(400, "invalid_request"), ["/plan"]);
    world.end().await;
}
