//! The catalog of a world: a database of its own on the embedded server.

use tenantry_domain::{DatabaseName, Region, Secret};
use tenantry_pglocal::Cluster;
use tenantry_store::{Keyring, Store, StoreConfig};

use super::REGION;
use super::error::WorldError;

/// The catalog's database.
pub(super) const DATABASE: &str = "tenantry_catalog";
/// The database that every server has, to make others from.
const FIRST_DATABASE: &str = "postgres";

/// A URL for the embedded server. Its password has nothing that a URL would need to escape.
pub(super) fn url(postgres: &Cluster, database: &str) -> Secret {
    let (user, password) = (postgres.user(), postgres.password());
    let (host, port) = (postgres.host(), postgres.port());
    Secret::new(format!("postgres://{user}:{password}@{host}:{port}/{database}"))
}

/// Makes the catalog's database if there is none, and brings its schema up to date.
pub(super) async fn open(postgres: &Cluster, key: &Secret) -> Result<Store, WorldError> {
    let first = StoreConfig { pool_size: 2, ..StoreConfig::new(url(postgres, FIRST_DATABASE)) };
    Store::connect(&first, Keyring::parse(key)?).await?.ensure_database(&DatabaseName::parse(DATABASE)?).await?;
    let store = Store::connect(&StoreConfig::new(url(postgres, DATABASE)), Keyring::parse(key)?).await?;
    store.migrate().await?;
    Ok(store)
}

/// The region that this machine stands for.
pub(super) fn region() -> Result<Region, WorldError> {
    Ok(Region::parse(REGION)?)
}
