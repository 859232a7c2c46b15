//! A whole set: its limits, its order, its identity.

use crate::digest;
use crate::error::MigrationSetError;
use crate::finding::Finding;
use crate::folder;
use crate::lint;
use crate::migration::{Migration, MigrationKind};
use crate::rule::Rule;
use std::collections::BTreeMap;
use std::path::Path;
use tenantry_domain::{MigrationSetId, SchemaVersion};

/// How many files a set may hold.
pub const FILES_MAX: usize = 10_000;
/// How many bytes one file may have: 4 MiB.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How many bytes all files of a set may have together: 64 MiB.
pub const SET_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many findings are listed; reading stops once there are this many.
pub const FINDINGS_MAX: usize = 1_000;

/// An immutable list of migrations that passed every rule, ordered by version, and of repeatable ones, ordered by name,
/// under a name and a content address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationSet {
    id: MigrationSetId,
    name: String,
    migrations: Vec<Migration>,
    repeatables: Vec<Migration>,
}

impl MigrationSet {
    /// Reads every `.sql` file of a folder and of the folders in it, as refinery does; the set takes the folder's name.
    ///
    /// Files with other endings and hidden ones are left alone. Fails with every finding at once.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, MigrationSetError> {
        let folder = folder.as_ref();
        let files = folder::read(folder)?;
        Self::from_files(&folder::name(folder), &files)
    }

    /// Makes a set from file names and contents, for instance uploaded ones. Everything is checked as if no one had
    /// checked it before. The order in which the files are given does not matter.
    pub fn from_files<F: AsRef<str>, C: AsRef<[u8]>>(name: &str, files: &[(F, C)]) -> Result<Self, MigrationSetError> {
        let mut read = read(files)?;
        if !read.findings.is_empty() {
            read.findings.truncate(FINDINGS_MAX);
            return Err(MigrationSetError::Refused(read.findings));
        }
        Ok(Self::assemble(name, read))
    }

    pub(crate) fn assemble(name: &str, read: Read) -> Self {
        let migrations: Vec<Migration> = read.by_version.into_values().map(|(_, migration)| migration).collect();
        let repeatables: Vec<Migration> = read.repeatables.into_values().map(|(_, migration)| migration).collect();
        Self { id: digest::identity(&migrations, &repeatables), name: name.to_owned(), migrations, repeatables }
    }

    /// The content address: equal sets have equal ids, whatever they are named.
    pub fn id(&self) -> &MigrationSetId {
        &self.id
    }

    /// What people call the set; no part of its identity.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The migrations, by rising version; never empty.
    pub fn migrations(&self) -> &[Migration] {
        &self.migrations
    }

    /// The repeatable migrations, by name: applied in this order after the others, and again whenever they change.
    pub fn repeatables(&self) -> &[Migration] {
        &self.repeatables
    }

    /// What tells these repeatable migrations from others: 64 hexadecimal digits, or nothing where there are none.
    pub fn repeatables_digest(&self) -> String {
        digest::of_repeatables(&self.repeatables)
    }

    /// The migration of a version.
    pub fn migration(&self, version: i64) -> Option<&Migration> {
        let at = self.migrations.binary_search_by_key(&version, |migration| migration.version);
        at.ok().map(|at| &self.migrations[at])
    }

    /// The version that a home has once the whole set is applied.
    pub fn latest_version(&self) -> SchemaVersion {
        SchemaVersion(self.migrations.last().map_or(0, |migration| migration.version))
    }

    /// The set as file names and contents, which [`MigrationSet::from_files`] reads back into the same set.
    pub fn files(&self) -> Vec<(String, &str)> {
        let downs = self.migrations.iter().filter_map(|migration| migration.down.as_deref());
        let all = self.migrations.iter().chain(downs).chain(&self.repeatables);
        all.map(|migration| (migration.file_name(), migration.sql.as_str())).collect()
    }
}

/// The migrations by version and the repeatable ones by name, each with its file's name as given, and everything for which
/// the set is refused.
#[derive(Default)]
pub(crate) struct Read {
    by_version: BTreeMap<i64, (String, Migration)>,
    repeatables: BTreeMap<String, (String, Migration)>,
    pub(crate) findings: Vec<Finding>,
}

impl Read {
    /// File and migration in the order in which they are applied.
    pub(crate) fn in_order(&self) -> Vec<(&str, &Migration)> {
        let all = self.by_version.values().chain(self.repeatables.values());
        all.map(|(file, migration)| (file.as_str(), migration)).collect()
    }
}

