//! What a home is believed to have applied, before it was asked.
//!
//! The catalog knows the version of every tenant, and nearly always rightly. So the first file is sent at once, and the row
//! that it leaves in the home's history is written only where that history is, checksum by checksum, what the set has up to
//! the believed version. Otherwise nothing has happened, and the home is asked.

use tenantry_domain::SchemaVersion;
use tenantry_migration_set::{MigrationKind, MigrationSet};

use super::{AppliedMigration, HISTORY, Workplace};
use crate::quote::literal;

/// A set's migrations up to a version, with at least one after it.
pub(super) struct Belief {
    /// The last of them.
    pub(super) version: SchemaVersion,
    /// By rising version.
    pub(super) applied: Vec<AppliedMigration>,
    /// An expression: whether the home's history is that.
    pub(super) holds: String,
    /// Whether every file that is left runs in a transaction.
    pub(super) is_transactional: bool,
}

impl Belief {
    /// Absent where only the home itself can tell what it lacks: nothing may be pending, or a file that has no place in the
    /// order, or one that leaves traces of its own when it is interrupted comes first.
    pub(super) fn new(workplace: &Workplace, set: &MigrationSet, believed: SchemaVersion) -> Option<Self> {
        let all = set.migrations();
        set.migration(believed.0)?;
        if !set.repeatables().is_empty() || all.iter().any(|one| one.kind != MigrationKind::Versioned) {
            return None;
        }
        let (applied, lacking) = all.split_at(all.partition_point(|one| one.version <= believed.0));
        if !lacking.first()?.transactional {
            return None;
        }
        let checksums: Vec<String> = applied.iter().map(|one| one.checksum.to_string()).collect();
        let holds = format!(
            "(SELECT pg_catalog.string_agg(checksum, ',' ORDER BY version) FROM {}) = {}",
            workplace.table(HISTORY),
            literal(&checksums.join(","))
        );
        let applied = applied.iter().map(|one| AppliedMigration {
            version: one.version,
            name: one.name.clone(),
            checksum: one.checksum,
        });
        let is_transactional = lacking.iter().all(|one| one.transactional);
        Some(Self { version: believed, applied: applied.collect(), holds, is_transactional })
    }
}
