//! The table `reconciler`: which replica does which upkeep when, and what the last pass found.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::{execute, get, query, query_one, query_opt};
use crate::store::Store;
use crate::transaction::Tx;

/// Upkeep as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ReconcilerRecord {
    /// Its name.
    pub name: String,
    /// When its next pass is due.
    pub next_run_at: Timestamp,
    /// When its last pass ended; absent before the first.
    pub ran_at: Option<Timestamp>,
    /// What the last good pass found.
    pub report: Option<Value>,
    /// Why the last pass failed, if it did.
    pub error: Option<String>,
}

/// Whether a pass may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcilerTurn {
    /// It is the caller's, until its lease runs out.
    Taken,
    /// Not due before this time, or another replica is at it until then.
    NotBefore(Timestamp),
}

impl Store {
    /// Takes the next pass if it is due, for at most `lease`; nobody else gets it meanwhile.
    pub async fn take_reconciler(
        &self,
        name: &str,
        owner: Uuid,
        lease: Duration,
    ) -> Result<ReconcilerTurn, StoreError> {
        let client = self.client().await?;
        let taken = query_opt(
            &client,
            "INSERT INTO reconciler AS held (name, lease_owner, lease_until)
             VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
             ON CONFLICT (name) DO UPDATE
                SET lease_owner = excluded.lease_owner, lease_until = excluded.lease_until, is_poked = false
              WHERE held.next_run_at <= clock_timestamp()
                AND (held.lease_until IS NULL OR held.lease_until < clock_timestamp())
             RETURNING name",
            &[&name, &owner, &lease.as_secs_f64()],
        )
        .await?;
        if taken.is_some() {
            return Ok(ReconcilerTurn::Taken);
        }
        let sql =
            "SELECT greatest(next_run_at, coalesce(lease_until, next_run_at)) AS at FROM reconciler WHERE name = $1";
        Ok(ReconcilerTurn::NotBefore(get(&query_one(&client, sql, &[&name]).await?, "at")?))
    }

    /// Ends a pass that was taken: the next is due after `pause`, or at once where somebody asked for it meanwhile. Does
    /// nothing when the lease ran out and another replica has the pass.
    pub async fn finish_reconciler(
        &self,
        name: &str,
        owner: Uuid,
        pause: Duration,
        outcome: Result<&Value, &str>,
    ) -> Result<(), StoreError> {
        let (report, error) = (outcome.ok(), outcome.err());
        execute(
            &*self.client().await?,
            "UPDATE reconciler
                SET lease_owner = NULL, lease_until = NULL, ran_at = clock_timestamp(),
                    report = coalesce($4, report), error = $5,
                    next_run_at = clock_timestamp()
                        + CASE WHEN is_poked THEN interval '0' ELSE $3 * interval '1 second' END
              WHERE name = $1 AND lease_owner = $2",
            &[&name, &owner, &pause.as_secs_f64(), &report, &error],
        )
        .await?;
        Ok(())
    }

    /// Gives a pass back that was taken and not made.
    pub async fn release_reconciler(&self, name: &str, owner: Uuid) -> Result<(), StoreError> {
        let sql = "UPDATE reconciler SET lease_owner = NULL, lease_until = NULL WHERE name = $1 AND lease_owner = $2";
        execute(&*self.client().await?, sql, &[&name, &owner]).await?;
        Ok(())
    }

    /// All upkeep that has run or was asked for, by name.
    pub async fn reconcilers(&self) -> Result<Vec<ReconcilerRecord>, StoreError> {
        let rows = query(&*self.client().await?, "SELECT * FROM reconciler ORDER BY name", &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(ReconcilerRecord {
                    name: get(row, "name")?,
                    next_run_at: get(row, "next_run_at")?,
                    ran_at: get(row, "ran_at")?,
                    report: get(row, "report")?,
                    error: get(row, "error")?,
                })
            })
            .collect()
    }
}

impl Tx {
    /// Asks, at the commit, for a pass at once, by whichever replica takes it first.
    pub async fn poke_reconciler(&self, name: &str) -> Result<(), StoreError> {
        let client = self.client()?;
        execute(
            client,
            "INSERT INTO reconciler (name, is_poked) VALUES ($1, true)
             ON CONFLICT (name) DO UPDATE SET is_poked = true, next_run_at = clock_timestamp()",
            &[&name],
        )
        .await?;
        query_one(client, "SELECT pg_notify('tenantry', 'reconciler:' || $1)", &[&name]).await?;
        Ok(())
    }
}
