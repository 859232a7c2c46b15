//! Diesel: a folder of folders, `<version>_<name>/up.sql`.
//!
//! As `diesel_migrations/migrations_internals/src/lib.rs` of <https://github.com/diesel-rs/diesel> has it: folders right
//! in the folder and not hidden are migrations; the version is the name up to the first `_` without its `-`; versions
//! are compared as text. `metadata.toml` beside `up.sql` may say `run_in_transaction`; a file that does not say it means
//! no transaction (its field is `#[serde(default)]`), no file means one.

use super::{Candidate, Found, SourceFile, Transaction, is_sql, parts};
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    run_in_transaction: bool,
}

pub(super) fn find<'a>(files: &'a [SourceFile], found: &mut Found<'a>) {
    let metadata: HashMap<&str, &SourceFile> = files
        .iter()
        .filter_map(|file| match parts(&file.path) {
            (Some(folder), "metadata.toml") => Some((folder, file)),
            _ => None,
        })
        .collect();
    let beside = |folder: &str| files.iter().find(|file| parts(&file.path) == (Some(folder), "down.sql"));
    let mut keyed = Vec::new();
    for file in files {
        match parts(&file.path) {
            (Some(folder), "up.sql") if !folder.contains('/') => {
                let (version, name) = folder.split_once('_').unwrap_or((folder, ""));
                let version = version.replace('-', "");
                let transaction = match metadata.get(folder).map(|file| transaction(file)) {
                    None => Transaction::Within,
                    Some(Ok(transaction)) => transaction,
                    Some(Err(reason)) => {
                        found.refuse(metadata[folder], reason);
                        continue;
                    }
                };
                let number = version.parse().ok();
                let candidate =
                    Candidate { source: file, number, description: name.to_owned(), transaction, down: beside(folder) };
                keyed.push((version, candidate));
            }
            // Taken along with the file that it undoes.
            (Some(_), "down.sql") => {}
            (_, name) if is_sql(name) => {
                found.refuse(file, "Diesel reads <version>_<name>/up.sql only: move it there, or away");
            }
            _ => {}
        }
    }
    found.take(keyed);
}

fn transaction(file: &SourceFile) -> Result<Transaction, String> {
    let text = std::str::from_utf8(&file.content).map_err(|_| "it is no UTF-8".to_owned())?;
    let metadata: Metadata = toml::from_str(text).map_err(|error| format!("it is no TOML: {}", error.message()))?;
    Ok(if metadata.run_in_transaction { Transaction::Within } else { Transaction::Without })
}
