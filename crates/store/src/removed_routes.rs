//! Marks of removed routes in the table `route`, and their end.

use std::time::Duration;

use uuid::Uuid;

use crate::error::StoreError;
use crate::row::{get, query, query_one};
use crate::store::Store;

impl Store {
    /// Forgets routes that were removed longer ago than this, `limit` of them at a time, oldest first; says how many.
    /// Whoever has read no further than the newest of them can no longer resume and gets a snapshot: that commits
    /// together.
    pub async fn purge_removed_routes(&self, older_than: Duration, limit: i64) -> Result<usize, StoreError> {
        let tx = self.begin().await?;
        let client = tx.client()?;
        // Looked for before the clock is locked, because every commit of a route waits for it.
        let old = "SELECT tenant FROM route WHERE state = 'removed' AND removed_at < now() - make_interval(secs => $1)
                    ORDER BY removed_at LIMIT $2";
        let rows = query(client, old, &[&older_than.as_secs_f64(), &limit.clamp(1, 10_000)]).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let tenants = rows.iter().map(|row| get(row, "tenant")).collect::<Result<Vec<Uuid>, _>>()?;
        query_one(client, "SELECT version FROM feed_clock FOR UPDATE", &[]).await?;
        let purge = "
            WITH gone AS (
                DELETE FROM route WHERE tenant = ANY ($1) AND state = 'removed' RETURNING version
            ), newest AS (
                SELECT count(*) AS count, max(version) AS version FROM gone
            ), clock AS (
                UPDATE feed_clock SET oldest = greatest(oldest, newest.version) FROM newest WHERE newest.count > 0
            )
            SELECT count FROM newest";
        let count: i64 = get(&query_one(client, purge, &[&tenants]).await?, "count")?;
        tx.commit().await?;
        usize::try_from(count).map_err(StoreError::internal)
    }
}
