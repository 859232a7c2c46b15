//! The table `seed`.

use jiff::Timestamp;
use tenantry_domain::{PlanName, SeedId, SeedName, SeedRef};
use tokio_postgres::Row;

use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{execute, get, parsed, query, query_one, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;

/// A registered seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedRecord {
    /// Its digest.
    pub id: SeedId,
    /// Its name, which later seeds may bear too.
    pub name: SeedName,
    /// Its text.
    pub sql: String,
    /// Registered at.
    pub created_at: Timestamp,
    /// Since when no new tenant gets it.
    pub retired_at: Option<Timestamp>,
}

impl Tx {
    /// Registers a seed, unless it is there already; says whether it is new. One that was retired is taken up again.
    pub async fn insert_seed(&self, id: &SeedId, name: &SeedName, sql: &str) -> Result<bool, StoreError> {
        let changed = execute(
            self.client()?,
            "INSERT INTO seed AS known (id, name, sql) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET retired_at = NULL WHERE known.retired_at IS NOT NULL",
            &[&id.as_str(), &name.as_str(), &sql],
        )
        .await?;
        Ok(changed > 0)
    }

    /// One seed; by name, the newest that is not retired.
    pub async fn seed(&self, seed: &SeedRef) -> Result<SeedRecord, StoreError> {
        select(self.client()?, seed).await
    }

    /// Takes a seed from new tenants.
    pub async fn retire_seed(&self, id: &SeedId) -> Result<(), StoreError> {
        let sql = "UPDATE seed SET retired_at = coalesce(retired_at, now()) WHERE id = $1";
        execute(self.client()?, sql, &[&id.as_str()]).await?;
        Ok(())
    }

    /// A plan that gives its tenants a seed of this name, if there is one, where no other seed bears it. No plan begins
    /// or ends to do so until the transaction ends.
    pub async fn plan_that_needs_seed(&self, id: &SeedId, name: &SeedName) -> Result<Option<PlanName>, StoreError> {
        let client = self.client()?;
        query_one(client, "SELECT pg_advisory_xact_lock(hashtextextended('tenantry.plan_seed', 0))", &[]).await?;
        let sql = "SELECT plan FROM plan_seed WHERE seed = $2
                      AND NOT EXISTS (SELECT FROM seed WHERE name = $2 AND id <> $1 AND retired_at IS NULL)
                    ORDER BY plan LIMIT 1";
        let row = query_opt(client, sql, &[&id.as_str(), &name.as_str()]).await?;
        row.map(|row| parsed(&row, "plan")).transpose()
    }

    /// Gives tenants of a plan a seed of this name, or none.
    pub async fn set_plan_seed(&self, plan: &PlanName, seed: Option<&SeedName>) -> Result<(), StoreError> {
        let client = self.client()?;
        query_one(client, "SELECT pg_advisory_xact_lock(hashtextextended('tenantry.plan_seed', 0))", &[]).await?;
        execute(client, "DELETE FROM plan_seed WHERE plan = $1", &[&plan.as_str()]).await?;
        if let Some(seed) = seed {
            let sql = "INSERT INTO plan_seed (plan, seed) VALUES ($1, $2)";
            execute(client, sql, &[&plan.as_str(), &seed.as_str()]).await?;
        }
        Ok(())
    }
}

impl Store {
    /// One seed; by name, the newest that is not retired.
    pub async fn seed(&self, seed: &SeedRef) -> Result<SeedRecord, StoreError> {
        select(&*self.client().await?, seed).await
    }

    /// A page of seeds, newest first, retired ones included.
    pub async fn seeds(&self, page: &PageRequest) -> Result<Page<SeedRecord>, StoreError> {
        let sql = "SELECT * FROM seed WHERE $1::bigint IS NULL OR number < $1 ORDER BY number DESC LIMIT $2";
        let rows = query(&*self.client().await?, sql, &[&page.after_number()?, &page.probe()]).await?;
        let seeds =
            rows.iter().map(|row| Ok((get::<i64>(row, "number")?, read(row)?))).collect::<Result<_, StoreError>>()?;
        Ok(page.page(seeds, |(number, _): &(i64, _)| number.to_string()).map(|(_, seed)| seed))
    }
}

async fn select(client: &Connection, seed: &SeedRef) -> Result<SeedRecord, StoreError> {
    let (sql, key) = match seed {
        SeedRef::Id(id) => ("SELECT * FROM seed WHERE id = $1", id.as_str()),
        SeedRef::Name(name) => {
            ("SELECT * FROM seed WHERE name = $1 AND retired_at IS NULL ORDER BY number DESC LIMIT 1", name.as_str())
        }
    };
    let row = query_opt(client, sql, &[&key]).await?;
    row.as_ref().map_or_else(|| Err(StoreError::NotFound { what: "seed", name: seed.to_string() }), read)
}

fn read(row: &Row) -> Result<SeedRecord, StoreError> {
    Ok(SeedRecord {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        sql: get(row, "sql")?,
        created_at: time(row, "created_at")?,
        retired_at: get(row, "retired_at")?,
    })
}
