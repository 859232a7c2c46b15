//! One file of a set.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a migration is ordered against those already applied: refinery's two kinds, and one that is Tenantry's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationKind {
    /// `V`: refused when a home has already gone past its version.
    Versioned,
    /// `U`: applied whenever it is missing, also below a home's version.
    Unversioned,
    /// `R`: has no version; applied after all that have one, and again whenever its content changes.
    Repeatable,
}

impl MigrationKind {
    /// The first letter of the file name.
    pub fn prefix(self) -> char {
        match self {
            Self::Versioned => 'V',
            Self::Unversioned => 'U',
            Self::Repeatable => 'R',
        }
    }
}

/// What a migration does to running programs, as its author declares with `-- phase: …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Adds; programs of the version before go on working.
    Expand,
    /// Takes away; programs of the version before must be gone.
    Contract,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Expand => "expand",
            Self::Contract => "contract",
        })
    }
}

/// One migration: a file that was read and found good. Only a [`MigrationSet`](crate::MigrationSet) makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// From 1 upwards, unique within its set; 14-digit time stamps fit. 0 for a repeatable one.
    pub version: i64,
    /// What stands between `__` and `.sql`.
    pub name: String,
    /// Versioned, unversioned or repeatable.
    pub kind: MigrationKind,
    /// The file's content, byte by byte, line endings as they were.
    pub sql: String,
    /// refinery's own checksum over name, version and content, as its history table holds it; of a repeatable one, the
    /// first 64 bits of SHA-256 over name and content.
    pub checksum: u64,
    /// Whether it runs in one transaction with its history row; false under the header `-- no-transaction`.
    pub transactional: bool,
    /// From the header `-- phase: expand|contract`, if there is one.
    pub phase: Option<Phase>,
    /// From the header `-- requires-app: …`, if there is one: which version of the product's program the migration needs,
    /// in the author's own words.
    pub requires_app: Option<String>,
    /// What undoes it, from the file `….down.sql` beside it, if there is one. Its name ends in `.down`.
    pub down: Option<Box<Migration>>,
}

impl Migration {
    /// The file's name, as [`MigrationSet::from_files`](crate::MigrationSet::from_files) takes it back.
    pub fn file_name(&self) -> String {
        format!("{self}.sql")
    }

    /// The same migration for refinery's planning: name, version, checksum and content agree with this one's. refinery
    /// knows no repeatable ones.
    pub fn to_refinery(&self) -> Result<refinery_core::Migration, refinery_core::Error> {
        refinery_core::Migration::unapplied(&self.to_string(), &self.sql)
    }
}

/// Prints as refinery prints it, `V7__delays`, and a repeatable one as `R__delays`.
impl fmt::Display for Migration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == MigrationKind::Repeatable {
            return write!(formatter, "R__{}", self.name);
        }
        write!(formatter, "{}{}__{}", self.kind.prefix(), self.version, self.name)
    }
}
