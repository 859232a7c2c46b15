//! The table `audit_log`: who changed what, each entry bound to the one before by its hash.

use jiff::Timestamp;
use serde_json::Value;
use tenantry_domain::{AuditContent, OperationId, RequestId, TenantId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::row::{execute, get, query_one};
use crate::store::Store;
use crate::transaction::Tx;

/// The chain of what concerns no single tenant.
const PLATFORM: &str = "platform";
/// One actor, or every token of a name: the sign that escapes is escaped too.
const BY_ACTOR: &str = r"(actor = ? OR actor LIKE regexp_replace(?, '([\\%_])', '\\\1', 'g') || '/%')";
/// Entries that an export reads at a time.
const BATCH: i64 = 1_000;

/// A change that somebody asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Who: the token's name, or what stands for it.
    pub actor: String,
    /// What: `tenant.create`, ….
    pub action: String,
    /// To what: `tenant/<id>`, ….
    pub target: String,
    /// The tenant in whose chain it goes; absent means the platform's.
    pub tenant: Option<TenantId>,
    /// The request that asked.
    pub request_id: Option<RequestId>,
    /// The operation that follows from it.
    pub operation: Option<OperationId>,
    /// How it was.
    pub before: Option<Value>,
    /// How it is.
    pub after: Option<Value>,
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Rises with time.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What was entered.
    pub entry: AuditEntry,
    /// SHA-256 of the chain's previous hash and this entry.
    pub hash: [u8; 32],
}

/// Which entries are wanted. All conditions hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// With this action.
    pub action: Option<String>,
    /// By this actor, or by any token of this name (`token/<name>`).
    pub actor: Option<String>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

/// A chain of the log: how long it is and what it ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChain {
    /// Whose; absent means the platform's.
    pub tenant: Option<TenantId>,
    /// How many entries it has had.
    pub entries: i64,
    /// The hash of its last entry.
    pub head: [u8; 32],
    /// The id of that entry.
    pub last_entry: i64,
}

/// An entry with the hash of the one before it in its chain.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkedRecord {
    /// The entry.
    pub record: AuditRecord,
    /// The hash of the entry before; absent for a chain's first.
    pub previous: Option<[u8; 32]>,
}

/// Which entries an export is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditExport {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl Tx {
    /// Enters a change. Entries of one chain wait for each other until the transaction ends.
    pub async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let client = self.client()?;
        let chain = chain(entry.tenant);
        // Locks the chain until the transaction ends, and answers with what committed while it was waited for.
        let row = query_one(
            client,
            "INSERT INTO audit_chain AS known (chain, tenant) VALUES ($1, $2)
             ON CONFLICT (chain) DO UPDATE SET chain = excluded.chain RETURNING known.entries, known.head",
            &[&chain, &entry.tenant.map(TenantId::as_uuid)],
        )
        .await?;
        let (entries, previous): (i64, Option<&[u8]>) = (get(&row, "entries")?, get(&row, "head")?);
        let at = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).map_err(StoreError::internal)?;
        let hash = content(at, entry).hash(previous.unwrap_or_default());
        execute(
            client,
            "WITH entered AS (
                 INSERT INTO audit_log
                        (at, chain, actor, action, target, tenant, request_id, operation, before, after, hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id)
             UPDATE audit_chain SET entries = $12, head = $11, last_entry = entered.id FROM entered WHERE chain = $2",
            &[
                &at,
                &chain,
                &entry.actor,
                &entry.action,
                &entry.target,
                &entry.tenant.map(TenantId::as_uuid),
                &entry.request_id.map(RequestId::as_uuid),
                &entry.operation.map(OperationId::as_uuid),
                &entry.before,
                &entry.after,
                &hash.as_slice(),
                &(entries + 1),
            ],
        )
        .await?;
        Ok(())
    }

    /// Enters the change that brought its tenant into being: the first entry of a chain, so nothing is waited for.
    pub async fn audit_first(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let at = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).map_err(StoreError::internal)?;
        let hash = content(at, entry).hash(&[]);
        execute(
            self.client()?,
            "WITH entered AS (
                 INSERT INTO audit_log
                        (at, chain, actor, action, target, tenant, request_id, operation, before, after, hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id)
             INSERT INTO audit_chain (chain, tenant, entries, head, last_entry)
             SELECT $2, $6, 1, $11, entered.id FROM entered",
            &[
                &at,
                &chain(entry.tenant),
                &entry.actor,
                &entry.action,
                &entry.target,
                &entry.tenant.map(TenantId::as_uuid),
                &entry.request_id.map(RequestId::as_uuid),
                &entry.operation.map(OperationId::as_uuid),
                &entry.before,
                &entry.after,
                &hash.as_slice(),
            ],
        )
        .await
        .map(drop)
    }
}

