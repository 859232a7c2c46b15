//! Writing down that a home's schema was at a version before the set ever met it.

use tenantry_domain::{Home, SchemaVersion, Secret};
use tenantry_migration_set::MigrationSet;

use super::ledger::{applied_migration, history_table};
use super::{ApplyOptions, HISTORY, Workplace};
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::literal;

impl Fleet {
    /// Writes the set's migrations up to `version` into the home's history as applied, without running them, and returns
    /// the version that the history then tells. A history that is there already must be part of the set; nothing is added
    /// to one that has rows. Repeatable.
    pub async fn record_baseline(
        &self,
        target: &crate::ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
        set: &MigrationSet,
        version: SchemaVersion,
    ) -> Result<SchemaVersion, FleetError> {
        let workplace = Workplace::of(home);
        let mut session = self.migrator(target, &workplace, migrator_password, &ApplyOptions::default()).await?;
        let history = workplace.table(HISTORY);
        let mut sql = format!("{}{}BEGIN;\n{}", workplace.settle_in(), workplace.lock(), history_table(&workplace));
        let below: Vec<_> = set.migrations().iter().filter(|migration| migration.version <= version.0).collect();
        if !below.is_empty() {
            let rows: Vec<String> = below
                .iter()
                .map(|migration| {
                    format!(
                        "({}, {}, {})",
                        migration.version,
                        literal(&migration.name),
                        literal(&migration.checksum.to_string())
                    )
                })
                .collect();
            sql.push_str(&format!(
                "INSERT INTO {history} (version, name, applied_on, checksum)
                 SELECT v.version, v.name,
                        pg_catalog.to_char(pg_catalog.now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), v.checksum
                 FROM (VALUES {}) AS v (version, name, checksum) WHERE NOT EXISTS (SELECT FROM {history});\n",
                rows.join(", ")
            ));
        }
        sql.push_str(&format!("SELECT version, name, checksum FROM {history} ORDER BY version;\nCOMMIT;\n"));
        let rows = session.rows("write down the baseline", &sql).await?;
        let rows = rows.iter().filter(|row| row.columns().first().is_some_and(|column| column.name() == "version"));
        let applied = rows.map(applied_migration).collect::<Result<Vec<_>, _>>()?;
        for row in &applied {
            if set.migration(row.version).is_none_or(|known| known.checksum != row.checksum) {
                return Err(FleetError::Diverged {
                    reason: format!(
                        "the database's history has {}__{}, which is not in the promoted set as it is there",
                        row.version, row.name
                    ),
                });
            }
        }
        Ok(SchemaVersion(applied.iter().map(|row| row.version).max().unwrap_or(0)))
    }
}
