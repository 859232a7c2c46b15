//! A folder linted: the set, and everything that was found.

use crate::advice;
use crate::error::MigrationSetError;
use crate::finding::{Finding, Severity};
use crate::folder;
use crate::policy::LintPolicy;
use crate::set::{self, FINDINGS_MAX, MigrationSet};
use std::collections::HashMap;
use std::path::Path;

/// What a linter has to say about files: the set, unless something refuses it, and every finding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LintReport {
    /// The set, when no fixed rule refuses it; advice alone, even an error, leaves it readable.
    pub set: Option<MigrationSet>,
    /// By file and place; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

impl LintReport {
    /// Reads and lints a folder as [`MigrationSet::read`] reads it. Fails only where there is nothing to judge.
    pub fn read(folder: impl AsRef<Path>, policy: &LintPolicy) -> Result<Self, MigrationSetError> {
        let folder = folder.as_ref();
        let files = folder::read(folder)?;
        Self::from_files(&folder::name(folder), &files, policy)
    }

    /// Lints files as [`MigrationSet::from_files`] takes them.
    pub fn from_files<F: AsRef<str>, C: AsRef<[u8]>>(
        name: &str,
        files: &[(F, C)],
        policy: &LintPolicy,
    ) -> Result<Self, MigrationSetError> {
        let mut read = set::read(files)?;
        let mut findings = std::mem::take(&mut read.findings);
        findings.truncate(FINDINGS_MAX);
        let is_refused = !findings.is_empty();
        findings.extend(advice::advise(&read.in_order(), policy, FINDINGS_MAX - findings.len()));
        let order: HashMap<&str, usize> = files.iter().enumerate().map(|(at, (file, _))| (file.as_ref(), at)).collect();
        // A name that was cut for printing is found nowhere; it goes to the end.
        let place = |finding: &Finding| order.get(finding.file.as_str()).copied().unwrap_or(usize::MAX);
        findings.sort_by_key(|finding| (place(finding), finding.line, finding.column));
        let set = (!is_refused).then(|| MigrationSet::assemble(name, read));
        Ok(Self { set, findings })
    }

    /// How many findings refuse the set.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// How many findings are only shown.
    pub fn warnings(&self) -> usize {
        self.findings.len() - self.errors()
    }
}
