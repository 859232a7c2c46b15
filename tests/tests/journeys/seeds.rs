//! Seeds: a new home is filled once, whatever happens on the way, or not at all.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry_api::{Code, CreateTenant, PushSeed, TenantWithOperation, WaitSeconds};
use tenantry_domain::{Isolation, OperationState, SeedRef, Slug, TenantStatus};
use tenantry_testkit::{BreakableSocket, Server};
use tenantry_tests::{Admin, Program, World};

const SQL: &str = "-- The first notes.\nINSERT INTO notes (body) VALUES ('one'), ('two');\n";

fn push(name: &str, sql: &str) -> PushSeed {
    PushSeed { name: name.parse().unwrap(), sql: sql.to_owned() }
}

fn wish(slug: &str, isolation: Isolation, seed: Option<&str>) -> CreateTenant {
    let seed = seed.map(|seed| seed.parse().unwrap());
    CreateTenant { isolation: Some(isolation), seed, ..CreateTenant::new(Slug::parse(slug).unwrap()) }
}

async fn create(world: &World<'_>, wish: &CreateTenant) -> TenantWithOperation {
    world.client().create_tenant(wish, Some(WaitSeconds::new(60).unwrap())).await.unwrap()
}

/// Notes besides the one that the migrations leave.
async fn filled(world: &World<'_>, made: &TenantWithOperation) -> i64 {
    let tenant = world.show(&made.tenant).await;
    world.connect(&tenant).await.one::<i64>("SELECT count(*) FROM notes WHERE body IN ('one', 'two')").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_of_any_isolation_is_filled_before_anybody_is_let_in() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).dedicated(1).start().await;
        world.client().push_seed(&push("first-notes", SQL)).await.unwrap();
        for (slug, isolation) in
            [("one", Isolation::Schema), ("two", Isolation::Database), ("three", Isolation::Cluster)]
        {
            let made = create(&world, &wish(slug, isolation, Some("first-notes"))).await;
            assert_eq!(made.tenant.status, TenantStatus::Active, "{:?}", made.operation);
            assert_eq!(filled(&world, &made).await, 2, "{isolation}");
            // Who lives there reads what it was filled with, and does not change that it was.
            let session = world.connect(&made.tenant).await;
            assert_eq!(session.one::<i64>("SELECT count(*) FROM tenantry_seed").await, 1);
            assert_eq!(session.refusal("DELETE FROM tenantry_seed").await, "42501", "{isolation}");
        }
        let bare = create(&world, &wish("bare", Isolation::Schema, None)).await;
        assert_eq!(filled(&world, &bare).await, 0);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_fails_walks_the_provision_back_and_names_its_line() {
    let world = World::start().await;
    let broken = "INSERT INTO notes (body) VALUES ('one');\n\nINSERT INTO nowhere VALUES (1);\n";
    world.client().push_seed(&push("broken", broken)).await.unwrap();
    let made = create(&world, &wish("acme", Isolation::Database, Some("broken"))).await;
    assert_eq!((made.operation.state, made.tenant.status), (OperationState::Failed, TenantStatus::Failed));
    let reason = made.tenant.status_reason.as_deref().unwrap();
    assert!(reason.contains("broken.sql:3") && reason.contains("nowhere"), "{reason}");
    world.assert_nothing_orphaned().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_whose_answer_was_lost_does_not_fill_twice() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = World::builder().homes_on(&server).homes_at(socket.address()).start().await;
    world.client().push_seed(&push("first-notes", SQL)).await.unwrap();
    let sprung = socket.sprung();
    // How PostgreSQL answers the one statement of the seed; the commit is answered together with it.
    socket.lose_reply_with("INSERT 0 2");
    let made = create(&world, &wish("acme", Isolation::Schema, Some("first-notes"))).await;
    assert_eq!(socket.sprung(), sprung + 1, "the reply was lost");
    assert_eq!(made.tenant.status, TenantStatus::Active, "{:?}", made.operation);
    assert_eq!(filled(&world, &made).await, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_gives_its_seed_to_new_tenants_and_keeps_it_from_being_retired() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.sql");
    std::fs::write(&file, SQL).unwrap();
    let file = file.to_str().unwrap();
    let first = program.json(["seed", "push", "first-notes", "--file", file]).await;
    let again = program.json(["seed", "push", "first-notes", "--file", file]).await;
    assert_eq!(first["id"], again["id"]);
    let plan = ["plan", "create", "filled", "--isolation", "schema", "--seed", "nothing"];
    let unknown = program.run(plan).await;
    assert!(unknown.code() == Some(1) && unknown.stderr.contains("no seed"), "{}", unknown.stderr);
    let made = program.json(["plan", "create", "filled", "--isolation", "schema", "--seed", "first-notes"]).await;
    assert_eq!(made["seed"], "first-notes");
    program.run(["tenant", "create", "acme", "--plan", "filled"]).await.ok();
    let session = world.connect(&world.client().show_tenant(&"acme".parse().unwrap()).await.unwrap().value).await;
    assert_eq!(session.one::<i64>("SELECT count(*) FROM notes WHERE body = 'two'").await, 1);
    drop(session);

    let name: SeedRef = "first-notes".parse().unwrap();
    let refused = world.client().retire_seed(&name).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Conflict));
    let updated = program.json(["plan", "update", "filled", "--no-seed"]).await;
    assert!(updated["seed"].is_null());
    program.run(["seed", "retire", "first-notes"]).await.ok();
    let id: SeedRef = first["id"].as_str().unwrap().parse().unwrap();
    for seed in [&name, &id] {
        let create = CreateTenant { seed: Some(seed.clone()), ..CreateTenant::new(Slug::parse("later").unwrap()) };
        let refused = world.client().create_tenant(&create, None).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::InvalidRequest), "{seed}");
    }
    assert!(world.client().show_seed(&id).await.unwrap().retired_at.is_some());
    let text = program.run(["seed", "show", first["id"].as_str().unwrap(), "--sql"]).await.ok().stdout;
    assert_eq!(text, SQL);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_do_without_the_seed_of_its_plan() {
    let world = World::start().await;
    let (program, wire) = (Program::new(&world.url(), world.token()), world.wire());
    world.client().push_seed(&push("first-notes", SQL)).await.unwrap();
    program.json(["plan", "create", "filled", "--isolation", "schema", "--seed", "first-notes"]).await;
    let notes = async |slug: &str| {
        let tenant = world.client().show_tenant(&slug.parse().unwrap()).await.unwrap().value;
        world.connect(&tenant).await.one::<i64>("SELECT count(*) FROM notes WHERE body IN ('one', 'two')").await
    };
    program.run(["tenant", "create", "bare", "--plan", "filled", "--no-seed"]).await.ok();
    assert_eq!(notes("bare").await, 0);
    // Null is no choice: whoever writes it for what is not given gets what the plan gives.
    let null = json!({ "slug": "null", "plan": "filled", "seed": null });
    wire.post("/v1/tenants?wait=60", &null).await.ok();
    assert_eq!(notes("null").await, 2);

    let csv = "slug,plan,seed,no_seed\nempty,filled,,true\nfull,filled,,false\nboth,filled,first-notes,true\n";
    let answer = wire.header("content-type", "text/csv").post_text("/v1/tenants/bulk?wait=60", csv).await.ok();
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<_> = lines[..3].iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["done", "done", "refused"], "{}", answer.text);
    assert_eq!(lines[2]["problem"]["errors"][0]["pointer"], "/no_seed");
    assert_eq!((notes("empty").await, notes("full").await), (0, 2));
    let both = json!({ "slug": "both", "seed": "first-notes", "no_seed": true });
    assert_eq!(wire.post("/v1/tenants", &both).await.problem(400, "invalid_request"), ["/no_seed"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_would_leave_its_transaction_or_its_role_is_refused_at_the_door() {
    let world = World::start().await;
    for sql in ["SELECT 1;\nCOMMIT;", "SET ROLE postgres;", "-- no-transaction\nVACUUM notes;", "", "\\i other.sql"] {
        let refused = world.client().push_seed(&push("bad", sql)).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::MigrationRefused), "{sql}");
        assert!(format!("{refused:?}").contains("bad.sql"), "{refused:?}");
    }
    let large = "SELECT 1;\n".repeat(200_000);
    let refused = world.client().push_seed(&push("large", &large)).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidRequest));
    // What no reader can see is stopped where it runs.
    let hidden = "DO $$ BEGIN EXECUTE 'RE' || 'SET RO' || 'LE'; END $$;";
    world.client().push_seed(&push("hidden", hidden)).await.unwrap();
    let made = create(&world, &wish("acme", Isolation::Schema, Some("hidden"))).await;
    assert_eq!(made.tenant.status, TenantStatus::Failed);
    assert!(made.tenant.status_reason.unwrap().contains("role"), "{:?}", made.operation);
    tokio::time::timeout(Duration::from_mins(1), world.end()).await.unwrap();
}
