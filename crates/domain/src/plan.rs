//! Plans: what a tenant is given by default.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::isolation::Isolation;
use crate::limits::Limits;
use crate::name::PlanName;

/// Price fields, for showing and for billing elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// ISO 4217 code, such as `EUR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Price of a month in the currency's smallest unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_minor: Option<i64>,
}

/// Quotas, features, default isolation and limits that tenants get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name, which is also its identity.
    pub name: PlanName,
    /// What a tenant of the plan has to itself, unless an isolation was given.
    pub isolation: Isolation,
    /// Product quotas, by name.
    pub quotas: BTreeMap<String, i64>,
    /// Product features that are on.
    pub features: Vec<String>,
    /// Ceilings.
    pub limits: Limits,
    /// Price fields.
    pub price: Price,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
}

/// The plan of a tenant that names none.
pub const DEFAULT_PLAN: &str = "developer";
