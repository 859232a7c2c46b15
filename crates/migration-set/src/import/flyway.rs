//! Flyway: `V<version>__<description>.sql` in the folder and the folders in it.
//!
//! As its documentation has it (<https://documentation.red-gate.com/fd/versioned-migrations-273973333.html>, and the
//! pages on repeatable, undo and baseline migrations, script configuration, callbacks and placeholders beside it): a
//! version is numbers with dots or underscores between them, compared number by number, zeros at the end not counting.
//! Statements that PostgreSQL runs outside a transaction only are found by Flyway itself; `V….sql.conf` may say
//! `executeInTransaction=false`. `R__` files run again whenever they change, here too, `${…}` is replaced in every file, `U` files
//! undo, `B` files stand for all versions up to theirs where nothing was applied yet.

use super::{Candidate, Found, SourceFile, Transaction, UNDOES, is_sql, parts, remark};
use std::collections::HashMap;

/// Numbers of a version, those that do not count left out.
type Version = Vec<u64>;

pub(super) fn find<'a>(files: &'a [SourceFile], found: &mut Found<'a>) {
    let configured: HashMap<&str, &SourceFile> =
        files.iter().filter_map(|file| Some((file.path.strip_suffix(".conf")?, file))).collect();
    let mut keyed = Vec::new();
    let mut baselines = Vec::new();
    for file in files {
        let (_, name) = parts(&file.path);
        if !is_sql(name) {
            if ["java", "class", "kt"].iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
                found.refuse(file, "it is a program, not SQL: write what it does as SQL");
            }
            continue;
        }
        match Name::parse(name) {
            Some(Name::Versioned(version, description)) => {
                let Some(transaction) = transaction(file, &configured, found) else { continue };
                let number = match version.as_slice() {
                    [] => Some(0),
                    [number] => i64::try_from(*number).ok(),
                    _ => None,
                };
                let description = description.to_owned();
                keyed.push((version, Candidate { source: file, number, description, transaction, down: None }));
            }
            Some(Name::Baseline(version)) => baselines.push((version, file)),
            Some(Name::Undo) => found.leave_out(file, UNDOES),
            Some(Name::Repeatable(description)) => {
                let Some(transaction) = transaction(file, &configured, found) else { continue };
                let description = description.to_owned();
                found.repeatables.push(Candidate { source: file, number: None, description, transaction, down: None });
            }
            None => {
                let reason = "it is not named V<version>__<description>.sql: rename it, or move it away \
                              (callbacks have no counterpart)";
                found.refuse(file, reason);
            }
        }
    }
    for (version, file) in baselines {
        if keyed.iter().any(|(other, _)| *other <= version) {
            found.leave_out(file, "the versions that it stands for are here");
        } else {
            found.refuse(file, "it stands for versions that are not here: make it a versioned one");
        }
    }
    found.take(keyed);
}

/// How a file runs, or nothing where it cannot be taken over.
fn transaction<'a>(
    file: &SourceFile,
    configured: &HashMap<&str, &'a SourceFile>,
    found: &mut Found<'a>,
) -> Option<Transaction> {
    placeholders(file, found);
    let configuration = configured.get(file.path.as_str());
    match configuration.map(|configuration| runs_in_transaction(configuration)) {
        None | Some(Some(true)) => Some(Transaction::AsNeeded),
        Some(Some(false)) => Some(Transaction::Without),
        Some(None) => {
            found.refuse(configured[file.path.as_str()], "only executeInTransaction has a meaning here");
            None
        }
    }
}

enum Name<'a> {
    Versioned(Version, &'a str),
    Baseline(Version),
    Undo,
    Repeatable(&'a str),
}

impl<'a> Name<'a> {
    fn parse(file: &'a str) -> Option<Self> {
        let (front, description) = file.strip_suffix(".sql")?.split_once("__")?;
        match front.split_at_checked(1)? {
            ("V", version) => Some(Self::Versioned(parse_version(version)?, description)),
            ("B", version) => Some(Self::Baseline(parse_version(version)?)),
            ("U", version) => parse_version(version).map(|_| Self::Undo),
            ("R", "") => Some(Self::Repeatable(description)),
            _ => None,
        }
    }
}

fn parse_version(text: &str) -> Option<Version> {
    let mut version: Version = text.split(['.', '_']).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    while version.last() == Some(&0) {
        version.pop();
    }
    Some(version)
}

/// What a script's configuration says; `None` when it says something else.
fn runs_in_transaction(file: &SourceFile) -> Option<bool> {
    let text = std::str::from_utf8(&file.content).ok()?;
    let mut runs = true;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once('=')?;
        match (key.trim().trim_start_matches("flyway."), value.trim()) {
            ("executeInTransaction", "true") => runs = true,
            ("executeInTransaction", "false") => runs = false,
            _ => return None,
        }
    }
    Some(runs)
}

/// Flyway replaces `${name}` wherever it stands, in strings and comments too.
fn placeholders(file: &SourceFile, found: &mut Found<'_>) {
    let text = String::from_utf8_lossy(&file.content);
    for (line, content) in (1..).zip(text.lines()) {
        if content.split_once("${").is_some_and(|(_, rest)| rest.contains('}')) {
            let reason = "Flyway replaces the placeholder ${…} in it, and Tenantry does not: write its value";
            found.refused.push(remark(file, Some(line), reason));
            return;
        }
    }
}
