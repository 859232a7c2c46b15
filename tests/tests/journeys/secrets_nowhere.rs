//! No secret in the clear anywhere but where it is asked for: not in a log, an error, a command line, an environment of a
//! program that is started, a statement, or PostgreSQL's own log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tenantry_api::Tenant;
use tenantry_testkit::Server;
use tenantry_tests::{Program, Receiver, Serve, Wire, World};
use tokio::task::JoinHandle;

const NEXT_KEY: &str = "2:4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d";
/// What somebody mistakes for a password, in several places.
const WRONG_PASSWORD: &str = "correct-horse-battery-staple";
const WRONG_TOKEN: &str = "tenantry_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// As a number, which JSON also knows.
const PIN: u64 = 918_273_645_546_372_819;

/// A server that logs every statement with its parameters.
async fn talkative() -> Server {
    let settings = [
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
        ("log_connections", "on"),
        ("log_parameter_max_length", "-1"),
        ("log_parameter_max_length_on_error", "-1"),
        ("log_min_error_statement", "debug5"),
    ];
    Server::own_with(|builder| builder.settings(settings)).await
}

fn logged(server: &Server) -> String {
    String::from_utf8_lossy(&std::fs::read(server.cluster().log()).unwrap()).into_owned()
}

/// Every text in which a secret might be, and every secret.
#[derive(Default)]
struct Search {
    texts: Vec<(String, String)>,
    secrets: Vec<(String, String)>,
}

impl Search {
    fn text(&mut self, place: &str, text: &str) {
        self.texts.push((place.to_owned(), text.to_owned()));
    }

    fn secret(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= 12, "{name} is too short to be searched for");
        self.secrets.push((name.to_owned(), secret.to_owned()));
    }

    /// Asserts that no secret is in any text, as it is or as hexadecimal digits.
    fn finish(self) {
        let mut found = BTreeSet::new();
        for (name, secret) in &self.secrets {
            let forms = [secret.clone(), hex::encode(secret)];
            for (place, text) in &self.texts {
                if forms.iter().any(|form| text.contains(form.as_str())) {
                    let line = text.lines().find(|line| line.contains(forms[0].as_str())).unwrap_or_default();
                    let begin: String = line.chars().take(200).collect();
                    found.insert(format!("{name} in {place}: {begin}"));
                }
            }
        }
        assert!(found.is_empty(), "secrets were told: {found:#?}");
    }
}

/// Watches what the servers say that they are doing.
struct Watch {
    seen: Arc<Mutex<BTreeSet<String>>>,
    watching: JoinHandle<()>,
}

