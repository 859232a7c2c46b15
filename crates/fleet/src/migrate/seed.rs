//! Filling a new home, once.

use tenantry_domain::{Home, Secret};
use tenantry_migration_set::Migration;

use super::guard::{reserve, witnessed};
use super::ledger::mark;
use super::{ApplyOptions, SEED, Workplace, failure};
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::{do_block, literal};
use crate::target::ClusterTarget;

/// A seed that was checked as a migration is.
#[derive(Debug, Clone, Copy)]
pub struct SeedFile<'a> {
    /// Its digest, by which a home knows that it has been filled with it.
    pub digest: &'a str,
    /// What failures call it.
    pub file: &'a str,
    /// Its text, checked: transactional and without commands that would leave the transaction.
    pub checked: &'a Migration,
}

impl Fleet {
    /// Runs the seed in the home as its migrator acting as its owner, in one transaction with the row that tells so.
    /// Says whether it ran: a home that has the row is left alone.
    ///
    /// # Errors
    ///
    /// `Migration` with file and line where the text is to blame; `Refused` where the home was filled with another seed.
    pub async fn seed(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
        seed: SeedFile<'_>,
        options: &ApplyOptions,
    ) -> Result<bool, FleetError> {
        let workplace = Workplace::of(home);
        let working = async {
            let mut session = self.migrator(target, &workplace, migrator_password, options).await?;
            let table = workplace.table(SEED);
            let make = do_block(&format!(
                "IF pg_catalog.to_regclass({}) IS NULL THEN
CREATE TABLE {table} (digest text PRIMARY KEY, file text NOT NULL, applied_at timestamptz NOT NULL DEFAULT pg_catalog.now());\n{}END IF;",
                literal(&table),
                reserve(&workplace, &table)
            ));
            let look = format!("{}{}{make}SELECT digest, file FROM {table};", workplace.settle_in(), workplace.lock());
            let rows = session.rows("look for the home's seed", &look).await?;
            let applied = rows
                .iter()
                .filter(|row| row.columns().first().is_some_and(|column| column.name() == "digest"))
                .find_map(|row| row.get("digest"));
            match applied {
                Some(digest) if digest == seed.digest => return Ok(false),
                Some(_) => return Err(FleetError::refused("the home was filled with another seed before")),
                None => {}
            }
            let before = format!("BEGIN;\n{}", mark(seed.checked, true));
            // The line break ends a comment on the file's last line, the semicolon its last statement.
            let row =
                format!("INSERT INTO {table} (digest, file) VALUES ({}, {})", literal(seed.digest), literal(seed.file));
            let row = witnessed(&workplace, seed.checked, &row, None)?;
            let sql = format!("{before}{}\n;\n{row}COMMIT;\n", seed.checked.sql);
            let statements_before = 2;
            session.counted(&sql).await.map_err(|(answered, cause)| {
                failure::of(cause, seed.checked, &before, answered.checked_sub(statements_before))
            })?;
            Ok(true)
        };
        // When time is up the future is dropped, and with it the session, which cancels what it runs.
        match tokio::time::timeout(options.deadline, working).await {
            Ok(Err(FleetError::Migration(mut failure))) => {
                seed.file.clone_into(&mut failure.file);
                Err(FleetError::Migration(failure))
            }
            Ok(result) => result,
            Err(elapsed) => Err(FleetError::Busy {
                reason: "the seed took longer than its deadline and was cancelled; make it smaller".into(),
                source: Some(Box::new(elapsed)),
            }),
        }
    }
}
