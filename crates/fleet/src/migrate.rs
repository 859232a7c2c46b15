//! Bringing a home to a migration set.

use std::time::Duration;

use tenantry_domain::{Home, SchemaVersion, Secret};
use tenantry_migration_set::MigrationSet;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::target::ClusterTarget;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions {
    /// For waiting on one lock; short, because a waiting DDL statement blocks every reader behind it.
    pub lock_timeout: Duration,
    /// For one statement of a file.
    pub statement_timeout: Duration,
    /// For all of it; past it the running statement is cancelled and the answer is `Busy`.
    pub deadline: Duration,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(600),
            deadline: Duration::from_secs(3_600),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Before.
    pub from: SchemaVersion,
    /// After.
    pub to: SchemaVersion,
    /// How many files ran.
    pub count: usize,
    /// From connecting to the last answer.
    pub duration: Duration,
}

/// A row of a home's own history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedMigration {
    /// Its version.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// refinery's checksum.
    pub checksum: u64,
}

impl Fleet {
    /// Applies what the home's history lacks of the set, in order, as the home's migrator acting as its owner. Files run
    /// in one transaction with their history row, or statement by statement where they say `-- no-transaction`.
    pub async fn apply(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
        set: &MigrationSet,
        options: &ApplyOptions,
    ) -> Result<Applied, FleetError> {
        todo!()
    }

    /// The home's own history, by rising version; empty where nothing was ever applied.
    pub async fn history(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
    ) -> Result<Vec<AppliedMigration>, FleetError> {
        todo!()
    }
}
