//! The table `adoption`: what was taken over, and how it was before.

use jiff::Timestamp;
use serde_json::Value;
use tenantry_domain::{ClusterId, DatabaseName, HomeId, Isolation, OperationId, SchemaName, TenantId};
use tokio_postgres::Row;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::row::{execute, get, parsed, query, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;

/// Where an adoption stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptionState {
    /// Everything can be put back.
    Open,
    /// It is final.
    Confirmed,
    /// Everything was put back.
    Cancelled,
}

impl AdoptionState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A database or schema that became a tenant's.
#[derive(Debug, Clone, PartialEq)]
pub struct Adoption {
    /// Whose it is.
    pub tenant: TenantId,
    /// The home that it became.
    pub home: HomeId,
    /// The operation that took it over.
    pub operation: OperationId,
    /// Where it stands.
    pub state: AdoptionState,
    /// How it was before; absent until that was written down.
    pub before: Option<Value>,
    /// Asked for at.
    pub created_at: Timestamp,
    /// Confirmed or cancelled at.
    pub decided_at: Option<Timestamp>,
}

/// A home that is, or is in, a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeInDatabase {
    /// What it has to itself.
    pub isolation: Isolation,
    /// Where its objects live.
    pub schema: SchemaName,
    /// Whether it was made elsewhere.
    pub is_adopted: bool,
}

impl Store {
    /// The adoption that a tenant came from, if it did.
    pub async fn adoption(&self, tenant: TenantId) -> Result<Option<Adoption>, StoreError> {
        select(&*self.client().await?, tenant, "").await
    }

    /// The homes that a database of a cluster is, or holds, and that are not gone.
    pub async fn homes_in_database(
        &self,
        cluster: ClusterId,
        database: &DatabaseName,
    ) -> Result<Vec<HomeInDatabase>, StoreError> {
        let sql = "SELECT isolation, schema_name, is_adopted FROM home
                   WHERE cluster = $1 AND database_name = $2 AND state <> 'released'";
        let rows = query(&*self.client().await?, sql, &[&cluster.as_uuid(), &database.as_str()]).await?;
        rows.iter()
            .map(|row| {
                Ok(HomeInDatabase {
                    isolation: parsed(row, "isolation")?,
                    schema: SchemaName::parse(get(row, "schema_name")?).map_err(StoreError::internal)?,
                    is_adopted: get(row, "is_adopted")?,
                })
            })
            .collect()
    }
}

impl Tx {
    /// The adoption that a tenant came from, which nobody else decides until the end of the transaction.
    pub async fn lock_adoption(&self, tenant: TenantId) -> Result<Option<Adoption>, StoreError> {
        select(self.client()?, tenant, "FOR UPDATE").await
    }

    /// An adoption has begun.
    pub async fn insert_adoption(
        &self,
        tenant: TenantId,
        home: HomeId,
        operation: OperationId,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO adoption (tenant, home, operation) VALUES ($1, $2, $3)";
        execute(self.client()?, sql, &[&tenant.as_uuid(), &home.as_uuid(), &operation.as_uuid()]).await?;
        Ok(())
    }

    /// How it was before. Written once: what comes later is not before.
    pub async fn set_adoption_before(&self, tenant: TenantId, before: &Value) -> Result<(), StoreError> {
        let sql = "UPDATE adoption SET before = $2 WHERE tenant = $1 AND before IS NULL";
        execute(self.client()?, sql, &[&tenant.as_uuid(), before]).await?;
        Ok(())
    }

    /// It is final, or was put back. Repeatable.
    pub async fn decide_adoption(&self, tenant: TenantId, state: AdoptionState) -> Result<(), StoreError> {
        let sql = "UPDATE adoption SET state = $2, decided_at = clock_timestamp() WHERE tenant = $1 AND state = 'open'";
        execute(self.client()?, sql, &[&tenant.as_uuid(), &state.as_str()]).await?;
        Ok(())
    }
}

async fn select(client: &Connection, tenant: TenantId, lock: &str) -> Result<Option<Adoption>, StoreError> {
    let sql = format!("SELECT * FROM adoption WHERE tenant = $1 {lock}");
    query_opt(client, &sql, &[&tenant.as_uuid()]).await?.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<Adoption, StoreError> {
    Ok(Adoption {
        tenant: TenantId::new(get(row, "tenant")?),
        home: HomeId::new(get(row, "home")?),
        operation: OperationId::new(get(row, "operation")?),
        state: match get::<&str>(row, "state")? {
            "open" => AdoptionState::Open,
            "confirmed" => AdoptionState::Confirmed,
            _ => AdoptionState::Cancelled,
        },
        before: get(row, "before")?,
        created_at: time(row, "created_at")?,
        decided_at: get(row, "decided_at")?,
    })
}
