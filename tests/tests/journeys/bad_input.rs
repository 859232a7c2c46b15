//! Whatever is wrong is answered with a problem document that says what to do, and leaves no half-made tenant.

use serde_json::{Value, json};
use tenantry_api::{CreateTenant, TenantRef};
use tenantry_domain::{Access, ClusterLimits, Isolation, OperationState, Scope, Secret, Slug, TenantStatus};
use tenantry_store::{Keyring, Store, StoreConfig};
use tenantry_tests::{World, files};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How many rows there are of everything that creating a tenant writes.
async fn rows(world: &World<'_>) -> [i64; 5] {
    let mut counts = [0; 5];
    let catalog = world.catalog_client().await;
    for (count, table) in counts.iter_mut().zip(["tenant", "operation", "home", "resource", "route"]) {
        *count = catalog.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_slug_is_pointed_at() {
    let world = World::start().await;
    let wire = world.wire();
    let long = "a".repeat(64);
    for slug in [
        "",
        "-",
        "Acme",
        "a_b",
        "a.b",
        "-a",
        "a-",
        "a b",
        "ä",
        "xn--80ak6aa92e",
        "admin",
        "www",
        "tenantry",
        "postgres",
        "adopt",
        "bulk",
        "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506",
        "a'; drop table tenant; --",
        "\u{0}",
        &long,
    ] {
        let answer = wire.post("/v1/tenants", &json!({ "slug": slug })).await;
        assert_eq!(answer.problem(400, "invalid_request"), ["/slug"], "{slug}");
    }
    assert_eq!(rows(&world).await, [0; 5]);

    let first = world.tenant("acme").await;
    let before = rows(&world).await;
    let answer = wire.post("/v1/tenants", &json!({ "slug": "acme" })).await;
    assert_eq!(answer.problem(409, "slug_taken"), ["/slug"]);
    assert_eq!(rows(&world).await, before);
    assert_eq!(world.show(&first).await.status, TenantStatus::Active);

    let adopted = json!({ "slug": "bulk", "cluster": "main", "database": "any" });
    for query in ["", "?dry_run=true"] {
        let answer = wire.post(&format!("/v1/tenants/adopt{query}"), &adopted).await;
        assert_eq!(answer.problem(400, "invalid_request"), ["/slug"]);
    }
    let row = wire
        .header("content-type", "text/csv")
        .post_text(
            "/v1/tenants/bulk",
            "slug
bulk
",
        )
        .await
        .ok();
    assert!(row.text.contains(r#""refused":1"#), "{}", row.text);
    // One that was made before the word stood in a URL is reached by its id.
    let catalog = world.catalog_client().await;
    catalog.execute("UPDATE tenant SET slug = 'bulk' WHERE id = $1", &[&first.id.as_uuid()]).await.unwrap();
    assert_eq!(world.show(&first).await.slug.as_str(), "bulk");
    assert_eq!(wire.get("/v1/tenants").await.ok().json["items"][0]["slug"], "bulk");
    world.delete(&first).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_and_wrong_fields_are_pointed_at() {
    let world = World::start().await;
    let wire = world.wire();
    let nobody = "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506";
    for (field, value) in [
        ("plan", json!("platinum")),
        ("plan", json!("No Plan")),
        ("plan", json!(7)),
        ("region", json!("mars")),
        ("region", json!("M A R S")),
        ("cluster", json!("nowhere")),
        ("cluster", json!(nobody)),
        ("parent", json!("nobody")),
        ("parent", json!(nobody)),
        ("isolation", json!("row")),
        ("isolation", json!("continent")),
        ("name", json!("")),
        ("name", json!("x".repeat(201))),
        ("labels", json!(["gold"])),
        ("labels", json!({ "Not A Key": "x" })),
        ("overrides", json!({ "conections": 5 })),
        ("overrides", json!({ "connections": -1 })),
        ("trial_ends_at", json!("tomorrow")),
        ("colour", json!("red")),
    ] {
        let answer = wire.post("/v1/tenants", &json!({ "slug": "acme", field: value })).await;
        let pointers = answer.problem(400, "invalid_request");
        assert!(pointers.len() == 1 && pointers[0].starts_with(&format!("/{field}")), "{field}: {}", answer.text);
    }
    assert_eq!(rows(&world).await, [0; 5]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_none_is_refused() {
    let world = World::start().await;
    let wire = world.wire();
    for body in ["", "{", "[]", "7", "null", "\"acme\"", "{}", r#"{"slug":"a","slug":"b"}"#, r#"{"slug":"acme"} {}"#] {
        wire.post_text("/v1/tenants", body).await.problem(400, "invalid_request");
    }
    let answer = wire.header("content-type", "text/plain").post_text("/v1/tenants", "slug=acme").await;
    answer.problem(415, "invalid_request");
    let large = json!({ "slug": "acme", "name": "x".repeat(2 * 1024 * 1024) });
    wire.post("/v1/tenants", &large).await.problem(413, "payload_too_large");
    for (path, pointer) in [
        ("/v1/tenants?limit=0", "?limit"),
        ("/v1/tenants?limit=501", "?limit"),
        ("/v1/tenants?status=asleep", "?status"),
        ("/v1/tenants?colour=red", "?colour"),
        ("/v1/operations?state=asleep", "?state"),
    ] {
        assert_eq!(wire.get(path).await.problem(400, "invalid_request"), [pointer], "{path}");
    }
    wire.get("/v1/tenants?cursor=nonsense").await.problem(400, "invalid_request");
    wire.post("/v1/tenants?wait=61", &json!({ "slug": "acme" })).await.problem(400, "invalid_request");
    wire.get("/v1/tenants/nobody").await.problem(404, "not_found");
    wire.get("/v1/tenants/Not%20A%20Slug").await.problem(400, "invalid_request");
    wire.get("/v1/nothing").await.problem(404, "not_found");
    wire.delete("/v1/tenants").await.problem(405, "invalid_request");
    assert_eq!(rows(&world).await, [0; 5]);
    world.end().await;
}

/// Sends bytes over a connection of their own, and reads all that the control plane says until it closes it.
async fn over_one_connection(world: &World<'_>, sent: &[u8]) -> String {
    let url = world.url();
    let mut connection = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    connection.write_all(sent).await.unwrap();
    let mut answers = Vec::new();
    connection.read_to_end(&mut answers).await.unwrap();
    String::from_utf8(answers).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_a_body_was_refused_serves_on_or_says_that_it_ends() {
    let world = World::start().await;
    let head = |bytes: usize| {
        let token = world.token().expose();
        format!(
            "POST /v1/tenants HTTP/1.1\r\nhost: tenantry\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {bytes}\r\n\r\n"
        )
    };
    let last = "GET /healthz HTTP/1.1\r\nhost: tenantry\r\nconnection: close\r\n\r\n";
    let large = 2 * 1024 * 1024;
    let both = [head(large).as_bytes(), &vec![b'x'; large], last.as_bytes()].concat();
    let answers = over_one_connection(&world, &both).await;
    let (refused, served) = answers.split_at(answers.rfind("HTTP/1.1 ").unwrap());
    assert!(refused.starts_with("HTTP/1.1 413 ") && !refused.contains("connection: close"), "{answers}");
    assert!(served.starts_with("HTTP/1.1 204 "), "{answers}");
    // The rest never comes.
    let part = [head(1_000_000_000).as_bytes(), &vec![b'x'; large]].concat();
    let answers = over_one_connection(&world, &part).await;
    assert!(answers.starts_with("HTTP/1.1 413 ") && answers.contains("connection: close"), "{answers}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_the_right_token() {
    let world = World::start().await;
    let acme = json!({ "slug": "acme" });
    let missing = world.wire().anonymous().post("/v1/tenants", &acme).await;
    missing.problem(401, "unauthenticated");
    assert!(missing.header("www-authenticate").starts_with("Bearer"));
    let wrong = Secret::new("tenantry_0000000000000000000000000000000000000000000".to_owned());
    world.wire().token(&wrong).post("/v1/tenants", &acme).await.problem(401, "unauthenticated");
    let reader = world.token_with(&[Scope::Tenants(Access::Read)], None).await;
    let answer = world.wire().token(&reader).post("/v1/tenants", &acme).await;
    answer.problem(403, "forbidden");
    assert!(answer.json["detail"].as_str().unwrap().contains("tenants:write"), "{}", answer.text);
    assert_eq!(rows(&world).await, [0; 5]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_is_said_before_anything_is_made() {
    let limits = ClusterLimits {
        tenants: 2,
        databases: 1,
        schemas_per_database: 1,
        concurrent_creations: 1,
        ..ClusterLimits::default()
    };
    let world = World::builder().limits(limits).start().await;
    let wire = world.wire();
    world.tenant("first").isolation(Isolation::Schema).await;
    let before = rows(&world).await;
    for isolation in ["schema", "database", "cluster"] {
        let answer = wire.post("/v1/tenants", &json!({ "slug": "second", "isolation": isolation })).await;
        answer.problem(409, "no_capacity");
        assert!(answer.json["detail"].as_str().unwrap().contains("main: "), "{}", answer.text);
    }
    assert_eq!(rows(&world).await, before);
    let cluster = world.main_cluster().id.into();
    world.client().cordon_cluster(&cluster).await.unwrap();
    let answer = wire.post("/v1/tenants", &json!({ "slug": "second", "cluster": "main" })).await;
    answer.problem(409, "no_capacity");
    assert_eq!(rows(&world).await, before);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_stands_for_one_request() {
    let world = World::start().await;
    let wire = world.wire().header("idempotency-key", "sign-up-7");
    let first = wire.post("/v1/tenants?wait=60", &json!({ "slug": "acme" })).await.ok();
    let again = wire.post("/v1/tenants?wait=60", &json!({ "slug": "acme" })).await.ok();
    assert_eq!((again.status, &again.json), (first.status, &first.json));
    let other = wire.post("/v1/tenants?wait=60", &json!({ "slug": "other" })).await;
    other.problem(422, "idempotency_mismatch");
    assert_eq!(rows(&world).await[0], 1);
    for key in ["", &"k".repeat(256)] {
        let wire = world.wire().header("idempotency-key", key);
        wire.post("/v1/tenants", &json!({ "slug": "third" })).await.problem(400, "invalid_request");
    }
    assert_eq!(rows(&world).await[0], 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_set_with_a_wrong_file_is_refused_at_the_door() {
    let world = World::start().await;
    let good = "CREATE TABLE a (a int);";
    let push = |files: &[(&str, &str)]| {
        let files: Vec<Value> =
            files.iter().map(|(name, content)| json!({ "name": name, "content": content })).collect();
        let body = json!({ "name": "wrong", "files": files });
        let wire = world.wire();
        async move { wire.post("/v1/migration-sets", &body).await }
    };
    for (set, file, line, says) in [
        (&[("first.sql", good)][..], "first.sql", 1, "V<version>__<name>.sql"),
        (&[("V1_first.sql", good)], "V1_first.sql", 1, "V<version>__<name>.sql"),
        (&[("V1__a.sql", good), ("V01__b.sql", good)], "V01__b.sql", 1, "version"),
        (&[("V1__a.sql", "CREATE TABLE a (a int);\n\nCOMMIT;\n")], "V1__a.sql", 3, "COMMIT"),
        (&[("V1__a.sql", "DO $$ BEGIN\n  COMMIT;\nEND $$;")], "V1__a.sql", 2, "COMMIT"),
        (&[("V1__a.sql", "SET ROLE postgres;")], "V1__a.sql", 1, "role"),
        (&[("V1__a.sql", "SET search_path = public;")], "V1__a.sql", 1, "search path"),
        (&[("V1__a.sql", "CREATE DATABASE other;")], "V1__a.sql", 1, "databases"),
        (&[("V1__a.sql", "CREATE INDEX CONCURRENTLY i ON a (a);")], "V1__a.sql", 1, "no-transaction"),
        (&[("V1__a.sql", "SELECT 'never closed;")], "V1__a.sql", 1, "end"),
        (&[("V1__a.sql", "-- nothing\n")], "V1__a.sql", 1, "statement"),
    ] {
        let answer = push(set).await;
        let pointers = answer.problem(422, "migration_refused");
        let error = answer.json["errors"].as_array().unwrap().iter().find(|error| error["pointer"] == file);
        let Some(error) = error else { panic!("{file} is not named, but {pointers:?} are") };
        assert_eq!(error["line"], line, "{error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    }
    let empty = world.wire().post("/v1/migration-sets", &json!({ "name": "x", "files": [] })).await;
    assert_eq!(empty.problem(400, "invalid_request"), ["/files"]);
    let sets = world.wire().get("/v1/migration-sets").await.ok();
    assert_eq!(sets.json["items"].as_array().unwrap().len(), 1, "the one that the world began with");

    // A set that would change what tenants have applied.
    let mut changed = files::notes();
    changed[2].1.push_str("-- changed\n");
    let changed: Vec<(&str, &str)> = changed.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();
    assert_eq!(push(&changed).await.problem(422, "migration_refused"), ["V3__first_note.sql"]);
    assert_eq!(push(&changed[..2]).await.problem(422, "migration_refused"), ["V3__first_note.sql"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_migrations_fail_is_walked_back_and_may_be_retried() {
    // It passes every rule that can be read off the file, and fails when it meets data.
    let broken = files::files(&[
        ("V1__a.sql", "CREATE TABLE a (a int);\nINSERT INTO a VALUES (0);"),
        ("V2__b.sql", "CREATE TABLE b (b int);\n\nSELECT 1 /\n    a FROM a;\n"),
    ]);
    let world = World::builder().without_migrations().start().await;
    let set = world.push("broken", &broken).await;
    let rollout = world.begin_rollout(&set).await;
    world.rolled_out(rollout.id).await;
    for isolation in [Isolation::Schema, Isolation::Database] {
        let slug = format!("a-{isolation}");
        let create = CreateTenant { isolation: Some(isolation), ..CreateTenant::new(Slug::parse(&slug).unwrap()) };
        let begun = world.client().create_tenant(&create, None).await.unwrap();
        let ended = world.settled(begun.operation.id).await;
        assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
        let error = ended.error.unwrap();
        assert_eq!(
            (&error["file"], &error["line"], &error["sqlstate"]),
            (&json!("V2__b.sql"), &json!(3), &json!("22012"))
        );
        assert!(error["message"].as_str().unwrap().contains("division by zero"), "{error}");
        let tenant = world.show(&begun.tenant).await;
        assert_eq!(tenant.status, TenantStatus::Failed);
        assert!(tenant.status_reason.unwrap().contains("division by zero"));
        world.assert_nothing_orphaned().await;
        // The slug is kept until someone decides.
        world.wire().post("/v1/tenants", &json!({ "slug": slug })).await.problem(409, "slug_taken");
    }
    world.delete(&world.client().show_tenant(&"a-schema".parse::<TenantRef>().unwrap()).await.unwrap().value).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_serve_is_not_registered() {
    let world = World::start().await;
    let wire = world.wire();
    let register = |change: Value| {
        let mut body = json!({
            "name": "second", "region": "local", "tenancy": "shared", "host": "127.0.0.1", "port": 1,
            "user": "postgres", "password": "no such password",
        });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let wire = wire.clone();
        async move { wire.post("/v1/clusters", &body).await }
    };
    register(json!({})).await.problem(503, "unavailable");
    for (field, value) in [
        ("port", json!(0)),
        ("port", json!(70_000)),
        ("host", json!("a b")),
        ("name", json!("Not A Name")),
        ("tenancy", json!("sharred")),
        ("tls_ca", json!("no certificate")),
        ("limits", json!({ "tenents": 1 })),
    ] {
        let answer = register(json!({ field: value })).await;
        assert!(answer.problem(400, "invalid_request")[0].starts_with(&format!("/{field}")), "{}", answer.text);
    }
    // In the clear beyond this machine.
    let answer = register(json!({ "host": "db.example.com", "tls_mode": "disable" })).await;
    assert_eq!(answer.problem(400, "invalid_request"), ["/tls_mode"]);
    let port = world.server().address().port();
    let wrong = register(json!({ "port": port })).await;
    wrong.problem(400, "invalid_request");
    assert!(!wrong.text.contains("no such password"));
    let user = world.server().cluster().user();
    let twice = json!({ "port": port, "user": user, "password": world.server().cluster().password() });
    register(twice).await.problem(409, "conflict");
    let clusters = wire.get("/v1/clusters").await.ok();
    assert_eq!(clusters.json["items"].as_array().unwrap().len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_does_not_answer_is_said_so() {
    let keys = Secret::new(format!("1:{}", "5a".repeat(32)));
    let url = "postgres://nobody:hunter2@127.0.0.1:1/catalog";
    let config = StoreConfig::new(Secret::new(url.to_owned()));
    let error = Store::connect(&config, Keyring::parse(&keys).unwrap()).await.err().unwrap();
    assert!(error.is_retryable(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
