//! The table `router`: what each router last said of itself.

use jiff::Timestamp;
use serde_json::Value;
use tenantry_domain::FeedVersion;
use tokio_postgres::Row;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{execute, get, query};
use crate::store::Store;

/// What a router says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterReport {
    /// Its name.
    pub name: String,
    /// The last feed version that it applied.
    pub applied_version: FeedVersion,
    /// Routes, pools and demands, as it reports them.
    pub detail: Value,
}

/// A router's last report.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterRecord {
    /// Its name.
    pub name: String,
    /// The last feed version that it applied.
    pub applied_version: FeedVersion,
    /// How many versions it is behind the newest.
    pub lag: i64,
    /// When it reported.
    pub reported_at: Timestamp,
    /// Routes, pools and demands, as it reported them.
    pub detail: Value,
}

impl Store {
    /// Takes a report down in place of the one before.
    pub async fn report_router(&self, report: &RouterReport) -> Result<(), StoreError> {
        if !(1..=200).contains(&report.name.chars().count()) {
            return Err(StoreError::Invalid { reason: "a router's name has 1 to 200 characters".to_owned() });
        }
        execute(
            &*self.client().await?,
            "INSERT INTO router (name, applied_version, detail) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE
                SET applied_version = excluded.applied_version, detail = excluded.detail, reported_at = now()",
            &[&report.name, &report.applied_version.0, &report.detail],
        )
        .await?;
        Ok(())
    }

    /// A page of routers, by name.
    pub async fn routers(&self, page: &PageRequest) -> Result<Page<RouterRecord>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT router.*, greatest(feed_clock.version - applied_version, 0) AS lag
               FROM router CROSS JOIN feed_clock
              WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2",
            &[&page.after_name(), &page.probe()],
        )
        .await?;
        let routers = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(routers, |router: &RouterRecord| router.name.clone()))
    }
}

fn read(row: &Row) -> Result<RouterRecord, StoreError> {
    Ok(RouterRecord {
        name: get(row, "name")?,
        applied_version: FeedVersion(get(row, "applied_version")?),
        lag: get(row, "lag")?,
        reported_at: get(row, "reported_at")?,
        detail: get(row, "detail")?,
    })
}
