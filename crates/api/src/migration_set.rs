//! Migration sets.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{DisplayName, MigrationSetId, SchemaVersion};
use utoipa::ToSchema;

/// An immutable, content-addressed list of versioned SQL files, and of repeatable ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MigrationSet {
    /// Its digest: 64 hexadecimal digits (SHA-256).
    #[schema(value_type = String)]
    pub id: MigrationSetId,
    /// What it was called when it was first pushed.
    #[schema(value_type = String, example = "flights")]
    pub name: DisplayName,
    /// The highest version in it.
    #[schema(value_type = i64, example = 12)]
    pub latest_version: SchemaVersion,
    /// First pushed at.
    pub created_at: Timestamp,
    /// New tenants start with it since; null while they do not.
    pub promoted_at: Option<Timestamp>,
    /// Its migrations in order. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<Vec<Migration>>,
    /// Its repeatable migrations, by name: applied after the others, and again whenever they change. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeatables: Option<Vec<Repeatable>>,
}

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Migration {
    /// Its version.
    #[schema(value_type = i64, example = 7)]
    pub version: SchemaVersion,
    /// Its name, without prefix and ending.
    #[schema(example = "delays")]
    pub name: String,
    /// The checksum that the migration history holds, as 16 hexadecimal digits: JSON numbers cannot bear 64 bits.
    #[schema(example = "00c0ffee00c0ffee")]
    pub checksum: String,
    /// Whether it runs in one transaction with its history row.
    pub transactional: bool,
    /// `expand` or `contract`, if the file says so.
    pub phase: Option<String>,
    /// Which version of the product's program it needs, in the words of its header `-- requires-app: …`, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = ">= 2.4")]
    pub requires_app: Option<String>,
    /// Whether the set has a file that undoes it.
    #[serde(default)]
    pub reversible: bool,
}

/// One file of a set that has no version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repeatable {
    /// Its name, without prefix and ending.
    #[schema(example = "views")]
    pub name: String,
    /// The checksum by which a home knows whether it has the file as it is, as 16 hexadecimal digits.
    #[schema(example = "00c0ffee00c0ffee")]
    pub checksum: String,
    /// Whether it runs in one transaction with the row that bears its checksum.
    pub transactional: bool,
    /// `expand` or `contract`, if the file says so.
    pub phase: Option<String>,
}

impl Migration {
    /// A checksum as the contract writes it.
    pub fn checksum_text(checksum: u64) -> String {
        format!("{checksum:016x}")
    }
}

/// Registers a set. Content that is known already is not stored again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushMigrationSet {
    /// What people call it.
    #[schema(value_type = String, example = "flights", max_length = 200)]
    pub name: DisplayName,
    /// Its files, in any order.
    #[schema(min_items = 1)]
    pub files: Vec<MigrationFile>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrationFile {
    /// `V<version>__<name>.sql`, `U<version>__<name>.sql` or `R__<name>.sql`; what undoes one of the first two is named like it
    /// and ends in `.down.sql`.
    #[schema(example = "V1__airports.sql")]
    pub name: String,
    /// Its content, byte by byte.
    #[schema(example = "create table airports (code text primary key);")]
    pub content: String,
}
