//! Which schema versions a program can work with.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use tenantry_domain::SchemaVersion;

use crate::error::RouterError;
use crate::inner::CHANGING_RETRY;
use crate::table::Found;

/// A range of schema versions: a program that needs what a migration brings says from where on, one that needs what a
/// later one takes away says up to where. Made of `12..`, `12..=14` and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersions {
    least: i64,
    most: i64,
}

impl SchemaVersions {
    /// Every version.
    pub const ANY: Self = Self { least: i64::MIN, most: i64::MAX };

    pub(crate) fn of(range: impl RangeBounds<i64>) -> Self {
        let least = match range.start_bound() {
            Bound::Included(least) => *least,
            Bound::Excluded(below) => below.saturating_add(1),
            Bound::Unbounded => i64::MIN,
        };
        let most = match range.end_bound() {
            Bound::Included(most) => *most,
            Bound::Excluded(above) => above.saturating_sub(1),
            Bound::Unbounded => i64::MAX,
        };
        Self { least, most }
    }

    /// Whether a schema of that version will do.
    pub const fn contains(&self, version: SchemaVersion) -> bool {
        self.least <= version.0 && version.0 <= self.most
    }

    /// An error for a tenant whose schema will not do.
    pub(crate) fn check(self, found: &Found) -> Result<(), RouterError> {
        if self.contains(found.schema_version) {
            return Ok(());
        }
        // A schema only ever rises: what is behind will come, what is ahead never will.
        let is_behind = found.schema_version.0 < self.least;
        Err(RouterError::SchemaVersion {
            tenant: found.tenant,
            version: found.schema_version,
            wanted: self,
            retry_after: is_behind.then_some(CHANGING_RETRY),
        })
    }
}

impl fmt::Display for SchemaVersions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.most) {
            (i64::MIN, i64::MAX) => formatter.write_str("any version"),
            (least, i64::MAX) => write!(formatter, "at least version {least}"),
            (i64::MIN, most) => write!(formatter, "at most version {most}"),
            (least, most) => write!(formatter, "versions {least} to {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rust_writes_them() {
        let cases = [
            (SchemaVersions::of(12..), "at least version 12", 12, 11),
            (SchemaVersions::of(12..=14), "versions 12 to 14", 14, 15),
            (SchemaVersions::of(12..15), "versions 12 to 14", 14, 15),
            (SchemaVersions::of(..=14), "at most version 14", 0, 15),
        ];
        for (versions, said, within, without) in cases {
            assert_eq!(versions.to_string(), said);
            assert!(versions.contains(SchemaVersion(within)) && !versions.contains(SchemaVersion(without)), "{said}");
        }
        assert_eq!(SchemaVersions::of(..), SchemaVersions::ANY);
    }
}
