//! How much space homes take on disk.

use std::collections::BTreeMap;

use tenantry_domain::{DatabaseName, Home, HomeId, Isolation};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::literals;
use crate::target::ClusterTarget;

impl Fleet {
    /// The space that some homes of a cluster take, in bytes. One question to the server for those with a database of
    /// their own, and one to each database that is shared. Homes that are not there are left out.
    pub async fn home_sizes(&self, target: &ClusterTarget, homes: &[Home]) -> Result<Vec<(HomeId, u64)>, FleetError> {
        let (in_schemas, in_databases): (Vec<&Home>, Vec<&Home>) =
            homes.iter().partition(|home| home.isolation == Isolation::Schema);
        let mut sizes = Vec::with_capacity(homes.len());
        if !in_databases.is_empty() {
            let names = literals(in_databases.iter().map(|home| home.database.as_str()));
            let sql = format!(
                "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datallowconn AND datname IN ({names});"
            );
            let rows = self.admin(target).await?.rows("measure databases", &sql).await?;
            let found: BTreeMap<&str, u64> =
                rows.iter().filter_map(|row| Some((row.get(0)?, row.get(1)?.parse().ok()?))).collect();
            let size = |home: &&Home| Some((home.id, *found.get(home.database.as_str())?));
            sizes.extend(in_databases.iter().filter_map(size));
        }
        let mut by_database: BTreeMap<&DatabaseName, Vec<&Home>> = BTreeMap::new();
        for home in in_schemas {
            by_database.entry(&home.database).or_default().push(home);
        }
        for homes in by_database.into_values() {
            let names = literals(homes.iter().map(|home| home.schema.as_str()));
            let sql = format!(
                "SELECT n.nspname, coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_namespace n
                 LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'm')
                 WHERE n.nspname IN ({names}) GROUP BY n.nspname;"
            );
            let rows = self.inside(target, homes[0]).await?.rows("measure schemas", &sql).await?;
            let found: BTreeMap<&str, u64> =
                rows.iter().filter_map(|row| Some((row.get(0)?, row.get(1)?.parse().ok()?))).collect();
            let size = |home: &&Home| Some((home.id, *found.get(home.schema.as_str())?));
            sizes.extend(homes.iter().filter_map(size));
        }
        Ok(sizes)
    }
}
