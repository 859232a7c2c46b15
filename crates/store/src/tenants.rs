//! The table `tenant`, with the placement that a tenant lives in.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tenantry_domain::{
    Affinity, ClusterId, DisplayName, Generation, Isolation, Labels, OperationId, Overrides, PlanName, Region,
    SchemaVersion, Slug, Tenant, TenantId, TenantStatus,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::hosts::read_hosts;
use crate::row::{execute, get, json, parsed, query, query_one, query_opt, time, to_json};
use crate::store::Store;
use crate::tenant_states::read_state;
use crate::transaction::Tx;

/// A tenant as somebody names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantRef {
    /// By id.
    Id(TenantId),
    /// By slug.
    Slug(Slug),
}

impl fmt::Display for TenantRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(formatter),
            Self::Slug(slug) => slug.fmt(formatter),
        }
    }
}

impl TenantRef {
    fn id(&self) -> Option<Uuid> {
        match self {
            Self::Id(id) => Some(id.as_uuid()),
            Self::Slug(_) => None,
        }
    }

    fn slug(&self) -> Option<&str> {
        match self {
            Self::Id(_) => None,
            Self::Slug(slug) => Some(slug.as_str()),
        }
    }

    pub(crate) fn not_found(&self) -> StoreError {
        StoreError::NotFound { what: "tenant", name: self.to_string() }
    }
}

/// A tenant to be inserted as `provisioning`.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    pub slug: Slug,
    /// Its name for people.
    pub name: DisplayName,
    /// Its plan.
    pub plan: PlanName,
    /// Its region.
    pub region: Region,
    /// What it has to itself.
    pub isolation: Isolation,
    /// The tenant above it.
    pub parent: Option<TenantId>,
    /// Marks for selecting.
    pub labels: Labels,
    /// Its own limits, quotas and features.
    pub overrides: Overrides,
    /// Whom it should live beside, and whom not.
    pub affinity: Affinity,
    /// End of its trial.
    pub trial_ends_at: Option<Timestamp>,
    /// The operation that provisions it.
    pub operation: OperationId,
}

/// What changes about a tenant; absent means "stays".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// A new name.
    pub name: Option<DisplayName>,
    /// Another plan.
    pub plan: Option<PlanName>,
    /// All labels anew.
    pub labels: Option<Labels>,
    /// All overrides anew.
    pub overrides: Option<Overrides>,
    /// Another tenant above it, or none.
    pub parent: Option<Option<TenantId>>,
    /// Another end of its trial, or none.
    pub trial_ends_at: Option<Option<Timestamp>>,
    /// Whom it should live beside, and whom not, anew.
    pub affinity: Option<Affinity>,
}

/// Which tenants are wanted; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantFilter {
    /// One of these; none given means all but tombstones.
    pub status: Vec<TenantStatus>,
    /// Of this plan.
    pub plan: Option<PlanName>,
    /// In this region.
    pub region: Option<Region>,
    /// Of this isolation.
    pub isolation: Option<Isolation>,
    /// Living on this cluster.
    pub cluster: Option<ClusterId>,
    /// Directly below this tenant.
    pub parent: Option<TenantId>,
    /// Anywhere below this tenant.
    pub below: Option<TenantId>,
    /// Bearing these labels; without a value, any value will do.
    pub labels: Vec<(String, Option<String>)>,
    /// Whose slug begins so.
    pub slug_prefix: Option<String>,
    /// Whose schema is older than this.
    pub schema_version_below: Option<SchemaVersion>,
}

const COLUMNS: &str = "t.*, p.since AS placement_since, h.id AS home_id, h.cluster AS home_cluster, \
     h.isolation AS home_isolation, h.database_name, h.schema_name, \
     ARRAY(SELECT name FROM host WHERE host.tenant = t.id ORDER BY name) AS hosts";
/// Where the tenants live that something else tells.
const JOINED: &str = "t LEFT JOIN placement p ON p.tenant = t.id AND p.until IS NULL LEFT JOIN home h ON h.id = p.home";

