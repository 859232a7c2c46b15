//! What a world has left on a server, compared with what its catalog says.

use std::collections::BTreeSet;

use tokio_postgres::Client;
use uuid::Uuid;

/// Databases and roles on one server, as `database …` and `role …`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// What is on the server under names that Tenantry gives and that start with one of these prefixes, and databases
    /// that belong to the given role.
    pub(crate) async fn on_server(server: &Client, prefixes: &[String], owner: &str) -> Self {
        let sql = "SELECT 'database ' || datname FROM pg_database d
                   WHERE EXISTS (SELECT FROM unnest($1::text[]) AS prefix WHERE starts_with(datname, prefix))
                      OR datname ~ '^[hst]_[0-9a-f]{32}$' AND pg_get_userbyid(datdba) = $2
                   UNION ALL SELECT 'role ' || rolname FROM pg_roles
                   WHERE EXISTS (SELECT FROM unnest($1::text[]) AS prefix WHERE starts_with(rolname, prefix))";
        let rows = server.query(sql, &[&prefixes, &owner]).await.expect("a scan of the server");
        Self(rows.iter().map(|row| row.get(0)).collect())
    }

    /// What the catalog says that there must be: what is recorded as made.
    pub(crate) async fn made(catalog: &Client, cluster: &Uuid) -> Self {
        let sql = "SELECT kind || ' ' || name FROM resource
                   WHERE cluster = $1 AND state = 'created' AND kind IN ('role', 'database')
                     AND NOT (kind = 'database' AND is_adopted)
                   UNION ALL SELECT unnest(ARRAY['database ' || name, 'role ' || name || '_owner']) FROM template
                   WHERE cluster = $1 AND state = 'ready'
                   UNION ALL SELECT 'database ' || name FROM shared_database WHERE cluster = $1 AND state = 'ready'
                   UNION ALL SELECT 'role ' || name || suffix
                   FROM shared_database, unnest(ARRAY['_homes', '_temp', '_m']) AS suffix WHERE cluster = $1 AND state = 'ready'
                   UNION ALL SELECT 'role ' || name || '_pool' FROM shared_database s
                   WHERE cluster = $1 AND EXISTS (SELECT FROM home WHERE home.shared_database = s.id AND home.pool_member)";
        Self::of(catalog, sql, cluster).await
    }

    /// What the catalog says that there may be besides: what is recorded as planned. A template whose migrations failed
    /// stays half made until the set is mended or the cluster removed.
    pub(crate) async fn planned(catalog: &Client, cluster: &Uuid) -> Self {
        let sql = "SELECT kind || ' ' || name FROM resource
                   WHERE cluster = $1 AND state = 'planned' AND kind IN ('role', 'database')
                   UNION ALL SELECT 'database ' || name FROM template WHERE cluster = $1 AND state <> 'ready'
                   UNION ALL SELECT 'role ' || name || suffix
                   FROM template, unnest(ARRAY['_owner', '_m']) AS suffix WHERE cluster = $1 AND state <> 'ready'
                   UNION ALL SELECT 'database ' || name FROM shared_database WHERE cluster = $1 AND state = 'planned'
                   UNION ALL SELECT 'role ' || name || suffix
                   FROM shared_database, unnest(ARRAY['_homes', '_temp', '_m']) AS suffix WHERE cluster = $1 AND state = 'planned'
                   UNION ALL SELECT 'role ' || name || '_pool' FROM shared_database
                   WHERE cluster = $1 AND pool_secret IS NOT NULL";
        Self::of(catalog, sql, cluster).await
    }

    async fn of(catalog: &Client, sql: &str, cluster: &Uuid) -> Self {
        let rows = catalog.query(sql, &[cluster]).await.expect("a look into the catalog");
        Self(rows.iter().map(|row| row.get(0)).collect())
    }

    /// What is here and not there.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }

    /// The name spaces of everything that the catalog has ever planned: one for each home, template and shared database.
    pub(crate) async fn prefixes(catalog: &Client) -> Vec<String> {
        let sql = "SELECT 'h_' || replace(id::text, '-', '') FROM home
                   UNION ALL SELECT name FROM template UNION ALL SELECT name FROM shared_database";
        let rows = catalog.query(sql, &[]).await.expect("a look into the catalog");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
