//! Everything on a server that bears a name as we give them, whoever it belongs to; and taking down what is known as ours.

use tenantry_domain::orphan::stem;
use tenantry_domain::{ClusterId, DatabaseName, Home, HomeId, HomeNames, Isolation, OrphanKind, RoleName, SchemaName};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::quote::literal;
use crate::target::ClusterTarget;

/// An object on a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObservedObject {
    /// What it is.
    pub kind: OrphanKind,
    /// Its name; of a backend its `application_name`, of a directory its path.
    pub name: String,
    /// For schemas: the database. Empty otherwise.
    pub parent: String,
    /// Whether it is the rest of a drop that was interrupted.
    pub is_half_dropped: bool,
}

/// Whether a role may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRole {
    /// Which.
    pub name: RoleName,
    /// Whether it may.
    pub can_log_in: bool,
}

/// The directories that no database claims, while nobody makes or drops one: then there are such for a moment.
const UNCLAIMED: &str = "SELECT 'directory', 'base/' || file, false FROM pg_ls_dir('base') AS file
    WHERE file ~ '^[0-9]+$' AND file::bigint NOT IN (SELECT oid::bigint FROM pg_database)
      AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query ~* '^\\s*(create|drop|alter)\\s+database')
      AND (pg_stat_file('base/' || file, true)).modification < clock_timestamp() - interval '10 minutes'";

impl Fleet {
    /// All databases, roles and slots, the control plane's own sessions, and as a superuser the directories that no database
    /// claims; and the homes' schemas in those of the given databases that are there.
    pub async fn inventory(
        &self,
        target: &ClusterTarget,
        shared: &[DatabaseName],
    ) -> Result<Vec<ObservedObject>, FleetError> {
        let prefix = literal(&format!("{}/", self.config().application_name_prefix));
        let mut admin = self.admin(target).await?;
        let mut sql = format!(
            "SELECT 'database', datname::text, datconnlimit = -2 FROM pg_database
             UNION ALL SELECT 'role', rolname::text, false FROM pg_roles
             UNION ALL SELECT 'slot', slot_name::text, false FROM pg_replication_slots
             UNION ALL SELECT DISTINCT 'backend', application_name, false FROM pg_stat_activity
                 WHERE starts_with(application_name, {prefix}) AND pid <> pg_backend_pid()"
        );
        if admin.is_superuser() {
            sql.push_str(" UNION ALL ");
            sql.push_str(UNCLAIMED);
        }
        let rows = admin.rows("list what is on the server", &sql).await?;
        drop(admin);
        let mut objects: Vec<ObservedObject> = rows
            .iter()
            .filter_map(|row| {
                Some(ObservedObject {
                    kind: row.get(0)?.parse().ok()?,
                    name: row.get(1)?.to_owned(),
                    parent: String::new(),
                    is_half_dropped: row.get(2) == Some("t"),
                })
            })
            .collect();
        for database in shared {
            let is_there = |it: &ObservedObject| {
                it.kind == OrphanKind::Database && it.name == database.as_str() && !it.is_half_dropped
            };
            if !objects.iter().any(is_there) {
                continue;
            }
            let schemas = self.schemas(target, database).await?;
            objects.extend(schemas.into_iter().map(|schema| ObservedObject {
                kind: OrphanKind::Schema,
                name: schema.into(),
                parent: database.as_str().to_owned(),
                is_half_dropped: false,
            }));
        }
        Ok(objects)
    }

    /// Who of the homes' login and read-only roles may log in.
    pub async fn logins(&self, target: &ClusterTarget, homes: &[HomeId]) -> Result<Vec<ObservedRole>, FleetError> {
        let names: Vec<HomeNames> = homes.iter().map(|home| HomeNames::of(*home)).collect();
        let roles = names.iter().flat_map(|names| [&names.login_a, &names.login_b, &names.read_only]);
        let sql = format!(
            "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname IN ({});",
            crate::quote::literals(roles.map(RoleName::as_str))
        );
        let rows = self.admin(target).await?.rows("look at the homes' roles", &sql).await?;
        let read = |row: &tokio_postgres::SimpleQueryRow| {
            Some(ObservedRole { name: RoleName::parse(row.get(0)?).ok()?, can_log_in: row.get(1) == Some("t") })
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    /// Takes down everything that is named after one home, one shared database or one template which the catalog knows to be
    /// gone: sessions on its behalf, slots, schemas, the database, its roles. What is not there is passed over.
    ///
    /// `objects` says what was seen; `epoch` is that of a lease newer than any that the home was changed under.
    pub async fn remove_late(
        &self,
        target: &ClusterTarget,
        name: &str,
        objects: &[ObservedObject],
        epoch: i64,
    ) -> Result<(), FleetError> {
        if stem(name) != Some(name) {
            return Err(FleetError::refused(format!("`{name}` is no name that Tenantry gives; remove it by hand")));
        }
        let database = DatabaseName::parse(name).map_err(|error| FleetError::refused(error.to_string()))?;
        let Some(home) = name.strip_prefix("h_").and_then(|id| id.parse::<HomeId>().ok()) else {
            return self.drop_database(target, &database).await;
        };
        let fence = Fence { home, epoch };
        self.end_backends(target, home).await?;
        for object in objects.iter().filter(|object| object.kind == OrphanKind::Slot) {
            self.drop_slot(target, &object.name).await?;
        }
        for object in objects.iter().filter(|object| object.kind == OrphanKind::Schema) {
            let place = home_at(home, target.id, Isolation::Schema, &object.parent)?;
            self.disable_logins(target, &fence, &place, false).await?;
            self.drop_schema(target, &place).await?;
        }
        if objects.iter().any(|object| object.kind == OrphanKind::Database) {
            self.drop_database(target, &database).await?;
        }
        if objects.iter().any(|object| object.kind == OrphanKind::Role) {
            self.drop_roles(target, &fence, &home_at(home, target.id, Isolation::Database, name)?).await?;
        }
        Ok(())
    }

    /// Ends the control plane's own sessions on behalf of a home, also those whose client is gone.
    async fn end_backends(&self, target: &ClusterTarget, home: HomeId) -> Result<(), FleetError> {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = {} AND pid <> pg_backend_pid();",
            literal(&self.application_name(Some(home)))
        );
        self.admin(target).await?.rows("end sessions on behalf of the home", &sql).await.map(drop)
    }
}

fn home_at(id: HomeId, cluster: ClusterId, isolation: Isolation, database: &str) -> Result<Home, FleetError> {
    let schema = if isolation == Isolation::Schema { SchemaName::of_home(id) } else { SchemaName::public() };
    let database = DatabaseName::parse(database).map_err(|error| FleetError::refused(error.to_string()))?;
    Ok(Home { id, cluster, isolation, database, schema })
}