pub(crate) fn read<F: AsRef<str>, C: AsRef<[u8]>>(files: &[(F, C)]) -> Result<Read, MigrationSetError> {
    check_limits(files)?;
    let mut downs: BTreeMap<i64, (String, MigrationKind, Migration)> = BTreeMap::new();
    let Read { mut by_version, mut repeatables, mut findings } = Read::default();
    for (file, content) in files {
        let file = file.as_ref();
        // Judged even when the name is wrong, so that all reasons come in one answer.
        let file_name = lint::check_name(file, &mut findings);
        let checked = lint::check_content(file, content.as_ref(), &mut findings);
        if findings.len() >= FINDINGS_MAX {
            break;
        }
        let (Some(file_name), Some(checked)) = (file_name, checked) else {
            continue;
        };
        let mut migration = Migration {
            version: file_name.version,
            name: file_name.name,
            kind: file_name.kind,
            sql: checked.sql,
            checksum: 0,
            transactional: checked.header.transactional,
            phase: checked.header.phase,
            requires_app: checked.header.requires_app,
            down: None,
        };
        if file_name.is_down {
            let kind = migration.kind;
            migration.checksum = digest::checksum(&migration.name, &migration.sql);
            if downs.insert(migration.version, (file.to_owned(), kind, migration)).is_some() {
                let message = "another file undoes the same version, and only one of them would ever run: remove one";
                findings.push(Finding::whole_file(file, Rule::DuplicateVersion, message));
            }
            continue;
        }
        if migration.kind == MigrationKind::Repeatable {
            migration.checksum = digest::checksum(&migration.name, &migration.sql);
            if let Some((other, _)) = repeatables.get(&migration.name) {
                let message =
                    format!("{other} has the same name, and only one of them would be told apart: rename one");
                findings.push(Finding::whole_file(file, Rule::DuplicateVersion, message));
            } else {
                repeatables.insert(migration.name.clone(), (file.to_owned(), migration));
            }
            continue;
        }
        match migration.to_refinery() {
            Ok(refinery) => migration.checksum = refinery.checksum(),
            Err(error) => {
                let message = format!("refinery cannot take the file name ({error}): choose another");
                findings.push(Finding::whole_file(file, Rule::FileName, message));
                continue;
            }
        }
        if let Some((other, _)) = by_version.get(&migration.version) {
            let message = format!(
                "version {} is taken by {other}, and only one of them would ever run: renumber one",
                migration.version
            );
            findings.push(Finding::whole_file(file, Rule::DuplicateVersion, message));
        } else {
            by_version.insert(migration.version, (file.to_owned(), migration));
        }
    }
    if findings.is_empty() {
        attach(downs, &mut by_version, &mut findings);
    }
    if by_version.is_empty() && findings.is_empty() {
        return Err(MigrationSetError::Empty);
    }
    Ok(Read { by_version, repeatables, findings })
}

/// Gives each file what undoes it.
fn attach(
    downs: BTreeMap<i64, (String, MigrationKind, Migration)>,
    by_version: &mut BTreeMap<i64, (String, Migration)>,
    findings: &mut Vec<Finding>,
) {
    for (version, (file, kind, mut down)) in downs {
        match by_version.get_mut(&version) {
            Some((_, undone)) if undone.name == down.name && undone.kind == kind => {
                down.name.push_str(".down");
                undone.down = Some(Box::new(down));
            }
            _ => {
                let message =
                    "there is no file that it undoes, named like it without .down: rename it, or move it away";
                findings.push(Finding::whole_file(&file, Rule::FileName, message));
            }
        }
    }
}

