//! Operations: durable work.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{ClusterId, OperationId, OperationKind, OperationState, Reason, TenantId};
use utoipa::{IntoParams, ToSchema};

use crate::query::{CommaSeparated, PageLimit};
use crate::reference::{ClusterRef, TenantRef};
use crate::schema;

/// Durable work on one tenant or cluster, made of idempotent steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: OperationId,
    /// What it does.
    #[schema(schema_with = schema::operation_kind)]
    pub kind: OperationKind,
    /// The tenant that it works on.
    #[schema(value_type = Option<Uuid>)]
    pub tenant: Option<TenantId>,
    /// The cluster that it works on.
    #[schema(value_type = Option<Uuid>)]
    pub cluster: Option<ClusterId>,
    /// Where it stands.
    #[schema(schema_with = schema::operation_state)]
    pub state: OperationState,
    /// The step that it is at.
    pub step: Option<String>,
    /// How often the step was tried.
    pub attempt: u32,
    /// Why it last failed: an object with `message`, and what else is known (for a migration: `file`, `line`,
    /// PostgreSQL's `sqlstate`, `detail`, `hint`).
    #[schema(value_type = Option<Object>)]
    pub error: Option<serde_json::Value>,
    /// Whether somebody asked for it to be walked back.
    pub cancel_requested: bool,
    /// When it is due next, or was last.
    pub next_run_at: Timestamp,
    /// Past it, it is walked back, or parked where that is too late; null before it began, and where it has none.
    pub deadline_at: Option<Timestamp>,
    /// Until when it waits for nothing but that time, such as the end of a grace period; null where it does not.
    pub waits_until: Option<Timestamp>,
    /// The operation that must finish before this one goes on.
    #[schema(value_type = Option<Uuid>)]
    pub held_by: Option<OperationId>,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
    /// Succeeded, failed or cancelled at.
    pub finished_at: Option<Timestamp>,
}

/// One entry of an operation's log. As a server-sent event its `id` is the event id, and `Last-Event-ID` resumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationEvent {
    /// Rises within the operation.
    pub id: i64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened, such as `step_done`.
    pub kind: String,
    /// At which step.
    pub step: Option<String>,
    /// What else is known.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// Which operations to list. Filters are joined by "and"; the newest come first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListOperations {
    /// On this tenant, by id or slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantRef>,
    /// On this cluster, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub cluster: Option<ClusterRef>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::operation_kind, required = false)]
    pub kind: Option<OperationKind>,
    /// States, separated by commas.
    #[serde(skip_serializing_if = "CommaSeparated::is_empty")]
    #[param(value_type = Option<String>, example = "parked,waiting")]
    pub state: CommaSeparated<OperationState>,
    /// Made then or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which part of an operation's log to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListOperationEvents {
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Why a person decides so about an operation. An empty body says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecideOperation {
    /// The reason, 1 to 500 characters. It is kept in the audit log and in the operation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    pub reason: Option<Reason>,
}
