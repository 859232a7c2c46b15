//! The catalog's own schema.

use std::time::Duration;

use refinery::embed_migrations;
use tokio::time::{Instant, sleep};

use crate::error::StoreError;
use crate::row::{get, query_one};
use crate::store::Store;

embed_migrations!("../../migrations");

/// Replicas that start together take turns, because refinery takes no lock itself. The number is arbitrary.
const LOCK: i64 = 7_236_481_119_042;
const LOCK_WAIT: Duration = Duration::from_mins(2);

/// What bringing the catalog up to date did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationReport {
    /// What was applied now, in order, as `V1__name`.
    pub applied: Vec<String>,
    /// The version that the catalog is at.
    pub version: i64,
}

impl Store {
    /// Brings the catalog's schema up to date, as its owner; runtime roles are granted what is new. Safe to call from
    /// several programs at once.
    pub async fn migrate(&self) -> Result<MigrationReport, StoreError> {
        // Out of the pool from the start: whatever happens, the lock and the settings end with this connection.
        let mut client = self.client().await?.take();
        let deadline = Instant::now() + LOCK_WAIT;
        // Not the waiting form: a waiting statement holds a snapshot and runs into statement_timeout.
        let lock = "SELECT pg_try_advisory_lock($1) AS locked";
        while !get::<bool>(&client.query_one(lock, &[&LOCK]).await?, "locked")? {
            if Instant::now() >= deadline {
                return Err(StoreError::Conflict {
                    reason: "another program is migrating the catalog and does not finish; look at its log".to_owned(),
                });
            }
            sleep(Duration::from_millis(200)).await;
        }
        client.batch_execute("SET statement_timeout = 0").await?;
        let report = migrations::runner().run_async(&mut *client).await;
        drop(client);
        let report = report.map_err(StoreError::internal)?;
        // What was made now belongs to those who work in the catalog, too.
        for role in self.runtime_roles().await? {
            self.grant_runtime_role(&role).await?;
        }
        let applied: Vec<String> = report.applied_migrations().iter().map(ToString::to_string).collect();
        Ok(MigrationReport { applied, version: newest() })
    }

    /// Which migrations the catalog lacks, in their order.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        let client = self.client().await?;
        let there =
            query_one(&client, "SELECT to_regclass('refinery_schema_history') IS NOT NULL AS there", &[]).await?;
        let applied: Vec<i64> = if get::<bool>(&there, "there")? {
            let rows = client.query("SELECT version::bigint AS version FROM refinery_schema_history", &[]).await?;
            rows.iter().map(|row| get(row, "version")).collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        let runner = migrations::runner();
        let mut pending: Vec<_> =
            runner.get_migrations().iter().filter(|migration| !applied.contains(&migration.version())).collect();
        // They are embedded in the order of their file names, in which V10 comes before V2.
        pending.sort_by_key(|migration| migration.version());
        Ok(pending.into_iter().map(ToString::to_string).collect())
    }
}

fn newest() -> i64 {
    migrations::runner().get_migrations().iter().map(refinery::Migration::version).max().unwrap_or(0)
}
