//! Asking many tenants the same question at the same time.
//!
//! Only what reads is run, as each home's read-only role ([`tenantry_fleet::Fleet::read`]). Rows go through a bounded
//! channel: who reads slowly slows the servers down, and who goes away ends every statement that still runs.

mod run;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tenantry_domain::{Scope, Slug, Tenant};
use tenantry_store::{AuditEntry, StoreError, TenantFilter, TenantRef};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

pub use tenantry_fleet::ReadingFailure;

/// Most bytes of a statement.
pub const SQL_BYTES_MAX: usize = 100_000;
/// Most tenants that are named one by one.
pub const NAMED_MAX: usize = 1_000;
/// Characters of a statement that the audit log keeps.
const AUDITED_MAX: usize = 2_000;
/// Items that wait to be read.
const CHANNEL: usize = 64;

/// The wish to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetQuery {
    /// One statement that reads.
    pub sql: String,
    /// Whom.
    pub selection: Selection,
    /// How many tenants at the same time.
    pub concurrency: usize,
    /// How many of them on one cluster.
    pub per_cluster: usize,
    /// The longest that the statement may run for one tenant.
    pub statement_timeout: Duration,
    /// When no more tenants are begun.
    pub time_limit: Duration,
    /// Most rows of one tenant.
    pub rows_max: u64,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Tenants(Vec<TenantRef>),
    /// Those whom the filter finds; the default finds all.
    Filter(Box<TenantFilter>),
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryItem {
    /// A row of a tenant.
    Row {
        /// Whose.
        tenant: Slug,
        /// The names of its columns.
        columns: Arc<[String]>,
        /// A value for each.
        values: Vec<Value>,
    },
    /// All rows of a tenant were told.
    Reached {
        /// Whose.
        tenant: Slug,
        /// How many.
        rows: u64,
        /// Whether there were more than are told.
        truncated: bool,
    },
    /// A tenant's answer is missing, or broke off.
    Failed {
        /// Whose.
        tenant: Slug,
        /// Why.
        failure: Box<ReadingFailure>,
    },
    /// A tenant was not asked.
    Skipped {
        /// Whom.
        tenant: Slug,
        /// Why.
        reason: String,
    },
    /// The end.
    Summary(QuerySummary),
}

/// How many tenants came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuerySummary {
    /// Answered.
    pub reached: u64,
    /// Did not, or not to the end.
    pub failed: u64,
    /// Were not asked.
    pub skipped: u64,
    /// Rows that were told, of all.
    pub rows: u64,
    /// Tenants that had more rows than were told.
    pub truncated: u64,
}

/// The answer, as it comes. Dropped before its end, all that still runs is cancelled.
#[derive(Debug)]
pub struct QueryAnswer {
    items: mpsc::Receiver<QueryItem>,
    _work: AbortOnDropHandle<()>,
}

impl QueryAnswer {
    /// The next part; `None` behind the summary.
    pub async fn next(&mut self) -> Option<QueryItem> {
        self.items.recv().await
    }
}

/// Begins to ask. Reading tenants' data takes more than looking at tenants, so it is for admins alone.
pub async fn query(control: &Control, caller: &Caller, query: FleetQuery) -> Result<QueryAnswer, ControlError> {
    caller.require_fleet_wide(Scope::Admin)?;
    if query.sql.trim().is_empty() || query.sql.contains('\0') || query.sql.len() > SQL_BYTES_MAX {
        return Err(ControlError::invalid("/sql", format!("write one statement of at most {SQL_BYTES_MAX} bytes")));
    }
    let named = match &query.selection {
        Selection::Tenants(named) => Some(find(control, named).await?),
        Selection::Filter(_) => None,
    };
    let tx = control.store().begin().await?;
    tx.audit(&AuditEntry { after: Some(audited(&query)), ..caller.does("tenant.query", "tenants".to_owned()) }).await?;
    tx.commit().await?;
    let (sender, items) = mpsc::channel(CHANNEL);
    let work = tokio::spawn(run::run(control.clone(), query, named, sender));
    Ok(QueryAnswer { items, _work: AbortOnDropHandle::new(work) })
}

async fn find(control: &Control, named: &[TenantRef]) -> Result<Vec<Tenant>, ControlError> {
    if named.is_empty() || named.len() > NAMED_MAX {
        return Err(ControlError::invalid("/tenants", format!("name 1 to {NAMED_MAX}")));
    }
    let mut found: Vec<Tenant> = Vec::with_capacity(named.len());
    for name in named {
        let tenant = control.store().tenant(name).await.map_err(|error| match error {
            StoreError::NotFound { .. } => ControlError::invalid("/tenants", format!("there is no tenant `{name}`")),
            other => other.into(),
        })?;
        if found.iter().all(|known| known.id != tenant.id) {
            found.push(tenant);
        }
    }
    Ok(found)
}

/// What was asked, of whom. A long statement is kept by its beginning and its digest.
fn audited(query: &FleetQuery) -> Value {
    let sql: String = query.sql.chars().take(AUDITED_MAX).collect();
    let selection = match &query.selection {
        Selection::Tenants(named) => json!({ "tenants": named.iter().map(ToString::to_string).collect::<Vec<_>>() }),
        Selection::Filter(filter) if **filter == TenantFilter::default() => json!("all"),
        Selection::Filter(filter) => json!({
            "status": filter.status, "plan": filter.plan, "region": filter.region, "isolation": filter.isolation,
            "cluster": filter.cluster, "parent": filter.parent, "below": filter.below, "labels": filter.labels,
            "slug_prefix": filter.slug_prefix, "schema_version_below": filter.schema_version_below,
        }),
    };
    json!({ "sql": sql, "sql_sha256": hex::encode(Sha256::digest(&query.sql)), "selection": selection })
}
