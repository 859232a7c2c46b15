//! Making a database or schema that is there already a tenant's.

use serde::{Deserialize, Serialize};
use tenantry_domain::{DatabaseName, DisplayName, Isolation, Labels, PlanName, SchemaName, SchemaVersion, Slug};
use utoipa::{IntoParams, ToSchema};

use crate::query::WaitSeconds;
use crate::reference::{ClusterRef, TenantRef};
use crate::schema;

/// Adopts a database, or one schema of it. Slug, cluster and database are needed. Its region is the cluster's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptTenant {
    /// The tenant's name in URLs and hosts: a DNS label, unique for ever.
    #[schema(value_type = String, example = "acme", max_length = 63)]
    pub slug: Slug,
    /// Its name for people; the slug unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 200)]
    pub name: Option<DisplayName>,
    /// Its plan; `developer` unless given. What it has to itself follows from what is adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "team")]
    pub plan: Option<PlanName>,
    /// The tenant above it, by id or slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<TenantRef>,
    /// Marks for selecting.
    #[serde(default)]
    #[schema(schema_with = schema::labels)]
    pub labels: Labels,
    /// The cluster that the database is on, by id or name.
    #[schema(value_type = String, example = "eu-1")]
    pub cluster: ClusterRef,
    /// The database.
    #[schema(value_type = String, example = "acme_production", max_length = 63)]
    pub database: DatabaseName,
    /// The schema, if only that becomes the tenant's; the whole database unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 63)]
    pub schema: Option<SchemaName>,
    /// The version of the promoted migration set that the tables are at already. Needless where a history is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0)]
    pub baseline_version: Option<SchemaVersion>,
}

/// How to adopt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct AdoptQuery {
    /// Only look and tell.
    pub dry_run: bool,
    /// Holds the answer until the work is finished or parked, for so many seconds at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u8>, maximum = 60)]
    pub wait: Option<WaitSeconds>,
}

/// What an adoption would find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdoptionReport {
    /// Whether nothing stands in the way.
    pub is_possible: bool,
    /// Everything worth knowing, blockers first.
    pub findings: Vec<AdoptionFinding>,
    /// What the tenant would have to itself.
    #[schema(schema_with = schema::isolation)]
    pub isolation: Isolation,
    /// Objects that would change their owner.
    pub objects: i64,
    /// Bytes on disk, of the whole database.
    pub size_bytes: i64,
    /// The version that the history would begin at.
    #[schema(value_type = i64)]
    pub schema_version: SchemaVersion,
    /// The version of the promoted migration set; null where none is.
    #[schema(value_type = Option<i64>)]
    pub latest_version: Option<SchemaVersion>,
}

/// One thing about a database that is to be adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdoptionFinding {
    /// How much it weighs.
    pub severity: AdoptionSeverity,
    /// A word for it that stays the same, such as `prepared_transactions`.
    pub code: String,
    /// What it is.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdoptionSeverity {
    /// Nothing is adopted while it stands.
    Blocker,
    /// It can be adopted; somebody should know.
    Warning,
}