fn check_limits<F: AsRef<str>, C: AsRef<[u8]>>(files: &[(F, C)]) -> Result<(), MigrationSetError> {
    if files.is_empty() {
        return Err(MigrationSetError::Empty);
    }
    if files.len() > FILES_MAX {
        return Err(MigrationSetError::TooManyFiles { limit: FILES_MAX });
    }
    let mut total = 0_u64;
    for (file, content) in files {
        let size = content.as_ref().len() as u64;
        total += size;
        if size > FILE_BYTES_MAX {
            return Err(MigrationSetError::FileTooLarge { file: file.as_ref().to_owned(), limit: FILE_BYTES_MAX });
        }
    }
    if total > SET_BYTES_MAX {
        return Err(MigrationSetError::SetTooLarge { limit: SET_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{FILE_BYTES_MAX, FILES_MAX, MigrationSet, SET_BYTES_MAX};
    use crate::error::MigrationSetError;
    use crate::rule::Rule;
    use proptest::prelude::*;

    const GOOD: [(&str, &str); 3] =
        [("V10__c.sql", "SELECT 3;"), ("V2__b.sql", "SELECT 2;"), ("U1__a.sql", "SELECT 1;")];

    fn set(files: &[(&str, &str)]) -> MigrationSet {
        MigrationSet::from_files("set", files).unwrap()
    }

    fn refusal(files: &[(&str, &str)]) -> Vec<Rule> {
        let error = MigrationSet::from_files("set", files).unwrap_err();
        error.findings().iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn migrations_are_ordered_by_number() {
        let set = set(&GOOD);
        let versions: Vec<i64> = set.migrations().iter().map(|migration| migration.version).collect();
        assert_eq!(versions, [1, 2, 10]);
        assert_eq!(set.latest_version().0, 10);
        assert_eq!(set.migration(2).unwrap().name, "b");
        assert!(set.migration(3).is_none());
    }

    #[test]
    fn checksums_are_refinerys_own() {
        for migration in set(&GOOD).migrations() {
            let refinery = migration.to_refinery().unwrap();
            assert_eq!(refinery.checksum(), migration.checksum);
            assert_eq!(refinery.to_string(), migration.to_string());
            assert_eq!(refinery.version(), migration.version);
        }
        // Recorded once: a change would make every history row in the field divergent.
        assert_eq!(set(&[("V1__a.sql", "SELECT 1;\n")]).migrations()[0].checksum, RECORDED_CHECKSUM);
    }
    const RECORDED_CHECKSUM: u64 = 8_989_450_061_852_536_159;

    #[test]
    fn the_identity_tells_every_difference_that_matters() {
        let base = set(&GOOD);
        let mut reversed = GOOD;
        reversed.reverse();
        assert_eq!(base.id(), set(&reversed).id());
        assert_eq!(base.id(), MigrationSet::from_files("other name", &GOOD).unwrap().id());
        for changed in [
            ("V2__b.sql", "SELECT 2; "),
            ("V2__b.sql", "SELECT 2;\r\n"),
            ("V3__b.sql", "SELECT 2;"),
            ("U2__b.sql", "SELECT 2;"),
            ("V2__bb.sql", "SELECT 2;"),
            ("V2__b.sql", "-- no-transaction\nSELECT 2;"),
        ] {
            let mut files = GOOD;
            files[1] = changed;
            assert_ne!(base.id(), set(&files).id(), "{changed:?}");
        }
    }

    #[test]
    fn the_identity_of_a_set_never_changes() {
        assert_eq!(set(&GOOD).id().as_str(), RECORDED_ID);
    }
    const RECORDED_ID: &str = "29285cde64eb5315053bba3be0cb8b5a0463fea4b892702b8a1af453f4e771c8";

    #[test]
    fn a_requirement_is_part_of_the_identity_only_where_there_is_one() {
        let required = set(&[("V1__a.sql", "-- requires-app: >= 2\nSELECT 1;")]);
        assert_eq!(required.migrations()[0].requires_app.as_deref(), Some(">= 2"));
        let mut without = required.migrations().to_vec();
        without[0].requires_app = None;
        assert_ne!(&crate::digest::identity(&without, &[]), required.id());
    }

    #[test]
    fn repeatable_files_come_last_by_name_and_are_part_of_the_identity() {
        let files =
            [("R__b.sql", "SELECT 2;"), GOOD[0], ("R__a.sql", "-- no-transaction\nSELECT 1;"), GOOD[1], GOOD[2]];
        let set = set(&files);
        let names: Vec<String> = set.repeatables().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["R__a", "R__b"]);
        assert_eq!((set.migrations().len(), set.latest_version().0), (3, 10));
        assert!(!set.repeatables()[0].transactional && set.repeatables()[1].transactional);
        assert_eq!(MigrationSet::from_files("set", &set.files()).unwrap(), set);
        let mut others = vec![MigrationSet::from_files("set", &GOOD).unwrap()];
        for changed in
            [("R__b.sql", "SELECT 3;"), ("R__c.sql", "SELECT 2;"), ("R__b.sql", "-- no-transaction\nSELECT 2;")]
        {
            let mut files = files;
            files[0] = changed;
            others.push(MigrationSet::from_files("set", &files).unwrap());
        }
        for other in others {
            assert_ne!((other.id(), other.repeatables_digest()), (set.id(), set.repeatables_digest()));
        }
        assert_eq!(MigrationSet::from_files("set", &GOOD).unwrap().repeatables_digest(), "");
    }

    #[test]
    fn a_down_file_belongs_to_its_migration_and_to_the_identity() {
        let files = [GOOD[0], GOOD[1], GOOD[2], ("V2__b.down.sql", "-- no-transaction\nSELECT -2;")];
        let set = set(&files);
        let down = set.migration(2).unwrap().down.as_deref().unwrap();
        assert_eq!((down.file_name().as_str(), down.version, down.transactional), ("V2__b.down.sql", 2, false));
        assert!(set.migration(1).unwrap().down.is_none());
        assert_eq!(MigrationSet::from_files("set", &set.files()).unwrap(), set);
        let without = MigrationSet::from_files("set", &GOOD).unwrap();
        assert_ne!(set.id(), without.id());
        assert_eq!(set.migration(2).unwrap().checksum, without.migration(2).unwrap().checksum);
        for (file, sql, rule) in [
            ("V2__c.down.sql", "SELECT 1;", Rule::FileName),
            ("U2__b.down.sql", "SELECT 1;", Rule::FileName),
            ("V3__b.down.sql", "SELECT 1;", Rule::FileName),
            ("V2__b.down.sql", "COMMIT;", Rule::TransactionControl),
        ] {
            assert_eq!(refusal(&[GOOD[0], GOOD[1], GOOD[2], (file, sql)]), [rule], "{file}");
        }
    }

    #[test]
    fn repeatable_files_alone_and_two_of_one_name_are_refused() {
        let alone = MigrationSet::from_files("set", &[("R__a.sql", "SELECT 1;")]);
        assert!(matches!(alone, Err(MigrationSetError::Empty)));
        let twice = [GOOD[0], ("R__a.sql", "SELECT 1;"), ("R__a.sql", "SELECT 2;")];
        assert_eq!(refusal(&twice), [Rule::DuplicateVersion]);
    }

    #[test]
    fn a_set_comes_back_from_its_own_files() {
        let base = set(&GOOD);
        assert_eq!(MigrationSet::from_files("set", &base.files()).unwrap(), base);
    }

    #[test]
    fn all_files_are_judged_at_once() {
        let refused = refusal(&[
            ("V1__a.sql", "COMMIT;"),
            ("V01__b.sql", "SELECT 1;"),
            ("V2__c.sql", ""),
            ("nonsense.sql", "RESET ROLE;"),
        ]);
        assert_eq!(
            refused,
            [Rule::TransactionControl, Rule::DuplicateVersion, Rule::EmptyFile, Rule::FileName, Rule::RoleSwitch]
        );
    }

    #[test]
    fn limits_are_errors_of_their_own() {
        let none: [(&str, &str); 0] = [];
        assert!(matches!(MigrationSet::from_files("set", &none), Err(MigrationSetError::Empty)));
        let many: Vec<_> = (1..=FILES_MAX + 1).map(|at| (format!("V{at}__a.sql"), "SELECT 1")).collect();
        assert!(matches!(MigrationSet::from_files("set", &many), Err(MigrationSetError::TooManyFiles { .. })));
        let large = vec![b' '; usize::try_from(FILE_BYTES_MAX).unwrap()];
        let one_too_large = [("V1__a.sql", [large.as_slice(), b" "].concat())];
        assert!(matches!(
            MigrationSet::from_files("set", &one_too_large),
            Err(MigrationSetError::FileTooLarge { file, .. }) if file == "V1__a.sql"
        ));
        let many_large =
            vec![("V1__a.sql", large.as_slice()); usize::try_from(SET_BYTES_MAX / FILE_BYTES_MAX).unwrap() + 1];
        assert!(matches!(MigrationSet::from_files("set", &many_large), Err(MigrationSetError::SetTooLarge { .. })));
    }

    proptest! {
        #[test]
        fn no_content_makes_it_panic(content in r#"[ \n;'"$a-zA-Z(){}\\/*\-]{0,120}"#, bytes in any::<Vec<u8>>()) {
            let _ = MigrationSet::from_files("set", &[("V1__a.sql", content)]);
            let _ = MigrationSet::from_files("set", &[("V1__a.sql", bytes)]);
        }

        #[test]
        fn a_do_body_of_words_makes_it_not_panic(words in prop::collection::vec(
            prop::sample::select(vec!["DO", "$$", "BEGIN", ";", "COMMIT", "'", "EXECUTE", "SET", "LOCAL", "ROLE", "AS", "(", ")", "CREATE", "FUNCTION", "LANGUAGE", "E'", "\\"]), 0..24,
        )) {
            let _ = MigrationSet::from_files("set", &[("V1__a.sql", words.join(" "))]);
        }
    }
}
