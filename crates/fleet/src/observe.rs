//! Looking at a cluster without changing it.

use tenantry_domain::{DatabaseName, Home, HomeId, Isolation, RoleName, SchemaName};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::{literal, literals};
use crate::target::ClusterTarget;

/// A database as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedDatabase {
    /// Its name.
    pub name: DatabaseName,
    /// Whether anyone may connect.
    pub is_open: bool,
    /// Whether a drop of it was interrupted.
    pub is_half_dropped: bool,
}

/// What there is of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedHome {
    /// Whether its database exists.
    pub database: bool,
    /// Whether its schema exists; for `database` and `cluster` homes the same as `database`.
    pub schema: bool,
    /// Those of its roles that exist.
    pub roles: Vec<RoleName>,
}

/// A session that works on a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedBackend {
    /// The server's process.
    pub pid: i32,
    /// The role it logged in as.
    pub role: String,
    /// Its database.
    pub database: Option<String>,
    /// Whether it runs a statement now.
    pub is_active: bool,
}

impl Fleet {
    /// Whether the server answers.
    pub async fn ping(&self, target: &ClusterTarget) -> Result<(), FleetError> {
        self.admin(target).await?.batch("reach the server", "SELECT 1;").await
    }

    /// The databases whose name starts with a prefix (`h_`, `s_`, `t_`), by name.
    pub async fn databases(&self, target: &ClusterTarget, prefix: &str) -> Result<Vec<ObservedDatabase>, FleetError> {
        let sql = format!(
            "SELECT datname, datallowconn, datconnlimit = -2 FROM pg_database WHERE starts_with(datname, {}) ORDER BY 1;",
            literal(prefix)
        );
        let rows = self.admin(target).await?.rows("list databases", &sql).await?;
        let observed = rows.iter().filter_map(|row| {
            Some(ObservedDatabase {
                name: DatabaseName::parse(row.get(0)?).ok()?,
                is_open: row.get(1) == Some("t"),
                is_half_dropped: row.get(2) == Some("t"),
            })
        });
        Ok(observed.collect())
    }

    /// The roles whose name starts with a prefix, by name.
    pub async fn roles(&self, target: &ClusterTarget, prefix: &str) -> Result<Vec<RoleName>, FleetError> {
        let sql = format!("SELECT rolname FROM pg_roles WHERE starts_with(rolname, {}) ORDER BY 1;", literal(prefix));
        let rows = self.admin(target).await?.rows("list roles", &sql).await?;
        Ok(rows.iter().filter_map(|row| RoleName::parse(row.get(0)?).ok()).collect())
    }

    /// The homes' schemas in a shared database, by name.
    pub async fn schemas(
        &self,
        target: &ClusterTarget,
        database: &DatabaseName,
    ) -> Result<Vec<SchemaName>, FleetError> {
        let sql = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'h_') ORDER BY 1;";
        let rows = self.kept(target, database).await?.rows("list schemas", sql).await?;
        Ok(rows.iter().filter_map(|row| SchemaName::parse(row.get(0)?).ok()).collect())
    }

    /// What there is of a home.
    pub async fn observe_home(&self, target: &ClusterTarget, home: &Home) -> Result<ObservedHome, FleetError> {
        let names = home.names();
        let sql = format!(
            "SELECT 'role', rolname FROM pg_roles WHERE rolname IN ({})
             UNION ALL SELECT 'database', datname FROM pg_database WHERE datname = {};",
            literals(names.all().map(RoleName::as_str)),
            literal(home.database.as_str()),
        );
        let rows = self.admin(target).await?.rows("look for the home", &sql).await?;
        let database = rows.iter().any(|row| row.get(0) == Some("database"));
        let of_roles = rows.iter().filter(|row| row.get(0) == Some("role"));
        let roles = of_roles.filter_map(|row| RoleName::parse(row.get(1)?).ok()).collect();
        let schema = database && (home.isolation != Isolation::Schema || self.has_schema(target, home).await?);
        Ok(ObservedHome { database, schema, roles })
    }

    async fn has_schema(&self, target: &ClusterTarget, home: &Home) -> Result<bool, FleetError> {
        let sql = format!("SELECT FROM pg_namespace WHERE nspname = {};", literal(home.schema.as_str()));
        Ok(!self.inside(target, home).await?.rows("look for the home's schema", &sql).await?.is_empty())
    }

    /// The control plane's own sessions on a home's behalf, found by `application_name`; also those whose client is gone.
    pub async fn backends(&self, target: &ClusterTarget, home: HomeId) -> Result<Vec<ObservedBackend>, FleetError> {
        let sql = format!(
            "SELECT pid, usename, datname, state = 'active' FROM pg_stat_activity
             WHERE application_name = {} AND pid <> pg_backend_pid() ORDER BY 1;",
            literal(&self.application_name(Some(home)))
        );
        let rows = self.admin(target).await?.rows("list sessions", &sql).await?;
        let observed = rows.iter().filter_map(|row| {
            Some(ObservedBackend {
                pid: row.get(0)?.parse().ok()?,
                role: row.get(1).unwrap_or_default().to_owned(),
                database: row.get(2).map(str::to_owned),
                is_active: row.get(3) == Some("t"),
            })
        });
        Ok(observed.collect())
    }
}
