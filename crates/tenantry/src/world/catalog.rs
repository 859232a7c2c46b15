//! The catalog of a world: a database of its own on the embedded server.

use tenantry_control::ControlError;
use tenantry_domain::{DatabaseName, Region, RoleName, Secret};
use tenantry_pglocal::Cluster;
use tenantry_store::{Keyring, Store, StoreConfig};

use super::REGION;
use super::error::WorldError;

/// The catalog's database.
pub(super) const DATABASE: &str = "tenantry_catalog";
/// The database that every server has, to make others from.
const FIRST_DATABASE: &str = "postgres";

/// The role that the control plane logs in as. It appends to the audit log and cannot change it.
const RUNTIME_ROLE: &str = "tenantry_runtime";

/// The owner's way into a database of the embedded server.
pub(super) fn url(postgres: &Cluster, database: &str) -> Secret {
    url_as(postgres, postgres.user(), postgres.password(), database)
}

/// Neither name nor password has anything that a URL would need to escape.
fn url_as(postgres: &Cluster, user: &str, password: &str, database: &str) -> Secret {
    let (host, port) = (postgres.host(), postgres.port());
    Secret::new(format!("postgres://{user}:{password}@{host}:{port}/{database}"))
}

/// Makes the catalog's database if there is none, brings its schema up to date, and opens it as a role that does not own
/// it, as replicas in production do. That role's password is another one at each start, and written nowhere.
pub(super) async fn open(postgres: &Cluster, key: &Secret) -> Result<Store, WorldError> {
    let connect =
        async |url| Store::connect(&StoreConfig { pool_size: 2, ..StoreConfig::new(url) }, Keyring::parse(key)?).await;
    connect(url(postgres, FIRST_DATABASE)).await?.ensure_database(&DatabaseName::parse(DATABASE)?).await?;
    let owner = connect(url(postgres, DATABASE)).await?;
    owner.migrate().await?;
    let (role, password) = (RoleName::parse(RUNTIME_ROLE)?, tenantry_fleet::random_password());
    let verifier = tenantry_fleet::login_verifier(&password).await.map_err(ControlError::from)?;
    owner.ensure_login_role(&role, &verifier).await?;
    owner.grant_runtime_role(&role).await?;
    let runtime = url_as(postgres, role.as_str(), password.expose(), DATABASE);
    Ok(Store::connect(&StoreConfig::new(runtime), Keyring::parse(key)?).await?)
}

/// The region that this machine stands for.
pub(super) fn region() -> Result<Region, WorldError> {
    Ok(Region::parse(REGION)?)
}
