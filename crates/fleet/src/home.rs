//! The inside of a home: who may do what in it.

use tenantry_domain::{DatabaseName, Home, Isolation, Limits, RoleName};

use crate::database::open_home_database;
use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::{Fleet, Inside};
use crate::interior;
use crate::migrate::HISTORY_TABLES;
use crate::quote::{do_block, ident, idents, literal};
use crate::roles::RoleSecrets;
use crate::schema;
use crate::session::Session;
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
        let mut inside = self.inside(target, home).await?;
        let seen = match (&mut inside, template) {
            (Inside::Own(session), Some(template)) => Some(Seen::look(session, home, template).await?),
            _ => None,
        };
        sql.push_str(&self.preparations(home, *template, limits, seen.as_ref()));
        if let Some(stamp) = stamp {
            sql.push_str(&stamp::write_plainly(home, *fence, stamp));
        }
        inside.batch_unless("set up the home", &in_transaction(&sql), |error| stamp::stale(error, *fence)).await
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
        let sql = self.preparations(home, template, limits, None);
        self.inside(target, home).await?.batch("let the home's roles in", &in_transaction(&sql)).await
    }

    /// With what was `seen` inside, they do without PL/pgSQL.
    fn preparations(
        &self,
        home: &Home,
        template: Option<&DatabaseName>,
        limits: &Limits,
        seen: Option<&Seen>,
    ) -> String {
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
                sql.push_str(&hand_over(&RoleName::template_owner(template), &owner, seen));
            }
            sql.push_str(&database_grants(home, limits));
        }
        sql.push_str(&data_grants(home, seen));
        sql
    }
}

/// What is there inside a clone. To look first costs a round trip; to find out within the batch would take PL/pgSQL, which
/// a session that is this young would have to load, for more than all the rest costs.
struct Seen {
    template_owner: bool,
    histories: Vec<&'static str>,
}

impl Seen {
    async fn look(session: &mut Session, home: &Home, template: &DatabaseName) -> Result<Self, FleetError> {
        let owner = ident(RoleName::template_owner(template).as_str());
        let mut there = vec![format!("pg_catalog.to_regrole({}) IS NOT NULL", literal(&owner))];
        let table = |table: &str| format!("{}.{}", ident(home.schema.as_str()), ident(table));
        there.extend(
            HISTORY_TABLES.map(|name| format!("pg_catalog.to_regclass({}) IS NOT NULL", literal(&table(name)))),
        );
        let rows = session.rows("look at what was cloned", &format!("SELECT {};", there.join(", "))).await?;
        let is_there = |column: usize| rows.first().and_then(|row| row.get(column)) == Some("t");
        let histories = HISTORY_TABLES.into_iter().enumerate().filter(|(number, _)| is_there(number + 1));
        Ok(Self { template_owner: is_there(0), histories: histories.map(|(_, name)| name).collect() })
    }
}

pub(crate) fn in_transaction(sql: &str) -> String {
    format!("BEGIN;\n{sql}COMMIT;\n")
}

/// What belonged to the template's owner belongs to the home's, and the template's owner has no rights here any more. A
/// template that was dropped since was handed over before.
fn hand_over(template_owner: &RoleName, owner: &str, seen: Option<&Seen>) -> String {
    let from = ident(template_owner.as_str());
    let sql = format!("REASSIGN OWNED BY {from} TO {owner};\nDROP OWNED BY {from};\n");
    match seen {
        Some(seen) if seen.template_owner => sql,
        Some(_) => String::new(),
        None => do_block(&format!("IF pg_catalog.to_regrole({}) IS NOT NULL THEN\n{sql}END IF;", literal(&from))),
    }
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
fn data_grants(home: &Home, seen: Option<&Seen>) -> String {
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
        let revoke = format!("REVOKE INSERT, UPDATE, DELETE ON {qualified} FROM {app};\n");
        match seen {
            Some(seen) if seen.histories.contains(&table) => sql.push_str(&revoke),
            Some(_) => {}
            None => sql.push_str(&do_block(&format!(
                "IF pg_catalog.to_regclass({}) IS NOT NULL THEN {revoke}END IF;",
                literal(&qualified)
            ))),
        }
    }
    sql
}
