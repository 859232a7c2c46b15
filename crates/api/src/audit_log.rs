//! The audit log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{OperationId, TenantId};
use utoipa::{IntoParams, ToSchema};

use crate::query::PageLimit;
use crate::reference::TenantRef;

/// One entry: who did what to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the log.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who: `token/<name>/<id>`, or the part of the system that acted by itself.
    pub actor: String,
    /// What, such as `tenant.create`.
    pub action: String,
    /// To what.
    pub target: String,
    /// In which request.
    pub request_id: Option<String>,
    /// In which operation.
    #[schema(value_type = Option<Uuid>)]
    pub operation: Option<OperationId>,
    /// What it was before.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// What it was after.
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// SHA-256 over this entry and the hash of the one before in its chain, in hexadecimal.
    pub hash: String,
}

/// Which entries to list. Filters are joined by "and"; the newest come first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListAuditLog {
    /// About this tenant, by id or slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantRef>,
    /// With this action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// By this actor; `token/<name>` finds every token of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which entries to export. Filters are joined by "and".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ExportAuditLog {
    /// About this tenant, by id or slug; of a purged one, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantRef>,
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// One line of an export: an entry with what it takes to verify it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLine {
    /// The entry.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// The tenant in whose chain it is; null means the platform's.
    #[schema(value_type = Option<Uuid>)]
    pub tenant: Option<TenantId>,
    /// The hash of the entry before it in its chain, in hexadecimal; null for a chain's first.
    pub previous: Option<String>,
}

/// A chain of the log: how long it is and what it ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditChain {
    /// Whose; null means the platform's.
    #[schema(value_type = Option<Uuid>)]
    pub tenant: Option<TenantId>,
    /// How many entries it has.
    pub entries: i64,
    /// The hash of its last entry, in hexadecimal.
    pub head: String,
    /// The id of that entry.
    pub last_entry: i64,
}

/// Which chains to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListAuditChains {
    /// The one of this tenant, by id or slug; of a purged one, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantRef>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
