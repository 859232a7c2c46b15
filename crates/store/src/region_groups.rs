//! The tables `region_group` and `residency`: names for several regions.

use std::collections::BTreeSet;

use tenantry_domain::{GroupRegions, Region, RegionGroup};
use tokio_postgres::Row;

use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{execute, get, parsed, query, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;

const SELECT: &str = "SELECT g.*, ARRAY (SELECT region FROM residency r WHERE r.region_group = g.name ORDER BY region)
     AS regions FROM region_group g";

impl Store {
    /// One group.
    pub async fn region_group(&self, name: &Region) -> Result<RegionGroup, StoreError> {
        select(&*self.client().await?, name).await?.ok_or_else(|| not_found(name))
    }

    /// A page of groups, by name.
    pub async fn region_groups(&self, page: &PageRequest) -> Result<Page<RegionGroup>, StoreError> {
        let sql = format!("{SELECT} WHERE $1::text IS NULL OR g.name > $1 ORDER BY g.name LIMIT $2");
        let rows = query(&*self.client().await?, &sql, &[&page.after_name(), &page.probe()]).await?;
        let groups = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(groups, |group: &RegionGroup| group.name.to_string()))
    }
}

impl Tx {
    /// One group, which nobody changes and nobody begins to place by until the end of the transaction.
    pub async fn lock_region_group(&self, name: &Region) -> Result<Option<RegionGroup>, StoreError> {
        let client = self.client()?;
        query_opt(client, "SELECT name FROM region_group WHERE name = $1 FOR UPDATE", &[&name.as_str()]).await?;
        select(client, name).await
    }

    /// Makes the group, or gives it these members in place of those it has; returns it as it is then. Fails with
    /// [`StoreError::Residency`] where a tenant lives in a region that would leave.
    pub async fn put_region_group(&self, name: &Region, regions: &GroupRegions) -> Result<RegionGroup, StoreError> {
        let client = self.client()?;
        let regions: Vec<&str> = regions.as_set().iter().map(Region::as_str).collect();
        execute(
            client,
            "INSERT INTO region_group (name) SELECT $1 WHERE NOT EXISTS (SELECT FROM region_group WHERE name = $1)",
            &[&name.as_str()],
        )
        .await?;
        execute(
            client,
            "DELETE FROM residency WHERE region_group = $1 AND region <> ALL ($2)",
            &[&name.as_str(), &regions],
        )
        .await?;
        execute(
            client,
            "INSERT INTO residency (residence, region, region_group) SELECT $1, unnest($2::text[]), $1
             ON CONFLICT DO NOTHING",
            &[&name.as_str(), &regions],
        )
        .await?;
        execute(client, "UPDATE region_group SET updated_at = clock_timestamp() WHERE name = $1", &[&name.as_str()])
            .await?;
        select(client, name).await?.ok_or_else(|| not_found(name))
    }

    /// Forgets the group.
    pub async fn delete_region_group(&self, name: &Region) -> Result<(), StoreError> {
        let deleted = execute(self.client()?, "DELETE FROM region_group WHERE name = $1", &[&name.as_str()]).await?;
        if deleted == 1 { Ok(()) } else { Err(not_found(name)) }
    }

    /// How many tenants that are not deleted call their region so.
    pub async fn count_tenants_of_region(&self, residence: &Region) -> Result<i64, StoreError> {
        let sql = "SELECT count(*) AS tenants FROM tenant WHERE region = $1 AND status <> 'deleted'";
        get(&crate::row::query_one(self.client()?, sql, &[&residence.as_str()]).await?, "tenants")
    }

    /// Those of the names that are groups.
    pub async fn groups_among(&self, names: &[&str]) -> Result<Vec<Region>, StoreError> {
        let sql = "SELECT name FROM region_group WHERE name = ANY ($1) ORDER BY name";
        query(self.client()?, sql, &[&names]).await?.iter().map(|row| parsed(row, "name")).collect()
    }
}

async fn select(client: &Connection, name: &Region) -> Result<Option<RegionGroup>, StoreError> {
    let row = query_opt(client, &format!("{SELECT} WHERE g.name = $1"), &[&name.as_str()]).await?;
    row.as_ref().map(read).transpose()
}

fn not_found(name: &Region) -> StoreError {
    StoreError::NotFound { what: "region group", name: name.to_string() }
}

fn read(row: &Row) -> Result<RegionGroup, StoreError> {
    let regions: Vec<&str> = get(row, "regions")?;
    let regions: BTreeSet<Region> =
        regions.into_iter().map(|region| region.parse().map_err(StoreError::internal)).collect::<Result<_, _>>()?;
    Ok(RegionGroup {
        name: parsed(row, "name")?,
        regions: GroupRegions::new(regions).map_err(StoreError::internal)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
