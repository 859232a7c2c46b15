//! Prisma Migrate: a folder of folders, `<time stamp>_<name>/migration.sql`.
//!
//! As `schema-engine` of <https://github.com/prisma/prisma-engines> has it: every folder is a migration, the script is
//! `migration.sql` (`schema-connector/src/migrations_directory.rs`), and they run in the order of the folders' names, as
//! text. `migration_lock.toml` names the provider on a line `provider = "…"`. A script is sent as one query, so that
//! PostgreSQL runs it as one transaction, and a statement that needs none stands alone in its file.

use super::{Candidate, Found, SourceFile, Transaction, UNDOES, is_sql, parts};

pub(super) fn find<'a>(files: &'a [SourceFile], found: &mut Found<'a>) {
    let mut keyed = Vec::new();
    for file in files {
        match parts(&file.path) {
            (Some(folder), "migration.sql") if !folder.contains('/') => {
                let (version, name) = folder.split_once('_').unwrap_or((folder, folder));
                let candidate = Candidate {
                    source: file,
                    number: version.parse().ok(),
                    description: name.to_owned(),
                    transaction: Transaction::AsNeeded,
                    down: None,
                };
                keyed.push((folder, candidate));
            }
            (None, "migration_lock.toml") => {
                if let Some(provider) = provider(file)
                    && provider != "postgresql"
                {
                    found.refuse(file, format!("these are migrations for {provider}, not for postgresql"));
                }
            }
            (Some(_), "down.sql") => {
                found.leave_out(file, UNDOES);
            }
            (_, name) if is_sql(name) => {
                found.refuse(file, "Prisma reads <time stamp>_<name>/migration.sql only: move it there, or away");
            }
            _ => {}
        }
    }
    found.take(keyed);
}

fn provider(file: &SourceFile) -> Option<&str> {
    let text = std::str::from_utf8(&file.content).ok()?;
    let line = text.lines().find(|line| line.starts_with("provider"))?;
    Some(line.split_once('=')?.1.trim().trim_matches('"'))
}
