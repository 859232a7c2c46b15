//! Region groups: one name for several regions.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{InvalidName, Region};

/// Members of a region group: 1 to 64 regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<Region>", into = "BTreeSet<Region>")]
pub struct GroupRegions(BTreeSet<Region>);

impl GroupRegions {
    /// Most regions in one group.
    pub const MAX: usize = 64;

    /// Checks their number.
    pub fn new(regions: BTreeSet<Region>) -> Result<Self, InvalidName> {
        if (1..=Self::MAX).contains(&regions.len()) {
            Ok(Self(regions))
        } else {
            Err(InvalidName::new("list of regions", "name 1 to 64 regions", &regions.len().to_string()))
        }
    }

    /// The regions, by name.
    pub const fn as_set(&self) -> &BTreeSet<Region> {
        &self.0
    }
}

impl TryFrom<BTreeSet<Region>> for GroupRegions {
    type Error = InvalidName;

    fn try_from(regions: BTreeSet<Region>) -> Result<Self, InvalidName> {
        Self::new(regions)
    }
}

impl From<GroupRegions> for BTreeSet<Region> {
    fn from(regions: GroupRegions) -> Self {
        regions.0
    }
}

/// Several regions, any of which will do for the data of a tenant whose region is the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionGroup {
    /// Its name, which no region has.
    pub name: Region,
    /// Its members.
    pub regions: GroupRegions,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at; also its version for conditional updates.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_members_and_not_too_many() {
        assert!(serde_json::from_str::<GroupRegions>(r#"["eu-1", "eu-2", "eu-1"]"#).is_ok_and(|it| it.0.len() == 2));
        assert!(serde_json::from_str::<GroupRegions>("[]").is_err());
        let many: BTreeSet<Region> = (0..65).filter_map(|n| Region::parse(&format!("r{n}")).ok()).collect();
        assert!(GroupRegions::new(many).is_err());
    }
}
