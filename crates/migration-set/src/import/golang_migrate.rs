//! golang-migrate: `<version>_<title>.up.sql` and `.down.sql`, right in the folder.
//!
//! As `source/parse.go` and `MIGRATIONS.md` of <https://github.com/golang-migrate/migrate> have it: names match
//! `^([0-9]+)_(.*)\.(down|up)\.(.*)$`, the version is an unsigned 64-bit number and orders the files, other names are not
//! run. The PostgreSQL driver sends a file as one query, so that PostgreSQL runs it as one transaction unless it holds
//! `BEGIN` and `COMMIT` of its own, and a statement that needs none stands alone in its file.

use super::{Candidate, Found, SourceFile, Transaction, is_sql, parts};

pub(super) fn find<'a>(files: &'a [SourceFile], found: &mut Found<'a>) {
    let undoes = |version: u64| {
        files.iter().find(|file| {
            let taken_apart =
                take_apart(&file.path).filter(|(_, _, direction, ending)| *direction == "down" && *ending == "sql");
            taken_apart.is_some_and(|(number, ..)| number.parse() == Ok(version))
        })
    };
    let mut keyed = Vec::new();
    for file in files {
        let (folder, name) = parts(&file.path);
        let Some((version, title, direction, ending)) = take_apart(name) else {
            if is_sql(name) {
                let reason = "golang-migrate does not run it, for it is not named <version>_<title>.up.sql: \
                              rename it, or move it away";
                found.refuse(file, reason);
            }
            continue;
        };
        if folder.is_some() {
            found.refuse(file, "golang-migrate does not read folders in the folder: move it up, or away");
        } else if direction == "down" {
            // Taken along with the file that it undoes.
        } else if !ending.eq_ignore_ascii_case("sql") {
            found.refuse(file, "it is no SQL: write a .up.sql in its place");
        } else if let Ok(version) = version.parse::<u64>() {
            let number = i64::try_from(version).ok();
            let transaction = Transaction::AsNeeded;
            let (description, down) = (title.to_owned(), undoes(version));
            keyed.push((version, Candidate { source: file, number, description, transaction, down }));
        } else {
            found.refuse(file, "its version does not fit into 64 bits: renumber it");
        }
    }
    found.take(keyed);
}

/// The groups of the tool's expression: like it, the direction that stands furthest to the right counts.
fn take_apart(name: &str) -> Option<(&str, &str, &str, &str)> {
    let (version, rest) = name.split_once('_')?;
    if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let at = |direction: &'static str| rest.rfind(&format!(".{direction}.")).map(|at| (at, direction));
    let (at, direction) = at("up").into_iter().chain(at("down")).max()?;
    Some((version, &rest[..at], direction, &rest[at + direction.len() + 2..]))
}
