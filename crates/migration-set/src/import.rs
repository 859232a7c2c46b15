//! Folders of other tools, as folders of Tenantry: the same files in the same order, or the reason why not.
//!
//! Each tool's own rules stand in the module that bears its name, with where they were read. What all have in common is
//! here: numbers, names, transactions, and that the result is a set that Tenantry takes.
//!
//! Never here: a guess. What a tool would leave unread, run again, or replace in a file is refused or said.

mod diesel;
mod flyway;
mod golang_migrate;
mod prisma;
mod sqlx;

use crate::error::MigrationSetError;
use crate::folder;
use crate::header;
use crate::lint::{self, rules};
use crate::script::{Script, starts_with};
use crate::set::MigrationSet;
use crate::statement::Lines;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use thiserror::Error;

/// How many characters of a description go into a file's name.
const NAME_CHARACTERS_MAX: usize = 120;

/// Why a file that undoes another is left out, where the tool does not pair them.
const UNDOES: &str = "the tool does not say which file it undoes: name it as that, with .down.sql, where it is wanted";

/// A tool whose folder can be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportTool {
    /// Diesel: `<version>_<name>/up.sql`.
    Diesel,
    /// Prisma Migrate: `<time stamp>_<name>/migration.sql`.
    Prisma,
    /// sqlx: `<version>_<description>.sql`, or `.up.sql`.
    Sqlx,
    /// golang-migrate: `<version>_<title>.up.sql`.
    GolangMigrate,
    /// Flyway: `V<version>__<description>.sql`.
    Flyway,
}

impl ImportTool {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Diesel, Self::Prisma, Self::Sqlx, Self::GolangMigrate, Self::Flyway];
}

impl fmt::Display for ImportTool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Diesel => "diesel",
            Self::Prisma => "prisma",
            Self::Sqlx => "sqlx",
            Self::GolangMigrate => "golang-migrate",
            Self::Flyway => "flyway",
        })
    }
}

impl FromStr for ImportTool {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|tool| tool.to_string() == name);
        found.ok_or_else(|| "use diesel, prisma, sqlx, golang-migrate or flyway".to_owned())
    }
}

/// A file of the other tool's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path within the folder, with `/` between the parts.
    pub path: String,
    /// Its content; empty for what no tool reads as text.
    pub content: Vec<u8>,
}

/// A folder that was taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Import {
    /// The migrations, in order.
    pub files: Vec<ImportedFile>,
    /// What has no place in a set, and why.
    pub left_out: Vec<SourceRemark>,
    /// What holds for all files.
    pub notes: Vec<String>,
}

/// One migration, as it is to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportedFile {
    /// `V<version>__<name>.sql`, `V<version>__<name>.down.sql` or `R__<name>.sql`.
    pub file: String,
    /// The file that it was.
    pub source: String,
    /// What was changed in its content.
    pub changes: Vec<String>,
    /// Its content.
    #[serde(skip)]
    pub content: String,
}

/// Something about one file of the other tool's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SourceRemark {
    /// The file's path within the folder.
    pub source: String,
    /// The line, from 1, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What there is to say.
    pub reason: String,
}

/// Prints as `path:line: reason`.
impl fmt::Display for SourceRemark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.source, self.reason),
            None => write!(formatter, "{}: {}", self.source, self.reason),
        }
    }
}

/// Why a folder is not taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Something in it has no meaning in Tenantry, or another; every reason is listed.
    #[error("the folder cannot be imported as it is, reasons: {}", .0.len())]
    Refused(Vec<SourceRemark>),
    /// The folder cannot be read, or what came of it is too large.
    #[error(transparent)]
    Unreadable(#[from] MigrationSetError),
}

impl Import {
    /// Reads a folder of the tool's and takes it over; nothing is written.
    pub fn read(tool: ImportTool, folder: impl AsRef<Path>) -> Result<Self, ImportError> {
        let files = folder::read_any(folder.as_ref())?;
        Self::from_files(tool, &files)
    }

