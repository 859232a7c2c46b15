//! The table `plan`.

use deadpool_postgres::ClientWrapper;
use serde_json::Value;
use tenantry_domain::{Plan, PlanName};
use tokio_postgres::Row;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{get, json, parsed, query, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;

impl Store {
    /// One plan.
    pub async fn plan(&self, name: &PlanName) -> Result<Plan, StoreError> {
        plan(&*self.client().await?, name).await
    }

    /// A page of plans, by name.
    pub async fn plans(&self, page: &PageRequest) -> Result<Page<Plan>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT * FROM plan WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2",
            &[&page.after_name(), &page.probe()],
        )
        .await?;
        let plans = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(plans, |plan: &Plan| plan.name.to_string()))
    }
}

impl Tx {
    /// One plan.
    pub async fn plan(&self, name: &PlanName) -> Result<Plan, StoreError> {
        plan(self.client()?, name).await
    }
}

async fn plan(client: &ClientWrapper, name: &PlanName) -> Result<Plan, StoreError> {
    let row = query_opt(client, "SELECT * FROM plan WHERE name = $1", &[&name.as_str()]).await?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::NotFound { what: "plan", name: name.to_string() })
}

fn read(row: &Row) -> Result<Plan, StoreError> {
    Ok(Plan {
        name: parsed(row, "name")?,
        isolation: parsed(row, "isolation")?,
        quotas: serde_json::from_value(get::<Value>(row, "quotas")?).map_err(StoreError::internal)?,
        features: get(row, "features")?,
        limits: json(row, "limits")?,
        price: json(row, "price")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
