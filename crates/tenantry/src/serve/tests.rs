//! Starting on a catalog that is there, behind, refused, or away.

use tenantry_store::{Keyring, StoreConfig, StoreError};
use tenantry_testkit::{Namespace, Server as TestServer};

use super::*;

const KEYS: &str = "1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The configuration of a replica on this catalog, as its environment would give it.
fn config(url: &str, more: &[(&str, &str)]) -> Config {
    let given = [("CATALOG__URL", url), ("SECRETS__MASTER_KEYS", KEYS), ("SERVER__LISTEN", "127.0.0.1:0")];
    let variables = given.iter().chain(more);
    let variables = variables.map(|(name, value)| (format!("TENANTRY__{name}"), (*value).to_owned()));
    tenantry_runtime::load(None, variables).expect("a configuration").value
}

async fn store(url: &str) -> Store {
    let key = Keyring::parse(&tenantry_domain::Secret::new(KEYS.to_owned())).expect("a key");
    let config = StoreConfig { pool_size: 2, ..StoreConfig::new(tenantry_domain::Secret::new(url.to_owned())) };
    Store::connect(&config, key).await.expect("a catalog")
}

/// What the check says, as `subject verdict`.
async fn verdicts(config: &Config, no_migrate: bool) -> Vec<String> {
    check::verdicts(config, no_migrate).await
}

#[tokio::test]
async fn a_replica_sets_its_catalog_up_and_serves() {
    let server = TestServer::shared().await;
    let space = Namespace::on(server);
    let url = server.url(&space.database("catalog").await);
    let config = config(&url, &[]);
    let telemetry = Telemetry::install(&config.telemetry).expect("the only telemetry of this process");

    let store = reach(&config).await.expect("reachable");
    let refused = prepare(&store, true, false).await.expect_err("behind");
    assert!(refused.to_string().contains("V1__"), "{refused}");
    prepare(&store, false, false).await.expect("brought up to date");
    prepare(&store, true, false).await.expect("up to date");
    let owner = prepare(&store, true, true).await.expect_err("the owner").to_string();
    assert!(owner.contains("--runtime-role"), "{owner}");

    let (control, door) = assemble(&config, store, telemetry.clone()).await.expect("assembled");
    let client = tenantry_api::ClientConfig::new(&door.url(), None).and_then(tenantry_api::Client::new);
    let client = client.expect("a client");
    let shutdown = Shutdown::new();
    let working = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { Box::pin(work(&control, door, telemetry, shutdown)).await }
    });
    client.ready().await.expect("ready");
    shutdown.trigger();
    working.await.expect("no panic").expect("ends in good order");
    assert!(client.ready().await.is_err(), "the door is closed");
    space.end().await;
}

#[tokio::test]
async fn a_catalog_that_is_away_is_tried_for_a_while_only() {
    // Nobody listens on port 1 of this machine.
    let config = config("postgres://a:b@127.0.0.1:1/c", &[("CATALOG__START_TIMEOUT", "600ms")]);
    let error = reach(&config).await.expect_err("away");
    assert!(matches!(error, ServeError::Catalog(StoreError::Unavailable { .. })), "{error:?}");
    assert!(error.to_string().contains("check that its PostgreSQL runs"), "{error}");
    assert!(!chain(&error).contains("a:b"), "{}", chain(&error));
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again() {
    let server = TestServer::shared().await;
    let space = Namespace::on(server);
    let login = space.login("replica", "").await;
    let address = server.address();
    let wrong = format!("postgres://{}:wrong@{address}/postgres", login.name);
    let missing = format!("postgres://{}:{}@{address}/{}", login.name, login.password, space.name("nowhere"));
    for url in [wrong, missing] {
        // With retries this would go on for the default of a minute.
        let error = reach(&config(&url, &[])).await.expect_err("refused").to_string();
        assert!(error.contains("refuses the login") && !error.contains("wrong@"), "{error}");
    }
    space.end().await;
}

#[tokio::test]
async fn a_check_says_what_is_there_and_changes_nothing() {
    let server = TestServer::shared().await;
    let space = Namespace::on(server);
    let url = server.url(&space.database("catalog").await);
    let empty = config(&url, &[]);
    assert_eq!(verdicts(&empty, false).await, ["server good", "master keys good", "catalog note"]);
    assert_eq!(verdicts(&empty, true).await, ["server good", "master keys good", "catalog trouble"]);
    assert!(!store(&url).await.pending_migrations().await.expect("readable").is_empty(), "nothing was applied");

    store(&url).await.migrate().await.expect("migrated");
    let set_up = ["server good", "master keys good", "catalog good", "tokens note", "clusters note"];
    assert_eq!(verdicts(&empty, true).await, set_up);

    let open = config(&url, &[("SERVER__LISTEN", "0.0.0.0:0"), ("SECRETS__MASTER_KEYS", "1:short")]);
    assert_eq!(verdicts(&open, false).await, ["settings trouble", "master keys trouble"]);
    space.end().await;
}
