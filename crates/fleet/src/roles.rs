//! The roles of a home.

use std::fmt::Write as _;
use std::time::Duration;

use tenantry_domain::{DatabaseName, Home, HomeNames, Isolation, Limits, LoginSlot, RoleName, Secret};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::password::{Reader, verifiers};
use crate::quote::{block_of, do_block, ident, idents, literal, literals};
use crate::session::Session;
use crate::shared_pool::{let_pool, shut_out_pool};
use crate::target::ClusterTarget;
use crate::version::{grant_to_admin, grant_to_migrator};

/// Connections of a migrator: one that works, one that takes over from a worker that is gone, and room for looking.
pub(crate) const MIGRATOR_CONNECTIONS: u32 = 4;
/// The options of the login role that is not in use.
pub(crate) const OUT_OF_USE: &str = "NOLOGIN PASSWORD NULL CONNECTION LIMIT 0";
/// The first server that ends transactions by itself.
const TRANSACTION_TIMEOUT_SINCE: i32 = 170_000;
/// How often we look whether ended sessions are gone, and how many looks that takes at most: ten seconds in all.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 1_000;

/// Passwords of a home's roles, in clear; they leave this process only as SCRAM verifiers.
#[derive(Debug, Clone)]
pub struct RoleSecrets {
    /// Which of the two login roles is in use.
    pub slot: LoginSlot,
    /// Its password.
    pub login: Secret,
    /// Of the read-only role.
    pub read_only: Secret,
    /// Of the migrator role.
    pub migrator: Secret,
}

impl Fleet {
    /// Makes the six roles of a home, or sets them right: passwords, connection limits, default timeouts, memberships.
    /// The login role that is not in use cannot log in. In a shared database [`Fleet::ensure_shared_database`] must have
    /// run before.
    pub async fn ensure_roles(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        secrets: &RoleSecrets,
        limits: &Limits,
    ) -> Result<(), FleetError> {
        self.set_up_roles(target, fence, home, secrets, limits, "LOGIN").await
    }

    /// The same with a choice for the roles that log in: `LOGIN`, or `NOLOGIN` for a home that waits for its tenant. Their
    /// passwords are set in either case.
    pub(crate) async fn set_up_roles(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        secrets: &RoleSecrets,
        limits: &Limits,
        login_option: &str,
    ) -> Result<(), FleetError> {
        if home.isolation == Isolation::Row {
            return Err(FleetError::refused(
                "a home with isolation `row` has no roles of its own; place it with others",
            ));
        }
        let [login, read_only, migrator] = verifiers([
            (&secrets.login, Reader::Anyone),
            (&secrets.read_only, Reader::Anyone),
            (&secrets.migrator, Reader::Ourselves),
        ])
        .await?;
        let names = home.names();
        let mut admin = self.admin(target).await?;
        let shares = limits.connection_shares();
        let mut body = String::new();
        for role in [&names.owner, &names.app] {
            body.push_str(&ensure_role(role, "NOLOGIN"));
        }
        body.push_str(&ensure_role(names.login(secrets.slot), &password_role(login_option, &login, shares.login)));
        body.push_str(&ensure_role(names.login(secrets.slot.other()), OUT_OF_USE));
        body.push_str(&ensure_role(&names.read_only, &password_role(login_option, &read_only, shares.read_only)));
        body.push_str(&ensure_role(
            &names.migrator,
            &password_role(login_option, &migrator, Some(MIGRATOR_CONNECTIONS)),
        ));
        body.push_str(&settings(home, limits, admin.server_version()));

        let mut sql = do_block(&body);
        sql.push_str(&memberships(home, &names, limits, &admin));
        if !admin.is_superuser() {
            // The roles that we act through: without the migrator's, the server would not show what it runs. The others are
            // joined when they are ended, because an admin that is a member of thousands of roles gets slow.
            let acting = idents([names.owner.as_str(), names.migrator.as_str()]);
            sql.push_str(&grant_to_admin(admin.server_version(), &acting, &target.user));
        }
        admin.batch("set up the home's roles", &fence.guard(&sql)).await
    }

