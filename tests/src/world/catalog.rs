//! A catalog for a world.

use tenantry_domain::Secret;
use tenantry_store::{Keyring, Store, StoreConfig};
use tenantry_testkit::{Namespace, Server};

use super::World;

/// The keys of every world: 64 hexadecimal digits are as good as any others here.
pub(crate) fn keys() -> Secret {
    Secret::new(format!("1:{}", "5a".repeat(32)))
}

/// Clones a catalog that is migrated already, once per server and process. The replicas within this process share so many
/// connections to it.
pub(crate) async fn make(names: &Namespace<'_>, connections: usize) -> (Store, Secret) {
    let server: &Server = names.server();
    let template = server
        .template("catalog", async |config| {
            let database = config.get_dbname().expect("a database").to_owned();
            let store = open(&Secret::new(server.url(&database)), 1).await;
            store.migrate().await.expect("a migrated catalog");
        })
        .await;
    let database = names.database_from("catalog", &template).await;
    let url = Secret::new(server.url(&database));
    (open(&url, connections).await, url)
}

async fn open(url: &Secret, connections: usize) -> Store {
    let keyring = Keyring::parse(&keys()).expect("keys");
    let config = StoreConfig { pool_size: connections, ..StoreConfig::new(url.clone()) };
    Store::connect(&config, keyring).await.expect("the catalog")
}

/// A role that works in a world's catalog without owning it, once it was let in.
#[derive(Debug)]
pub struct RuntimeRole {
    name: String,
    url: String,
}

impl World<'_> {
    /// Makes such a role; nobody has let it in yet.
    pub async fn runtime_role(&self) -> RuntimeRole {
        let (server, database) = (self.catalog.server(), self.catalog.name("catalog"));
        let login = self.catalog.login("runtime", "NOSUPERUSER").await;
        let url = format!("postgres://{}:{}@{}/{database}", login.name, login.password, server.address());
        RuntimeRole { name: login.name, url }
    }
}

impl RuntimeRole {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its way into the catalog, with its password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects.
    pub async fn connect(&self) -> tokio_postgres::Client {
        let connected = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("a role that was let in");
        tokio::spawn(connection);
        client
    }
}