    /// Takes over files, given in any order.
    pub fn from_files(tool: ImportTool, files: &[SourceFile]) -> Result<Self, ImportError> {
        let mut found = Found::default();
        match tool {
            ImportTool::Diesel => diesel::find(files, &mut found),
            ImportTool::Prisma => prisma::find(files, &mut found),
            ImportTool::Sqlx => sqlx::find(files, &mut found),
            ImportTool::GolangMigrate => golang_migrate::find(files, &mut found),
            ImportTool::Flyway => flyway::find(files, &mut found),
        }
        found.leave_out_lone_downs(files);
        found.finish()
    }
}

/// What a tool says about transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    /// The file runs in one.
    Within,
    /// The file runs without.
    Without,
    /// The tool leaves it to the statements: those that need none get none.
    AsNeeded,
}

/// A migration of the tool's.
struct Candidate<'a> {
    source: &'a SourceFile,
    /// The tool's version, where it is a whole number.
    number: Option<i64>,
    description: String,
    transaction: Transaction,
    /// The file that undoes it.
    down: Option<&'a SourceFile>,
}

/// What a tool's module finds.
#[derive(Default)]
struct Found<'a> {
    /// In the order in which the tool runs them.
    candidates: Vec<Candidate<'a>>,
    /// What runs after those, and again whenever it changes.
    repeatables: Vec<Candidate<'a>>,
    left_out: Vec<SourceRemark>,
    refused: Vec<SourceRemark>,
}

impl<'a> Found<'a> {
    fn refuse(&mut self, source: &SourceFile, reason: impl Into<String>) {
        self.refused.push(remark(source, None, reason));
    }

    fn leave_out(&mut self, source: &SourceFile, reason: impl Into<String>) {
        self.left_out.push(remark(source, None, reason));
    }

