//! The table `plan`.

use serde_json::Value;
use tenantry_domain::{Plan, PlanName, TenantId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{execute, get, json, parsed, query, query_one, query_opt, time, to_json};
use crate::store::Store;
use crate::tenants::TenantRef;
use crate::transaction::Tx;

/// The column that another table holds.
const SEED: &str = "(SELECT seed FROM plan_seed WHERE plan_seed.plan = plan.name) AS seed";

impl Store {
    /// One plan.
    pub async fn plan(&self, name: &PlanName) -> Result<Plan, StoreError> {
        plan(&*self.client().await?, name).await
    }

    /// A page of plans, by name.
    pub async fn plans(&self, page: &PageRequest) -> Result<Page<Plan>, StoreError> {
        let rows = query(
            &*self.client().await?,
            &format!("SELECT *, {SEED} FROM plan WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2"),
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

    /// One plan, which nobody else changes and no tenant takes up until the end of the transaction.
    pub async fn lock_plan(&self, name: &PlanName) -> Result<Plan, StoreError> {
        select(self.client()?, name, "FOR UPDATE").await
    }

    /// A new plan; its times are the catalog's.
    pub async fn insert_plan(&self, new: &Plan) -> Result<Plan, StoreError> {
        let row = query_opt(
            self.client()?,
            &format!(
                "INSERT INTO plan (name, isolation, quotas, features, limits, price, affinity)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (name) DO NOTHING RETURNING *, {SEED}"
            ),
            &[
                &new.name.as_str(),
                &new.isolation.as_str(),
                &to_json(&new.quotas)?,
                &new.features,
                &to_json(&new.limits)?,
                &to_json(&new.price)?,
                &to_json(&new.affinity)?,
            ],
        )
        .await?;
        let taken = || StoreError::NameTaken { what: "plan", name: new.name.to_string() };
        let plan = row.as_ref().map(read).transpose()?.ok_or_else(taken)?;
        self.set_plan_seed(&new.name, new.seed.as_ref()).await?;
        Ok(Plan { seed: new.seed.clone(), ..plan })
    }

    /// Writes all values of a plan but its name. Where `limits_changed`, its tenants are to be told from the first on.
    pub async fn update_plan(&self, plan: &Plan, limits_changed: bool) -> Result<Plan, StoreError> {
        self.set_plan_seed(&plan.name, plan.seed.as_ref()).await?;
        let row = query_one(
            self.client()?,
            &format!(
                "UPDATE plan SET isolation = $2, quotas = $3, features = $4, limits = $5, price = $6, affinity = $8,
                    told_upto = CASE WHEN $7 THEN '00000000-0000-0000-0000-000000000000' ELSE told_upto END,
                    updated_at = clock_timestamp()
              WHERE name = $1 RETURNING *, {SEED}"
            ),
            &[
                &plan.name.as_str(),
                &plan.isolation.as_str(),
                &to_json(&plan.quotas)?,
                &plan.features,
                &to_json(&plan.limits)?,
                &to_json(&plan.price)?,
                &limits_changed,
                &to_json(&plan.affinity)?,
            ],
        )
        .await?;
        read(&row)
    }

    /// Forgets a plan that no tenant has.
    pub async fn delete_plan(&self, name: &PlanName) -> Result<(), StoreError> {
        execute(self.client()?, "DELETE FROM plan WHERE name = $1", &[&name.as_str()]).await?;
        Ok(())
    }

    /// How many tenants have the plan, and how many of them are deleted.
    pub async fn count_tenants_of_plan(&self, name: &PlanName) -> Result<(i64, i64), StoreError> {
        let sql = "SELECT count(*) AS tenants, count(*) FILTER (WHERE status = 'deleted') AS deleted
                     FROM tenant WHERE plan = $1";
        let row = query_one(self.client()?, sql, &[&name.as_str()]).await?;
        Ok((get(&row, "tenants")?, get(&row, "deleted")?))
    }

    /// A plan whose tenants have not all been told that its limits changed; locked, so that one replica tells them.
    pub async fn untold_plan(&self) -> Result<Option<PlanName>, StoreError> {
        let sql =
            "SELECT name FROM plan WHERE told_upto IS NOT NULL ORDER BY name LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED";
        query_opt(self.client()?, sql, &[]).await?.map(|row| parsed(&row, "name")).transpose()
    }

    /// Tells the next tenants of a plan that its limits changed: their routes are touched, the roles and the pooling of
    /// their homes are due. Returns how many; none means that all have been told.
    pub async fn tell_tenants_of_plan(&mut self, name: &PlanName, most: i64) -> Result<usize, StoreError> {
        let client = self.client()?;
        let rows = query(
            client,
            "SELECT t.id FROM tenant t JOIN plan p ON p.name = t.plan
              WHERE p.name = $1 AND t.id > p.told_upto AND t.status <> 'deleted' ORDER BY t.id LIMIT $2",
            &[&name.as_str(), &most],
        )
        .await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        let sql = "UPDATE plan SET told_upto = $2 WHERE name = $1";
        execute(client, sql, &[&name.as_str(), &ids.last()]).await?;
        let sql = "UPDATE home SET roles_due = true, pooling_due = shared_database IS NOT NULL FROM placement p
                    WHERE p.home = home.id AND p.until IS NULL AND p.tenant = ANY ($1)";
        execute(client, sql, &[&ids]).await?;
        for id in &ids {
            self.touch_route(TenantId::new(*id)).await?;
        }
        Ok(ids.len())
    }
}

async fn plan(client: &Connection, name: &PlanName) -> Result<Plan, StoreError> {
    select(client, name, "").await
}

async fn select(client: &Connection, name: &PlanName, lock: &str) -> Result<Plan, StoreError> {
    let row =
        query_opt(client, &format!("SELECT *, {SEED} FROM plan WHERE name = $1 {lock}"), &[&name.as_str()]).await?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::NotFound { what: "plan", name: name.to_string() })
}

/// The plan of a tenant.
pub(crate) async fn plan_of(client: &Connection, tenant: TenantId) -> Result<Plan, StoreError> {
    let sql = format!("SELECT *, {SEED} FROM plan WHERE name = (SELECT plan FROM tenant WHERE id = $1)");
    let row = query_opt(client, &sql, &[&tenant.as_uuid()]).await?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| TenantRef::Id(tenant).not_found())
}

fn read(row: &Row) -> Result<Plan, StoreError> {
    Ok(Plan {
        name: parsed(row, "name")?,
        isolation: parsed(row, "isolation")?,
        quotas: serde_json::from_value(get::<Value>(row, "quotas")?).map_err(StoreError::internal)?,
        features: get(row, "features")?,
        limits: json(row, "limits")?,
        price: json(row, "price")?,
        seed: get::<Option<&str>>(row, "seed")?.map(str::parse).transpose().map_err(StoreError::internal)?,
        affinity: json(row, "affinity")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
