//! The table `drift`: what the last look at each tenant's schema found.

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{
    ClusterId, DriftState, EventKind, HomeId, MigrationSetId, SchemaVersion, Slug, TenantId, TenantStatus,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::events::NewEvent;
use crate::filter::Filter;
use crate::row::{count, execute, get, parsed, query, query_opt};
use crate::store::Store;

/// A tenant that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftSubject {
    /// Who.
    pub tenant: TenantId,
    /// The home that it lives in.
    pub home: HomeId,
    /// The cluster of that home.
    pub cluster: ClusterId,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftFinding {
    /// The verdict.
    pub state: DriftState,
    /// The version of the home's own history.
    pub version: SchemaVersion,
    /// Of its objects.
    pub fingerprint: String,
    /// Why it is in drift, if it is: a sentence.
    pub reason: Option<String>,
    /// Objects that should be there and are not.
    pub missing: u32,
    /// Objects that are there and should not be.
    pub unexpected: u32,
    /// Objects that are otherwise than they should be.
    pub changed: u32,
    /// The first of them: an array.
    pub differences: Value,
}

/// A tenant and what the last look found.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftRecord {
    /// Who.
    pub tenant: TenantId,
    /// Its slug.
    pub slug: Slug,
    /// Its status.
    pub status: TenantStatus,
    /// The home that it lives in; absent where it lives in none.
    pub home: Option<HomeId>,
    /// What was found; absent until the first look.
    pub found: Option<DriftFinding>,
    /// When that was.
    pub checked_at: Option<Timestamp>,
    /// Since when it is in drift, if it is.
    pub since: Option<Timestamp>,
    /// The last attempt to look.
    pub attempted_at: Option<Timestamp>,
    /// Why that came to nothing, if it did.
    pub error: Option<String>,
}

/// Which tenants to list. All conditions hold together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriftListFilter {
    /// This one.
    pub tenant: Option<TenantId>,
    /// Those in drift alone.
    pub in_drift: bool,
}

const COLUMNS: &str = "t.id, t.slug, t.status, p.home, d.attempted_at, d.error, d.checked_at, d.state, d.version,
     d.fingerprint, d.reason, d.missing, d.unexpected, d.changed, d.since";
const FROM: &str =
    "tenant t LEFT JOIN placement p ON p.tenant = t.id AND p.until IS NULL LEFT JOIN drift d ON d.tenant = t.id";

