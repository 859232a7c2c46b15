//! Many tenants in one call: each by itself, in order, and none twice.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_api::bulk::{CSV, JSON_LINES};
use tenantry_api::{
    BulkAction, BulkChange, BulkLine, BulkOutcome, BulkQuery, BulkResult, BulkSummary, Code, CommaSeparated,
    GraceSeconds, ListTenants, WaitSeconds,
};
use tenantry_domain::{Access, Scope, SuspensionReason, TenantStatus};
use tenantry_tests::{HomeSession, Program, World};

fn waiting() -> BulkQuery {
    BulkQuery { wait: Some(WaitSeconds::new(60).unwrap()) }
}

async fn create(world: &World<'_>, kind: &'static str, rows: &str, key: &str) -> (Vec<BulkResult>, BulkSummary) {
    let stream = world.client().create_tenants(kind, rows.as_bytes().to_vec(), key, &waiting()).await.unwrap();
    all(stream).await
}

async fn all(mut stream: tenantry_api::client::BulkStream) -> (Vec<BulkResult>, BulkSummary) {
    let mut results = Vec::new();
    while let Some(line) = stream.next().await.unwrap() {
        match line {
            BulkLine::Result(result) => results.push(*result),
            BulkLine::Summary(summary) => {
                assert_eq!(stream.next().await.unwrap(), None, "the summary is the last line");
                return (results, summary);
            }
        }
    }
    panic!("the answer broke off after {} results", results.len());
}

