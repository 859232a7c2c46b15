//! The content address of a migration set.

use crate::migration::{Migration, MigrationKind, Phase};
use sha2::{Digest as _, Sha256};
use tenantry_domain::MigrationSetId;

/// The identity of lists of migrations that are already in order: SHA-256 over everything that decides what the lists
/// do. The name of the set and the spelling of file names (`V01` or `V1`) are no part of it.
pub(crate) fn identity(migrations: &[Migration], repeatables: &[Migration]) -> MigrationSetId {
    let mut digester = Digester::new();
    for migration in migrations {
        digester.part(&migration.version.to_be_bytes());
        digester.part(match migration.kind {
            MigrationKind::Versioned => b"versioned",
            MigrationKind::Unversioned => b"unversioned",
            MigrationKind::Repeatable => b"repeatable",
        });
        digester.part(migration.name.as_bytes());
        digester.part(&migration.checksum.to_be_bytes());
        digester.part(if migration.transactional { b"transaction" } else { b"no transaction" });
        digester.part(match migration.phase {
            None => b"",
            Some(Phase::Expand) => b"expand",
            Some(Phase::Contract) => b"contract",
        });
        digester.part(&Sha256::digest(migration.sql.as_bytes()));
        // Only where there is one, so that sets of before it was known keep their identity. No version, with which the
        // next migration begins, has as many bytes as the first part.
        if let Some(requirement) = &migration.requires_app {
            digester.part(b"requires-app");
            digester.part(requirement.as_bytes());
        }
        if let Some(down) = &migration.down {
            digester.part(b"down");
            digester.part(if down.transactional { b"transaction" } else { b"no transaction" });
            digester.part(&Sha256::digest(down.sql.as_bytes()));
        }
    }
    digester.repeatables(repeatables);
    MigrationSetId::from_digest(digester.0.finalize().into())
}

/// What tells one list of repeatable files from another, in hexadecimal digits; nothing for none.
pub(crate) fn of_repeatables(repeatables: &[Migration]) -> String {
    if repeatables.is_empty() {
        return String::new();
    }
    let mut digester = Digester(Sha256::new());
    digester.part(b"tenantry repeatables, recipe 1");
    digester.repeatables(repeatables);
    let digest: [u8; 32] = digester.0.finalize().into();
    MigrationSetId::from_digest(digest).to_string()
}

/// The checksum of a repeatable file.
pub(crate) fn checksum(name: &str, sql: &str) -> u64 {
    let mut digester = Digester(Sha256::new());
    digester.part(name.as_bytes());
    digester.part(sql.as_bytes());
    let digest: [u8; 32] = digester.0.finalize().into();
    digest[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Each part is preceded by its length, so that no two lists of parts read alike.
struct Digester(Sha256);

impl Digester {
    /// The recipe's own version is a part: a later recipe never gives an earlier one's digest.
    fn new() -> Self {
        let mut digester = Self(Sha256::new());
        digester.part(b"tenantry migration set, recipe 1");
        digester
    }

    /// Behind everything else, so that sets without any keep their identity. No version has as many bytes as the first
    /// part.
    fn repeatables(&mut self, repeatables: &[Migration]) {
        for migration in repeatables {
            self.part(b"repeatable");
            self.part(migration.name.as_bytes());
            self.part(if migration.transactional { b"transaction" } else { b"no transaction" });
            self.part(&Sha256::digest(migration.sql.as_bytes()));
        }
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}
