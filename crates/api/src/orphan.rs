//! Orphans: what the catalog and the clusters disagree on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{ClusterId, OrphanId, OrphanKind, OrphanVerdict};
use utoipa::{IntoParams, ToSchema};

use crate::query::PageLimit;
use crate::reference::ClusterRef;
use crate::schema;

/// Something on a cluster that the catalog does not know, or knows as gone; or the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orphan {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: OrphanId,
    /// The cluster that it is on.
    #[schema(value_type = Uuid)]
    pub cluster: ClusterId,
    /// What it is.
    #[schema(schema_with = schema::orphan_kind)]
    pub kind: OrphanKind,
    /// Its name there.
    pub name: String,
    /// For schemas: the database.
    pub parent: Option<String>,
    /// What is to be thought of it: `ours` is removed once its delay is over, `foreign` is never touched, `missing` was
    /// made and is not there.
    #[schema(schema_with = schema::orphan_verdict)]
    pub verdict: OrphanVerdict,
    /// Why.
    pub reason: String,
    /// Seen since.
    pub first_seen: Timestamp,
    /// Last seen at.
    pub last_seen: Timestamp,
    /// Removed from then on; null where it never is.
    pub removable_after: Option<Timestamp>,
    /// Settled since; null while it stands.
    pub gone_at: Option<Timestamp>,
    /// Whether it was settled by removing it.
    pub removed: bool,
    /// Why the last attempt at removing it failed.
    pub error: Option<String>,
}

/// Which orphans to list. Filters are joined by "and"; the newest come first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListOrphans {
    /// On this cluster, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub cluster: Option<ClusterRef>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::orphan_kind)]
    pub kind: Option<OrphanKind>,
    /// With this verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::orphan_verdict)]
    pub verdict: Option<OrphanVerdict>,
    /// Those that are settled too; they are remembered for 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<bool>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
