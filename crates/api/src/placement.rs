//! Where a home would go, and why.

use serde::{Deserialize, Serialize};
use tenantry_domain::{
    Affinity, Apart, ClusterId, ClusterName, InvalidName, Isolation, Labels, Limits, PlanName, ProviderKind, Region,
};
use utoipa::{IntoParams, ToSchema};

use crate::query::CommaSeparated;
use crate::reference::{ClusterRef, TenantRef};
use crate::schema;
use crate::tenant::LabelSelector;

/// A cluster by its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacementCluster {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: ClusterId,
    /// Its name.
    #[schema(value_type = String, example = "eu-1")]
    pub name: ClusterName,
    /// Where its data is.
    #[schema(value_type = String, example = "eu-central-1")]
    pub region: Region,
}

/// One reason against a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacementRefusal {
    /// A word that programs may rely on: `apart`, `catalog`, `ceiling`, `claimed`, `connections`, `databases`, `disk`,
    /// `pin`, `read_only`, `region`, `state`, `tenancy`, `tenants` or `unreachable`.
    #[schema(example = "tenants")]
    pub code: String,
    /// The reason with its numbers.
    pub message: String,
}

/// What became of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsideredCluster {
    /// Which.
    pub cluster: PlacementCluster,
    /// Whether it is the one.
    pub is_chosen: bool,
    /// All that speaks against it; empty means that it would do.
    pub refusals: Vec<PlacementRefusal>,
    /// How full it is, in thousandths of its tightest limit. The least full is chosen among those that are otherwise
    /// equal, and by name where that is equal too.
    pub fullness_permille: u32,
    /// Tenants there that this one should keep away from; clusters with fewer come first.
    pub alike: u32,
    /// Whether its parent is there, and it wants to be too.
    pub is_near_parent: bool,
}

/// What a provider that starts clusters says to a wish for a whole one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderOffer {
    /// Which provider.
    #[schema(schema_with = schema::provider)]
    pub provider: ProviderKind,
    /// Whether the home would go to a cluster that it starts.
    pub is_chosen: bool,
    /// Why it does not; null where it would start one.
    pub refusal: Option<String>,
}

/// Where a home would go now, and why. A moment later another tenant may have the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    /// The plan.
    #[schema(value_type = String, example = "team")]
    pub plan: PlanName,
    /// What the tenant's region is called.
    #[schema(value_type = String, example = "eu")]
    pub region: Region,
    /// The regions in which its data may be.
    #[schema(value_type = Vec<String>)]
    pub allowed_regions: Vec<Region>,
    /// What it has to itself.
    #[schema(schema_with = schema::isolation)]
    pub isolation: Isolation,
    /// What it may use at most.
    #[schema(schema_with = schema::limits)]
    pub limits: Limits,
    /// Whether there is a place.
    pub is_possible: bool,
    /// The registered cluster it would go to; null where there is none, or a provider would start one.
    pub cluster: Option<PlacementCluster>,
    /// Why there is no place; null where there is one.
    pub reason: Option<String>,
    /// Every cluster that was looked at, in the order in which they would be chosen, the refused ones last; 200 at most.
    pub considered: Vec<ConsideredCluster>,
    /// How many were looked at.
    pub considered_total: u32,
    /// For isolation `cluster`: what the providers that start clusters say.
    pub offers: Vec<ProviderOffer>,
}

/// A home that is asked about. What is absent is filled in as for a new tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExplainPlacement {
    /// The tenant's plan; `developer` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "team")]
    pub plan: Option<PlanName>,
    /// Where its data must be, a region or a group; the control plane's default unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub region: Option<Region>,
    /// What it has to itself; the plan's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::isolation, required = false)]
    pub isolation: Option<Isolation>,
    /// The only cluster that will do, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cluster: Option<ClusterRef>,
    /// The tenant above it, by id or slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<TenantRef>,
    /// Its labels.
    #[schema(schema_with = schema::labels, required = false)]
    pub labels: Labels,
    /// Its own limits, in place of the plan's.
    #[schema(schema_with = schema::limits, required = false)]
    pub overrides: Limits,
    /// Whom it should live beside, and whom not.
    #[schema(schema_with = schema::affinity, required = false)]
    pub affinity: Affinity,
}

/// As [`ExplainPlacement`], in a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ExplainPlacementQuery {
    /// The tenant's plan; `developer` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub plan: Option<PlanName>,
    /// Where its data must be, a region or a group; the control plane's default unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub region: Option<Region>,
    /// What it has to itself; the plan's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::isolation, required = false)]
    pub isolation: Option<Isolation>,
    /// The only cluster that will do, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub cluster: Option<ClusterRef>,
    /// The tenant above it, by id or slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub parent: Option<TenantRef>,
    /// Its labels as `key=value`, separated by commas.
    #[serde(skip_serializing_if = "CommaSeparated::is_empty")]
    #[param(value_type = Option<String>, example = "group=skyteam")]
    pub labels: CommaSeparated<LabelSelector>,
    /// The connections that it may hold, in place of the plan's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Keep it away from tenants that bear the same value of this label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
    /// Whether no home is better than one beside such a tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart_required: Option<bool>,
    /// Prefer its parent's cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_parent: Option<bool>,
}

impl ExplainPlacementQuery {
    /// The question in one shape.
    pub fn into_question(self) -> Result<ExplainPlacement, InvalidName> {
        let labels = self.labels.0.into_iter().map(|it| (it.key, it.value.unwrap_or_default())).collect();
        let required = self.apart_required.unwrap_or(false);
        Ok(ExplainPlacement {
            plan: self.plan,
            region: self.region,
            isolation: self.isolation,
            cluster: self.cluster,
            parent: self.parent,
            labels: Labels::new(labels)?,
            overrides: Limits { connections: self.connections, ..Limits::default() },
            affinity: Affinity {
                apart: self.apart.map(|label| Apart::new(&label, required)).transpose()?,
                with_parent: self.with_parent,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_what_a_body_asks() {
        let query: ExplainPlacementQuery = serde_json::from_value(serde_json::json!({
            "plan": "team", "region": "eu", "labels": "group=skyteam", "apart": "group", "apart_required": true,
        }))
        .expect("valid");
        let body: ExplainPlacement = serde_json::from_value(serde_json::json!({
            "plan": "team", "region": "eu", "labels": {"group": "skyteam"},
            "affinity": {"apart": {"label": "group", "required": true}},
        }))
        .expect("valid");
        assert_eq!(query.into_question().expect("valid"), body);
        assert!(serde_json::from_str::<ExplainPlacement>(r#"{"slug": "acme"}"#).is_err());
    }
}
