//! Physical standbys of clusters, from which may be read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::{Endpoint, TlsMode};
use crate::id::{ClusterId, ClusterReplicaId};
use crate::name::InvalidName;
use crate::word::words;

words! {
    /// Whether a replica can be read from, as far as was seen.
    ReplicaState, "replica state", "use healthy, lagging, not_standby or unreachable", {
        /// It answers and is no further behind than it may be.
        Healthy => "healthy",
        /// It answers, and is further behind than it may be, or nobody can tell how far.
        Lagging => "lagging",
        /// It answers and is a standby of the cluster no longer: promoted, or another server. Routers do not hear of it.
        NotStandby => "not_standby",
        /// It does not answer.
        Unreachable => "unreachable",
    }
}

/// How far a replica may be behind before nothing is read from it, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct LagMax(u32);

impl LagMax {
    /// The most: a day.
    pub const MAX_MS: u32 = 24 * 60 * 60 * 1_000;

    /// Checks the bound.
    pub fn from_ms(milliseconds: u32) -> Result<Self, InvalidName> {
        if (1..=Self::MAX_MS).contains(&milliseconds) {
            Ok(Self(milliseconds))
        } else {
            let rule = "use 1 to 86400000 milliseconds (a day)";
            Err(InvalidName::new("lag that a replica may have", rule, &milliseconds.to_string()))
        }
    }

    /// In milliseconds.
    pub const fn as_ms(self) -> u32 {
        self.0
    }
}

impl Default for LagMax {
    /// Ten seconds: more than a healthy standby is ever behind, less than a person would not notice.
    fn default() -> Self {
        Self(10_000)
    }
}

impl TryFrom<u32> for LagMax {
    type Error = InvalidName;

    fn try_from(milliseconds: u32) -> Result<Self, InvalidName> {
        Self::from_ms(milliseconds)
    }
}

impl From<LagMax> for u32 {
    fn from(lag: LagMax) -> Self {
        lag.0
    }
}

/// What was last seen of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaHealth {
    /// Whether it can be read from.
    pub state: ReplicaState,
    /// How far it was behind when it last answered; absent where nobody can tell.
    pub lag_ms: Option<u64>,
    /// When it last answered.
    pub seen_at: Timestamp,
    /// When somebody last looked.
    pub checked_at: Timestamp,
    /// How many looks in a row it has not answered.
    pub failures: u32,
    /// What is wrong with it, where something is.
    pub error: Option<String>,
}

/// A physical standby of a cluster. Roles, passwords and databases are the cluster's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReplica {
    /// Its id.
    pub id: ClusterReplicaId,
    /// Whose standby it is.
    pub cluster: ClusterId,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections are protected: its own way, or else the cluster's.
    pub tls_mode: TlsMode,
    /// PEM of the authority, its own or else the cluster's; absent means the system's.
    pub tls_ca: Option<String>,
    /// How far it may be behind.
    pub lag_max: LagMax,
    /// What was last seen of it.
    pub health: ReplicaHealth,
    /// Registered at.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_between_a_millisecond_and_a_day() {
        for good in ["1", "10000", "86400000"] {
            assert!(serde_json::from_str::<LagMax>(good).is_ok(), "{good}");
        }
        for bad in ["0", "86400001", "-1", "1.5", "null"] {
            assert!(serde_json::from_str::<LagMax>(bad).is_err(), "{bad}");
        }
        assert_eq!(LagMax::from_ms(LagMax::default().as_ms()), Ok(LagMax::default()));
    }
}
