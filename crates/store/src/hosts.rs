//! The table `host`: DNS names by which tenants are reached.

use jiff::Timestamp;
use tenantry_domain::{HostName, Slug, TenantId};
use tokio_postgres::Row;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{count, execute, get, parsed, query, query_one, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;

/// A host of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// The name.
    pub host: HostName,
    /// Whose.
    pub tenant: TenantId,
    /// Given at.
    pub created_at: Timestamp,
}

impl Store {
    /// A page of a tenant's hosts, by name.
    pub async fn hosts(&self, tenant: TenantId, page: &PageRequest) -> Result<Page<HostRecord>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT * FROM host WHERE tenant = $1 AND ($2::text IS NULL OR name > $2) ORDER BY name LIMIT $3",
            &[&tenant.as_uuid(), &page.after_name(), &page.probe()],
        )
        .await?;
        let hosts = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(hosts, |record: &HostRecord| record.host.to_string()))
    }
}

impl Tx {
    /// Who has the host, if somebody does.
    pub async fn host_holder(&self, host: &HostName) -> Result<Option<(TenantId, Slug)>, StoreError> {
        let sql = "SELECT t.id, t.slug FROM host h JOIN tenant t ON t.id = h.tenant WHERE h.name = $1";
        let row = query_opt(self.client()?, sql, &[&host.as_str()]).await?;
        row.map(|row| Ok((TenantId::new(get(&row, "id")?), parsed(&row, "slug")?))).transpose()
    }

    /// How many hosts the tenant has.
    pub async fn count_hosts(&self, tenant: TenantId) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) AS hosts FROM host WHERE tenant = $1";
        count(&query_one(self.client()?, sql, &[&tenant.as_uuid()]).await?, "hosts")
    }

    /// Gives the tenant a host; routers hear of it at the commit. `Conflict` when a tenant has it already.
    pub async fn add_host(&mut self, tenant: TenantId, host: &HostName) -> Result<HostRecord, StoreError> {
        let sql = "INSERT INTO host (name, tenant) VALUES ($1, $2) RETURNING *";
        let record = read(&query_one(self.client()?, sql, &[&host.as_str(), &tenant.as_uuid()]).await?)?;
        self.touch_tenant(tenant).await?;
        Ok(record)
    }

    /// Takes a host away from the tenant; routers hear of it at the commit.
    pub async fn remove_host(&mut self, tenant: TenantId, host: &HostName) -> Result<(), StoreError> {
        let sql = "DELETE FROM host WHERE name = $1 AND tenant = $2";
        if execute(self.client()?, sql, &[&host.as_str(), &tenant.as_uuid()]).await? == 0 {
            return Err(StoreError::NotFound { what: "host", name: host.to_string() });
        }
        self.touch_tenant(tenant).await
    }

    /// The tenant's hosts are part of it: it is another version of it now.
    async fn touch_tenant(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        let sql = "UPDATE tenant SET updated_at = clock_timestamp() WHERE id = $1";
        execute(self.client()?, sql, &[&tenant.as_uuid()]).await?;
        self.touch_route(tenant).await
    }
}

fn read(row: &Row) -> Result<HostRecord, StoreError> {
    Ok(HostRecord {
        host: parsed(row, "name")?,
        tenant: TenantId::new(get(row, "tenant")?),
        created_at: time(row, "created_at")?,
    })
}

/// The names in the column `hosts`.
pub(crate) fn read_hosts(row: &Row) -> Result<Vec<HostName>, StoreError> {
    let names = get::<Vec<&str>>(row, "hosts")?;
    names.into_iter().map(str::parse).collect::<Result<_, _>>().map_err(StoreError::internal)
}