impl Store {
    /// One tenant; tombstones are found too.
    pub async fn tenant(&self, tenant: &TenantRef) -> Result<Tenant, StoreError> {
        select(&*self.client().await?, tenant).await
    }

    /// A page of tenants, oldest first.
    pub async fn tenants(&self, filter: &TenantFilter, page: &PageRequest) -> Result<Page<Tenant>, StoreError> {
        let mut conditions = conditions(filter);
        if let Some(after) = page.after_id()? {
            conditions.and("id > ?", after, Type::UUID);
        }
        // The page is cut before anything is joined to it: a join over all tenants would read every placement that comes
        // before the page.
        let rows = conditions
            .query_within(&*self.client().await?, "SELECT * FROM tenant", "ORDER BY id", page.probe(), |page| {
                format!("SELECT {COLUMNS} FROM ({page}) {JOINED} ORDER BY t.id")
            })
            .await?;
        let tenants = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(tenants, |tenant: &Tenant| tenant.id.to_string()))
    }

    /// How many tenants a list has from the page on.
    pub async fn count_tenants(&self, filter: &TenantFilter, page: &PageRequest) -> Result<u64, StoreError> {
        let mut conditions = conditions(filter);
        if let Some(after) = page.after_id()? {
            conditions.and("id > ?", after, Type::UUID);
        }
        let rows = conditions.query(&*self.client().await?, "SELECT count(*) AS number FROM tenant", "", 1).await?;
        rows.first().map_or(Ok(0), |row| Ok(get::<i64>(row, "number")?.unsigned_abs()))
    }

    /// Whether the tenant lives in a home now.
    pub async fn is_live(&self, tenant: TenantId) -> Result<bool, StoreError> {
        let sql = "SELECT status IN ('active', 'suspended') AS live FROM tenant WHERE id = $1";
        let row = query_opt(&*self.client().await?, sql, &[&tenant.as_uuid()]).await?;
        row.map_or(Ok(false), |row| get(&row, "live"))
    }

    /// How many tenants there are of each status.
    pub async fn count_tenants_by_status(&self) -> Result<Vec<(TenantStatus, i64)>, StoreError> {
        let sql = "SELECT status, count(*) AS tenants FROM tenant GROUP BY status ORDER BY status";
        let rows = query(&*self.client().await?, sql, &[]).await?;
        rows.iter().map(|row| Ok((parsed(row, "status")?, get(row, "tenants")?))).collect()
    }
}

impl Tx {
    /// One tenant; tombstones are found too.
    pub async fn tenant(&self, tenant: &TenantRef) -> Result<Tenant, StoreError> {
        select(self.client()?, tenant).await
    }

    /// One tenant, which nobody else changes until the end of the transaction.
    pub async fn lock_tenant(&self, tenant: &TenantRef) -> Result<Tenant, StoreError> {
        let lock = "SELECT id FROM tenant WHERE id = $1 OR slug = $2 FOR NO KEY UPDATE";
        query_opt(self.client()?, lock, &[&tenant.id(), &tenant.slug()]).await?.ok_or_else(|| tenant.not_found())?;
        self.tenant(tenant).await
    }

