//! Making the catalog's database where there is none yet.

use tenantry_domain::DatabaseName;
use tokio_postgres::error::SqlState;

use crate::error::StoreError;
use crate::row::query_opt;
use crate::store::Store;

impl Store {
    /// Makes a database on the server that this store is connected to, if it is not there yet; says whether it was made
    /// now. For programs that bring their own server: elsewhere the catalog's database is an operator's to make.
    pub async fn ensure_database(&self, name: &DatabaseName) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let there = query_opt(&client, "SELECT 1 FROM pg_database WHERE datname = $1", &[&name.as_str()]).await?;
        if there.is_some() {
            return Ok(false);
        }
        let quoted = name.as_str().replace('"', "\"\"");
        let sql = format!("CREATE DATABASE \"{quoted}\" TEMPLATE template0 ENCODING 'UTF8'");
        match client.batch_execute(&sql).await {
            Ok(()) => Ok(true),
            // Another program was quicker.
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
