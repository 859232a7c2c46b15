//! Asking many tenants the same question at the same time.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tenantry_domain::Slug;
use utoipa::ToSchema;

use crate::query::{OutOfBounds, bounded};
use crate::reference::TenantRef;
use crate::tenant::ListTenants;

bounded! {
    /// How many tenants are asked at the same time: 1 to 64.
    QueryConcurrency(u8), 1..=64
}

bounded! {
    /// How long the statement may run for one tenant: 1 to 600 000 milliseconds.
    QueryTimeoutMs(u32), 1..=600_000
}

bounded! {
    /// After which time no more tenants are asked: 1 to 3 600 seconds.
    QueryTimeLimit(u16), 1..=3_600
}

bounded! {
    /// How many rows of one tenant are told: 1 to 1 000 000.
    QueryRowsMax(u32), 1..=1_000_000
}

/// One statement that reads, and whom to ask: exactly one of `tenants`, `filter` and `all`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetQuery {
    /// The statement, at most 100 000 bytes. Its names are looked for in the tenant's own schema first.
    #[schema(example = "SELECT count(*) AS flights FROM flights", max_length = 100_000)]
    pub sql: String,
    /// These tenants, by id or slug, at most 1 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 1_000)]
    pub tenants: Option<Vec<TenantRef>>,
    /// The tenants that the filters of `GET /v1/tenants` find, `{"labels": "tier=gold", "region": "eu"}`. At least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<ListTenants>,
    /// All tenants.
    #[serde(default)]
    pub all: bool,
    /// How many tenants are asked at the same time, 1 to 64; 16 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 64)]
    pub concurrency: Option<QueryConcurrency>,
    /// How many of them on one cluster, 1 to 64; 8 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 64)]
    pub per_cluster: Option<QueryConcurrency>,
    /// The longest that the statement may run for one tenant, in milliseconds, 1 to 600 000; 10 000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 600_000)]
    pub statement_timeout_ms: Option<QueryTimeoutMs>,
    /// After so many seconds no more tenants are asked, 1 to 3 600; 600 unless given. The others are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 3_600)]
    pub time_limit_seconds: Option<QueryTimeLimit>,
    /// Most rows of one tenant, 1 to 1 000 000; 1 000 unless given. A tenant with more is `truncated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    pub rows_max: Option<QueryRowsMax>,
}

/// One line of the answer, in no order between tenants. An answer without a summary at its end broke off. Empty lines mean
/// that it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum QueryLine {
    /// A row.
    Row(QueryRow),
    /// All rows of a tenant were told.
    Reached(QueryReached),
    /// A tenant's answer is missing, or broke off.
    Failed(QueryFailed),
    /// A tenant was not asked.
    Skipped(QuerySkipped),
    /// The end.
    Summary(QuerySummary),
}

/// A row of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueryRow {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: Slug,
    /// An object of its columns, in order. Booleans, whole numbers, floating-point numbers, `numeric` of at most 15 digits
    /// and JSON are such; everything else is text as PostgreSQL writes it.
    #[schema(value_type = Object)]
    pub row: QueryValues,
}

/// The columns of a row with their values, in the statement's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryValues(pub Vec<(String, Value)>);

/// A tenant that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueryReached {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: Slug,
    /// How many rows were told.
    pub rows: u64,
    /// Whether there were more.
    pub truncated: bool,
}

/// A tenant that did not answer, or not to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueryFailed {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: Slug,
    /// Why.
    pub error: QueryError,
}

/// Why a tenant did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueryError {
    /// The message.
    pub message: String,
    /// PostgreSQL's SQLSTATE, where it refused the statement.
    pub sqlstate: Option<String>,
    /// More about it.
    pub detail: Option<String>,
    /// What might help.
    pub hint: Option<String>,
    /// The character of the statement, from 1, where the mistake is.
    pub position: Option<u32>,
}

/// A tenant that was not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuerySkipped {
    /// Whom.
    #[schema(value_type = String)]
    pub tenant: Slug,
    /// Why: it is suspended, moving, being made or deleted, or the time was over.
    pub reason: String,
}

/// How many tenants came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuerySummary {
    /// Answered.
    pub reached: u64,
    /// Did not, or not to the end.
    pub failed: u64,
    /// Were not asked.
    pub skipped: u64,
    /// Rows that were told, of all.
    pub rows: u64,
    /// Tenants that had more rows than were told.
    pub truncated: u64,
}

impl Serialize for QueryValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for QueryValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;

        impl<'de> Visitor<'de> for Columns {
            type Value = QueryValues;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<QueryValues, A::Error> {
                let mut columns = Vec::with_capacity(map.size_hint().unwrap_or_default().min(64));
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(QueryValues(columns))
            }
        }

        deserializer.deserialize_map(Columns)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_keep_their_order() {
        let text = r#"{"type":"row","tenant":"acme","row":{"zulu":1,"alpha":null,"mike":{"a":[true]}}}"#;
        let line: QueryLine = serde_json::from_str(text).expect("a line");
        let QueryLine::Row(row) = &line else { panic!("{line:?}") };
        let names: Vec<&str> = row.row.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["zulu", "alpha", "mike"]);
        assert_eq!(serde_json::to_string(&line).expect("serialises"), text);
    }

    #[test]
    fn what_is_asked_for_is_bounded() {
        let read = |more: serde_json::Value| {
            let mut query = json!({ "sql": "SELECT 1", "all": true });
            query.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            serde_json::from_value::<FleetQuery>(query)
        };
        assert!(read(json!({ "concurrency": 64, "statement_timeout_ms": 600_000, "rows_max": 1 })).is_ok());
        for bad in [
            json!({ "concurrency": 0 }),
            json!({ "per_cluster": 65 }),
            json!({ "statement_timeout_ms": 0 }),
            json!({ "rows_max": 1_000_001 }),
            json!({ "time_limit_seconds": 3_601 }),
            json!({ "write": true }),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
