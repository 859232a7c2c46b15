//! What the planner looks at: clusters with room, regions that will do, and who lives where.

use tenantry_domain::{Cluster, ClusterId, Region, Slug, TenantId};

use crate::clusters::{COLUMNS, FROM, read};
use crate::error::StoreError;
use crate::row::{execute, get, parsed, query, query_one};
use crate::store::Store;
use crate::tenants::TenantRef;
use crate::transaction::Tx;

/// A cluster as the placement planner sees it.
#[derive(Debug, Clone)]
pub struct PlacementCandidate {
    /// The cluster.
    pub cluster: Cluster,
    /// Of its data directory.
    pub system_identifier: String,
    /// How many more schemas the shared databases that are recorded have room for.
    pub open_schemas: u32,
    /// How many tenants there bear the label and value that were asked about.
    pub alike: u32,
}

/// A tenant that lives where it should not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Who.
    pub slug: Slug,
    /// In which region.
    pub region: Region,
}

/// How many more schemas the shared databases of cluster `c` have room for.
const OPEN_SCHEMAS: &str = "(SELECT coalesce(sum((c.limits ->> 'schemas_per_database')::bigint - s.homes), 0)::bigint
    FROM shared_database s WHERE s.cluster = c.id AND s.homes < (c.limits ->> 'schemas_per_database')::bigint)";

impl Store {
    /// The tenants that live on a cluster, oldest first, `most` at the most.
    pub async fn residents(&self, cluster: ClusterId, most: u32) -> Result<Vec<TenantId>, StoreError> {
        let sql = "SELECT l.tenant FROM placement l JOIN home h ON h.id = l.home
                    WHERE l.until IS NULL AND h.cluster = $1 ORDER BY l.tenant LIMIT $2";
        let rows = query(&*self.client().await?, sql, &[&cluster.as_uuid(), &i64::from(most)]).await?;
        rows.iter().map(|row| Ok(TenantId::new(get(row, "tenant")?))).collect()
    }
}

impl Tx {
    /// Waits for others who place tenants that bear this value of the label, and has them wait, until the end of the
    /// transaction: two that must keep apart would not see each other otherwise.
    pub async fn lock_alike(&self, label: &str, value: &str) -> Result<(), StoreError> {
        let lock = "SELECT pg_advisory_xact_lock(hashtext('tenantry.apart'), hashtext($1 || '=' || $2))";
        query_one(self.client()?, lock, &[&label, &value]).await?;
        Ok(())
    }

    /// Every cluster, for the planner; with a label and its value, also how many tenants of each cluster bear it.
    pub async fn placement_candidates(
        &self,
        alike: Option<(&str, &str)>,
    ) -> Result<Vec<PlacementCandidate>, StoreError> {
        let client = self.client()?;
        let label = alike.map(|(label, value)| serde_json::json!({ label: value }));
        let sql = format!(
            "WITH alike AS MATERIALIZED (
                 SELECT h.cluster, count(*) AS tenants FROM tenant t JOIN home h ON h.tenant = t.id
                  WHERE t.labels @> $1::jsonb AND h.state <> 'released' GROUP BY h.cluster)
             SELECT {COLUMNS}, {OPEN_SCHEMAS} AS open_schemas,
                    coalesce(alike.tenants, 0) AS alike
             FROM {FROM} LEFT JOIN alike ON alike.cluster = c.id WHERE c.retired_at IS NULL ORDER BY c.name"
        );
        // Without a label, who lives where is not looked up at all.
        let plain = format!(
            "SELECT {COLUMNS}, {OPEN_SCHEMAS} AS open_schemas, 0::bigint AS alike
             FROM {FROM} WHERE c.retired_at IS NULL ORDER BY c.name"
        );
        let rows = match label {
            Some(label) => query(client, &sql, &[&label]).await?,
            None => query(client, &plain, &[]).await?,
        };
        rows.iter()
            .map(|row| {
                Ok(PlacementCandidate {
                    cluster: read(row)?,
                    system_identifier: get(row, "system_identifier")?,
                    open_schemas: crate::row::count(row, "open_schemas")?,
                    alike: crate::row::count(row, "alike")?,
                })
            })
            .collect()
    }

    /// The regions that have clusters.
    pub async fn regions(&self) -> Result<Vec<Region>, StoreError> {
        let sql = "SELECT DISTINCT region FROM cluster WHERE retired_at IS NULL ORDER BY region";
        query(self.client()?, sql, &[]).await?.iter().map(|row| parsed(row, "region")).collect()
    }

    /// The regions that will do for a tenant whose region is called so: the members of a group, else the region itself.
    /// A group that is named does not change until the end of the transaction.
    pub async fn allowed_regions(&self, residence: &Region) -> Result<Vec<Region>, StoreError> {
        let sql = "SELECT r.region FROM residency r JOIN region_group g ON g.name = r.region_group
                    WHERE r.residence = $1 ORDER BY r.region FOR KEY SHARE";
        let members: Vec<Region> = query(self.client()?, sql, &[&residence.as_str()])
            .await?
            .iter()
            .map(|row| parsed(row, "region"))
            .collect::<Result<_, _>>()?;
        Ok(if members.is_empty() { vec![residence.clone()] } else { members })
    }

    /// The ceiling of the tenant in a home, as its cluster counts it; for a home that was made before it had a tenant.
    pub async fn set_home_connections(
        &self,
        home: tenantry_domain::HomeId,
        connections: u32,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE home SET connections = $2 WHERE id = $1 AND connections <> $2";
        execute(self.client()?, sql, &[&home.as_uuid(), &i64::from(connections)]).await?;
        Ok(())
    }

    /// The tenants whose region is called `residence` and whose home, there or in the making, is outside `regions`:
    /// `most` of them.
    pub async fn residents_outside(
        &self,
        residence: &Region,
        regions: &[&str],
        most: u32,
    ) -> Result<Vec<Resident>, StoreError> {
        let sql = "SELECT DISTINCT t.slug, h.region FROM home h JOIN tenant t ON t.id = h.tenant
                    WHERE h.residence = $1 AND h.region <> ALL ($2) ORDER BY t.slug LIMIT $3";
        let rows = query(self.client()?, sql, &[&residence.as_str(), &regions, &i64::from(most)]).await?;
        rows.iter().map(|row| Ok(Resident { slug: parsed(row, "slug")?, region: parsed(row, "region")? })).collect()
    }

    /// The cluster on which a tenant lives, if it does.
    pub async fn cluster_of_tenant(&self, tenant: TenantId) -> Result<Option<ClusterId>, StoreError> {
        let tenant = self.tenant(&TenantRef::Id(tenant)).await?;
        Ok(tenant.state.placement().map(|placement| placement.home.cluster))
    }
}
