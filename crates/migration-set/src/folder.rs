//! Reads the files of a folder, within the limits.

use crate::error::MigrationSetError;
use crate::import::SourceFile;
use crate::set::{FILE_BYTES_MAX, FILES_MAX, SET_BYTES_MAX};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// How deep folders in folders are read; a link that leads back up ends here.
const DEPTH_MAX: usize = 8;

/// File names and contents, in the order of their paths.
pub(crate) fn read(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, MigrationSetError> {
    let mut paths = Vec::new();
    collect(folder, 0, &mut paths, |path| has_ending(path, "sql"))?;
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    let mut total = 0_u64;
    for path in paths {
        let name = file_name(&path);
        let content = read_bounded(&path, &name)?;
        total += content.len() as u64;
        if total > SET_BYTES_MAX {
            return Err(MigrationSetError::SetTooLarge { limit: SET_BYTES_MAX });
        }
        files.push((name, content));
    }
    Ok(files)
}

/// All files of a folder and of the folders in it, with their paths, in order: what may be text of a migration tool with
/// its content, all else by name only.
pub(crate) fn read_any(folder: &Path) -> Result<Vec<SourceFile>, MigrationSetError> {
    let mut paths = Vec::new();
    collect(folder, 0, &mut paths, |_| true)?;
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    let mut total = 0_u64;
    for path in paths {
        let is_text = ["sql", "toml", "conf"].iter().any(|ending| has_ending(&path, ending));
        let content = if is_text { read_bounded(&path, &file_name(&path))? } else { Vec::new() };
        total += content.len() as u64;
        if total > SET_BYTES_MAX {
            return Err(MigrationSetError::SetTooLarge { limit: SET_BYTES_MAX });
        }
        let within = path.strip_prefix(folder).unwrap_or(&path);
        let parts: Vec<_> = within.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        files.push(SourceFile { path: parts.join("/"), content });
    }
    Ok(files)
}

/// What the set is called when nothing else is said: the folder's own name.
pub(crate) fn name(folder: &Path) -> String {
    let resolved = folder.canonicalize();
    let folder = resolved.as_deref().unwrap_or(folder);
    file_name(folder)
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
}

fn collect(
    folder: &Path,
    depth: usize,
    paths: &mut Vec<PathBuf>,
    wanted: fn(&Path) -> bool,
) -> Result<(), MigrationSetError> {
    if depth > DEPTH_MAX {
        return Err(MigrationSetError::TooDeep { path: folder.to_owned(), limit: DEPTH_MAX });
    }
    for entry in fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
        let path = entry.map_err(|source| unreadable(folder, source))?.path();
        if file_name(&path).starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, depth + 1, paths, wanted)?;
        } else if wanted(&path) {
            if paths.len() == FILES_MAX {
                return Err(MigrationSetError::TooManyFiles { limit: FILES_MAX });
            }
            paths.push(path);
        }
    }
    Ok(())
}

/// Reads at most one byte more than is allowed, whatever the file's size is said to be.
fn read_bounded(path: &Path, name: &str) -> Result<Vec<u8>, MigrationSetError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(|source| unreadable(path, source))?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(MigrationSetError::FileTooLarge { file: name.to_owned(), limit: FILE_BYTES_MAX });
    }
    Ok(content)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn unreadable(path: &Path, source: std::io::Error) -> MigrationSetError {
    MigrationSetError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::error::MigrationSetError;
    use crate::rule::Rule;
    use crate::set::{FILE_BYTES_MAX, MigrationSet};
    use std::fs;

    #[test]
    fn a_folder_becomes_the_set_that_refinery_would_load() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("later")).unwrap();
        fs::write(folder.path().join("V2__b.sql"), "SELECT 'b';\r\n").unwrap();
        fs::write(folder.path().join("V1__a.sql"), "SELECT 'a';\n").unwrap();
        fs::write(folder.path().join("later/V3__c.sql"), "SELECT 'c';\n").unwrap();
        fs::write(folder.path().join("README.md"), "not SQL").unwrap();
        fs::write(folder.path().join(".V9__swap.sql"), "an editor's").unwrap();
        let set = MigrationSet::read(folder.path()).unwrap();
        let stock = refinery_core::load_sql_migrations(folder.path()).unwrap();
        let ours: Vec<_> = set.migrations().iter().map(|one| (one.to_string(), one.checksum)).collect();
        let theirs: Vec<_> = stock.iter().map(|one| (one.to_string(), one.checksum())).collect();
        assert_eq!(ours, theirs);
        assert_eq!(set.name(), folder.path().file_name().unwrap().to_str().unwrap());
    }

    #[test]
    fn what_ends_in_sql_and_does_not_match_is_refused_not_skipped() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("V1__a.sql"), "SELECT 1;").unwrap();
        fs::write(folder.path().join("V2_b.sql"), "SELECT 1;").unwrap();
        fs::write(folder.path().join("V3__c.SQL"), "SELECT 1;").unwrap();
        let error = MigrationSet::read(folder.path()).unwrap_err();
        let refused: Vec<_> = error.findings().iter().map(|one| (one.file.as_str(), one.rule)).collect();
        assert_eq!(refused, [("V2_b.sql", Rule::FileName), ("V3__c.SQL", Rule::FileName)]);
    }

    #[test]
    fn folders_that_are_missing_empty_or_too_large_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let missing = MigrationSet::read(folder.path().join("nowhere"));
        assert!(matches!(missing, Err(MigrationSetError::Io { .. })));
        assert!(matches!(MigrationSet::read(folder.path()), Err(MigrationSetError::Empty)));
        let file = fs::File::create(folder.path().join("V1__a.sql")).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        let too_large = MigrationSet::read(folder.path());
        assert!(matches!(too_large, Err(MigrationSetError::FileTooLarge { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_back_up_ends_in_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        assert!(matches!(MigrationSet::read(folder.path()), Err(MigrationSetError::TooDeep { .. })));
    }
}