    /// A new tenant, `provisioning`, as it is then.
    pub async fn insert_tenant(&self, new: &NewTenant) -> Result<Tenant, StoreError> {
        let row = query_opt(
            self.client()?,
            "INSERT INTO tenant (id, slug, name, plan, region, isolation, parent, labels, overrides, trial_ends_at,
                                 status, operation, affinity)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'provisioning', $11, $12)
             ON CONFLICT (slug) DO NOTHING
             RETURNING *, '{}'::text[] AS hosts",
            &[
                &new.id.as_uuid(),
                &new.slug.as_str(),
                &new.name.as_str(),
                &new.plan.as_str(),
                &new.region.as_str(),
                &new.isolation.as_str(),
                &new.parent.map(TenantId::as_uuid),
                &to_json(&new.labels)?,
                &to_json(&new.overrides)?,
                &new.trial_ends_at,
                &new.operation.as_uuid(),
                &to_json(&new.affinity)?,
            ],
        )
        .await?;
        row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::SlugTaken { slug: new.slug.to_string() })
    }

    /// Changes what the change names; returns the tenant as it is then.
    pub async fn update_tenant(&self, id: TenantId, change: &TenantChange) -> Result<Tenant, StoreError> {
        execute(
            self.client()?,
            "UPDATE tenant SET name = coalesce($2, name), plan = coalesce($3, plan), labels = coalesce($4, labels),
                    overrides = coalesce($5, overrides), parent = CASE WHEN $6 THEN $7 ELSE parent END,
                    trial_ends_at = CASE WHEN $8 THEN $9 ELSE trial_ends_at END, affinity = coalesce($10, affinity),
                    updated_at = clock_timestamp()
             WHERE id = $1",
            &[
                &id.as_uuid(),
                &change.name.as_ref().map(DisplayName::as_str),
                &change.plan.as_ref().map(PlanName::as_str),
                &change.labels.as_ref().map(to_json).transpose()?,
                &change.overrides.as_ref().map(to_json).transpose()?,
                &change.parent.is_some(),
                &change.parent.flatten().map(TenantId::as_uuid),
                &change.trial_ends_at.is_some(),
                &change.trial_ends_at.flatten(),
                &change.affinity.as_ref().map(to_json).transpose()?,
            ],
        )
        .await?;
        self.tenant(&TenantRef::Id(id)).await
    }

    /// Forgets a deleted tenant and its finished work; its slug is free again. The audit log stays.
    pub async fn purge_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        let client = self.client()?;
        let live = "SELECT 1 FROM tenant WHERE id = $1 AND status <> 'deleted'
                    UNION ALL SELECT 1 FROM tenant WHERE parent = $1
                    UNION ALL SELECT 1 FROM resource r JOIN operation o ON o.id = r.operation
                               WHERE o.tenant = $1 AND r.state <> 'dropped'
                    UNION ALL SELECT 1 FROM home WHERE tenant = $1 AND state <> 'released' LIMIT 1";
        if query_opt(client, live, &[&id.as_uuid()]).await?.is_some() {
            return Err(StoreError::Conflict {
                reason: "the tenant is not deleted, or something of it or below it is still recorded".to_owned(),
            });
        }
        // The one exception of the events' append-only trigger, for this tenant and this transaction.
        query_one(client, "SELECT set_config('tenantry.purge', $1, true)", &[&id.to_string()]).await?;
        for sql in [
            "DELETE FROM resource WHERE operation IN (SELECT id FROM operation WHERE tenant = $1)
                OR home IN (SELECT id FROM home WHERE tenant = $1)",
            "DELETE FROM operation_event WHERE operation IN (SELECT id FROM operation WHERE tenant = $1)",
            "DELETE FROM operation WHERE tenant = $1",
            "DELETE FROM placement WHERE tenant = $1",
            "DELETE FROM host WHERE tenant = $1",
            "UPDATE route SET home = NULL WHERE tenant = $1",
            "DELETE FROM rollout_target WHERE tenant = $1",
            "DELETE FROM idempotency_key WHERE token IN (SELECT id FROM token WHERE tenant = $1)",
            "DELETE FROM token WHERE tenant = $1",
            "DELETE FROM home WHERE tenant = $1",
            "DELETE FROM tenant WHERE id = $1",
        ] {
            execute(client, sql, &[&id.as_uuid()]).await?;
        }
        Ok(())
    }

    /// Whether there are tenants below it that are not deleted.
    pub async fn has_live_children(&self, id: TenantId) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM tenant WHERE parent = $1 AND status <> 'deleted') AS live";
        get(&query_one(self.client()?, sql, &[&id.as_uuid()]).await?, "live")
    }
}

pub(crate) fn found(changed: u64, id: TenantId) -> Result<(), StoreError> {
    if changed == 1 { Ok(()) } else { Err(TenantRef::Id(id).not_found()) }
}