impl Store {
    /// Tenants that were not looked at since `before`, or, where they were in drift, since `before_if_drifted`: those that
    /// wait longest come first, at most `limit`. Whoever is being migrated by a rollout, moved or deleted is left out.
    pub async fn drift_due(
        &self,
        before: Timestamp,
        before_if_drifted: Timestamp,
        limit: u32,
    ) -> Result<Vec<DriftSubject>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT t.id AS tenant, h.id AS home, h.cluster
               FROM tenant t JOIN placement p ON p.tenant = t.id AND p.until IS NULL JOIN home h ON h.id = p.home
               LEFT JOIN drift d ON d.tenant = t.id
              WHERE t.status IN ('active', 'suspended')
                AND (d.attempted_at IS NULL
                     OR d.attempted_at < CASE WHEN d.state IN ('drifted', 'diverged') THEN $2::timestamptz ELSE $1 END)
                AND NOT EXISTS (SELECT FROM rollout r JOIN rollout_target g ON g.rollout = r.id
                                 WHERE r.finished_at IS NULL AND g.tenant = t.id AND g.state = 'running')
              ORDER BY d.attempted_at NULLS FIRST, t.id LIMIT $3",
            &[&before, &before_if_drifted, &i64::from(limit)],
        )
        .await?;
        rows.iter()
            .map(|row| {
                Ok(DriftSubject {
                    tenant: TenantId::new(get(row, "tenant")?),
                    home: HomeId::new(get(row, "home")?),
                    cluster: ClusterId::new(get(row, "cluster")?),
                })
            })
            .collect()
    }

    /// The sets, besides the promoted one, from which a tenant may have its schema: of rollouts that it was part of, the
    /// newest first, then the one that its home started with. Few.
    pub async fn sets_of_tenant(&self, tenant: TenantId, home: HomeId) -> Result<Vec<MigrationSetId>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT id FROM (
                 SELECT r.migration_set AS id, r.created_at AS at
                   FROM rollout r JOIN rollout_target g ON g.rollout = r.id WHERE g.tenant = $1
                 UNION ALL SELECT migration_set, NULL FROM home WHERE id = $2 AND migration_set IS NOT NULL
             ) AS candidate GROUP BY id ORDER BY max(at) DESC NULLS LAST LIMIT 8",
            &[&tenant.as_uuid(), &home.as_uuid()],
        )
        .await?;
        rows.iter().map(|row| parsed(row, "id")).collect()
    }

    /// Keeps what a look came to, and tells of it where a tenant's drift begins or ends. A look that came to nothing leaves
    /// what the last one found. Nothing is kept where the tenant lives in another home by now.
    pub async fn record_drift(
        &self,
        subject: &DriftSubject,
        at: Timestamp,
        outcome: Result<&DriftFinding, &str>,
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let client = tx.client()?;
        let (tenant, home) = (subject.tenant.as_uuid(), subject.home.as_uuid());
        // Those who look at one tenant at the same time come one after the other.
        let lives = "SELECT FROM placement WHERE tenant = $1 AND home = $2 AND until IS NULL FOR NO KEY UPDATE";
        if query_opt(client, lives, &[&tenant, &home]).await?.is_none() {
            return Ok(());
        }
        let known = query_opt(client, "SELECT state FROM drift WHERE tenant = $1", &[&tenant]).await?;
        let known = known.as_ref().map(|row| get::<Option<&str>>(row, "state")).transpose()?.flatten();
        let was_in_drift = known.is_some_and(|state| state != DriftState::Clean.as_str());
        let found = match outcome {
            Ok(found) => found,
            Err(error) => {
                let sql = "INSERT INTO drift (tenant, home, attempted_at, error) VALUES ($1, $2, $3, $4)
                           ON CONFLICT (tenant) DO UPDATE SET attempted_at = excluded.attempted_at, error = excluded.error";
                execute(client, sql, &[&tenant, &home, &at, &error]).await?;
                return tx.commit().await;
            }
        };
        let is_in_drift = found.state.is_in_drift();
        execute(
            client,
            "INSERT INTO drift AS known (tenant, home, attempted_at, checked_at, state, version, fingerprint, reason,
                                         missing, unexpected, changed, differences, since)
             VALUES ($1, $2, $3::timestamptz, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                     CASE WHEN $12 THEN $3::timestamptz END)
             ON CONFLICT (tenant) DO UPDATE
                SET home = excluded.home, attempted_at = excluded.attempted_at, error = NULL,
                    checked_at = excluded.checked_at, state = excluded.state, version = excluded.version,
                    fingerprint = excluded.fingerprint, reason = excluded.reason, missing = excluded.missing,
                    unexpected = excluded.unexpected, changed = excluded.changed, differences = excluded.differences,
                    since = CASE WHEN excluded.since IS NOT NULL THEN coalesce(known.since, excluded.since) END",
            &[
                &tenant,
                &home,
                &at,
                &found.state.as_str(),
                &found.version.0,
                &found.fingerprint,
                &found.reason,
                &i64::from(found.missing),
                &i64::from(found.unexpected),
                &i64::from(found.changed),
                &found.differences,
                &is_in_drift,
            ],
        )
        .await?;
        if is_in_drift != was_in_drift {
            let kind = if is_in_drift { EventKind::TenantDrifted } else { EventKind::TenantDriftEnded };
            let detail = json!({
                "state": found.state, "reason": found.reason, "version": found.version,
                "missing": found.missing, "unexpected": found.unexpected, "changed": found.changed,
            });
            tx.emit(&NewEvent::of_tenant(kind, subject.tenant).with(detail)).await?;
        }
        tx.commit().await
    }

    /// A page of tenants that live in homes, oldest first, without the objects that differ.
    pub async fn drifts(&self, filter: &DriftListFilter, page: &PageRequest) -> Result<Page<DriftRecord>, StoreError> {
        let mut conditions = Filter::default();
        conditions.and_always("t.status IN ('active', 'suspended', 'moving')");
        if let Some(tenant) = filter.tenant {
            conditions.and("t.id = ?", tenant.as_uuid(), Type::UUID);
        }
        if filter.in_drift {
            conditions.and_always("d.state <> 'clean'");
        }
        if let Some(after) = page.after_id()? {
            conditions.and("t.id > ?", after, Type::UUID);
        }
        let select = format!("SELECT {COLUMNS}, '[]'::jsonb AS differences FROM {FROM}");
        let rows = conditions.query(&*self.client().await?, &select, "ORDER BY t.id", page.probe()).await?;
        let records = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(records, |record: &DriftRecord| record.tenant.to_string()))
    }

    /// One tenant with the objects that differ.
    pub async fn drift(&self, tenant: TenantId) -> Result<DriftRecord, StoreError> {
        let sql = format!("SELECT {COLUMNS}, d.differences FROM {FROM} WHERE t.id = $1");
        let row = query_opt(&*self.client().await?, &sql, &[&tenant.as_uuid()]).await?;
        let not_found = || StoreError::NotFound { what: "tenant", name: tenant.to_string() };
        row.as_ref().map(read).transpose()?.ok_or_else(not_found)
    }

    /// Some tenants, in the order in which they are named, without the objects that differ.
    pub async fn drifts_of(&self, tenants: &[TenantId]) -> Result<Vec<DriftRecord>, StoreError> {
        let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.as_uuid()).collect();
        let sql = format!(
            "SELECT {COLUMNS}, '[]'::jsonb AS differences FROM {FROM} WHERE t.id = ANY ($1)
             ORDER BY array_position($1, t.id)"
        );
        query(&*self.client().await?, &sql, &[&ids]).await?.iter().map(read).collect()
    }

    /// How many tenants stand how, of those that live in homes; nothing for those that were never looked at.
    pub async fn count_drift(&self) -> Result<Vec<(Option<DriftState>, i64)>, StoreError> {
        let sql = format!(
            "SELECT d.state, count(*) AS number FROM {FROM} WHERE t.status IN ('active', 'suspended', 'moving')
              GROUP BY d.state"
        );
        let rows = query(&*self.client().await?, &sql, &[]).await?;
        rows.iter().map(|row| Ok((read_state(row)?, get(row, "number")?))).collect()
    }
}

fn read_state(row: &Row) -> Result<Option<DriftState>, StoreError> {
    get::<Option<&str>>(row, "state")?.map(|state| state.parse().map_err(StoreError::internal)).transpose()
}

fn read(row: &Row) -> Result<DriftRecord, StoreError> {
    let found = match read_state(row)? {
        None => None,
        Some(state) => Some(DriftFinding {
            state,
            version: SchemaVersion(get(row, "version")?),
            fingerprint: get(row, "fingerprint")?,
            reason: get(row, "reason")?,
            missing: count(row, "missing")?,
            unexpected: count(row, "unexpected")?,
            changed: count(row, "changed")?,
            differences: get(row, "differences")?,
        }),
    };
    Ok(DriftRecord {
        tenant: TenantId::new(get(row, "id")?),
        slug: parsed(row, "slug")?,
        status: parsed(row, "status")?,
        home: get::<Option<Uuid>>(row, "home")?.map(HomeId::new),
        found,
        checked_at: get(row, "checked_at")?,
        since: get(row, "since")?,
        attempted_at: get(row, "attempted_at")?,
        error: get(row, "error")?,
    })
}