impl Watch {
    async fn over(servers: [&Server; 2]) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let clients = [servers[0].connect("postgres").await, servers[1].connect("postgres").await];
        let watching = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                loop {
                    for client in &clients {
                        let sql = "SELECT concat_ws(' ', application_name, query) FROM pg_stat_activity";
                        let Ok(rows) = client.query(sql, &[]).await else { return };
                        let rows = rows.iter().map(|row| row.get::<_, String>(0));
                        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        Self { seen, watching }
    }

    fn end(self) -> String {
        self.watching.abort();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// The passwords by which a tenant logs in now.
async fn passwords(world: &World<'_>, search: &mut Search, tenant: &Tenant, when: &str) {
    let route = world.route(tenant).await;
    for credential in [route.credential, route.read_only_credential].into_iter().flatten() {
        let password = credential.password.unwrap();
        search.secret(&format!("a password of {} {when}", tenant.slug), password.as_secret().expose());
    }
}

/// Calls that are refused; every answer is searched.
async fn refusals(wire: &Wire, search: &mut Search, server: &Server) {
    search.secret("a wrong password", WRONG_PASSWORD);
    search.secret("a number as password", &PIN.to_string());
    search.secret("a wrong token", WRONG_TOKEN);
    let (host, port) = (server.address().ip(), server.address().port());
    let register = |password: Value| {
        json!({
            "name": "second", "region": "local", "tenancy": "shared", "host": host, "port": port,
            "user": server.cluster().user(), "password": password,
        })
    };
    let mut unknown_field = register(json!(WRONG_PASSWORD));
    unknown_field["passwrod"] = json!(WRONG_PASSWORD);
    let answers = [
        wire.post("/v1/clusters", &register(json!(WRONG_PASSWORD))).await,
        wire.post("/v1/clusters", &register(json!(PIN))).await,
        wire.post("/v1/clusters", &register(json!([WRONG_PASSWORD]))).await,
        wire.post("/v1/clusters", &unknown_field).await,
        wire.post_text("/v1/clusters", &format!(r#"{{"password": "{WRONG_PASSWORD}" "#)).await,
        wire.post_text("/v1/clusters", &format!(r#"{{"password": "{WRONG_PASSWORD}\x"}}"#)).await,
        wire.patch("/v1/clusters/main", &json!({ "password": WRONG_PASSWORD })).await,
        wire.patch("/v1/clusters/main", &json!({ "password": PIN })).await,
        wire.patch("/v1/clusters/main", &json!({ "password": null })).await,
        wire.token(&tenantry_domain::Secret::new(WRONG_TOKEN.to_owned())).get("/v1/tenants").await,
        wire.anonymous().header("authorization", &format!("Basic {WRONG_TOKEN}")).get("/v1/tenants").await,
        wire.anonymous().get(&format!("/v1/tenants?token={WRONG_TOKEN}")).await,
        wire.post("/v1/webhooks", &json!({ "url": format!("https://u:{WRONG_PASSWORD}@example.com/") })).await,
        wire.post("/v1/webhooks", &json!({ "url": format!("ftp://u:{WRONG_PASSWORD}@example.com/") })).await,
    ];
    for (number, answer) in answers.iter().enumerate() {
        assert!(answer.status >= 400, "{number}: {}", answer.text);
        search.text(&format!("the answer to refused call {number}"), &format!("{:?} {}", answer.headers, answer.text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_an_error_a_process_or_a_statement() {
    let (catalog, homes, second) = (talkative().await, talkative().await, talkative().await);
    let mut world = World::builder().catalog_on(&catalog).homes_on(&homes).start().await;
    world.take_replica(0).stop().await;
    let mut search = Search::default();
    let keys = format!("{},{NEXT_KEY}", world.catalog().1.expose());
    for key in keys.split(',') {
        search.secret("a master key", key.split_once(':').unwrap().1);
    }
    search.secret("the first token", world.token().expose());
    for (name, server) in [("the catalog", &catalog), ("the homes", &homes), ("the second cluster", &second)] {
        search.secret(&format!("the password of {name}"), server.cluster().password());
    }
    search.secret("the password by which the homes are managed", world.admin_password());
    // What the test itself has prepared so far is not Tenantry's.
    let prepared = [&catalog, &homes, &second].map(|server| logged(server).len());
    let watch = Watch::over([&catalog, &homes]).await;
    let settings = [
        ("TENANTRY__SECRETS__MASTER_KEYS", keys.as_str()),
        ("TENANTRY__TELEMETRY__LOG_FILTER", "trace"),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "1"),
    ];
    let serve = Serve::start_with(&world, &settings).await;
    world.use_door(serve.url());
    let wire = world.wire();
    let program = Program::new(serve.url(), world.token()).env("RUST_LOG", "trace").env("TENANTRY_LOG", "trace");

    // What hands a secret out, once, to whoever asked.
    let receiver = Receiver::start().await;
    let token =
        program.run(["token", "create", "--name", "ci", "--scope", "tenants:read", "--output", "json"]).await.ok();
    let webhook = program.run(["webhook", "create", &receiver.url(), "--output", "json"]).await.ok();
    search.text("what `token create` logs", &token.stderr);
    search.text("what `webhook create` logs", &webhook.stderr);
    let secret_of = |text: &str| serde_json::from_str::<Value>(text).unwrap()["secret"].as_str().unwrap().to_owned();
    let webhook_id = serde_json::from_str::<Value>(&webhook.stdout).unwrap()["id"].as_str().unwrap().to_owned();
    search.secret("a made token", &secret_of(&token.stdout));
    search.secret("a webhook's secret", &secret_of(&webhook.stdout));
    let rotate = format!("/v1/webhooks/{webhook_id}/rotate-secret");
    let rotated = wire.header("idempotency-key", "once").post(&rotate, &json!({})).await.ok();
    search.secret("a webhook's next secret", rotated.json["secret"].as_str().unwrap());
    let again = wire.header("idempotency-key", "once").post(&rotate, &json!({})).await;
    search.text("the second answer under a key", &again.text);

    // Tenants that come, change, fail and are taken over.
    for (slug, isolation) in [("acme", "schema"), ("beta", "database")] {
        let wish = json!({ "slug": slug, "isolation": isolation });
        let made = wire.post("/v1/tenants?wait=60", &wish).await.ok();
        let tenant: Tenant = serde_json::from_value(made.json["tenant"].clone()).unwrap();
        passwords(&world, &mut search, &tenant, "at first").await;
        world.connect(&tenant).await.run("SELECT 1").await;
        wire.post(&format!("/v1/tenants/{slug}/rotate-credentials?wait=60"), &json!({})).await.ok();
        passwords(&world, &mut search, &tenant, "after a rotation").await;
        search.text("a tenant", &made.text);
    }
    let seed = json!({ "name": "broken", "sql": "SELECT 1 / 0;" });
    wire.post("/v1/seeds", &seed).await.ok();
    let failed = wire.post("/v1/tenants?wait=60", &json!({ "slug": "failing", "seed": "broken" })).await.ok();
    assert_eq!(failed.json["tenant"]["status"], "failed", "{}", failed.text);
    search.text("a failed tenant", &failed.text);
    let root = homes.connect("postgres").await;
    root.batch_execute("CREATE ROLE old_owner").await.unwrap();
    root.batch_execute("CREATE DATABASE old_prod OWNER old_owner").await.unwrap();
    let inside = homes.connect("old_prod").await;
    inside.batch_execute("SET ROLE old_owner; CREATE TABLE notes (id int, body text)").await.unwrap();
    drop((root, inside));
    let adopt = json!({ "slug": "old", "cluster": "main", "database": "old_prod", "baseline_version": 3 });
    let adopted = wire.post("/v1/tenants/adopt?wait=60", &adopt).await.ok();
    let old: Tenant = serde_json::from_value(adopted.json["tenant"].clone()).unwrap();
    passwords(&world, &mut search, &old, "after its adoption").await;
    wire.post("/v1/tenants/old/adopt-confirm?wait=60", &json!({})).await.ok();
    refusals(&wire, &mut search, &second).await;
    commands(&program, &mut search, &second).await;
    wire.post("/v1/secrets/rotate-master", &json!({})).await.ok();
    world.connect(&old).await.run("SELECT 1").await;
    for path in ["/v1/audit-log?limit=500", "/v1/operations?limit=500", "/v1/clusters", "/v1/webhooks", "/metrics"] {
        search.text(path, &wire.get(path).await.ok().text);
    }

    processes(&program, &serve, &mut search).await;
    wire.post("/v1/clusters/second/cordon", &json!({})).await.ok();
    wire.delete("/v1/clusters/second").await.ok();
    search.text("the statements of the servers", &watch.end());
    world.end().await;
    let log = serve.log();
    assert!(log.lines().any(|line| line.contains("\"TRACE\"")), "nothing is left out of the log");
    search.text("the log of the control plane", &log);
    assert!(serve.terminate().await.success());
    let servers = [("the catalog", &catalog), ("the homes", &homes), ("the second cluster", &second)];
    for ((name, server), prepared) in servers.into_iter().zip(prepared) {
        let log = logged(server).split_off(prepared);
        assert!(
            log.contains("LOG:  execute ") || log.contains("LOG:  statement: "),
            "every statement of {name} is logged"
        );
        // Also of passwords that nobody was told, such as those of migrators. Within a block quotes are doubled.
        let mut passwords = log.split(" PASSWORD '").skip(1).map(|rest| rest.trim_start_matches('\''));
        if let Some(clear) = passwords.find(|password| !password.starts_with("SCRAM-SHA-256$")) {
            panic!("in the log of {name}: {}", clear.lines().next().unwrap_or_default());
        }
        search.text(&format!("the log of {name}"), &log);
    }
    search.finish();
}

/// Commands that take passwords and keys from the environment, right and wrong ones.
async fn commands(program: &Program, search: &mut Search, server: &Server) {
    let (host, port) = (server.address().ip().to_string(), server.address().port().to_string());
    let user = server.cluster().user();
    let register =
        ["cluster", "register", "second", "--region", "elsewhere", "--host", &host, "--port", &port, "--user", user];
    for (password, code) in [(WRONG_PASSWORD, Some(1)), (server.cluster().password(), Some(0))] {
        let ended = program.clone().env("TENANTRY_CLUSTER_PASSWORD", password).run(register).await;
        assert_eq!(ended.code(), code, "{}{}", ended.stdout, ended.stderr);
        search.text("what `cluster register` says", &(ended.stdout + &ended.stderr));
    }
    let port = format!("postgres://u:{WRONG_PASSWORD}@127.0.0.1:port/c");
    let (url, key) = (format!("postgres://u:{WRONG_PASSWORD}@{host}:1/c"), format!("1:{WRONG_PASSWORD}"));
    let pin = PIN.to_string();
    let settings: [(&str, &str); 6] =
        [(&port, NEXT_KEY), (&url, NEXT_KEY), (&url, &key), (&url, WRONG_PASSWORD), (&url, &pin), (&pin, NEXT_KEY)];
    for (url, keys) in settings {
        let serve = program.clone().env("TENANTRY__CATALOG__URL", url).env("TENANTRY__SECRETS__MASTER_KEYS", keys);
        for arguments in [&["serve", "--check"][..], &["catalog", "migrate"], &["token", "create", "--catalog"]] {
            let ended = serve.run(arguments).await;
            assert_ne!(ended.code(), Some(0), "{}", ended.stdout);
            search.text(&format!("what {arguments:?} says"), &(ended.stdout + &ended.stderr));
        }
    }
}

/// Command lines and environments, as `/proc` shows them to others and to the same user.
async fn processes(program: &Program, serve: &Serve, search: &mut Search) {
    let read = |path: String| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).replace('\0', "\n");
    let pid = serve.pid().expect("a process that runs");
    let command_line = read(format!("/proc/{pid}/cmdline"));
    assert!(command_line.contains("serve"), "{command_line}");
    search.text("the command line of `serve`", &command_line);
    // psql's own, what it hands to what it starts, and that it is in as the tenant.
    let look = r"\! tr '\0' '\n' < /proc/$PPID/cmdline; tr '\0' '\n' < /proc/$PPID/environ; env; ls -l /proc/$PPID/fd";
    for tenant in [&["psql", "acme"][..], &["psql", "acme", "--read-only"]] {
        let rest = ["--", "--no-psqlrc", "--command", "SELECT current_user", "--command", look];
        let said = program.run(tenant.iter().chain(&rest)).await.ok();
        assert!(said.stdout.contains(" h_") && said.stdout.contains("PGPASSFILE=/dev/fd/"), "{}", said.stdout);
        assert!(said.stdout.contains("PGUSER=h_") && !said.stdout.contains("TENANTRY_"), "{}", said.stdout);
        search.text("psql, its environment and its command line", &said.stdout);
        search.text("what psql says", &said.stderr);
    }
    // However it ends: there is no file to be left.
    let end = r"\! kill -9 $PPID";
    let killed = program.run(["psql", "acme", "--", "--no-psqlrc", "--command", end]).await;
    assert_eq!(killed.code(), None, "{}{}", killed.stdout, killed.stderr);
    search.text("what a killed psql says", &(killed.stdout + &killed.stderr));
    let wrong =
        Program::new(serve.url(), &tenantry_domain::Secret::new(WRONG_TOKEN.to_owned())).env("RUST_LOG", "trace");
    let refused = wrong.run(["tenant", "list"]).await;
    assert_ne!(refused.code(), Some(0));
    search.text("what a command with a wrong token says", &(refused.stdout + &refused.stderr));
}
