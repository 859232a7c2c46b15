//! The tables `orphan` and `bygone`: what the catalog and a cluster disagree on, and what the catalog says of a cluster.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{ClusterId, DatabaseName, OrphanId, OrphanKind, OrphanVerdict};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::row::{execute, get, parsed, query, query_one, query_opt, time};
use crate::store::Store;
use crate::transaction::Tx;

/// How long a disagreement that is settled is remembered.
const SETTLED_KEPT_SECONDS: f64 = 30.0 * 24.0 * 3600.0;

/// What the catalog knows of whatever bears a name: a home, a shared database or a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It should be there.
    Living,
    /// Work on it is under way or to come, so anything may be there or not.
    Busy,
    /// It should be gone, for good.
    Bygone,
}

/// An object that is recorded as made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MadeObject {
    /// What it is.
    pub kind: OrphanKind,
    /// Its name.
    pub name: String,
    /// For schemas: the database. Empty otherwise.
    pub parent: String,
    /// Whether work on it is under way, so that it may be gone already.
    pub is_busy: bool,
}

/// What the catalog says of one cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogInventory {
    /// Homes, shared databases and templates by the part of the name that all their objects share.
    pub standings: HashMap<String, Standing>,
    /// What must be there.
    pub made: Vec<MadeObject>,
    /// Shared databases.
    pub shared: Vec<DatabaseName>,
}

/// A disagreement as it was seen just now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OrphanFinding {
    /// What it is.
    pub kind: OrphanKind,
    /// Its name.
    pub name: String,
    /// For schemas: the database. Empty otherwise.
    pub parent: String,
    /// What is to be thought of it.
    pub verdict: OrphanVerdict,
    /// Why, in a sentence.
    pub reason: String,
}

/// A disagreement as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanRecord {
    /// Its id.
    pub id: OrphanId,
    /// Where.
    pub cluster: ClusterId,
    /// What was seen.
    pub finding: OrphanFinding,
    /// Since when.
    pub first_seen: Timestamp,
    /// When last.
    pub last_seen: Timestamp,
    /// From when on it may be removed; only for what is ours.
    pub removable_after: Option<Timestamp>,
    /// Since when it is no more.
    pub gone_at: Option<Timestamp>,
    /// Whether that was our doing.
    pub removed: bool,
    /// Why the last attempt at removing it failed.
    pub error: Option<String>,
}

/// Which disagreements are wanted. All conditions hold together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrphanFilter {
    /// On this cluster.
    pub cluster: Option<ClusterId>,
    /// Of this kind.
    pub kind: Option<OrphanKind>,
    /// With this verdict.
    pub verdict: Option<OrphanVerdict>,
    /// Those that are settled too.
    pub with_gone: bool,
}

