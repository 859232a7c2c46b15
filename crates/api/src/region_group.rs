//! Region groups.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{GroupRegions, Region};
use utoipa::ToSchema;

/// Several regions, any of which will do for the data of a tenant whose region is the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionGroup {
    /// Its identity: the name.
    #[schema(value_type = String, example = "eu")]
    pub id: Region,
    /// Its name, which no region has.
    #[schema(value_type = String, example = "eu")]
    pub name: Region,
    /// Its members, by name.
    #[schema(value_type = Vec<String>, example = json!(["eu-central-1", "eu-west-1"]))]
    pub regions: GroupRegions,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
}

impl From<tenantry_domain::RegionGroup> for RegionGroup {
    fn from(group: tenantry_domain::RegionGroup) -> Self {
        Self {
            id: group.name.clone(),
            name: group.name,
            regions: group.regions,
            created_at: group.created_at,
            updated_at: group.updated_at,
        }
    }
}

/// Makes a group, or gives it other members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutRegionGroup {
    /// All its members: 1 to 64 regions, none of which is a group.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 64)]
    pub regions: GroupRegions,
}