    /// Orders candidates by a tool's key; two with one key are two migrations of one version.
    fn take<K: Ord>(&mut self, mut keyed: Vec<(K, Candidate<'a>)>) {
        keyed.sort_by(|one, other| one.0.cmp(&other.0));
        for pair in keyed.windows(2) {
            if pair[0].0 == pair[1].0 {
                let reason = format!("it has the version of {}: renumber one", pair[0].1.source.path);
                self.refused.push(remark(pair[1].1.source, None, reason));
            }
        }
        self.candidates.extend(keyed.into_iter().map(|(_, candidate)| candidate));
    }

    /// Files that undo what is not here, or nobody knows what.
    fn leave_out_lone_downs(&mut self, files: &[SourceFile]) {
        let taken: HashSet<&str> =
            self.candidates.iter().filter_map(|candidate| Some(candidate.down?.path.as_str())).collect();
        let told: HashSet<&str> =
            self.left_out.iter().chain(&self.refused).map(|remark| remark.source.as_str()).collect();
        let lone: Vec<SourceRemark> = files
            .iter()
            .filter(|file| parts(&file.path).1 == "down.sql" || file.path.ends_with(".down.sql"))
            .filter(|file| !taken.contains(file.path.as_str()) && !told.contains(file.path.as_str()))
            .map(|file| remark(file, None, UNDOES))
            .collect();
        self.left_out.extend(lone);
    }

    /// What undoes a migration. One that cannot be taken over is left out, for the way forward does not need it.
    fn down(&mut self, source: &'a SourceFile, stem: &str, transaction: Transaction) -> Option<ImportedFile> {
        let candidate = Candidate { source, number: None, description: String::new(), transaction, down: None };
        match prepare(&candidate) {
            Ok(Some((content, changes))) => {
                let file = format!("{stem}.down.sql");
                let mut findings = Vec::new();
                lint::check_content(&file, content.as_bytes(), &mut findings);
                match findings.first() {
                    None => return Some(ImportedFile { file, source: source.path.clone(), changes, content }),
                    Some(finding) => self.leave_out(source, format!("{} [{}]", finding.message, finding.rule)),
                }
            }
            Ok(None) => self.leave_out(source, "there is no statement in it"),
            Err(refusal) => self.leave_out(source, refusal.reason),
        }
        None
    }

    fn finish(mut self) -> Result<Import, ImportError> {
        let mut notes = Vec::new();
        let mut prepared = Vec::new();
        let versioned = self.candidates.len();
        let mut repeatables = Vec::new();
        let all = std::mem::take(&mut self.candidates).into_iter().chain(std::mem::take(&mut self.repeatables));
        for (at, candidate) in all.enumerate() {
            match prepare(&candidate) {
                Ok(Some((content, changes))) if at < versioned => prepared.push((candidate, content, changes)),
                Ok(Some((content, changes))) => repeatables.push(ImportedFile {
                    file: format!("R__{}.sql", name(&candidate.description)),
                    source: candidate.source.path.clone(),
                    changes,
                    content,
                }),
                Ok(None) => self.leave_out(candidate.source, "there is no statement in it"),
                Err(refusal) => self.refused.push(refusal),
            }
        }
        if prepared.is_empty() && self.refused.is_empty() {
            return Err(MigrationSetError::Empty.into());
        }
        let numbers: Vec<Option<i64>> = prepared.iter().map(|(candidate, ..)| candidate.number).collect();
        let versions = versions(&numbers, &mut notes);
        let mut files = Vec::new();
        for ((candidate, content, changes), version) in prepared.into_iter().zip(versions) {
            let stem = format!("V{version}__{}", name(&candidate.description));
            let down = candidate.down.and_then(|source| self.down(source, &stem, candidate.transaction));
            let (file, source) = (format!("{stem}.sql"), candidate.source.path.clone());
            files.push(ImportedFile { file, source, changes, content });
            files.extend(down);
        }
        repeatables.sort_by(|one, other| one.file.cmp(&other.file));
        files.extend(repeatables);
        self.refused.extend(judge(&files)?);
        if self.refused.is_empty() {
            self.left_out.sort_by(|one, other| one.source.cmp(&other.source));
            Ok(Import { files, left_out: self.left_out, notes })
        } else {
            self.refused.sort_by(|one, other| (&one.source, one.line).cmp(&(&other.source, other.line)));
            Err(ImportError::Refused(self.refused))
        }
    }
}

fn remark(source: &SourceFile, line: Option<u32>, reason: impl Into<String>) -> SourceRemark {
    SourceRemark { source: source.path.clone(), line, reason: reason.into() }
}

/// The tool's own numbers where they rise from 1 on; else numbers from 1 on.
fn versions(numbers: &[Option<i64>], notes: &mut Vec<String>) -> Vec<i64> {
    let mut versions: Vec<i64> = numbers.iter().map_while(|number| *number).collect();
    // A first version of nothing but zeros is common, and here zero stands for a home without any migration.
    if versions.first() == Some(&0) && versions.get(1).is_none_or(|second| *second > 1) {
        versions[0] = 1;
        notes.push("the first version is 0 and becomes 1: versions start there".to_owned());
    }
    let rises = versions.first().is_none_or(|first| *first > 0) && versions.windows(2).all(|pair| pair[0] < pair[1]);
    if versions.len() == numbers.len() && rises {
        return versions;
    }
    notes.push(
        "the versions are no whole numbers that rise from 1 on: the files are numbered anew, in order".to_owned(),
    );
    (1..).take(numbers.len()).collect()
}

/// A description as part of a file's name.
fn name(description: &str) -> String {
    let mut name = String::new();
    for character in description.chars() {
        if character.is_ascii_alphanumeric() {
            name.push(character);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    name.truncate(NAME_CHARACTERS_MAX);
    let name = name.trim_end_matches('_');
    if name.is_empty() { "migration".to_owned() } else { name.to_owned() }
}

/// A migration's content and what was changed in it; `None` when there is no statement.
fn prepare(candidate: &Candidate<'_>) -> Result<Option<(String, Vec<String>)>, SourceRemark> {
    let source = candidate.source;
    let Ok(text) = std::str::from_utf8(&source.content) else {
        return Err(remark(source, None, "it is no UTF-8: save it as UTF-8"));
    };
    let mut changes = Vec::new();
    let mut content = text.to_owned();
    if let Some(rest) = content.strip_prefix('\u{feff}') {
        content = String::from(rest);
        changes.push("the byte order mark was removed".to_owned());
    }
    if let Some(bare) = without_own_transaction(&content) {
        content = bare;
        changes.push("BEGIN and COMMIT around it were removed: each file runs in a transaction".to_owned());
    }
    let script = Script::read(&content);
    if script.statements.is_empty() {
        return Ok(None);
    }
    let all_need_none = script.statements.iter().all(|tokens| rules::check_needs_no_transaction(tokens).is_some());
    let is_without = match candidate.transaction {
        Transaction::Within => false,
        Transaction::Without => true,
        Transaction::AsNeeded => all_need_none,
    };
    let has_header = !header::read(&source.path, &content, &Lines::new(&content), &mut Vec::new()).transactional;
    match (is_without, has_header) {
        (true, false) => {
            content.insert_str(0, "-- no-transaction\n");
            changes.push("the header `-- no-transaction` was added".to_owned());
        }
        (false, true) if candidate.transaction == Transaction::Within => {
            let reason = "it runs in a transaction, but a comment at its top says `no-transaction`: reword the comment";
            return Err(remark(source, None, reason));
        }
        _ => {}
    }
    Ok(Some((content, changes)))
}

/// The text without a `BEGIN` before and a `COMMIT` after everything else, if it has both and no other.
fn without_own_transaction(content: &str) -> Option<String> {
    let script = Script::read(content);
    let [first, between @ .., last] = script.statements.as_slice() else { return None };
    let is_plain = |tokens: &[crate::lexer::Token<'_>], names: &[&str]| {
        let is_named = names.iter().any(|name| tokens[0].is_word(name));
        let is_bare = tokens[1..].iter().all(|token| token.is_word("TRANSACTION") || token.is_word("WORK"));
        is_named && is_bare
    };
    let begins = is_plain(first, &["BEGIN"]) || (first.len() == 2 && starts_with(first, &["START", "TRANSACTION"]));
    if !begins || !is_plain(last, &["COMMIT", "END"]) || between.is_empty() {
        return None;
    }
    let mut bare = String::with_capacity(content.len());
    let mut at = 0;
    for tokens in [first, last] {
        bare.push_str(&content[at..tokens[0].start]);
        at = tokens.last().map_or(at, crate::lexer::Token::end);
        if content[at..].starts_with(';') {
            at += 1;
        }
    }
    bare.push_str(&content[at..]);
    Some(bare)
}

/// What Tenantry would refuse of the result, told of the files that people know.
fn judge(files: &[ImportedFile]) -> Result<Vec<SourceRemark>, MigrationSetError> {
    let contents: Vec<(&str, &str)> = files.iter().map(|one| (one.file.as_str(), one.content.as_str())).collect();
    if contents.is_empty() {
        return Ok(Vec::new());
    }
    let findings = match MigrationSet::from_files("import", &contents) {
        Ok(_) => return Ok(Vec::new()),
        Err(MigrationSetError::Refused(findings)) => findings,
        Err(error) => return Err(error),
    };
    let remarks = findings.into_iter().map(|finding| {
        let source = files.iter().find(|file| file.file == finding.file);
        let added = source.is_some_and(|file| file.changes.iter().any(|change| change.contains("was added")));
        SourceRemark {
            source: source.map_or(finding.file, |file| file.source.clone()),
            line: Some(finding.line.saturating_sub(u32::from(added)).max(1)),
            reason: format!("{} [{}]", finding.message, finding.rule),
        }
    });
    Ok(remarks.collect())
}

/// A path's folder, if it has one, and the file's name.
fn parts(path: &str) -> (Option<&str>, &str) {
    path.rsplit_once('/').map_or((None, path), |(folder, name)| (Some(folder), name))
}

fn is_sql(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("sql"))
}

#[cfg(test)]
mod tests;