impl Store {
    /// What the catalog says of a cluster.
    pub async fn catalog_inventory(&self, cluster: ClusterId) -> Result<CatalogInventory, StoreError> {
        let tx = self.begin().await?;
        let client = tx.client()?;
        // One moment for all of it.
        client.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut inventory = CatalogInventory::default();
        let standings =
            "WITH work AS (SELECT id, tenant, input ->> 'home' AS home FROM operation WHERE finished_at IS NULL),
                  busy AS (SELECT h.id FROM home h JOIN work ON work.tenant = h.tenant WHERE h.cluster = $1
                           UNION SELECT r.home FROM resource r JOIN work ON work.id = r.operation WHERE r.cluster = $1
                           UNION SELECT h.id FROM home h JOIN work ON work.home = h.id::text WHERE h.cluster = $1)
             SELECT 'h_' || replace(id::text, '-', '') AS stem, state = 'released' AS is_bygone,
                    state = 'planned' OR id IN (SELECT id FROM busy) AS is_busy FROM home WHERE cluster = $1
             UNION ALL SELECT name, false, state <> 'ready' FROM template WHERE cluster = $1
             UNION ALL SELECT name, false, state <> 'ready' FROM shared_database WHERE cluster = $1
             UNION ALL SELECT name, true, false FROM bygone WHERE cluster = $1";
        for row in query(client, standings, &[&cluster.as_uuid()]).await? {
            let standing = match (get(&row, "is_bygone")?, get(&row, "is_busy")?) {
                (true, _) => Standing::Bygone,
                (false, true) => Standing::Busy,
                (false, false) => Standing::Living,
            };
            inventory.standings.insert(get(&row, "stem")?, standing);
        }
        let made =
            "SELECT r.kind, r.name, coalesce(r.parent, '') AS parent, 'h_' || replace(r.home::text, '-', '') AS stem
               FROM resource r WHERE r.cluster = $1 AND r.state = 'created' AND r.kind IN ('role', 'database', 'schema')
                AND NOT r.is_adopted
             UNION ALL SELECT 'database', name, '', name FROM template WHERE cluster = $1 AND state = 'ready'
             UNION ALL SELECT 'role', name || '_owner', '', name FROM template WHERE cluster = $1 AND state = 'ready'
             UNION ALL SELECT 'database', name, '', name FROM shared_database WHERE cluster = $1 AND state = 'ready'
             UNION ALL SELECT 'role', name || suffix, '', name
               FROM shared_database, unnest(ARRAY['_homes', '_temp', '_m']) AS suffix WHERE cluster = $1 AND state = 'ready'
             UNION ALL SELECT 'role', name || '_pool', '', name FROM shared_database s
              WHERE cluster = $1 AND EXISTS (SELECT FROM home WHERE home.shared_database = s.id AND home.pool_member)";
        for row in query(client, made, &[&cluster.as_uuid()]).await? {
            let standing = inventory.standings.get(get::<&str>(&row, "stem")?);
            inventory.made.push(MadeObject {
                kind: parsed(&row, "kind")?,
                name: get(&row, "name")?,
                parent: get(&row, "parent")?,
                is_busy: standing != Some(&Standing::Living),
            });
        }
        let shared = "SELECT name FROM shared_database WHERE cluster = $1 ORDER BY name";
        for row in query(client, shared, &[&cluster.as_uuid()]).await? {
            inventory.shared.push(DatabaseName::parse(get(&row, "name")?).map_err(StoreError::internal)?);
        }
        Ok(inventory)
    }

    /// A page of disagreements, the newest first.
    pub async fn orphans(&self, filter: &OrphanFilter, page: &PageRequest) -> Result<Page<OrphanRecord>, StoreError> {
        let mut conditions = Filter::default();
        if let Some(cluster) = filter.cluster {
            conditions.and("cluster = ?", cluster.as_uuid(), Type::UUID);
        }
        if let Some(kind) = filter.kind {
            conditions.and("kind = ?", kind.as_str(), Type::TEXT);
        }
        if let Some(verdict) = filter.verdict {
            conditions.and("verdict = ?", verdict.as_str(), Type::TEXT);
        }
        if !filter.with_gone {
            conditions.and("(gone_at IS NULL) = ?", true, Type::BOOL);
        }
        if let Some(after) = page.after_id()? {
            conditions.and("id < ?", after, Type::UUID);
        }
        let client = self.client().await?;
        let rows = conditions.query(&client, "SELECT * FROM orphan", "ORDER BY id DESC", page.probe()).await?;
        let orphans = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(orphans, |orphan: &OrphanRecord| orphan.id.to_string()))
    }

    /// One disagreement.
    pub async fn orphan(&self, id: OrphanId) -> Result<OrphanRecord, StoreError> {
        let row = query_opt(&*self.client().await?, "SELECT * FROM orphan WHERE id = $1", &[&id.as_uuid()]).await?;
        row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::NotFound { what: "orphan", name: id.to_string() })
    }

    /// What may be removed by now, at most `limit`, the oldest first.
    pub async fn removable_orphans(&self, limit: i64) -> Result<Vec<OrphanRecord>, StoreError> {
        let sql = "SELECT * FROM orphan WHERE gone_at IS NULL AND verdict = 'ours'
                     AND removable_after <= clock_timestamp() ORDER BY removable_after LIMIT $1";
        query(&*self.client().await?, sql, &[&limit]).await?.iter().map(read).collect()
    }

    /// How many disagreements are open, by verdict.
    pub async fn count_orphans(&self) -> Result<Vec<(OrphanVerdict, i64)>, StoreError> {
        let sql = "SELECT verdict, count(*) AS number FROM orphan WHERE gone_at IS NULL GROUP BY verdict";
        let rows = query(&*self.client().await?, sql, &[]).await?;
        rows.iter().map(|row| Ok((parsed(row, "verdict")?, get(row, "number")?))).collect()
    }

    /// An epoch later than that of any lease so far.
    pub async fn later_epoch(&self) -> Result<i64, StoreError> {
        get(&query_one(&*self.client().await?, "SELECT nextval('lease_epoch') AS epoch", &[]).await?, "epoch")
    }
}

