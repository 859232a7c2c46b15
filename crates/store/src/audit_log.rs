//! The table `audit_log`: who changed what, each entry bound to the one before by its hash.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tenantry_domain::{OperationId, RequestId, TenantId};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::row::{execute, get, query};
use crate::store::Store;
use crate::transaction::Tx;

/// The chain of what concerns no single tenant.
const PLATFORM: &str = "platform";
/// Entries that a verification reads at a time.
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
    /// By this actor.
    pub actor: Option<String>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

/// What a look at a whole chain found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Entries whose hashes are right, from the first on.
    pub sound: u64,
    /// The first entry that does not fit the one before it.
    pub broken_at: Option<i64>,
}

impl Tx {
    /// Enters a change. Entries of one chain wait for each other until the transaction ends.
    pub async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let client = self.client()?;
        let chain = chain(entry.tenant);
        let lock = client
            .prepare_cached("SELECT pg_advisory_xact_lock(hashtextextended('tenantry.audit_log.' || $1, 0))")
            .await?;
        let last =
            client.prepare_cached("SELECT hash FROM audit_log WHERE chain = $1 ORDER BY id DESC LIMIT 1").await?;
        // Two statements, because the second must see what committed while the first waited. Both are prepared, so that
        // they are sent in this order when they are first polled, and wait for one reply.
        let parameters: [&(dyn ToSql + Sync); 1] = [&chain];
        let (_, previous) =
            futures::future::try_join(client.query_one(&lock, &parameters), client.query_opt(&last, &parameters))
                .await?;
        let previous: Option<&[u8]> = previous.as_ref().map(|row| get(row, "hash")).transpose()?;
        let at = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).map_err(StoreError::internal)?;
        let hash = hash(previous.unwrap_or_default(), &canonical(at, entry));
        execute(
            client,
            "INSERT INTO audit_log
                    (at, chain, actor, action, target, tenant, request_id, operation, before, after, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
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
            ],
        )
        .await?;
        Ok(())
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
            conditions.and("actor = ?", actor, Type::TEXT);
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

    /// Follows a chain (a tenant's, or the platform's) from its first entry and recomputes every hash.
    pub async fn verify_audit(&self, tenant: Option<TenantId>) -> Result<AuditVerdict, StoreError> {
        let client = self.client().await?;
        let chain = chain(tenant);
        let mut verdict = AuditVerdict { sound: 0, broken_at: None };
        let mut previous = Vec::new();
        let mut after = 0;
        loop {
            let records = batch(&client, &chain, after).await?;
            for record in &records {
                if hash(&previous, &canonical(record.at, &record.entry)) != record.hash {
                    verdict.broken_at = Some(record.id);
                    return Ok(verdict);
                }
                previous = record.hash.to_vec();
                after = record.id;
                verdict.sound += 1;
            }
            if records.is_empty() {
                return Ok(verdict);
            }
        }
    }
}

async fn batch(client: &ClientWrapper, chain: &str, after: i64) -> Result<Vec<AuditRecord>, StoreError> {
    let sql = "SELECT * FROM audit_log WHERE chain = $1 AND id > $2 ORDER BY id LIMIT $3";
    query(client, sql, &[&chain, &after, &BATCH]).await?.iter().map(read).collect()
}

fn chain(tenant: Option<TenantId>) -> String {
    tenant.map_or_else(|| PLATFORM.to_owned(), |tenant| tenant.to_string())
}

fn hash(previous: &[u8], content: &str) -> [u8; 32] {
    Sha256::new().chain_update(previous).chain_update(content).finalize().into()
}

/// The text that is hashed: a JSON array of the fields in the table's order, keys of objects sorted, no blanks.
fn canonical(at: Timestamp, entry: &AuditEntry) -> String {
    let sorted = |value: &Option<Value>| value.as_ref().map(sorted).unwrap_or_default();
    json!([
        at.as_microsecond(),
        entry.actor,
        entry.action,
        entry.target,
        entry.tenant,
        entry.request_id,
        entry.operation,
        sorted(&entry.before),
        sorted(&entry.after),
    ])
    .to_string()
}

/// The same value with the keys of its objects in order, whatever order the map type keeps.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn read(row: &Row) -> Result<AuditRecord, StoreError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_does_not_change_the_hash() {
        let entry = |after: &str| AuditEntry {
            actor: "a".into(),
            action: "b".into(),
            target: "c".into(),
            tenant: None,
            request_id: None,
            operation: None,
            before: None,
            after: Some(serde_json::from_str(after).expect("json")),
        };
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(
            canonical(at, &entry(r#"{"x": [{"b": 1, "a": 2}], "a": null}"#)),
            canonical(at, &entry(r#"{"a": null, "x": [{"a": 2, "b": 1}]}"#))
        );
        assert_ne!(canonical(at, &entry("{}")), canonical(at, &entry("null")));
    }
}
