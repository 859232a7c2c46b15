//! The database of a home with isolation `database` or `cluster`.

use tenantry_domain::{DatabaseName, Home, RoleName};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::{Admin, Fleet};
use crate::quote::{ident, idents, literal};
use crate::session::Session;
use crate::target::ClusterTarget;
use crate::version::locale_options;

/// A connection limit that the server gives to a database whose drop was interrupted.
const HALF_DROPPED: &str = "-2";

impl Fleet {
    /// Makes the home's database as a clone of a template, or empty where there is none; closes it to `PUBLIC`, lets the
    /// home's roles in and opens it. The roles must exist. `Busy` while an earlier attempt still runs on the server.
    pub async fn ensure_database(
        &self,
        target: &ClusterTarget,
        home: &Home,
        template: Option<&DatabaseName>,
        fence: &Fence,
    ) -> Result<(), FleetError> {
        let mut admin = self.create_home_database(target, home, template).await?;
        open_home_database(&mut admin, home, *fence).await
    }

    /// The first half: the database exists, and nobody can connect yet. Needs no roles.
    pub(crate) async fn create_home_database(
        &self,
        target: &ClusterTarget,
        home: &Home,
        template: Option<&DatabaseName>,
    ) -> Result<Admin, FleetError> {
        let mut admin = self.admin(target).await?;
        let source = match template {
            Some(template) => format!("TEMPLATE {}", ident(template.as_str())),
            None => from_template0(&admin, target)?,
        };
        let creator = self.application_name(Some(home.id));
        create(self, target, &mut admin, &home.database, &source, Some(creator)).await?;
        Ok(admin)
    }
}

/// The second half: `PUBLIC` out, the home's roles in, then open.
pub(crate) async fn open_home_database(admin: &mut Session, home: &Home, fence: Fence) -> Result<(), FleetError> {
    let names = home.names();
    let logins = [&names.login_a, &names.login_b, &names.read_only, &names.migrator];
    let database = ident(home.database.as_str());
    let sql = format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC;\nGRANT CONNECT ON DATABASE {database} TO {};\n\
         ALTER DATABASE {database} ALLOW_CONNECTIONS true;\n",
        idents(logins.map(RoleName::as_str)),
    );
    admin.batch("open the home's database to its roles", &fence.guard(&sql)).await
}

/// What an empty database is made from.
pub(crate) fn from_template0(session: &Session, target: &ClusterTarget) -> Result<String, FleetError> {
    Ok(format!("TEMPLATE template0 {}", locale_options(session.server_version(), &target.locale)?))
}

/// Creates a database that nobody can connect to, unless it is there.
pub(crate) async fn create_database(
    fleet: &Fleet,
    target: &ClusterTarget,
    session: &mut Session,
    database: &DatabaseName,
    source: &str,
) -> Result<(), FleetError> {
    create(fleet, target, session, database, source, None).await
}

async fn create(
    fleet: &Fleet,
    target: &ClusterTarget,
    session: &mut Session,
    database: &DatabaseName,
    source: &str,
    creator: Option<String>,
) -> Result<(), FleetError> {
    // A client that is gone does not stop CREATE DATABASE, so one that we know nothing of may still be at it. The function
    // under `pg_stat_activity` is asked, because the view's joins cost more than the look.
    let earlier = creator.as_ref().map_or_else(
        || "false".to_owned(),
        |name| {
            format!(
                "EXISTS (SELECT FROM pg_stat_get_activity(NULL) WHERE application_name = {} AND pid <> pg_backend_pid() \
                 AND state = 'active' AND query ILIKE 'CREATE DATABASE%')",
                literal(name)
            )
        },
    );
    let look = format!(
        "SELECT {earlier}, (SELECT datconnlimit FROM pg_database WHERE datname = {});",
        literal(database.as_str())
    );
    let rows = session.rows("look for the database", &look).await?;
    let found = rows.first();
    if found.and_then(|row| row.get(0)) == Some("t") {
        return Err(FleetError::busy(format!("an earlier attempt to create the database {database} still runs")));
    }
    let name = ident(database.as_str());
    match found.and_then(|row| row.get(1)) {
        Some(HALF_DROPPED) => {
            session.batch("finish an interrupted drop", &format!("DROP DATABASE {name} WITH (FORCE);")).await?;
        }
        Some(_) => return Ok(()),
        None => {}
    }
    let turn = fleet.creation(target).await?;
    let statement = format!("CREATE DATABASE {name} {source} STRATEGY wal_log ALLOW_CONNECTIONS false;");
    let what = "create the database";
    match creator {
        Some(creator) => session.alone_as(&creator, what, &statement).await?,
        None => session.batch(what, &statement).await?,
    }
    drop(turn);
    Ok(())
}
