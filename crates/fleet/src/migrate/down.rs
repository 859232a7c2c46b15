//! Going back: what undoes a migration, and its row out of the history, in one transaction, the newest first.

use tenantry_domain::{Home, SchemaVersion, Secret};
use tenantry_migration_set::{Migration, MigrationSet};

use super::guard::witnessed_removal;
use super::ledger::{applied_migration, mark};
use super::{AppliedMigration, ApplyOptions, HISTORY, REPEATABLE, Workplace, failure, statements};
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::{do_block, literal};
use crate::target::ClusterTarget;

impl Fleet {
    /// Undoes what the home's history has above `version`, by the set's down files, and returns the version that the
    /// history tells then. Which repeatable files the home has is forgotten with the first one, so that all of them are
    /// applied again on the way forward. Repeatable: the history says what is left to do.
    ///
    /// # Errors
    ///
    /// `Refused`, and nothing is done, where the history is not the set's, or the set does not undo all of it; `Migration`
    /// where a file fails: those before it stay undone.
    pub async fn go_back(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
        set: &MigrationSet,
        version: SchemaVersion,
        options: &ApplyOptions,
    ) -> Result<SchemaVersion, FleetError> {
        let workplace = Workplace::of(home);
        let working = async {
            let mut session = self.migrator(target, &workplace, migrator_password, options).await?;
            let history = workplace.table(HISTORY);
            let look = format!(
                "{}{}SELECT version, name, checksum FROM {history} ORDER BY version DESC;",
                workplace.settle_in(),
                workplace.lock()
            );
            let rows = session.rows("read the home's history", &look).await?;
            let rows = rows.iter().filter(|row| row.columns().first().is_some_and(|column| column.name() == "version"));
            let applied = rows.map(applied_migration).collect::<Result<Vec<_>, _>>()?;
            let (above, rest): (Vec<_>, Vec<_>) = applied.iter().partition(|row| row.version > version.0);
            let downs = above.into_iter().map(|row| down_of(set, row)).collect::<Result<Vec<_>, _>>()?;
            for down in downs {
                let forget = forget(&workplace, &history, down);
                if down.transactional {
                    let before = format!("BEGIN;\n{}", mark(down, true));
                    let sql = format!("{before}{}\n;\n{forget}COMMIT;\n", down.sql);
                    let statements_before = 2;
                    session.counted(&sql).await.map_err(|(answered, cause)| {
                        failure::of(cause, down, &before, answered.checked_sub(statements_before))
                    })?;
                } else {
                    statements::run(&mut session, &workplace, down, &forget).await?;
                }
            }
            Ok(SchemaVersion(rest.first().map_or(0, |row| row.version)))
        };
        // When time is up the future is dropped, and with it the session, which cancels what it runs.
        match tokio::time::timeout(options.deadline, working).await {
            Ok(result) => result,
            Err(elapsed) => Err(FleetError::Busy {
                reason: "going back took longer than its deadline and was cancelled; raise it or retry".into(),
                source: Some(Box::new(elapsed)),
            }),
        }
    }
}

fn down_of<'a>(set: &'a MigrationSet, row: &AppliedMigration) -> Result<&'a Migration, FleetError> {
    let refused = |reason: &str| {
        FleetError::refused(format!("the home has applied {}__{}, which {reason}", row.version, row.name))
    };
    let migration = set.migration(row.version).filter(|migration| migration.checksum == row.checksum);
    let migration = migration.ok_or_else(|| refused("is not in the set as it is there; name a set that has it"))?;
    migration.down.as_deref().ok_or_else(|| refused("the set has no file to undo"))
}

fn forget(workplace: &Workplace, history: &str, down: &Migration) -> String {
    let repeatable = workplace.table(REPEATABLE);
    let repeatables = do_block(&format!(
        "IF pg_catalog.to_regclass({}) IS NOT NULL THEN DELETE FROM {repeatable}; END IF;",
        literal(&repeatable)
    ));
    format!("{}{repeatables}", witnessed_removal(workplace, down, history))
}
