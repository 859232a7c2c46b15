//! How a tenant is.

use serde::{Deserialize, Serialize};
use tenantry_domain::{SchemaVersion, TenantId, TenantStatus};
use utoipa::ToSchema;

use crate::operation::Operation;
use crate::schema;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// What: `placement`, `operation`, `login`, `stamp`, `schema`, `size` or `connections`.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen, as a sentence.
    pub why: String,
}

/// How many sessions a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthConnections {
    /// Now; null where the cluster did not answer.
    pub now: Option<u32>,
    /// At most; null for no ceiling.
    pub limit: Option<u32>,
}

/// How a tenant is, as seen just now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantHealth {
    /// Which tenant.
    #[schema(value_type = Uuid)]
    pub tenant: TenantId,
    /// Where it stands.
    #[schema(schema_with = schema::tenant_status)]
    pub status: TenantStatus,
    /// Whether every check is well.
    pub healthy: bool,
    /// What was looked at.
    pub checks: Vec<HealthCheck>,
    /// The version of the home's own history; null where it was not read.
    #[schema(value_type = Option<i64>)]
    pub schema_version: Option<SchemaVersion>,
    /// Bytes on disk; null where they were not measured.
    pub size_bytes: Option<u64>,
    /// Its sessions.
    pub connections: HealthConnections,
    /// The newest operation on it; null if there never was one.
    pub last_operation: Option<Operation>,
}
