//! Many tenants are asked the same question.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tenantry_api::{FleetQuery, QueryFailed, QueryLine, QuerySummary, SuspendTenant, Tenant};
use tenantry_domain::{Access, Isolation, Scope};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tenantry_tests::{Admin, Program, World};

/// One tenant of each isolation and a second one in the shared database, each with one note more than the one before.
async fn fleet(world: &World<'_>) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for (notes, (slug, isolation)) in [
        ("one", Isolation::Schema),
        ("two", Isolation::Schema),
        ("three", Isolation::Database),
        ("four", Isolation::Cluster),
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = world.tenant(slug).isolation(isolation).with(|it| it.labels = labels(slug)).await;
        let more = format!("INSERT INTO notes (body) SELECT '{slug}' FROM generate_series(1, {notes})");
        world.connect(&tenant).await.run(&more).await;
        tenants.push(tenant);
    }
    tenants
}

fn labels(slug: &str) -> tenantry_domain::Labels {
    let tier = if slug == "one" || slug == "three" { "gold" } else { "iron" };
    tenantry_domain::Labels::new([("tier".to_owned(), tier.to_owned())].into()).unwrap()
}

fn asking(sql: &str) -> FleetQuery {
    FleetQuery { sql: sql.to_owned(), all: true, ..FleetQuery::default() }
}

/// What came back, by kind.
#[derive(Debug, Default)]
struct Answer {
    rows: BTreeMap<String, Vec<Vec<(String, Value)>>>,
    reached: BTreeMap<String, (u64, bool)>,
    failed: BTreeMap<String, QueryFailed>,
    skipped: BTreeMap<String, String>,
    summary: QuerySummary,
}

