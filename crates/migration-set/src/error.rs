//! What reading a migration set can end in.

use crate::finding::Finding;
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no [`MigrationSet`](crate::MigrationSet).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MigrationSetError {
    /// The files were read and are refused; every reason is listed, in the order of the files.
    #[error("the migration set is refused, mend the files and try again: {}", summary(.0))]
    Refused(Vec<Finding>),
    /// Nothing to migrate with; repeatable files alone give a home no version.
    #[error("there is no migration with a version in the set: add files named V<version>__<name>.sql")]
    Empty,
    /// More files than a set may hold.
    #[error("the set has more than {limit} files: keep other SQL out of the folder")]
    TooManyFiles {
        /// How many a set may hold.
        limit: usize,
    },
    /// One file is too large.
    #[error("{file} is larger than {limit} bytes: move bulk data out of the migrations")]
    FileTooLarge {
        /// The file's name.
        file: String,
        /// How many bytes a file may have.
        limit: u64,
    },
    /// All files together are too large.
    #[error("the set is larger than {limit} bytes: move bulk data out of the migrations")]
    SetTooLarge {
        /// How many bytes all files together may have.
        limit: u64,
    },
    /// Folders lie in folders deeper than is read.
    #[error("{} lies deeper than {limit} folders: keep migrations in one folder", .path.display())]
    TooDeep {
        /// The folder that was not entered.
        path: PathBuf,
        /// How deep folders are read.
        limit: usize,
    },
    /// The operating system refused to let a file or folder be read.
    #[error("cannot read {}: check that it exists and may be read", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },
}

impl MigrationSetError {
    /// The reasons, when the set was read and refused; else nothing.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Refused(findings) => findings,
            _ => &[],
        }
    }
}

fn summary(findings: &[Finding]) -> String {
    match findings {
        [] => "no reason given".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    }
}
