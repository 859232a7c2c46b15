//! The role that routers log in as for `schema` tenants whose connections are pooled together.
//!
//! By itself it may do nothing but connect to its database and become the roles of those tenants. Whoever writes SQL on
//! such a connection may become them, too: no boundary against a tenant's own SQL.

use tenantry_domain::{DatabaseName, Home, RoleName, Secret};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::password::{Reader, verifiers};
use crate::pool_drift::strangers;
use crate::quote::{block_of, do_block, ident, idents, literal};
use crate::roles::{end_older_sessions_in, ensure_role, forget_settings_per_database, join, password_role};
use crate::session::Session;
use crate::target::ClusterTarget;
use crate::version::membership_options;

/// What the pool's role is, and what only a superuser may say that a role is not.
const OPTIONS: &str = "LOGIN NOINHERIT NOCREATEDB NOCREATEROLE VALID UNTIL 'infinity'";
const OPTIONS_OF_SUPERUSERS: &str = "NOSUPERUSER NOREPLICATION NOBYPASSRLS";

impl Fleet {
    /// Makes the pool's role of a shared database, or sets it right: attributes, password, settings, and memberships in what
    /// is no home's role. Sessions that are open stay. Repeatable.
    pub async fn ensure_shared_pool(
        &self,
        target: &ClusterTarget,
        database: &DatabaseName,
        password: &Secret,
    ) -> Result<(), FleetError> {
        let pool = RoleName::shared_pool(database);
        let [verifier] = verifiers([(password, Reader::Anyone)]).await?;
        let mut admin = self.admin(target).await?;
        let more = if admin.is_superuser() { OPTIONS_OF_SUPERUSERS } else { "" };
        // No home's fence orders those who come here at the same time, and PostgreSQL refuses the second change of a role.
        let mut sql = format!(
            "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({}, 0));\n",
            literal(pool.as_str())
        );
        sql.push_str(&do_block(&ensure_role(&pool, &password_role(&format!("{OPTIONS} {more}"), &verifier, None))));
        sql.push_str(&forget_settings_per_database([&pool]));
        sql.push_str(&block_of(&format!(
            "SELECT format('REVOKE %I FROM %I', g.rolname, m.rolname) {}",
            strangers(&literal(pool.as_str()))
        )));
        sql.push_str(&format!("GRANT CONNECT ON DATABASE {} TO {};\n", ident(database.as_str()), ident(pool.as_str())));
        admin.batch("set up the pool's role of a shared database", &format!("BEGIN;\n{sql}COMMIT;\n")).await
    }

    /// Lets the pool's role become the home's app and read-only roles.
    pub async fn join_shared_pool(&self, target: &ClusterTarget, fence: &Fence, home: &Home) -> Result<(), FleetError> {
        let mut admin = self.admin(target).await?;
        let sql = let_pool(&admin, home);
        admin.batch("let the pool into the home", &fence.guard(&sql)).await
    }

    /// Takes that away again. Connections that became one of the roles before stay so until they are given back; all of
    /// the pool's are ended, because nobody can tell which those are.
    pub async fn leave_shared_pool(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
    ) -> Result<(), FleetError> {
        let mut admin = self.admin(target).await?;
        shut_out_pool(&mut admin, target, *fence, home, true).await
    }
}

/// The statement that lets the pool's role become the home's.
pub(crate) fn let_pool(session: &Session, home: &Home) -> String {
    let names = home.names();
    format!(
        "GRANT {} TO {}{};\n",
        idents([names.app.as_str(), names.read_only.as_str()]),
        ident(RoleName::shared_pool(&home.database).as_str()),
        membership_options(session.server_version())
    )
}

/// Takes the home's roles from the pool's, and ends all connections that it had until then, if the roles were its or
/// `was_member` says that they were: they may have been taken a moment ago by somebody who did not get further.
pub(crate) async fn shut_out_pool(
    admin: &mut Session,
    target: &ClusterTarget,
    fence: Fence,
    home: &Home,
    was_member: bool,
) -> Result<(), FleetError> {
    let (names, pool) = (home.names(), RoleName::shared_pool(&home.database));
    // Whoever has an older lease grants nothing after this.
    let look = fence.guard(&format!(
        "SELECT 'member' FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
          WHERE m.rolname = {} AND g.rolname IN ({}, {});\n",
        literal(pool.as_str()),
        literal(names.app.as_str()),
        literal(names.read_only.as_str()),
    ));
    let rows = admin.rows("look whether the pool may become the home's roles", &look).await?;
    let is_member = rows.iter().any(|row| row.get(0) == Some("member"));
    if !is_member && !was_member {
        return Ok(());
    }
    let roles = idents([names.app.as_str(), names.read_only.as_str()]);
    let revoke = format!(
        "IF pg_catalog.to_regrole({0}) IS NOT NULL THEN REVOKE {roles} FROM {1}; END IF;",
        literal(&ident(pool.as_str())),
        ident(pool.as_str())
    );
    let sql = fence.guard(&do_block(&[join(admin, target, &[&pool]), revoke].concat()));
    admin.batch("take the home's roles from the pool", &sql).await?;
    // Routers connect again at once for the others: whoever begins from now on cannot become the home's roles.
    let rows = admin.rows("see when the pool lost the home's roles", "SELECT clock_timestamp();\n").await?;
    let revoked_at = rows.first().and_then(|row| row.get(0)).unwrap_or("infinity").to_owned();
    end_older_sessions_in(admin, fence, &home.database, &[&pool], &revoked_at).await
}