pub(crate) async fn select(client: &Connection, tenant: &TenantRef) -> Result<Tenant, StoreError> {
    let by = |column: &str| format!("SELECT {COLUMNS} FROM tenant {JOINED} WHERE t.{column} = $1");
    let row = match tenant {
        TenantRef::Id(id) => query_opt(client, &by("id"), &[&id.as_uuid()]).await?,
        TenantRef::Slug(slug) => query_opt(client, &by("slug"), &[&slug.as_str()]).await?,
    };
    row.as_ref().map(read).transpose()?.ok_or_else(|| tenant.not_found())
}

pub(crate) fn read(row: &Row) -> Result<Tenant, StoreError> {
    let id = TenantId::new(get(row, "id")?);
    Ok(Tenant {
        id,
        slug: parsed(row, "slug")?,
        name: parsed(row, "name")?,
        plan: parsed(row, "plan")?,
        region: parsed(row, "region")?,
        isolation: parsed(row, "isolation")?,
        parent: get::<Option<Uuid>>(row, "parent")?.map(TenantId::new),
        labels: json(row, "labels")?,
        hosts: read_hosts(row)?,
        overrides: json(row, "overrides")?,
        affinity: json(row, "affinity")?,
        schema_version: SchemaVersion(get(row, "schema_version")?),
        generation: Generation(get(row, "generation")?),
        state: read_state(row, id)?,
        trial_ends_at: get(row, "trial_ends_at")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// What holds for the tenants that are wanted. Clauses are there only when they are asked for, and a single status is
/// compared with `=`: so that the indexes that are in the order of a page can give it.
fn conditions(filter: &TenantFilter) -> Filter {
    let mut conditions = Filter::default();
    match filter.status.as_slice() {
        [] => conditions.and_always("status <> 'deleted'"),
        [only] => conditions.and("status = ?", only.as_str(), Type::TEXT),
        several => {
            let several: Vec<&'static str> = several.iter().map(|status| status.as_str()).collect();
            conditions.and("status = ANY (?)", several, Type::TEXT_ARRAY);
        }
    }
    if let Some(plan) = &filter.plan {
        conditions.and("plan = ?", plan.to_string(), Type::TEXT);
    }
    if let Some(region) = &filter.region {
        conditions.and("region = ?", region.to_string(), Type::TEXT);
    }
    if let Some(isolation) = filter.isolation {
        conditions.and("isolation = ?", isolation.as_str(), Type::TEXT);
    }
    if let Some(cluster) = filter.cluster {
        let lives_there = "EXISTS (SELECT FROM placement p JOIN home h ON h.id = p.home
                                    WHERE p.tenant = tenant.id AND p.until IS NULL AND h.cluster = ?)";
        conditions.and(lives_there, cluster.as_uuid(), Type::UUID);
    }
    if let Some(parent) = filter.parent {
        conditions.and("parent = ?", parent.as_uuid(), Type::UUID);
    }
    if let Some(below) = filter.below {
        conditions.and("id IN (SELECT tenants_below(?))", below.as_uuid(), Type::UUID);
    }
    let (with_value, with_key): (Vec<_>, Vec<_>) = filter.labels.iter().partition(|(_, value)| value.is_some());
    if !with_value.is_empty() {
        let values: Map<String, Value> =
            with_value.into_iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
        conditions.and("labels @> ?", Value::Object(values), Type::JSONB);
    }
    if !with_key.is_empty() {
        let keys: Vec<String> = with_key.into_iter().map(|(key, _)| key.clone()).collect();
        conditions.and("labels ??& ?", keys, Type::TEXT_ARRAY);
    }
    if let Some(prefix) = &filter.slug_prefix {
        conditions.and("slug LIKE ?", format!("{}%", like_literal(prefix)), Type::TEXT);
    }
    if let Some(version) = filter.schema_version_below {
        conditions.and("schema_version < ?", version.0, Type::INT8);
    }
    conditions
}

/// The text as a pattern that matches only itself.
fn like_literal(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