    /// Takes `LOGIN` from the home's login and read-only roles, ends their sessions and waits until none is left. The
    /// migrator stays: a suspended home is still migrated. In a shared database its roles are taken from the pool's role,
    /// too, which ends all connections of the pool where it had them, or where the catalog says so (`pool_member`).
    pub async fn disable_logins(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        pool_member: bool,
    ) -> Result<(), FleetError> {
        let names = home.names();
        let roles = [&names.login_a, &names.login_b, &names.read_only];
        let mut admin = self.admin(target).await?;
        shut_out(&mut admin, target, *fence, &roles).await?;
        if home.isolation == Isolation::Schema && !home.is_adopted() {
            shut_out_pool(&mut admin, target, *fence, home, pool_member).await?;
        }
        Ok(())
    }

    /// Gives `LOGIN` back to the login role in use and the read-only role, and the home's roles to the pool's role where
    /// the catalog says that it had them.
    pub async fn enable_logins(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        slot: LoginSlot,
        pool_member: bool,
    ) -> Result<(), FleetError> {
        let names = home.names();
        let mut sql =
            format!("ALTER ROLE {} LOGIN;\nALTER ROLE {} LOGIN;\n", name(names.login(slot)), name(&names.read_only));
        let mut admin = self.admin(target).await?;
        if pool_member {
            sql.push_str(&let_pool(&admin, home));
        }
        admin.batch("give LOGIN back to the home's roles", &fence.guard(&sql)).await
    }

    /// Ends what the home's roles still run, drops what they still own in any database, then the roles. The home's
    /// database or schema should be gone already ([`Fleet::drop_database`], [`Fleet::drop_schema`]).
    pub async fn drop_roles(&self, target: &ClusterTarget, fence: &Fence, home: &Home) -> Result<(), FleetError> {
        let names = home.names();
        let roles = names.all();
        let mut admin = self.admin(target).await?;
        shut_out(&mut admin, target, *fence, &roles).await?;
        for database in databases_with_traces(&mut admin, &roles).await? {
            let mut inside = self.once(target, &database, Some(home.id)).await?;
            inside.batch("drop what the home's roles own", &do_block(&drop_owned(&roles))).await?;
        }
        let newest_first = idents(roles.iter().rev().map(|role| role.as_str()));
        let sql = fence.guard(&format!("DROP ROLE IF EXISTS {newest_first};\n"));
        admin.batch("drop the home's roles", &sql).await
    }
}

/// Takes `LOGIN` from some roles and ends their sessions.
async fn shut_out(
    admin: &mut Session,
    target: &ClusterTarget,
    fence: Fence,
    roles: &[&RoleName],
) -> Result<(), FleetError> {
    let without_login = for_existing(roles, |role| format!("ALTER ROLE {role} NOLOGIN;"));
    let sql = fence.guard(&do_block(&[join(admin, target, roles), without_login].concat()));
    admin.batch("take LOGIN from the home's roles", &sql).await?;
    end_sessions(admin, Some(fence), roles).await
}

/// Within a block: the admin becomes a member of those of the roles that exist. Only members may end a role's sessions
/// and drop what it owns; a superuser need not be one.
pub(crate) fn join(session: &Session, target: &ClusterTarget, roles: &[&RoleName]) -> String {
    if session.is_superuser() {
        return String::new();
    }
    for_existing(roles, |role| grant_to_admin(session.server_version(), role, &target.user))
}

/// Within a block: a role with exactly these options, and without settings that someone gave it.
pub(crate) fn ensure_role(role: &RoleName, options: &str) -> String {
    let quoted = name(role);
    format!(
        "IF pg_catalog.to_regrole({0}) IS NOT NULL THEN ALTER ROLE {quoted} {options}; \
         ALTER ROLE {quoted} RESET ALL; ELSE CREATE ROLE {quoted} {options}; END IF;\n",
        literal(&quoted)
    )
}

