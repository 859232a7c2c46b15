//! What a frozen plan is known by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::migration::MigrationSetId;
use crate::name::InvalidName;

/// The digest of a rollout's plan: 64 hexadecimal digits (SHA-256) over all that it would do. Where it is the same, a
/// rollout would do the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RolloutPlanDigest(String);

impl RolloutPlanDigest {
    /// Checks the form.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let valid = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("digest of a plan", "use its 64 hexadecimal digits", text))
        }
    }

    /// Of this SHA-256.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(MigrationSetId::from_digest(digest).into())
    }

    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RolloutPlanDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for RolloutPlanDigest {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RolloutPlanDigest {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<RolloutPlanDigest> for String {
    fn from(digest: RolloutPlanDigest) -> String {
        digest.0
    }
}