impl Tx {
    /// Takes down what was just found on a cluster, in place of what was found before: the new, what is still there, and
    /// what has gone by itself. Of ours, each may be removed once `delay` is over; a delay that was shortened counts at once.
    pub async fn record_orphans(
        &self,
        cluster: ClusterId,
        findings: &[(OrphanId, OrphanFinding)],
        delay: Duration,
    ) -> Result<(), StoreError> {
        let client = self.client()?;
        let ids: Vec<Uuid> = findings.iter().map(|(id, _)| id.as_uuid()).collect();
        let column = |of: fn(&OrphanFinding) -> &str| -> Vec<&str> { findings.iter().map(|(_, it)| of(it)).collect() };
        let (kinds, names) = (column(|it| it.kind.as_str()), column(|it| &it.name));
        let (parents, verdicts) = (column(|it| &it.parent), column(|it| it.verdict.as_str()));
        let reasons = column(|it| &it.reason);
        execute(
            client,
            "UPDATE orphan SET gone_at = clock_timestamp()
              WHERE cluster = $1 AND gone_at IS NULL AND NOT EXISTS (
                  SELECT FROM unnest($2::text[], $3::text[], $4::text[]) AS seen (kind, name, parent)
                   WHERE seen.kind = orphan.kind AND seen.name = orphan.name AND seen.parent = orphan.parent)",
            &[&cluster.as_uuid(), &kinds, &names, &parents],
        )
        .await?;
        execute(
            client,
            "INSERT INTO orphan AS known (id, cluster, kind, name, parent, verdict, reason, removable_after)
             SELECT id, $1, kind, name, parent, verdict, reason,
                    CASE WHEN verdict = 'ours' THEN clock_timestamp() + $8 * interval '1 second' END
               FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
                    AS seen (id, kind, name, parent, verdict, reason)
             ON CONFLICT (cluster, kind, parent, name) WHERE gone_at IS NULL DO UPDATE
                SET last_seen = clock_timestamp(), verdict = excluded.verdict, reason = excluded.reason,
                    removable_after = CASE WHEN excluded.verdict = 'ours'
                                           THEN known.first_seen + $8 * interval '1 second' END",
            &[&cluster.as_uuid(), &ids, &kinds, &names, &parents, &verdicts, &reasons, &delay.as_secs_f64()],
        )
        .await?;
        let sql = "DELETE FROM orphan WHERE gone_at < clock_timestamp() - $1 * interval '1 second'";
        execute(client, sql, &[&SETTLED_KEPT_SECONDS]).await?;
        Ok(())
    }

    /// These are gone, by our doing.
    pub async fn orphans_removed(&self, ids: &[OrphanId]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let sql = "UPDATE orphan SET gone_at = clock_timestamp(), removed = true, error = NULL
                    WHERE id = ANY ($1) AND gone_at IS NULL";
        execute(self.client()?, sql, &[&ids]).await?;
        Ok(())
    }

    /// Removing these failed; it is tried again.
    pub async fn orphans_kept(&self, ids: &[OrphanId], error: &str) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        execute(self.client()?, "UPDATE orphan SET error = $2 WHERE id = ANY ($1)", &[&ids, &error]).await?;
        Ok(())
    }
}

fn read(row: &Row) -> Result<OrphanRecord, StoreError> {
    Ok(OrphanRecord {
        id: OrphanId::new(get(row, "id")?),
        cluster: ClusterId::new(get(row, "cluster")?),
        finding: OrphanFinding {
            kind: parsed(row, "kind")?,
            name: get(row, "name")?,
            parent: get(row, "parent")?,
            verdict: parsed(row, "verdict")?,
            reason: get(row, "reason")?,
        },
        first_seen: time(row, "first_seen")?,
        last_seen: time(row, "last_seen")?,
        removable_after: get(row, "removable_after")?,
        gone_at: get(row, "gone_at")?,
        removed: get(row, "removed")?,
        error: get(row, "error")?,
    })
}
