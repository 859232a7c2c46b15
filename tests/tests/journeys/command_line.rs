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

#[tokio::test(flavor = "multi_thread")]
async fn a_dangerous_migration_is_found_before_any_tenant_is_touched() {
    let world = World::start().await;
    let program = Program::new(&world.url(), world.token());
    world.tenant("acme").await;
    let folder = folder();
    let directory = text(folder.path());
    // The first set is all new: its tables hold nothing, and an index on one waits for nobody.
    let next = |sql: &str| {
        [
            files::notes_and("V4__index.sql", "CREATE INDEX notes_by_id ON notes (id, body);\n"),
            files::files(&[("V5__at.sql", sql)]),
        ]
        .concat()
    };
    write(folder.path(), &files::notes_and("V4__index.sql", "CREATE INDEX notes_by_id ON notes (id, body);\n"));
    program.run(["migrate", "lint", "--dir", directory, "--since", "0"]).await.ok();
    program
        .run(["migrate", "apply", "--dir", directory, "--allow", "squawk/require-concurrent-index-creation"])
        .await
        .ok();

    let dangerous = "SELECT 1;\nALTER TABLE notes ADD COLUMN at timestamptz NOT NULL DEFAULT clock_timestamp();\n\
                     CREATE INDEX notes_by_at ON notes (at);\n";
    write(folder.path(), &next(dangerous));
    let rollouts = program.json(["migrate", "rollouts"]).await;
    for command in ["push", "apply"] {
        let ended = program.run(["migrate", command, "--dir", directory]).await;
        assert_eq!(ended.code(), Some(2), "{command}: {}{}", ended.stdout, ended.stderr);
        for words in ["V5__at.sql:2:", "squawk/adding-field-with-default", "V5__at.sql:3:1: error", "lint-ignore"] {
            assert!(ended.stderr.contains(words), "{command}: `{words}` is missing in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("V4__index.sql"), "a file that a set has is judged no more: {}", ended.stderr);
    }
    assert_eq!(program.json(["migrate", "rollouts"]).await, rollouts);

    let ended = program.run(["migrate", "lint", "--dir", directory, "--since", "4", "--output", "json"]).await;
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((report["errors"].as_u64(), report["warnings"].as_u64()), (Some(2), Some(0)), "{report}");
    let finding = &report["findings"][1];
    assert_eq!(finding["rule"], "squawk/require-concurrent-index-creation", "{report}");
    assert_eq!((finding["severity"].as_str(), finding["file"].as_str()), (Some("error"), Some("V5__at.sql")));
    assert_eq!((finding["line"].as_u64(), finding["column"].as_u64()), (Some(3), Some(1)));

    // A warning is shown and refuses nothing, unless it is asked to; what is ignored with a reason is silent.
    write(folder.path(), &next("-- requires-app: >= 2\nUPDATE public.notes SET body = body;\n"));
    let lint = ["migrate", "lint", "--dir", directory, "--since", "4"];
    let warned = program.run(lint).await.ok();
    assert!(warned.stdout.contains("V5__at.sql:2:8: warning: "), "{}", warned.stdout);
    assert_eq!(program.run([&lint[..], &["--deny", "warnings"]].concat()).await.code(), Some(2));
    let ignored = dangerous
        .replace("ALTER", "-- lint-ignore squawk/adding-field-with-default: few notes\nALTER")
        .replace("CREATE", "-- lint-ignore squawk/require-concurrent-index-creation: few notes\nCREATE");
    write(folder.path(), &next(&ignored));
    program.run(["migrate", "apply", "--dir", directory]).await.ok();
    let rules = program.json(["migrate", "rules"]).await;
    assert!(
        rules["items"].as_array().unwrap().iter().any(|rule| rule["rule"] == "role-switch" && rule["fixed"] == true)
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tools_folder_is_imported_and_applied() {
    let world = World::builder().without_migrations().start().await;
    let program = Program::new(&world.url(), world.token());
    let folder = folder();
    let theirs = folder.path().join("theirs");
    let ours = folder.path().join("ours");
    let (from, to) = (text(&theirs).to_owned(), text(&ours).to_owned());
    let import = ["migrate", "import", "--from", "diesel", "--dir", &from, "--to", &to];
    for (name, sql) in [
        ("00000000000000_diesel_initial_setup", "CREATE TABLE a (b int);\n"),
        ("2020-01-02-030405_more", "INSERT INTO a VALUES (7);\n"),
    ] {
        std::fs::create_dir_all(theirs.join(name)).unwrap();
        std::fs::write(theirs.join(name).join("up.sql"), sql).unwrap();
        std::fs::write(theirs.join(name).join("down.sql"), "DROP TABLE a;\n").unwrap();
    }
    let planned = program.json([&import[..], &["--dry-run"]].concat()).await;
    assert_eq!((planned["written"].as_bool(), planned["left_out"].as_array().map(Vec::len)), (Some(false), Some(0)));
    assert_eq!(planned["files"].as_array().map(Vec::len), Some(4), "what undoes a file is taken along: {planned}");
    assert!(!ours.exists());
    let imported = program.run(import).await.ok();
    assert!(
        imported.stdout.contains("V20200102030405__more.sql  from 2020-01-02-030405_more/up.sql"),
        "{}",
        imported.stdout
    );
    program.run(import).await.ok();
    program.run(["migrate", "apply", "--dir", &to]).await.ok();
    let acme = world.tenant("acme").await;
    assert_eq!(world.connect(&acme).await.one::<i32>("SELECT b FROM a").await, 7);

    std::fs::write(theirs.join("stray.sql"), "SELECT 1;\n").unwrap();
    let refused = program.run(import).await;
    assert_eq!(refused.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stdout.contains("stray.sql: "), "{}", refused.stdout);
    std::fs::remove_file(theirs.join("stray.sql")).unwrap();
    std::fs::write(ours.join("V9__own.sql"), "SELECT 9;\n").unwrap();
    let occupied = program.run(import).await;
    assert_eq!(occupied.code(), Some(1));
    assert!(occupied.stderr.contains("V9__own.sql") && occupied.stderr.contains("--force"), "{}", occupied.stderr);
    program.run([&import[..], &["--force"]].concat()).await.ok();
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
