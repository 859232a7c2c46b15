//! Drift: tenants whose schema is not what their migrations make.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{DriftFilter, DriftState, HomeId, SchemaVersion, Slug, TenantId};
use utoipa::{IntoParams, ToSchema};

use crate::query::{OutOfBounds, PageLimit, bounded};
use crate::reference::TenantRef;
use crate::schema;

/// What the last look at a tenant's schema found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drift {
    /// Who.
    #[schema(value_type = Uuid)]
    pub tenant: TenantId,
    /// Its slug.
    #[schema(value_type = String)]
    pub slug: Slug,
    /// The home that it lives in; null where it lives in none.
    #[schema(value_type = Option<Uuid>)]
    pub home: Option<HomeId>,
    /// The version of the home's own history; null until the first look.
    #[schema(value_type = Option<i64>)]
    pub version: Option<SchemaVersion>,
    /// `clean`; `drifted`, where objects are not what the migrations make; `diverged`, where the home has other migrations
    /// than the fleet. Null until the first look.
    #[schema(schema_with = schema::optional_drift_state)]
    pub state: Option<DriftState>,
    /// Whether it is drifted or diverged.
    pub in_drift: bool,
    /// Why it is, in a sentence; null where it is not.
    pub reason: Option<String>,
    /// Digest of the home's objects, the same in all homes that have the same.
    pub fingerprint: Option<String>,
    /// How many objects differ.
    pub objects: DriftObjects,
    /// In drift since.
    pub since: Option<Timestamp>,
    /// Last looked at with success.
    pub checked_at: Option<Timestamp>,
    /// The last attempt to look.
    pub attempted_at: Option<Timestamp>,
    /// Why that came to nothing; the rest is of the last one that did not.
    pub error: Option<String>,
    /// The objects that differ, the first 200; only where one tenant is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differences: Option<Vec<DriftDifference>>,
}

/// How many objects differ from what the migrations make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriftObjects {
    /// Not there.
    pub missing: u32,
    /// There, and made by no migration.
    pub unexpected: u32,
    /// There, and otherwise.
    pub changed: u32,
}

/// An object that is not what the migrations make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriftDifference {
    /// What it is, such as `table`, `column`, `index`, `constraint`, `view`, `function`, `trigger` or `policy`.
    pub kind: String,
    /// Its name; of what belongs to a table, after the table's.
    pub name: String,
    /// What the migrations make, cut after 2,000 characters; null for an object that should not be there.
    pub expected: Option<String>,
    /// What is there, cut likewise; null for an object that is missing.
    pub found: Option<String>,
}

/// Which tenants to list. Filters are joined by "and"; the oldest tenants come first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListDrift {
    /// This one, by id or slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantRef>,
    /// `drifted` for those in drift, `all` for everybody, also those that were never looked at; `all` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(schema_with = schema::drift_filter)]
    pub state: Option<DriftFilter>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

bounded! {
    /// How many tenants one call looks at at most: 1 to 200.
    CheckLimit(u8), 1..=200
}

bounded! {
    /// How many tenants make a sample: 1 to 1 000 000.
    SampleSize(u32), 1..=1_000_000
}

/// Looks at tenants now. One of `tenants`, `label`, `all` and `sample` says at whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckDrift {
    /// At these, by id or slug, at most 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 200)]
    pub tenants: Option<Vec<TenantRef>>,
    /// At those that bear a label: `key`, or `key=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// At everybody.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// At so many that were not looked at for the longest time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    pub sample: Option<SampleSize>,
    /// How many in this call, 1 to 200; 50 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 200)]
    pub limit: Option<CheckLimit>,
    /// The `next` of the call before, with the same choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Tenants that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckedDrift {
    /// Them, as they are now.
    pub items: Vec<Drift>,
    /// Where the next call goes on; null once all are looked at.
    pub next: Option<String>,
    /// How many are left for that.
    pub left: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at_is_bounded_and_nothing_else_is_understood() {
        let read = |text: &str| serde_json::from_str::<CheckDrift>(text);
        assert!(read(r#"{"tenants": ["acme", "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506"]}"#).is_ok());
        assert!(read(r#"{"all": true, "limit": 200}"#).is_ok());
        assert!(read(r#"{"all": true, "limit": 201}"#).is_err());
        assert!(read(r#"{"sample": 0}"#).is_err());
        assert!(read(r#"{"everybody": true}"#).is_err());
        assert_eq!(serde_json::to_string(&CheckDrift::default()).expect("JSON"), "{}");
    }
}
