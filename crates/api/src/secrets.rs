//! What seals the secrets in the catalog.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// How secrets are sealed now: each with a data key of the home or of the platform, each data key wrapped by a master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretsStatus {
    /// The version of the master key that wraps data keys.
    pub current_version: Option<i32>,
    /// What another master key still holds and is yet to be moved; zero when a rotation is complete.
    pub pending: u32,
    /// Every master key that is known, ascending by version.
    pub master_keys: Vec<MasterKey>,
    /// Replicas that were heard of within the last minute.
    pub replicas: Vec<KeyReplica>,
}

/// A master key. The key itself is in no answer and not in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MasterKey {
    /// Its version.
    pub version: i32,
    /// Whether it wraps new data keys.
    pub is_current: bool,
    /// Data keys that it wraps.
    pub data_keys: u32,
    /// Secrets that it seals itself, from before there were data keys.
    pub direct_secrets: u32,
    /// Live replicas that have it.
    pub replicas: u32,
    /// Whether nothing needs it any more: it can be taken out of every configuration, and destroyed.
    pub is_removable: bool,
    /// First seen at.
    pub created_at: Timestamp,
}

/// A replica of the control plane, and the master keys in its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyReplica {
    /// Its id, new at every start.
    pub id: Uuid,
    /// The versions that it has.
    pub versions: Vec<i32>,
    /// The version that it wraps with.
    pub wraps_with: i32,
    /// Last heard of.
    pub seen_at: Timestamp,
}
