//! The product's schema, as files.

/// File names and contents of `tenant-migrations/`, in the order of the names (which is not that of the versions).
pub fn migrations() -> &'static [(&'static str, &'static str)] {
    include!(concat!(env!("OUT_DIR"), "/migrations.rs"))
}

/// File name and content of the migration that comes after those of [`migrations`]: the demo rolls it out over tenants
/// that already hold data.
pub const NEXT_MIGRATION: (&str, &str) = ("V15__delay_severity.sql", include_str!("../next/V15__delay_severity.sql"));

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{NEXT_MIGRATION, migrations};
    use tenantry_migration_set::{LintPolicy, LintReport, MigrationSet, Rule};

    #[test]
    fn the_embedded_files_are_those_of_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tenant-migrations");
        let read = MigrationSet::read(folder).unwrap();
        let embedded = MigrationSet::from_files("embedded", migrations()).unwrap();
        assert_eq!(read.id(), embedded.id());
        assert!(read.migrations().len() >= 12);
    }

    #[test]
    fn the_folder_passes_its_own_lint() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tenant-migrations");
        let report = LintReport::read(folder, &LintPolicy::read(folder).unwrap()).unwrap();
        assert_eq!((report.errors(), report.warnings()), (0, 0), "{:?}", report.findings);
        // As a first set it locks nothing either, and the linter can read every statement.
        let mut policy = LintPolicy::default();
        policy.set_applied_up_to(0);
        let report = LintReport::read(folder, &policy).unwrap();
        assert_eq!(report.errors(), 0, "{:?}", report.findings);
        assert!(report.findings.iter().all(|finding| finding.rule != Rule::Syntax), "{:?}", report.findings);
    }

    #[test]
    fn the_next_migration_follows_the_last() {
        let base = MigrationSet::from_files("base", migrations()).unwrap();
        let mut files = migrations().to_vec();
        files.push(NEXT_MIGRATION);
        let next = MigrationSet::from_files("next", &files).unwrap();
        assert_eq!(next.latest_version().0, base.latest_version().0 + 1);
    }
}
