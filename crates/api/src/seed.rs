//! Seeds: what new homes are filled with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{SeedId, SeedName};
use utoipa::ToSchema;

/// SQL that fills a new home once. It never changes; another text under the same name is another seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Seed {
    /// The digest of its name and text.
    #[schema(value_type = String)]
    pub id: SeedId,
    /// Its name, which stands for the newest that bears it.
    #[schema(value_type = String, example = "demo-data")]
    pub name: SeedName,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its text; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Registered at.
    pub created_at: Timestamp,
    /// Since when no new tenant gets it.
    pub retired_at: Option<Timestamp>,
}

/// Registers a seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushSeed {
    /// Its name.
    #[schema(value_type = String, example = "demo-data", max_length = 63)]
    pub name: SeedName,
    /// Its text: at most 1 MiB, by the rules of migration files, without transaction commands.
    #[schema(example = "INSERT INTO settings (key, value) VALUES ('theme', 'light');")]
    pub sql: String,
}