/// `ALTER ROLE … IN DATABASE … SET` wins over what we set for the role.
pub(crate) fn forget_settings_per_database<'a>(roles: impl IntoIterator<Item = &'a RoleName>) -> String {
    block_of(&format!(
        "SELECT format('ALTER ROLE %I IN DATABASE %I RESET ALL', r.rolname, d.datname)
           FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
           JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
          WHERE r.rolname IN ({})",
        literals(roles.into_iter().map(RoleName::as_str))
    ))
}

/// Within a block: `DROP OWNED BY` those of the roles that exist.
pub(crate) fn drop_owned(roles: &[&RoleName]) -> String {
    for_existing(roles, |quoted| format!("DROP OWNED BY {quoted} CASCADE;"))
}

pub(crate) fn for_existing(roles: &[&RoleName], statement: impl Fn(&str) -> String) -> String {
    let mut body = String::new();
    for role in roles {
        let _ = writeln!(
            body,
            "IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN {} END IF;",
            literal(role.as_str()),
            statement(&name(role))
        );
    }
    body
}

pub(crate) fn name(role: &RoleName) -> String {
    ident(role.as_str())
}

pub(crate) fn password_role(login_option: &str, verifier: &Secret, connections: Option<u32>) -> String {
    let limit = connection_limit(connections);
    format!("{login_option} PASSWORD {} CONNECTION LIMIT {limit}", literal(verifier.expose()))
}

/// A ceiling as PostgreSQL has it: −1 for none.
pub(crate) fn connection_limit(connections: Option<u32>) -> i64 {
    connections.map_or(-1, i64::from)
}

/// What a session of a role starts with, by setting. A tenant can change these for itself; the connection limit it cannot.
pub(crate) fn defaults(role: &RoleName, home: &Home, limits: &Limits, version: i32) -> Vec<(&'static str, String)> {
    let mut defaults = vec![("search_path", format!("{}, extensions", ident(home.schema.as_str())))];
    for (setting, value) in [
        ("statement_timeout", limits.statement_timeout_ms),
        ("idle_in_transaction_session_timeout", limits.idle_in_transaction_timeout_ms),
        ("transaction_timeout", limits.transaction_timeout_ms.filter(|_| version >= TRANSACTION_TIMEOUT_SINCE)),
    ] {
        if let Some(milliseconds) = value {
            defaults.push((setting, milliseconds.to_string()));
        }
    }
    if *role == home.names().read_only {
        defaults.push(("default_transaction_read_only", "on".to_owned()));
    }
    defaults
}

/// Within a block: the defaults of every role that a tenant logs in as.
pub(crate) fn settings(home: &Home, limits: &Limits, version: i32) -> String {
    let names = home.names();
    let mut body = String::new();
    for role in [&names.login_a, &names.login_b, &names.read_only] {
        for (setting, value) in defaults(role, home, limits, version) {
            let _ = writeln!(body, "ALTER ROLE {} SET {setting} = {value};", name(role));
        }
    }
    body
}

/// Logins act as the app, the migrator becomes the owner, and in a shared database all join its groups.
pub(crate) fn memberships(home: &Home, names: &HomeNames, limits: &Limits, session: &Session) -> String {
    let logins = idents([names.login_a.as_str(), names.login_b.as_str()]);
    let mut sql = format!("GRANT {} TO {logins};\n", name(&names.app));
    sql.push_str(&grant_to_migrator(session.server_version(), names.owner.as_str(), names.migrator.as_str()));
    // The database of an adopted schema is not ours to have groups for.
    if home.isolation == Isolation::Schema && !home.is_adopted() {
        let homes = RoleName::shared_homes(&home.database);
        let temporary = RoleName::shared_temporary(&home.database);
        let everyone = idents([&names.owner, &names.app, &names.read_only, &names.migrator].map(RoleName::as_str));
        let _ = writeln!(sql, "GRANT {} TO {everyone};", name(&homes));
        // Migrations may use temporary tables whatever the plan says; only the migrator becomes the owner.
        let [temporary, owner, app] = [&temporary, &names.owner, &names.app].map(name);
        let _ = if limits.temporary_tables == Some(true) {
            writeln!(sql, "GRANT {temporary} TO {owner}, {app};")
        } else {
            writeln!(sql, "GRANT {temporary} TO {owner};\nREVOKE {temporary} FROM {app};")
        };
    }
    sql
}

