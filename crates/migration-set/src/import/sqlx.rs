//! sqlx: `<version>_<description>.sql`, or `.up.sql` and `.down.sql`, right in the folder.
//!
//! As `sqlx-core/src/migrate/source.rs` of <https://github.com/launchbadge/sqlx> has it: the version stands before the
//! first `_`, is a 64-bit number greater than zero, and orders the files; files of other names are silently not run. A
//! file that begins with `-- no-transaction` runs without one.

use super::{Candidate, Found, SourceFile, Transaction, is_sql, parts};
use std::collections::HashMap;

pub(super) fn find<'a>(files: &'a [SourceFile], found: &mut Found<'a>) {
    let mut keyed = Vec::new();
    let downs: HashMap<i64, &SourceFile> = files
        .iter()
        .filter_map(|file| {
            let (version, _) = file.path.strip_suffix(".down.sql")?.split_once('_')?;
            Some((version.parse().ok()?, file))
        })
        .collect();
    for file in files {
        let (folder, name) = parts(&file.path);
        if !is_sql(name) {
            continue;
        }
        if folder.is_some() {
            found.refuse(file, "sqlx does not read folders in the folder: move it up, or away");
            continue;
        }
        let Some((version, description)) = name.strip_suffix(".sql").and_then(|stem| stem.split_once('_')) else {
            found.refuse(
                file,
                "sqlx does not run it, for it is not named <version>_<description>.sql: rename it, or move it away",
            );
            continue;
        };
        if description.strip_suffix(".down").is_some() {
            // Taken along with the file that it undoes.
            continue;
        }
        let Some(number) = version.parse::<i64>().ok().filter(|number| *number > 0) else {
            found.refuse(file, "sqlx takes no version but a number from 1 to 2^63-1: renumber it");
            continue;
        };
        let description = description.strip_suffix(".up").unwrap_or(description).to_owned();
        let says_none = file.content.starts_with(b"-- no-transaction");
        let transaction = if says_none { Transaction::Without } else { Transaction::Within };
        let down = downs.get(&number).copied();
        keyed.push((number, Candidate { source: file, number: Some(number), description, transaction, down }));
    }
    found.take(keyed);
}
