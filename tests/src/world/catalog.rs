//! A catalog for a world.

use tenantry_domain::Secret;
use tenantry_store::{Keyring, Store, StoreConfig};
use tenantry_testkit::{Namespace, Server};

/// The keys of every world: 64 hexadecimal digits are as good as any others here.
pub(crate) fn keys() -> Secret {
    Secret::new(format!("1:{}", "5a".repeat(32)))
}

/// Clones a catalog that is migrated already, once per server and process.
pub(crate) async fn make(names: &Namespace<'_>) -> (Store, Secret) {
    let server: &Server = names.server();
    let template = server
        .template("catalog", async |config| {
            let database = config.get_dbname().expect("a database").to_owned();
            let store = open(&Secret::new(server.url(&database))).await;
            store.migrate().await.expect("a migrated catalog");
        })
        .await;
    let database = names.database_from("catalog", &template).await;
    let url = Secret::new(server.url(&database));
    (open(&url).await, url)
}

async fn open(url: &Secret) -> Store {
    let keyring = Keyring::parse(&keys()).expect("keys");
    // Dozens of worlds share a server.
    let config = StoreConfig { pool_size: 8, ..StoreConfig::new(url.clone()) };
    Store::connect(&config, keyring).await.expect("the catalog")
}
