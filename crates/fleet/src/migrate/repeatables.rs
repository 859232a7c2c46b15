//! Files without a version: applied again whenever their content changes, each with a row that tells its checksum.
//!
//! A file that has gone from the set leaves its row and whatever it made: only its author knows what would undo it.

use std::collections::HashSet;

use tenantry_migration_set::Migration;
use tokio_postgres::SimpleQueryRow;

use super::guard::reserve;
use super::{REPEATABLE, Workplace};
use crate::quote::{do_block, literal};

/// Makes the table where it is missing.
pub(super) fn table(workplace: &Workplace) -> String {
    let table = workplace.table(REPEATABLE);
    do_block(&format!(
        "IF pg_catalog.to_regclass({}) IS NULL THEN
CREATE TABLE {table} (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT pg_catalog.now());
{}END IF;",
        literal(&table),
        reserve(workplace, &table)
    ))
}

/// What the home has.
pub(crate) fn select(workplace: &Workplace) -> String {
    format!("SELECT name AS repeatable, checksum FROM {};\n", workplace.table(REPEATABLE))
}

/// Names and checksums among the rows of an answer.
pub(crate) fn present(rows: &[SimpleQueryRow]) -> HashSet<(&str, u64)> {
    let ours = rows.iter().filter(|row| row.columns().first().is_some_and(|column| column.name() == "repeatable"));
    // What is unreadable is not what the set has, and is written anew.
    ours.filter_map(|row| Some((row.get(0)?, row.get(1)?.parse().ok()?))).collect()
}

/// Writes down that the home has the file as it is.
pub(super) fn row(workplace: &Workplace, migration: &Migration) -> String {
    format!(
        "INSERT INTO {} (name, checksum) VALUES ({}, {})
ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = excluded.applied_at",
        workplace.table(REPEATABLE),
        literal(&migration.name),
        literal(&migration.checksum.to_string())
    )
}