/// Ends every session of some roles and waits until they are gone. A login that was let in just before its role lost
/// `LOGIN` shows up a moment later, so only the second empty look in a row counts. Roles of a home come with its fence.
pub(crate) async fn end_sessions(
    session: &mut Session,
    fence: Option<Fence>,
    roles: &[&RoleName],
) -> Result<(), FleetError> {
    end_sessions_where(session, fence, roles, "true").await
}

/// The same in one database only.
pub(crate) async fn end_sessions_in(
    session: &mut Session,
    fence: Fence,
    database: &DatabaseName,
    roles: &[&RoleName],
) -> Result<(), FleetError> {
    end_sessions_where(session, Some(fence), roles, &format!("datname = {}", literal(database.as_str()))).await
}

/// The same, of sessions in one database that began up to a moment of the server's clock. Those that begin meanwhile are
/// left alone, and not waited for: whoever keeps coming back would be ended without end.
pub(crate) async fn end_older_sessions_in(
    session: &mut Session,
    fence: Fence,
    database: &DatabaseName,
    roles: &[&RoleName],
    moment: &str,
) -> Result<(), FleetError> {
    let condition =
        format!("datname = {} AND backend_start <= {}::timestamptz", literal(database.as_str()), literal(moment));
    end_sessions_where(session, Some(fence), roles, &condition).await
}

async fn end_sessions_where(
    session: &mut Session,
    fence: Option<Fence>,
    roles: &[&RoleName],
    condition: &str,
) -> Result<(), FleetError> {
    if roles.is_empty() {
        return Ok(());
    }
    let theirs = format!(
        "FROM pg_stat_activity WHERE usename IN ({}) AND {condition};\n",
        literals(roles.iter().map(|role| role.as_str()))
    );
    let look = format!("SELECT count(*) {theirs}");
    // Whoever looks changes nothing. Whoever ends sessions holds the fence meanwhile, or it would end those of a tenant
    // that another worker has let in again.
    let end = format!("SELECT count(pg_terminate_backend(pid)) {theirs}");
    let end = fence.map_or_else(|| end.clone(), |fence| fence.guard(&end));
    let mut empty_looks = 0;
    for _ in 0..LOOKS_MAX {
        let rows = session.rows("look for sessions of the roles", &look).await?;
        if rows.first().and_then(|row| row.get(0)) == Some("0") {
            empty_looks += 1;
        } else {
            empty_looks = 0;
            session.batch("end the sessions of the roles", &end).await?;
        }
        if empty_looks == 2 {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(FleetError::busy("sessions of the roles do not end; look at pg_stat_activity on the cluster"))
}

/// Databases in which some roles own or may do anything.
async fn databases_with_traces(session: &mut Session, roles: &[&RoleName]) -> Result<Vec<DatabaseName>, FleetError> {
    let sql = format!(
        "SELECT DISTINCT d.datname FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
         JOIN pg_database d ON d.oid = s.dbid OR (s.dbid = 0 AND s.classid = 'pg_database'::regclass AND d.oid = s.objid)
         WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname IN ({}) AND d.datallowconn;",
        literals(roles.iter().map(|role| role.as_str()))
    );
    let rows = session.rows("find what the home's roles left behind", &sql).await?;
    Ok(rows.iter().filter_map(|row| row.get(0)).filter_map(|name| DatabaseName::parse(name).ok()).collect())
}
