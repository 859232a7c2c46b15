//! What was seen of a cluster, and what of it stands in the way.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::word::words;

words! {
    /// Whether a cluster can be used, as far as was seen.
    HealthState, "health state", "use unknown, healthy, read_only or unreachable", {
        /// Nobody has looked yet.
        Unknown => "unknown",
        /// It answers and takes writes.
        Healthy => "healthy",
        /// It answers but is a standby or in recovery.
        ReadOnly => "read_only",
        /// It does not answer.
        Unreachable => "unreachable",
    }
}

words! {
    /// What one check came to.
    Verdict, "verdict", "use passed, warning or failed", {
        /// All is well.
        Passed => "passed",
        /// The cluster can be used; something is worse than it could be.
        Warning => "warning",
        /// The cluster cannot be used like this.
        Failed => "failed",
    }
}

/// One thing that was looked at on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A word that programs may rely on: `server_version`, `privileges`, `tls`, ….
    pub name: String,
    /// What it came to.
    pub verdict: Verdict,
    /// What was found, as a sentence.
    pub found: String,
    /// What to do about it; absent where nothing needs doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    /// All is well.
    pub fn passed(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Passed, found: found.into(), advice: None }
    }

    /// Worse than it could be.
    pub fn warning(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    /// Stands in the way.
    pub fn failed(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Failed, found: found.into(), advice: Some(advice.into()) }
    }

    /// What was found and what to do, in one sentence.
    pub fn sentence(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{}; {advice}", self.found),
            None => self.found.clone(),
        }
    }
}

/// Figures of a server at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterObservation {
    /// `server_version_num`.
    pub server_version: i32,
    /// Whether it is a standby or in recovery, and takes no writes.
    pub in_recovery: bool,
    /// `max_connections`.
    pub connections_max: u32,
    /// Of these, kept by the server for superusers and roles with a right to them.
    pub connections_reserved: u32,
    /// Client connections that are open, ours included.
    pub connections_open: u32,
    /// Databases on the server, templates included.
    pub databases: u32,
    /// Bytes of the databases that hold homes, shared ones and templates of ours included. The sum of
    /// `pg_database_size`, so without WAL and what an interrupted copy left behind.
    pub disk_bytes: u64,
    /// When that sum was made; it is not made at every look, because it visits every file.
    pub disk_measured_at: Option<Timestamp>,
    /// How far the server's clock is ahead of the control plane's, in milliseconds.
    pub clock_ahead_ms: i64,
}

impl ClusterObservation {
    /// Connections that tenants and Tenantry may open, all together.
    pub fn connections_usable(&self) -> u32 {
        self.connections_max.saturating_sub(self.connections_reserved)
    }
}

/// What was last seen of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterHealth {
    /// Whether it can be used.
    pub state: HealthState,
    /// When it last answered.
    pub seen_at: Option<Timestamp>,
    /// When somebody last looked.
    pub checked_at: Option<Timestamp>,
    /// How many looks in a row it has not answered.
    pub failures: u32,
    /// Why it did not answer at the last look.
    pub error: Option<String>,
    /// Figures of the last look that was answered.
    pub observed: Option<ClusterObservation>,
    /// What that look found, one check each.
    pub checks: Vec<Check>,
    /// What a provider forbids or an operator should know, one sentence each.
    pub findings: Vec<String>,
}

#[expect(clippy::derivable_impls, reason = "the word list is declared by a macro that knows no default")]
impl Default for HealthState {
    fn default() -> Self {
        Self::Unknown
    }
}
