//! Plans, and what holds for a tenant.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{
    Affinity, Effective, Isolation, LimitValue, Limits, Origin, PlanName, Price, SeedName, TenantId,
};
use utoipa::ToSchema;

use crate::patch::{LimitsPatch, Patch, merge, never_null};
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
    #[schema(schema_with = schema::quotas)]
    pub quotas: BTreeMap<String, i64>,
    /// Product features that are on.
    pub features: Vec<String>,
    /// Ceilings.
    #[schema(schema_with = schema::limits)]
    pub limits: Limits,
    /// Price fields, for showing and for billing elsewhere.
    #[schema(schema_with = schema::price)]
    pub price: Price,
    /// The name of the seed that homes of new tenants are filled with.
    #[schema(value_type = Option<String>)]
    pub seed: Option<SeedName>,
    /// Whom its tenants should live beside, and whom not, unless they say so themselves.
    #[serde(default)]
    #[schema(schema_with = schema::affinity)]
    pub affinity: Affinity,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
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
            seed: plan.seed,
            affinity: plan.affinity,
            created_at: plan.created_at,
            updated_at: plan.updated_at,
        }
    }
}

/// Creates a plan. Name and isolation have no default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePlan {
    /// Its name, unique.
    #[schema(value_type = String, example = "team", max_length = 63)]
    pub name: PlanName,
    /// What a tenant of the plan has to itself, unless an isolation is given.
    #[schema(schema_with = schema::isolation)]
    pub isolation: Isolation,
    /// Product quotas, by name.
    #[serde(default)]
    #[schema(schema_with = schema::quotas, required = false)]
    pub quotas: BTreeMap<String, i64>,
    /// Product features that are on.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub features: Vec<String>,
    /// Ceilings; each absent one is "no ceiling".
    #[serde(default)]
    #[schema(schema_with = schema::limits, required = false)]
    pub limits: Limits,
    /// Price fields.
    #[serde(default)]
    #[schema(schema_with = schema::price, required = false)]
    pub price: Price,
    /// The name of the seed that homes of new tenants are filled with; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub seed: Option<SeedName>,
    /// Whom its tenants should live beside, and whom not, unless they say so themselves.
    #[serde(default, skip_serializing_if = "Affinity::is_empty")]
    #[schema(schema_with = schema::affinity, required = false)]
    pub affinity: Affinity,
}

/// Changes a plan. Absent fields stay. Tenants get new limits as they are; a new isolation holds for new tenants only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpdatePlan {
    /// What new tenants of the plan have to themselves.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::isolation, required = false)]
    pub isolation: Option<Isolation>,
    /// Quotas to set, or to remove by null; null for the whole removes all.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(schema_with = schema::quotas_patch, required = false)]
    pub quotas: Patch<BTreeMap<String, Option<i64>>>,
    /// All features anew.
    #[serde(deserialize_with = "never_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false, max_items = 64)]
    pub features: Option<Vec<String>>,
    /// Limits to set, or to remove by null; null for the whole removes all.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<LimitsPatch>)]
    pub limits: Patch<LimitsPatch>,
    /// All price fields anew; null removes them.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(schema_with = schema::price, required = false)]
    pub price: Patch<Price>,
    /// The name of another seed for new tenants; null for none.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<String>)]
    pub seed: Patch<SeedName>,
    /// Whom tenants to come should live beside, and whom not, anew as a whole; null removes it.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(schema_with = schema::affinity_patch, required = false)]
    pub affinity: Patch<Affinity>,
}

impl UpdatePlan {
    /// The quotas after the change.
    #[must_use]
    pub fn quotas(&self, current: BTreeMap<String, i64>) -> BTreeMap<String, i64> {
        merge(&self.quotas, current)
    }

    /// The limits after the change.
    #[must_use]
    pub fn limits(&self, current: Limits) -> Limits {
        match &self.limits {
            Patch::Keep => current,
            Patch::Clear => Limits::default(),
            Patch::Set(patch) => patch.apply(current),
        }
    }
}

/// A limit that holds for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveLimit {
    /// The ceiling, or whether it is allowed; null for no ceiling.
    #[schema(value_type = Option<serde_json::Value>)]
    pub value: Option<LimitValue>,
    /// Who says so.
    #[schema(schema_with = schema::origin)]
    pub origin: Origin,
}

/// A quota that holds for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveQuota {
    /// How much.
    pub value: i64,
    /// Who says so.
    #[schema(schema_with = schema::origin)]
    pub origin: Origin,
}

/// A feature that a tenant has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveFeature {
    /// Whether it is on.
    pub value: bool,
    /// Who says so.
    #[schema(schema_with = schema::origin)]
    pub origin: Origin,
}

/// What holds for a tenant: its plan with its overrides in place, and where each value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectivePlan {
    /// Whose.
    #[schema(value_type = Uuid)]
    pub tenant: TenantId,
    /// The plan.
    #[schema(value_type = String, example = "team")]
    pub plan: PlanName,
    /// Every limit, those without a ceiling too.
    pub limits: BTreeMap<String, EffectiveLimit>,
    /// Every quota.
    pub quotas: BTreeMap<String, EffectiveQuota>,
    /// Every feature.
    pub features: BTreeMap<String, EffectiveFeature>,
}

impl EffectivePlan {
    /// The answer for a tenant.
    pub fn of(tenant: TenantId, effective: tenantry_domain::EffectivePlan) -> Self {
        let limit = |Effective { value, origin }| EffectiveLimit { value, origin };
        let quota = |Effective { value, origin }| EffectiveQuota { value, origin };
        let feature = |Effective { value, origin }| EffectiveFeature { value, origin };
        Self {
            tenant,
            plan: effective.plan,
            limits: effective.limits.into_iter().map(|(name, it)| (name.to_owned(), limit(it))).collect(),
            quotas: effective.quotas.into_iter().map(|(name, it)| (name, quota(it))).collect(),
            features: effective.features.into_iter().map(|(name, it)| (name, feature(it))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_merges_limits_and_quotas_and_replaces_features() {
        let update: UpdatePlan = serde_json::from_str(
            r#"{"limits": {"connections": null, "pool_size": 3}, "quotas": {"seats": 9}, "features": ["sso"]}"#,
        )
        .expect("valid");
        let limits = update.limits(Limits { connections: Some(5), temporary_tables: Some(true), ..Limits::default() });
        assert_eq!((limits.connections, limits.pool_size, limits.temporary_tables), (None, Some(3), Some(true)));
        assert_eq!(update.quotas(BTreeMap::from([("flights".to_owned(), 1)])).len(), 2);
        assert!(serde_json::from_str::<UpdatePlan>(r#"{"isolation": null}"#).is_err());
        assert!(serde_json::from_str::<UpdatePlan>(r#"{"name": "other"}"#).is_err());
        assert_eq!(serde_json::to_string(&UpdatePlan::default()).expect("serialises"), "{}");
    }
}
