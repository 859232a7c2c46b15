//! Finds the installed server binaries.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::version::{OLDEST_SUPPORTED, Version};

/// Environment variable that names the folder with `postgres` and `initdb`; a folder given in code wins over it.
pub const BINARIES_VARIABLE: &str = "TENANTRY_POSTGRES_BIN";

/// Folders of distributions and installers. A `*` stands for a version and is tried newest first.
const USUAL_FOLDERS: &[&str] = &[
    "/usr/lib/postgresql/*/bin",  // Debian, Ubuntu
    "/usr/pgsql-*/bin",           // PostgreSQL's own RPMs
    "/usr/lib/postgresql*/bin",   // Gentoo, SUSE
    "/usr/libexec/postgresql*",   // Alpine
    "/usr/local/pgsql/bin",       // built from source
    "/usr/local/postgresql*/bin", // container images
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/Library/PostgreSQL/*/bin",      // EDB's installer
    "/opt/local/lib/postgresql*/bin", // MacPorts
];

/// One installation of the PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    version: Version,
}

impl Binaries {
    /// The installation that a new cluster would use: `configured` if given, else the folder that
    /// [`BINARIES_VARIABLE`] names, else `PATH`, else the newest in a distribution's usual folders.
    /// [`Error::BinariesNotFound`] when there is none of a supported version; a folder that is named explicitly is
    /// the only one tried.
    pub fn find(configured: Option<&Path>) -> Result<Self, Error> {
        Self::find_all(configured).map(|mut found| found.swap_remove(0))
    }

    /// The folder that holds `postgres` and `initdb`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The version that `postgres --version` reports.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Every supported installation, in order of preference; never empty.
    pub(crate) fn find_all(configured: Option<&Path>) -> Result<Vec<Self>, Error> {
        Self::among(candidates(configured, std::env::var_os(BINARIES_VARIABLE).as_deref()))
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A client program, which need not be where the server is found: a folder may hold links to the server's programs
    /// alone.
    pub(crate) fn client_program(&self, name: &str) -> PathBuf {
        let own = self.program(name);
        let real = || Some(std::fs::canonicalize(self.program("postgres")).ok()?.parent()?.join(name));
        if own.is_file() { own } else { real().filter(|real| real.is_file()).unwrap_or(own) }
    }

    fn among(folders: Vec<PathBuf>) -> Result<Vec<Self>, Error> {
        let mut found: Vec<Self> = Vec::new();
        let mut too_old = Vec::new();
        for folder in &folders {
            match installed_version(folder) {
                Some(version) if version.major < OLDEST_SUPPORTED => too_old.push((folder.clone(), version)),
                Some(version) => found.push(Self { folder: folder.clone(), version }),
                None => {}
            }
        }
        if found.is_empty() { Err(Error::BinariesNotFound { searched: folders, too_old }) } else { Ok(found) }
    }
}

fn candidates(configured: Option<&Path>, variable: Option<&OsStr>) -> Vec<PathBuf> {
    if let Some(folder) = configured {
        return vec![folder.to_owned()];
    }
    if let Some(folder) = variable.filter(|value| !value.is_empty()) {
        return vec![folder.into()];
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&path).chain(USUAL_FOLDERS.iter().flat_map(|pattern| expand(pattern))) {
        // A relative entry of PATH would mean another folder to the server, which starts elsewhere.
        if folder.is_absolute() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Replaces the one `*` of a pattern by what is there, the highest version number first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![pattern.into()] };
    let Some((parent, prefix)) = before.rsplit_once('/') else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort_by_key(|name| std::cmp::Reverse(Version::parse(&name[prefix.len()..]).map(|v| (v.major, v.minor))));
    names.into_iter().map(|name| PathBuf::from(format!("{parent}/{name}{after}"))).collect()
}

fn installed_version(folder: &Path) -> Option<Version> {
    let server = folder.join("postgres");
    if !server.is_file() || !folder.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(server).arg("--version").output().ok()?;
    Version::parse(&String::from_utf8_lossy(&output.stdout))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]

    use std::path::Path;

    use super::*;

    fn pretend_installation(root: &Path, name: &str, version: &str) -> PathBuf {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        // Written by a child: a descriptor open for writing here could be inherited by another test's child and
        // make the execution fail ("text file busy").
        let script = "for program in postgres initdb; do
            printf '#!/bin/sh\\necho \"postgres (PostgreSQL) %s\"\\n' \"$1\" > $program; chmod 755 $program
        done";
        let written = Command::new("sh").args(["-c", script, "sh", version]).current_dir(&folder).status().unwrap();
        assert!(written.success());
        folder
    }

    #[test]
    fn a_configured_folder_is_the_only_one_tried() {
        let root = tempfile::tempdir().unwrap();
        let error = Binaries::find(Some(root.path())).unwrap_err();
        let Error::BinariesNotFound { searched, .. } = &error else { panic!("{error}") };
        assert_eq!(searched, &[root.path()]);
    }

    #[test]
    fn the_error_names_the_package_of_each_platform() {
        let root = tempfile::tempdir().unwrap();
        let message = Binaries::find(Some(root.path())).unwrap_err().to_string();
        for part in ["apt-get install postgresql", "postgresql-server", "apk add", "pacman", "brew", BINARIES_VARIABLE]
        {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }

    #[test]
    fn an_old_installation_is_passed_over_and_named_when_nothing_else_is_there() {
        let root = tempfile::tempdir().unwrap();
        let old = pretend_installation(root.path(), "14", "14.9");
        let new = pretend_installation(root.path(), "16", "16.2");
        let found = Binaries::among(vec![old.clone(), new.clone()]).unwrap();
        assert_eq!(found, [Binaries { folder: new, version: Version { major: 16, minor: 2 } }]);

        let message = Binaries::among(vec![old.clone()]).unwrap_err().to_string();
        assert!(message.contains("Too old: PostgreSQL 14.9"), "{message}");
    }

    #[test]
    fn the_variable_wins_over_the_path_and_an_empty_one_is_ignored() {
        assert_eq!(candidates(None, Some(OsStr::new("/opt/pg"))), [PathBuf::from("/opt/pg")]);
        assert!(candidates(None, Some(OsStr::new(""))).len() > 1);
    }

    #[test]
    fn versions_in_folder_names_are_tried_newest_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6", "15", "100", "17"] {
            std::fs::create_dir_all(root.path().join(format!("pgsql-{version}/bin"))).unwrap();
        }
        let found = expand(&format!("{}/pgsql-*/bin", root.path().display()));
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["pgsql-100/bin", "pgsql-17/bin", "pgsql-15/bin", "pgsql-9.6/bin"]);
    }
}
