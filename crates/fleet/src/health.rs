//! How a home is, from outside: its size, its connections.

use tenantry_domain::{Home, Isolation, RoleName};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::{literal, literals};
use crate::target::ClusterTarget;

impl Fleet {
    /// Bytes on disk: of the whole database, or of everything in the home's schema with its indexes and TOAST tables.
    pub async fn home_size(&self, target: &ClusterTarget, home: &Home) -> Result<u64, FleetError> {
        let what = "measure the home";
        let rows = if home.isolation == Isolation::Schema {
            let sql = format!(
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = {} AND c.relkind IN ('r', 'm', 'S');",
                literal(home.schema.as_str())
            );
            self.kept(target, &home.database).await?.rows(what, &sql).await?
        } else {
            let sql = format!("SELECT pg_database_size({}::name);", literal(home.database.as_str()));
            self.admin(target).await?.rows(what, &sql).await?
        };
        let size = rows.first().and_then(|row| row.get(0)).and_then(|size| size.parse().ok());
        size.ok_or_else(|| FleetError::busy("the home could not be measured"))
    }

    /// How many sessions the home's login roles and its read-only role have now.
    pub async fn home_connections(&self, target: &ClusterTarget, home: &Home) -> Result<u32, FleetError> {
        let names = home.names();
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type IS DISTINCT FROM 'parallel worker' AND usename IN ({});",
            literals([&names.login_a, &names.login_b, &names.read_only].map(RoleName::as_str))
        );
        let rows = self.admin(target).await?.rows("count the home's connections", &sql).await?;
        let count = rows.first().and_then(|row| row.get(0)).and_then(|count| count.parse().ok());
        count.ok_or_else(|| FleetError::busy("the home's connections could not be counted"))
    }
}