async fn ask(world: &World<'_>, query: &FleetQuery) -> Answer {
    let mut lines = world.client().query(query).await.unwrap();
    let mut answer = Answer::default();
    let mut summary = None;
    while let Some(line) = lines.next().await.unwrap() {
        assert!(summary.is_none(), "the summary comes last");
        match line {
            QueryLine::Row(row) => answer.rows.entry(row.tenant.to_string()).or_default().push(row.row.0),
            QueryLine::Reached(it) => {
                assert!(answer.reached.insert(it.tenant.to_string(), (it.rows, it.truncated)).is_none());
            }
            QueryLine::Failed(it) => assert!(answer.failed.insert(it.tenant.to_string(), it).is_none()),
            QueryLine::Skipped(it) => assert!(answer.skipped.insert(it.tenant.to_string(), it.reason).is_none()),
            QueryLine::Summary(it) => summary = Some(it),
        }
    }
    answer.summary = summary.expect("a summary");
    let counts = [answer.reached.len(), answer.failed.len(), answer.skipped.len()].map(|it| it as u64);
    assert_eq!(counts, [answer.summary.reached, answer.summary.failed, answer.summary.skipped], "{answer:?}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_bears_the_tenant_that_it_is_of() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).dedicated(1).start().await;
        fleet(&world).await;
        let answer = ask(&world, &asking("SELECT count(*) AS notes, max(body) AS last FROM notes")).await;
        let expected = [
            ("four", 4, "the first note"),
            ("one", 1, "the first note"),
            ("three", 3, "the first note"),
            ("two", 2, "two"),
        ];
        let row = |notes: i32, last: &str| vec![("notes".to_owned(), json!(notes)), ("last".to_owned(), json!(last))];
        let expected: BTreeMap<String, _> = expected
            .map(|(slug, notes, last)| {
                (slug.to_owned(), vec![row(notes, if slug > "the first note" { slug } else { last })])
            })
            .into();
        assert_eq!(answer.rows, expected);
        assert_eq!((answer.summary.reached, answer.summary.rows, answer.summary.truncated), (4, 4, 0));

        let gold = json!({ "sql": "SELECT body FROM notes", "filter": { "labels": "tier=gold" } });
        let gold = ask(&world, &serde_json::from_value(gold).unwrap()).await;
        assert_eq!(gold.reached, [("one".to_owned(), (1, false)), ("three".to_owned(), (3, false))].into());
        let named = json!({ "sql": "SELECT body FROM notes", "tenants": ["four", "two", "two"], "rows_max": 2 });
        let named = ask(&world, &serde_json::from_value(named).unwrap()).await;
        assert_eq!(named.reached, [("four".to_owned(), (2, true)), ("two".to_owned(), (2, false))].into());
        assert_eq!((named.summary.rows, named.summary.truncated), (4, 1));
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_out_is_skipped_and_who_fails_holds_up_nobody() {
    let world = World::builder().dedicated(1).start().await;
    let tenants = fleet(&world).await;
    world.connect(&tenants[1]).await.run("INSERT INTO notes (body) VALUES ('no number')").await;
    let suspended =
        world.client().suspend_tenant(&tenants[3].id.into(), &SuspendTenant::default(), None).await.unwrap();
    world.settled(suspended.operation.id).await;

    let answer =
        ask(&world, &asking("SELECT CASE body WHEN 'no number' THEN body ELSE '1' END::int AS a FROM notes")).await;
    assert_eq!(answer.reached.keys().collect::<Vec<_>>(), ["one", "three"]);
    assert!(answer.skipped["four"].contains("suspended"), "{answer:?}");
    let error = &answer.failed["two"].error;
    assert_eq!(error.sqlstate.as_deref(), Some("22P02"), "{error:?}");

    for sql in
        ["DELETE FROM notes RETURNING id", "DELETE FROM notes", "SELECT 1; DELETE FROM notes", "SELECT pg_sleep(60)"]
    {
        let query = FleetQuery { statement_timeout_ms: tenantry_api::QueryTimeoutMs::new(200).ok(), ..asking(sql) };
        let answer = ask(&world, &query).await;
        assert_eq!((answer.summary.reached, answer.summary.failed), (0, 3), "{sql}: {answer:?}");
    }
    let answer = ask(&world, &asking("SELECT count(*) AS notes FROM notes")).await;
    assert_eq!(answer.rows["one"], [[("notes".to_owned(), json!(1))]]);

    let after = json!({ "sql": "SELECT 1", "all": true });
    let after = world.wire().post("/v1/query", &after).await.ok();
    assert_eq!(after.header("content-type"), "application/x-ndjson");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_fails_its_tenants_and_no_others() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = World::builder().homes_on(&server).homes_at(socket.address()).dedicated(1).start().await;
    fleet(&world).await;
    socket.go_down();
    let answer = ask(&world, &asking("SELECT count(*) AS notes FROM notes")).await;
    assert_eq!(answer.reached.keys().collect::<Vec<_>>(), ["four"], "{answer:?}");
    for slug in ["one", "two", "three"] {
        assert!(answer.failed[slug].error.message.contains("cannot be reached"), "{answer:?}");
    }
    socket.come_up();
    assert_eq!(ask(&world, &asking("SELECT 1 AS a")).await.summary.reached, 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_ends_what_runs_everywhere() {
    let world = World::start().await;
    let tenants = [world.tenant("one").await, world.tenant("two").isolation(Isolation::Database).await];
    let root = world.root(world.main_cluster(), "postgres").await;
    let roles: Vec<String> = {
        let mut roles = Vec::new();
        for tenant in &tenants {
            roles.push(world.route(tenant).await.read_only_credential.unwrap().role.to_string());
        }
        roles
    };
    let running = async |wanted: i64| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename::text = ANY ($1)";
        root.query_one(sql, &[&roles]).await.unwrap().get::<_, i64>(0) == wanted
    };
    let sleeping = FleetQuery {
        statement_timeout_ms: tenantry_api::QueryTimeoutMs::new(600_000).ok(),
        ..asking("SELECT pg_sleep(600)")
    };
    let lines = world.client().query(&sleeping).await.unwrap();
    eventually("both tenants are asked", async || running(2).await).await;
    drop(lines);
    eventually("nothing runs any more", async || running(0).await).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_ask_and_what_they_ask_is_kept() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let body = json!({ "sql": "SELECT 'a secret of theirs' AS found", "tenants": ["acme"] });
    let broad = [Scope::Tenants(Access::Write), Scope::Clusters(Access::Write), Scope::RoutesSecrets];
    for token in [world.token_with(&broad, None).await, world.token_with(&[Scope::Admin], Some(&acme)).await] {
        world.wire().token(&token).post("/v1/query", &body).await.problem(403, "forbidden");
    }
    let wire = world.wire();
    wire.post("/v1/query", &body).await.ok();
    let catalog = world.catalog_client().await;
    let entry = "SELECT after FROM audit_log WHERE action = 'tenant.query'";
    let after: Value = catalog.query_one(entry, &[]).await.unwrap().get(0);
    assert_eq!((&after["sql"], &after["selection"]), (&body["sql"], &json!({ "tenants": ["acme"] })));

    for (change, pointer) in [
        (json!({ "tenants": null }), ""),
        (json!({ "all": true }), ""),
        (json!({ "tenants": [] }), "/tenants"),
        (json!({ "tenants": ["nobody"] }), "/tenants"),
        (json!({ "tenants": null, "filter": {} }), "/filter"),
        (json!({ "tenants": null, "filter": { "labels": "a", "limit": 5 } }), "/filter"),
        (json!({ "sql": "" }), "/sql"),
        (json!({ "sql": "x".repeat(100_001) }), "/sql"),
        (json!({ "concurrency": 65 }), "/concurrency"),
    ] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(wire.post("/v1/query", &body).await.problem(400, "invalid_request"), [pointer], "{change}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_on_the_command_line() {
    let world = World::start().await;
    let (one, two) = (world.tenant("one").await, world.tenant("two").isolation(Isolation::Database).await);
    world.connect(&two).await.run("INSERT INTO notes (body) VALUES ('say \"no\", or')").await;
    let program = Program::new(&world.url(), world.token());
    let shown = program.run(["query", "--all", "SELECT count(*) AS notes FROM notes"]).await.ok();
    let lines: Vec<Vec<&str>> = shown.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines[0] == ["tenant", "notes"] && lines.contains(&vec!["two", "2"]), "{}", shown.stdout);
    assert!(shown.stderr.contains("2 tenants reached, 0 failed, 0 skipped; 2 rows."), "{}", shown.stderr);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "SELECT id, body FROM notes WHERE id > 1;\n").unwrap();
    let path = file.path().to_str().unwrap();
    let csv = program.run(["query", "--slug-prefix", "tw", "--file", path, "--csv"]).await.ok();
    assert_eq!(csv.stdout, "tenant,id,body\r\ntwo,2,\"say \"\"no\"\", or\"\r\n");
    let json = program.run(["query", "--tenant", "two", "--file", path, "--output", "json"]).await.ok().stdout;
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], json!({ "type": "row", "tenant": "two", "row": { "id": 2, "body": "say \"no\", or" } }));
    assert_eq!((lines.len(), &lines[2]["type"]), (3, &json!("summary")));

    world.connect(&one).await.run("INSERT INTO notes (body) VALUES ('')").await;
    let some = program.run(["query", "--all", "SELECT 1 / length(min(body)) AS a FROM notes"]).await;
    assert_eq!(some.code(), Some(3), "{}{}", some.stdout, some.stderr);
    assert!(some.stdout.contains("two") && some.stderr.contains("one: division by zero"), "{}", some.stderr);
    let refused = program.run(["query", "--all", "DELETE FROM notes"]).await;
    assert!(refused.code() == Some(3) && refused.stderr.contains("only what reads"), "{}", refused.stderr);
    world.end().await;
}
