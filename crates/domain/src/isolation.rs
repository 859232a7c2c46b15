//! The unit that is a tenant's own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::InvalidName;

/// What a tenant has to itself, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Rows of common tables under row-level security.
    Row,
    /// A schema in a shared database.
    Schema,
    /// A database on a shared cluster.
    Database,
    /// A whole PostgreSQL server.
    Cluster,
}

impl Isolation {
    /// All of them, from the least to the most.
    pub const ALL: [Self; 4] = [Self::Row, Self::Schema, Self::Database, Self::Cluster];

    /// The word used in JSON, SQL and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Schema => "schema",
            Self::Database => "database",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Isolation {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL
            .into_iter()
            .find(|isolation| isolation.as_str() == text)
            .ok_or_else(|| InvalidName::new("isolation", "use row, schema, database or cluster", text))
    }
}
