//! Reaching the catalog, and losing it.

use std::time::Duration;

use tenantry_domain::Secret;
use tenantry_store::{Keyring, Store, StoreConfig, StoreError};
use tenantry_testkit::{BreakableSocket, eventually};

use crate::catalog::{Catalog, KEY, connect};

fn keyring() -> Keyring {
    Keyring::parse(&Secret::new(KEY.to_owned())).unwrap()
}

#[tokio::test]
async fn a_password_never_leaves_the_machine_in_clear() {
    for url in [
        "postgres://a:hunter2@db.example.com/catalog",
        "postgres://a:hunter2@10.0.0.1/catalog?sslmode=prefer",
        "postgres://a:hunter2@localhost/catalog?hostaddr=10.0.0.1",
        "postgres://a:hunter2@localhost,db.example.com/catalog",
    ] {
        let refused = Store::connect(&StoreConfig::new(Secret::new(url.to_owned())), keyring()).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Invalid { .. }), "{url}: {refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_catalog_that_is_not_there_is_unavailable() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let missing = connect(format!("postgres://a:b@{address}/catalog")).await.unwrap_err();
    assert!(matches!(missing, StoreError::Unavailable { .. }), "{missing:?}");
    assert!(missing.is_retryable());
}

#[tokio::test]
async fn a_cut_connection_is_unavailable_once_and_then_replaced() {
    let catalog = Catalog::new().await;
    let socket = BreakableSocket::before(catalog.server.address()).await;
    let store = connect(catalog.server.url_at(socket.address(), &catalog.database)).await.unwrap();
    let tx = store.begin().await.unwrap();
    socket.cut();
    eventually("the cut is noticed", async || matches!(tx.regions().await, Err(StoreError::Unavailable { .. }))).await;
    drop(tx);
    eventually("a new connection serves", async || store.ping().await.is_ok()).await;
}

#[tokio::test]
async fn a_pool_that_is_used_up_says_so_after_its_time() {
    let catalog = Catalog::new().await;
    let config = StoreConfig {
        pool_size: 2,
        connect_timeout: Duration::from_millis(200),
        ..StoreConfig::new(Secret::new(catalog.server.url(&catalog.database)))
    };
    let store = Store::connect(&config, keyring()).await.unwrap();
    let _held = (store.begin().await.unwrap(), store.begin().await.unwrap());
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_statement_that_waits_too_long_is_busy() {
    let catalog = Catalog::new().await;
    let config = StoreConfig {
        statement_timeout: Duration::from_millis(200),
        ..StoreConfig::new(Secret::new(catalog.server.url(&catalog.database)))
    };
    let store = Store::connect(&config, keyring()).await.unwrap();
    let superuser = catalog.superuser().await;
    superuser.batch_execute("BEGIN; LOCK TABLE plan IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let busy = store.plan(&tenantry_domain::PlanName::parse("team").unwrap()).await.unwrap_err();
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy:?}");
    superuser.batch_execute("ROLLBACK").await.unwrap();
}
