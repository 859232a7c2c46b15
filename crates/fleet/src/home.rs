//! The inside of a home: who may do what in it.

use tenantry_domain::{DatabaseName, Home, Isolation, Limits, RoleName};

use crate::database::open_home_database;
use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::interior;
use crate::migrate::HISTORY_TABLES;
use crate::quote::{do_block, ident, idents, literal};
use crate::roles::RoleSecrets;
use crate::schema;
use crate::stamp::{self, Stamp};
use crate::target::ClusterTarget;

/// Everything that a home is made from.
#[derive(Debug, Clone)]
pub struct HomeSpec<'a> {
    /// Which home.
    pub home: &'a Home,
    /// Under which lease.
    pub fence: Fence,
    /// Passwords of its roles.
    pub secrets: &'a RoleSecrets,
    /// The tenant's effective limits.
    pub limits: &'a Limits,
    /// For `database` and `cluster`: the template to clone.
    pub template: Option<&'a DatabaseName>,
    /// For whom; absent for a home that waits for its tenant, and whose roles cannot log in until [`Fleet::claim_home`].
    pub stamp: Option<Stamp>,
}

impl Fleet {
    /// Makes a whole home but for its migrations: the same as [`Fleet::ensure_roles`], then [`Fleet::ensure_database`] or
    /// [`Fleet::ensure_schema`], [`Fleet::prepare_home`] and [`Fleet::write_stamp`], with roles and database made side by
    /// side and one connection into the home. A clone is at its template's version; other homes want [`Fleet::apply`].
    pub async fn ensure_home(&self, target: &ClusterTarget, spec: &HomeSpec<'_>) -> Result<(), FleetError> {
        let HomeSpec { home, fence, secrets, limits, template, stamp } = spec;
        let login_option = if stamp.is_some() { "LOGIN" } else { "NOLOGIN" };
        let roles = self.set_up_roles(target, fence, home, secrets, limits, login_option);
        let mut sql = String::new();
        if home.isolation == Isolation::Schema {
            roles.await?;
            sql.push_str(&schema::create(home));
        } else {
            let (roles, database) =
                futures::future::join(roles, self.create_home_database(target, home, *template)).await;
            roles?;
            open_home_database(&mut *database?, home, *fence).await?;
        }
        sql.push_str(&self.preparations(home, *template, limits));
        if let Some(stamp) = stamp {
            sql.push_str(&stamp::write(home, *fence, stamp));
        }
        self.inside(target, home).await?.batch("set up the home", &in_transaction(&sql)).await
    }

    /// Hands what was cloned from the template to the home's owner and lets the home's roles in: grants, default
    /// privileges for what comes later, extensions, and temporary tables where the limits say so.
    pub async fn prepare_home(
        &self,
        target: &ClusterTarget,
        home: &Home,
        template: Option<&DatabaseName>,
        limits: &Limits,
    ) -> Result<(), FleetError> {
        let sql = self.preparations(home, template, limits);
        self.inside(target, home).await?.batch("let the home's roles in", &in_transaction(&sql)).await
    }

    fn preparations(&self, home: &Home, template: Option<&DatabaseName>, limits: &Limits) -> String {
        let mut sql = String::new();
        let schema = ident(home.schema.as_str());
        let owner = ident(home.names().owner.as_str());
        if home.isolation == Isolation::Schema {
            sql.push_str(&format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};\n"));
        } else {
            if template.is_none() {
                sql.push_str(&interior::setup(&self.config().extensions));
            }
            // Before the hand-over: who is not a superuser may hand objects only to roles that may create there.
            sql.push_str(&format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};\n"));
            if let Some(template) = template {
                sql.push_str(&hand_over(&RoleName::template_owner(template), &owner));
            }
            sql.push_str(&database_grants(home, limits));
        }
        sql.push_str(&data_grants(home));
        sql
    }
}

pub(crate) fn in_transaction(sql: &str) -> String {
    format!("BEGIN;\n{sql}COMMIT;\n")
}

/// What belonged to the template's owner belongs to the home's, and the template's owner has no rights here any more. A
/// template that was dropped since was handed over before.
fn hand_over(template_owner: &RoleName, owner: &str) -> String {
    let from = ident(template_owner.as_str());
    do_block(&format!(
        "IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN
REASSIGN OWNED BY {from} TO {owner};
DROP OWNED BY {from};
END IF;",
        literal(template_owner.as_str())
    ))
}

/// Rights that `schema` homes get by joining the groups of their shared database.
pub(crate) fn database_grants(home: &Home, limits: &Limits) -> String {
    let names = home.names();
    let mut sql = interior::grants(&idents([&names.owner, &names.app, &names.read_only].map(RoleName::as_str)));
    sql.push_str(&temporary_tables(home, limits));
    sql
}

/// Who may use temporary tables in a database of its own. Can be said from any database.
pub(crate) fn temporary_tables(home: &Home, limits: &Limits) -> String {
    let names = home.names();
    let database = ident(home.database.as_str());
    // Migrations may use them whatever the plan says; only the migrator becomes the owner.
    let [owner, app] = [&names.owner, &names.app].map(|role| ident(role.as_str()));
    if limits.temporary_tables == Some(true) {
        format!("GRANT TEMPORARY ON DATABASE {database} TO {owner}, {app};\n")
    } else {
        format!(
            "GRANT TEMPORARY ON DATABASE {database} TO {owner};\nREVOKE TEMPORARY ON DATABASE {database} FROM {app};\n"
        )
    }
}

/// Reading and writing for the app, reading for the read-only role, now and for what the owner makes later. The history
/// of migrations is for reading only.
fn data_grants(home: &Home) -> String {
    let names = home.names();
    let [owner, app, readers] = [&names.owner, &names.app, &names.read_only].map(|role| ident(role.as_str()));
    let schema = ident(home.schema.as_str());
    let mut sql = format!("GRANT USAGE ON SCHEMA {schema} TO {app}, {readers};\n");
    for (rights, objects, roles) in [
        ("SELECT, INSERT, UPDATE, DELETE", "TABLES", &app),
        ("SELECT", "TABLES", &readers),
        ("SELECT, USAGE, UPDATE", "SEQUENCES", &app),
        ("SELECT", "SEQUENCES", &readers),
    ] {
        sql.push_str(&format!("GRANT {rights} ON ALL {objects} IN SCHEMA {schema} TO {roles};\n"));
        sql.push_str(&format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT {rights} ON {objects} TO {roles};\n"
        ));
    }
    for table in HISTORY_TABLES {
        let qualified = format!("{schema}.{}", ident(table));
        sql.push_str(&do_block(&format!(
            "IF pg_catalog.to_regclass({}) IS NOT NULL THEN REVOKE INSERT, UPDATE, DELETE ON {qualified} FROM {app}; END IF;",
            literal(&qualified)
        )));
    }
    sql
}