impl Store {
    /// A page of entries, newest first.
    pub async fn audit_log(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditRecord>, StoreError> {
        let mut conditions = Filter::default();
        if let Some(tenant) = filter.tenant {
            conditions.and("chain = ?", chain(Some(tenant)), Type::TEXT);
        }
        if let Some(action) = filter.action.clone() {
            conditions.and("action = ?", action, Type::TEXT);
        }
        if let Some(actor) = filter.actor.clone() {
            conditions.and(BY_ACTOR, actor, Type::TEXT);
        }
        if let Some(since) = filter.since {
            conditions.and("at >= ?", since, Type::TIMESTAMPTZ);
        }
        if let Some(until) = filter.until {
            conditions.and("at < ?", until, Type::TIMESTAMPTZ);
        }
        if let Some(before) = page.after_number()? {
            conditions.and("id < ?", before, Type::INT8);
        }
        let rows = conditions
            .query(&*self.client().await?, "SELECT * FROM audit_log", "ORDER BY id DESC", page.probe())
            .await?;
        let records = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(records, |record: &AuditRecord| record.id.to_string()))
    }

    /// A page of chains: the platform's and those of tenants, purged ones included.
    pub async fn audit_chains(
        &self,
        tenant: Option<TenantId>,
        page: &PageRequest,
    ) -> Result<Page<AuditChain>, StoreError> {
        let mut conditions = Filter::default();
        conditions.and("entries > ?", 0_i64, Type::INT8);
        if let Some(tenant) = tenant {
            conditions.and("chain = ?", chain(Some(tenant)), Type::TEXT);
        }
        if let Some(after) = page.after_name() {
            conditions.and("chain > ?", after.to_owned(), Type::TEXT);
        }
        let rows = conditions
            .query(&*self.client().await?, "SELECT * FROM audit_chain", "ORDER BY chain", page.probe())
            .await?;
        let read = |row| {
            Ok(AuditChain {
                tenant: get::<Option<Uuid>>(row, "tenant")?.map(TenantId::new),
                entries: get(row, "entries")?,
                head: get::<&[u8]>(row, "head")?.try_into().map_err(StoreError::internal)?,
                last_entry: get(row, "last_entry")?,
            })
        };
        let chains = rows.iter().map(read).collect::<Result<_, StoreError>>()?;
        Ok(page.page(chains, |it: &AuditChain| chain(it.tenant)))
    }

    /// The id of the last entry that is committed. What an export leaves out up to there is at most each chain's last
    /// entry: a chain waits for the commit of one entry before it takes the next.
    pub async fn last_audit_entry(&self) -> Result<i64, StoreError> {
        let row = query_one(&*self.client().await?, "SELECT coalesce(max(id), 0) AS id FROM audit_log", &[]).await?;
        get(&row, "id")
    }

    /// The next entries of an export, oldest first: those after `after`, up to `upto`, at most a thousand.
    pub async fn export_audit(
        &self,
        export: &AuditExport,
        after: i64,
        upto: i64,
    ) -> Result<Vec<LinkedRecord>, StoreError> {
        let mut conditions = Filter::default();
        conditions.and("id > ?", after, Type::INT8);
        conditions.and("id <= ?", upto, Type::INT8);
        if let Some(tenant) = export.tenant {
            conditions.and("chain = ?", chain(Some(tenant)), Type::TEXT);
        }
        if let Some(since) = export.since {
            conditions.and("at >= ?", since, Type::TIMESTAMPTZ);
        }
        if let Some(until) = export.until {
            conditions.and("at < ?", until, Type::TIMESTAMPTZ);
        }
        let select = "SELECT a.*, (SELECT p.hash FROM audit_log p WHERE p.chain = a.chain AND p.id < a.id
                                    ORDER BY p.id DESC LIMIT 1) AS previous FROM audit_log a";
        let rows = conditions.query(&*self.client().await?, select, "ORDER BY id", BATCH).await?;
        let read = |row| {
            let previous = get::<Option<&[u8]>>(row, "previous")?;
            let previous = previous.map(|hash| hash.try_into().map_err(StoreError::internal)).transpose()?;
            Ok(LinkedRecord { record: read(row)?, previous })
        };
        rows.iter().map(read).collect()
    }
}

fn chain(tenant: Option<TenantId>) -> String {
    tenant.map_or_else(|| PLATFORM.to_owned(), |tenant| tenant.to_string())
}

/// What the hash of an entry is taken of.
pub(crate) fn content(at: Timestamp, entry: &AuditEntry) -> AuditContent<'_> {
    AuditContent {
        at,
        actor: &entry.actor,
        action: &entry.action,
        target: &entry.target,
        tenant: entry.tenant,
        request_id: entry.request_id,
        operation: entry.operation,
        before: entry.before.as_ref(),
        after: entry.after.as_ref(),
    }
}

pub(crate) fn read(row: &Row) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        id: get(row, "id")?,
        at: get(row, "at")?,
        entry: AuditEntry {
            actor: get(row, "actor")?,
            action: get(row, "action")?,
            target: get(row, "target")?,
            tenant: get::<Option<Uuid>>(row, "tenant")?.map(TenantId::new),
            request_id: get::<Option<Uuid>>(row, "request_id")?.map(RequestId::new),
            operation: get::<Option<Uuid>>(row, "operation")?.map(OperationId::new),
            before: get(row, "before")?,
            after: get(row, "after")?,
        },
        hash: get::<&[u8]>(row, "hash")?.try_into().map_err(StoreError::internal)?,
    })
}