fn labelled(label: &str) -> ListTenants {
    ListTenants { labels: CommaSeparated(vec![label.parse().unwrap()]), ..ListTenants::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_rows_good_and_bad_are_answered_in_order_and_made_once() {
    let world = World::builder().without_migrations().start().await;
    // Of every ten rows, one is no slug, one names an unknown plan, one repeats a slug, one cannot be placed.
    let mut csv = "slug,isolation,plan,region,label.batch\n".to_owned();
    for row in 0..200 {
        csv.push_str(&match row % 10 {
            3 => format!("Not {row},schema,,,one\n"),
            5 => format!("t{row},schema,platinum,,one\n"),
            7 => format!("t{},schema,,,one\n", row - 1),
            9 => format!("t{row},schema,,mars-1,one\n"),
            _ => format!("t{row},schema,,,one\n"),
        });
    }
    let (results, summary) = create(&world, CSV, &csv, "import-1").await;
    assert_eq!(results.iter().map(|it| it.row).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    // A slug that is repeated within the call is the same row once more.
    assert_eq!((summary.rows, summary.done + summary.known, summary.refused), (200, 140, 60), "{summary:?}");
    for (index, result) in results.iter().enumerate() {
        let code = result.problem.as_ref().map(|problem| problem.code);
        let expected = [3, 5, 9].contains(&(index % 10)).then_some(Code::InvalidRequest);
        assert_eq!(code, expected, "{result:?}");
        assert_eq!(result.tenant.is_some(), expected.is_none());
    }

    // The answer was lost: the same rows under the same key make nothing twice.
    let (again, summary) = create(&world, CSV, &csv, "import-1").await;
    assert_eq!((summary.known, summary.done, summary.refused), (140, 0, 60), "{summary:?}");
    let ids = |results: &[BulkResult]| results.iter().filter_map(|result| result.tenant).collect::<Vec<_>>();
    assert_eq!(ids(&results), ids(&again));
    // Under another key it is somebody else's wish.
    let (_, summary) = create(&world, CSV, "slug,isolation\nt0,schema\n", "import-2").await;
    assert_eq!(summary.refused, 1);

    let filter = labelled("batch=one");
    let change = |action, dry_run, expected| BulkChange { action, filter: filter.clone(), dry_run, expected };
    let delete = BulkAction::Delete { grace: GraceSeconds::new(0).ok() };
    let counted = world.client().change_tenants(&change(delete.clone(), true, None), &waiting()).await.unwrap();
    let (results, summary) = all(counted).await;
    assert_eq!((results.len(), summary.rows, summary.dry_run), (0, 120, true));
    let wrong = change(delete.clone(), false, Some(7));
    let refused = world.client().change_tenants(&wrong, &waiting()).await.err().unwrap();
    assert_eq!(refused.code(), Some(Code::PreconditionFailed));
    let plan = BulkAction::ChangePlan { plan: "team".parse().unwrap() };
    for (done, known) in [(120, 0), (0, 120)] {
        let stream = world.client().change_tenants(&change(plan.clone(), false, Some(120)), &waiting()).await.unwrap();
        let (_, summary) = all(stream).await;
        assert_eq!((summary.done, summary.known), (done, known), "{summary:?}");
    }
    let stream = world.client().change_tenants(&change(delete, false, Some(120)), &waiting()).await.unwrap();
    let (results, summary) = all(stream).await;
    assert!(summary.is_well() && summary.rows == 120, "{summary:?}");
    assert!(results.iter().all(|result| result.operation.is_some()));
    for result in results {
        world.settled(result.operation.unwrap().id).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_unclear_touches_no_tenant() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let wire = world.wire();
    for (kind, body, status) in [
        (CSV, "name,colour\nacme,red\n", 400),
        (CSV, "slug\n", 400),
        (JSON_LINES, "", 400),
        ("text/plain", "acme", 415),
        ("application/json", r#"{"action": "delete", "filter": {}, "expected": 1}"#, 400),
        ("application/json", r#"{"action": "delete", "filter": {"plan": "developer"}}"#, 400),
        (
            "application/json",
            r#"{"action": "delete", "filter": {"plan": "developer", "limit": 1}, "expected": 1}"#,
            400,
        ),
        ("application/json", r#"{"action": "delete", "filter": {"parent": "nobody"}, "expected": 1}"#, 400),
        ("application/json", r#"{"action": "suspend", "filter": {"plan": "developer"}}"#, 400),
    ] {
        let answer = wire.header("content-type", kind).post_text("/v1/tenants/bulk", body).await;
        assert_eq!(answer.status, status, "{kind} {body}: {}", answer.text);
    }
    for (given, pointer) in [
        (json!({ "reason": "trial_ended" }), "/reason"),
        (json!({ "until": "2001-01-01T00:00:00Z" }), "/until"),
        (json!({ "untill": "2101-01-01T00:00:00Z" }), "/untill"),
        (json!({ "note": "" }), "/note"),
        (json!({ "subtree": true }), ""),
    ] {
        let mut body = json!({ "action": "suspend", "filter": { "plan": "developer" }, "expected": 1 });
        body.as_object_mut().unwrap().append(&mut given.as_object().unwrap().clone());
        assert_eq!(wire.post("/v1/tenants/bulk", &body).await.problem(400, "invalid_request"), [pointer], "{body}");
    }
    let narrow = world.token_with(&[Scope::Tenants(Access::Write)], Some(&acme)).await;
    let program = Program::new(&world.url(), &narrow);
    let ended = program.run(["tenant", "bulk", "delete", "--slug-prefix", "a", "--yes"]).await;
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert_eq!(world.show(&acme).await.status, tenantry_domain::TenantStatus::Active);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tenants_are_shut_out_and_let_in_and_those_that_are_so_already_stay_as_they_are() {
    let world = World::start().await;
    let created = ["acme", "acme-berlin", "bolt", "gone"].map(|slug| json!({ "slug": slug, "labels": { "due": "" } }));
    for mut body in created {
        if body["slug"] == "acme-berlin" {
            body["parent"] = "acme".into();
        }
        world.wire().post("/v1/tenants?wait=60", &body).await.ok();
    }
    world.wire().post("/v1/tenants/bolt/suspend?wait=60", &json!({ "note": "by hand" })).await.ok();
    world.wire().delete("/v1/tenants/gone?grace=3600&wait=60").await;
    let acme = world.client().show_tenant(&"acme".parse().unwrap()).await.unwrap().value;
    let (login, session) = (world.login(&acme).await, world.connect(&acme).await);

    let change = |action| BulkChange { action, filter: labelled("due"), dry_run: false, expected: Some(4) };
    let act = async |action| all(world.client().change_tenants(&change(action), &waiting()).await.unwrap()).await;
    let until = Timestamp::now() + Duration::from_hours(1);
    let (reason, note) = (SuspensionReason::Payment, "unpaid since May".parse().ok());
    let suspend = BulkAction::Suspend { reason, note, until: Some(until) };
    let outcomes = |results: &[BulkResult]| results.iter().map(|result| result.outcome).collect::<Vec<_>>();
    let (results, _) = act(suspend.clone()).await;
    let (done, known, refused) = (BulkOutcome::Done, BulkOutcome::Known, BulkOutcome::Refused);
    assert_eq!(outcomes(&results), [done, done, known, refused], "{results:?}");
    assert_eq!(results[3].problem.as_ref().unwrap().code, Code::InvalidState);
    assert!(session.batch_execute("SELECT 1").await.is_err(), "the session goes on");
    assert!(HomeSession::log_in(&login).await.is_err(), "the login gets in");
    let told = world.show(&acme).await;
    assert_eq!(told.status_reason.as_deref(), Some("payment: unpaid since May"));
    assert_eq!(told.suspension.unwrap().until.map(Timestamp::as_second), Some(until.as_second()));

    let (results, _) = act(BulkAction::Suspend { reason: SuspensionReason::Admin, note: None, until: None }).await;
    assert_eq!(outcomes(&results), [known, known, known, refused], "{results:?}");
    assert_eq!(world.show(&acme).await.status_reason.as_deref(), Some("payment: unpaid since May"));
    let bolt = world.client().show_tenant(&"bolt".parse().unwrap()).await.unwrap().value;
    assert_eq!(bolt.status_reason.as_deref(), Some("admin: by hand"));

    let resume = BulkAction::Resume { subtree: true };
    let (results, _) = act(resume.clone()).await;
    assert_eq!(outcomes(&results), [done, done, done, refused], "{results:?}");
    assert!(HomeSession::log_in(&login).await.is_ok(), "the login does not get in again");
    // The one below comes back with the one above it, by whichever row is sooner.
    world.wire().post("/v1/tenants/acme/suspend?wait=60", &json!({ "subtree": true })).await.ok();
    let (results, _) = act(resume).await;
    assert!(results[..2].iter().all(|result| [done, known].contains(&result.outcome)), "{results:?}");
    assert_eq!(outcomes(&results[2..]), [known, refused], "{results:?}");
    for slug in ["acme", "acme-berlin", "bolt"] {
        let tenant = world.client().show_tenant(&slug.parse().unwrap()).await.unwrap().value;
        assert_eq!((tenant.status, tenant.suspension), (TenantStatus::Active, None));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tenants_on_the_command_line() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenants.ndjson");
    let rows = ["acme", "bolt", "Not A Slug"].map(|slug| {
        format!("{{\"slug\": \"{slug}\", \"isolation\": \"schema\", \"labels\": {{\"env\": \"test\"}}}}\n")
    });
    std::fs::write(&file, rows.concat()).unwrap();
    let create = ["tenant", "bulk", "create", "--file", file.to_str().unwrap(), "--wait", "60", "--key", "first"];
    let ended = program.run(create).await;
    assert_eq!(ended.code(), Some(3), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("row 3") && ended.stdout.contains("2 done"), "{}", ended.stdout);
    let ended = program.run(create.into_iter().chain(["--output", "json"])).await;
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["outcome"], &lines[3]["known"]), (4, &"known".into(), &2.into()));

    let filter = ["--label", "env=test"];
    let unasked = program.run(["tenant", "bulk", "delete"].into_iter().chain(filter)).await;
    assert!(unasked.code() == Some(1) && unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    let unfiltered = program.run(["tenant", "bulk", "delete", "--yes"]).await;
    assert_eq!(unfiltered.code(), Some(1), "{}", unfiltered.stderr);
    let counted = program.json(["tenant", "bulk", "delete", "--dry-run"].into_iter().chain(filter)).await;
    assert_eq!((&counted["rows"], &counted["dry_run"]), (&2.into(), &true.into()));
    let changed = program.run(["tenant", "bulk", "change-plan", "team", "--yes"].into_iter().chain(filter)).await.ok();
    assert!(changed.stdout.contains("2 done"), "{}", changed.stdout);
    assert_eq!(program.json(["tenant", "show", "acme"]).await["plan"], "team");
    let suspend = ["tenant", "bulk", "suspend", "--reason", "payment", "--until", "2h", "--yes", "--wait", "60"];
    let ended = program.run(suspend.into_iter().chain(filter).chain(["--output", "json"])).await.ok();
    let summary: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["done"], &summary["rows"]), (&2.into(), &2.into()), "{}", ended.stdout);
    assert_eq!(program.json(["tenant", "show", "acme"]).await["suspension"]["reason"], "payment");
    let resumed = program.run(["tenant", "bulk", "resume", "--yes", "--wait", "60"].into_iter().chain(filter)).await;
    assert!(resumed.ok().stdout.contains("2 done"));
    let outcomes = lines.iter().filter(|line| line["outcome"] == "refused").count();
    assert_eq!(outcomes, 1, "{:?}", BulkOutcome::Refused);
    world.end().await;
}
