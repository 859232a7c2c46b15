//! A home's own history held against a set: a pure comparison.

use tenantry_migration_set::MigrationSet;

use crate::migrate::AppliedMigration;

/// How a history (by rising version) is not the beginning of the set, in a sentence; nothing where it is.
pub fn schema_divergence(set: &MigrationSet, history: &[AppliedMigration]) -> Option<String> {
    let newest = history.last()?.version;
    let file = |row: &AppliedMigration| format!("V{}__{}", row.version, row.name);
    for row in history {
        match set.migration(row.version) {
            None => return Some(format!("the home has applied {}, which is not in the migration set", file(row))),
            Some(known) if known.checksum != row.checksum => {
                return Some(format!(
                    "the home has applied {} with other content than {} of the migration set",
                    file(row),
                    known.file_name()
                ));
            }
            Some(_) => {}
        }
    }
    let below = set.migrations().iter().take_while(|migration| migration.version < newest);
    let missing = below.into_iter().find(|known| !history.iter().any(|row| row.version == known.version))?;
    Some(format!(
        "{} of the migration set is not in the home's history, which is at version {newest}",
        missing.file_name()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn set(files: &[(&str, &str)]) -> MigrationSet {
        MigrationSet::from_files("test", files).unwrap()
    }

    fn history(set: &MigrationSet) -> Vec<AppliedMigration> {
        let row = |it: &tenantry_migration_set::Migration| AppliedMigration {
            version: it.version,
            name: it.name.clone(),
            checksum: it.checksum,
        };
        set.migrations().iter().map(row).collect()
    }

    #[test]
    fn a_history_is_the_beginning_of_a_set_or_the_reason_names_the_file() {
        let files = [("V1__a.sql", "SELECT 1;"), ("V2__b.sql", "SELECT 2;"), ("V3__c.sql", "SELECT 3;")];
        let all = set(&files);
        assert_eq!(schema_divergence(&all, &[]), None);
        assert_eq!(schema_divergence(&all, &history(&set(&files[..2]))), None);
        assert_eq!(schema_divergence(&all, &history(&all)), None);
        let told = |history: &[AppliedMigration], set: &MigrationSet| schema_divergence(set, history).unwrap();
        assert!(told(&history(&all), &set(&files[..2])).contains("V3__c, which is not in"));
        let gap = history(&set(&[files[0], files[2]]));
        assert!(told(&gap, &all).starts_with("V2__b.sql of the migration set is not in the home's history"));
        let edited = set(&[files[0], ("V2__b.sql", "SELECT 22;")]);
        assert!(told(&history(&edited), &all).contains("V2__b with other content"));
    }
}
