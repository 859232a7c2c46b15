//! The binary, as people and CI jobs use it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry_domain::Secret;
use tenantry_tests::files::{self, Files};
use tenantry_tests::{Dev, Program, World, processes_of};

/// A folder that the server's own user may traverse too, where the tests run as root.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn write(folder: &Path, files: &Files) {
    for (name, content) in files {
        std::fs::write(folder.join(name), content).unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_life_on_the_command_line() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    let made = program.json(["tenant", "create", "acme", "--isolation", "database", "--label", "tier=gold"]).await;
    let id = made["tenant"]["id"].as_str().or(made["id"].as_str()).expect("an id").to_owned();
    let shown = program.json(["tenant", "show", "acme"]).await;
    assert_eq!(
        (&shown["id"], &shown["status"], &shown["labels"]),
        (&json!(id), &json!("active"), &json!({ "tier": "gold" }))
    );
    let table = program.run(["tenant", "list"]).await.ok();
    assert!(table.stdout.contains("acme") && table.stdout.contains("active"), "{}", table.stdout);
    let listed = program.json(["tenant", "list", "--label", "tier=gold"]).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    assert!(
        program
            .run(["tenant", "list", "--label", "tier=iron"])
            .await
            .ok()
            .stdout
            .lines()
            .all(|it| !it.contains("acme"))
    );

    let counted =
        ["psql", "acme", "--", "--no-psqlrc", "--tuples-only", "--command", "SELECT count(*), current_user FROM notes"];
    let said = program.run(counted).await.ok().stdout;
    assert!(said.contains("1 | h_"), "{said}");
    let refused = ["psql", "acme", "--read-only", "--", "--no-psqlrc", "--command", "DELETE FROM notes"];
    assert_ne!(program.run(refused).await.code(), Some(0));

    let operations = program.json(["operation", "list"]).await;
    assert_eq!(operations["items"][0]["kind"], "provision");
    program.run(["tenant", "delete", "acme", "--yes", "--grace", "0"]).await.ok();
    assert_eq!(program.json(["tenant", "show", &id]).await["status"], "deleted");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_said_on_standard_error_and_by_the_exit_status() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    for (arguments, says) in [
        (&["tenant", "show", "nobody"][..], "nobody"),
        (&["tenant", "create", "Not A Slug"], "slug"),
        (&["tenant", "create", "acme", "--plan", "platinum"], "platinum"),
        (&["tenant", "create", "acme", "--cluster", "nowhere"], "nowhere"),
        (&["tenants"], "tenant"),
        (&["psql", "nobody"], "nobody"),
    ] {
        let ended = program.run(arguments).await;
        assert_eq!(ended.code(), Some(1), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.is_empty() && ended.stderr.contains(says), "{arguments:?}: {}", ended.stderr);
    }
    let wrong = Secret::new("tenantry_wrong".to_owned());
    let ended = Program::new(&world.url(), &wrong).run(["tenant", "list"]).await;
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr.contains("token") && !ended.stderr.contains("tenantry_wrong"), "{}", ended.stderr);
    let ended = Program::new("http://127.0.0.1:1", world.token()).run(["tenant", "list"]).await;
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr.contains("127.0.0.1:1") && !ended.stderr.contains(world.token().expose()), "{}", ended.stderr);
    let ended = Program::new("http://192.0.2.1", world.token()).run(["tenant", "list"]).await;
    assert!(ended.stderr.contains("https"), "{}", ended.stderr);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_linted_pushed_and_applied() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    let acme = world.tenant("acme").await;
    let folder = folder();
    let directory = text(folder.path());

    write(folder.path(), &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\nCOMMIT;\n"));
    for command in ["lint", "push", "apply"] {
        let ended = program.run(["migrate", command, "--dir", directory]).await;
        assert_eq!(ended.code(), Some(2), "{command}: {}{}", ended.stdout, ended.stderr);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("V4__stars.sql:2"), "{command}: {said}");
    }
    write(folder.path(), &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n"));
    program.run(["migrate", "lint", "--dir", directory]).await.ok();
    let pushed = program.json(["migrate", "push", "--dir", directory]).await;
    let applied = program.run(["migrate", "apply", "--set", pushed["id"].as_str().unwrap()]).await.ok();
    assert!(applied.stderr.len() + applied.stdout.len() > 0);
    assert_eq!(world.show(&acme).await.schema_version.0, 4);

    // It breaks where the data says so.
    write(
        folder.path(),
        &vec![("V5__two.sql".to_owned(), "SELECT 1;\n\nSELECT 1 / (count(*) - 1) FROM notes;\n".to_owned())],
    );
    let ended = program.run(["migrate", "apply", "--dir", directory]).await;
    assert!([Some(3), Some(4)].contains(&ended.code()), "{:?}: {}{}", ended.code(), ended.stdout, ended.stderr);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    for words in ["acme", "V5__two.sql:3", "division by zero"] {
        assert!(said.contains(words), "`{words}` is missing in {said}");
    }
    let status = program.run(["migrate", "status"]).await;
    assert!(
        format!("{}{}", status.stdout, status.stderr).contains("V5__two.sql:3"),
        "{}{}",
        status.stdout,
        status.stderr
    );
    // The data is mended.
    world.connect(&acme).await.run("INSERT INTO notes (body) VALUES ('another')").await;
    program.run(["migrate", "retry"]).await.ok();
    assert_eq!(world.show(&acme).await.schema_version.0, 5);
    world.end().await;
}

/// What psql says of a count in a tenant's home.
async fn count(program: &Program, tenant: &str, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    let said = program.run(["psql", tenant, "--", "--no-psqlrc", "--tuples-only", "--command", &sql]).await.ok();
    said.stdout.trim().parse().unwrap_or_else(|error| panic!("{error}: {}", said.stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_comes_back_to_the_same_world_and_leaves_nothing_running() {
    let folder = folder();
    let data = folder.path().join("dev");
    let dev = Dev::start(&data).await;
    let profile: Value = serde_json::from_slice(&std::fs::read(data.join("dev.json")).unwrap()).unwrap();
    for field in ["api_url", "token", "catalog_url"] {
        assert!(profile[field].is_string(), "{field} is missing");
    }
    assert_eq!(profile["api_url"], dev.welcome["api_url"]);
    let mode = std::fs::metadata(data.join("dev.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    let program = dev.program();
    program.run(["health"]).await.ok();
    assert_eq!(program.json(["tenant", "list"]).await["items"], json!([]));
    for plan in ["developer", "team", "enterprise"] {
        program.run(["tenant", "create", plan, "--plan", plan]).await.ok();
        assert_eq!(count(&program, plan, "flights").await, 0);
        let insert = "INSERT INTO airline (code, name) VALUES ('HA', 'Hawaiian')";
        program.run(["psql", plan, "--", "--no-psqlrc", "--command", insert]).await.ok();
    }
    assert!(dev.processes().len() > 2, "a server for the catalog, and one for the enterprise");
    assert!(dev.signal(Signal::INT).await.success());
    assert_eq!(processes_of(&data), Vec::<String>::new());

    let dev = Dev::start(&data).await;
    let program = dev.program();
    for plan in ["developer", "team", "enterprise"] {
        assert_eq!(program.json(["tenant", "show", plan]).await["status"], "active");
        assert_eq!(count(&program, plan, "airline").await, 1);
        program.run(["tenant", "delete", plan, "--yes", "--grace", "0"]).await.ok();
    }
    assert!(dev.signal(Signal::TERM).await.success());
    assert_eq!(processes_of(&data), Vec::<String>::new());
}
