//! Plans.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tenantry_domain::{Isolation, Limits, PlanName, Price};
use utoipa::ToSchema;

use crate::schema;

/// Quotas, features, default isolation and limits that tenants get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Its identity: the name.
    #[schema(value_type = String, example = "team")]
    pub id: PlanName,
    /// Its name.
    #[schema(value_type = String, example = "team")]
    pub name: PlanName,
    /// What a tenant of the plan has to itself, unless an isolation was given.
    #[schema(schema_with = schema::isolation)]
    pub isolation: Isolation,
    /// Product quotas, by name.
    pub quotas: BTreeMap<String, i64>,
    /// Product features that are on.
    pub features: Vec<String>,
    /// Ceilings.
    #[schema(schema_with = schema::limits)]
    pub limits: Limits,
    /// Price fields, for showing and for billing elsewhere.
    #[schema(schema_with = schema::price)]
    pub price: Price,
}

impl From<tenantry_domain::Plan> for Plan {
    fn from(plan: tenantry_domain::Plan) -> Self {
        Self {
            id: plan.name.clone(),
            name: plan.name,
            isolation: plan.isolation,
            quotas: plan.quotas,
            features: plan.features,
            limits: plan.limits,
            price: plan.price,
        }
    }
}
