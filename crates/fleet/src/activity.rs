//! What tenants' sessions are doing, and ending what goes past a ceiling.
//!
//! A tenant can `SET` away every timeout that its role begins with. So somebody looks from outside: one query shows what
//! has been going on for long on a cluster, another ends it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use tenantry_domain::{HomeId, RoleName};

use crate::error::FleetError;
use crate::fleet::{Admin, Fleet};
use crate::quote::{ident, literal};
use crate::target::ClusterTarget;
use crate::version::grant_to_admin;

/// The most sessions that one look returns, the longest-running first.
const SESSIONS_MAX: usize = 1_000;
/// The login roles of homes (an admin that may not see a session learns its role, but not its kind): `h_<uuid>_a`, `_b` and `_ro`. Owners and migrators are not a tenant's.
const LOGIN_ROLES: &str = "usename ~ '^h_[0-9a-f]{32}_(a|b|ro)$'";

/// A session that a tenant has had a statement or a transaction open in for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSession {
    /// The server's process.
    pub pid: i32,
    /// The home whose role logged in.
    pub home: HomeId,
    /// When the session began, as the server writes it: with the pid, the session's identity.
    pub since: String,
    /// How long its statement has been running; absent while none does.
    pub statement: Option<Duration>,
    /// How long its transaction has sat idle; absent while it does not.
    pub idle_in_transaction: Option<Duration>,
    /// How long its transaction has been open; absent outside one.
    pub transaction: Option<Duration>,
}

/// How a session is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its statement is cancelled; the session stays.
    Cancel,
    /// It ends.
    Terminate,
}

impl Fleet {
    /// The `application_name` of every connection that a client has to the server, each once. PostgreSQL shows them to
    /// everybody.
    pub async fn application_names(&self, target: &ClusterTarget) -> Result<BTreeSet<String>, FleetError> {
        let sql = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name <> '';";
        let rows = self.admin(target).await?.rows("list who is connected", sql).await?;
        Ok(rows.iter().filter_map(|row| row.get(0)).map(str::to_owned).collect())
    }

    /// Sessions of tenants whose statement or transaction is older than `least`, on the whole cluster. An admin that is
    /// no superuser and may not read all statistics joins the roles for the length of the look.
    pub async fn tenant_sessions(
        &self,
        target: &ClusterTarget,
        least: Duration,
    ) -> Result<Vec<TenantSession>, FleetError> {
        let mut admin = self.admin(target).await?;
        // From 16 on only whoever made a role may join it.
        let may_join = if admin.server_version() >= 160_000 {
            "pg_has_role(usesysid, 'MEMBER WITH ADMIN OPTION')"
        } else {
            "true"
        };
        let sql = format!(
            "SELECT pid, usename, backend_start, state IS NULL AND {may_join},
                    CASE WHEN state = 'active' OR state LIKE 'fastpath%' THEN extract(epoch FROM clock_timestamp() - query_start) END,
                    CASE WHEN state LIKE 'idle in transaction%' THEN extract(epoch FROM clock_timestamp() - state_change) END,
                    extract(epoch FROM clock_timestamp() - xact_start)
               FROM pg_stat_activity
              WHERE backend_type IS DISTINCT FROM 'parallel worker' AND {LOGIN_ROLES}
                AND (state IS NULL OR state <> 'idle' AND coalesce(xact_start, query_start) < clock_timestamp() - interval '{} milliseconds')
              ORDER BY xact_start NULLS FIRST LIMIT {SESSIONS_MAX};",
            least.as_millis()
        );
        let what = "look at tenants' sessions";
        let seen = admin.rows(what, &sql).await?;
        let hidden: Vec<&str> =
            seen.iter().filter(|row| row.get(3) == Some("t")).filter_map(|row| row.get(1)).collect();
        let rows = if hidden.is_empty() { seen } else { as_member(&mut admin, target, &hidden, what, &sql).await? };
        Ok(rows.iter().filter(|row| row.get(3) != Some("t")).filter_map(read).collect())
    }

    /// Stops sessions that are still the same; returns how many were.
    pub async fn stop_sessions(
        &self,
        target: &ClusterTarget,
        sessions: &[(&TenantSession, Stop)],
    ) -> Result<usize, FleetError> {
        if sessions.is_empty() {
            return Ok(0);
        }
        let mut values = Vec::new();
        for (session, stop) in sessions {
            values.push(format!("({}, {}, {})", session.pid, literal(&session.since), *stop == Stop::Terminate));
        }
        let mut admin = self.admin(target).await?;
        let sql = format!(
            "SELECT count(*) FILTER (WHERE CASE WHEN ends THEN pg_terminate_backend(a.pid) ELSE pg_cancel_backend(a.pid) END)
               FROM (VALUES {}) AS wanted (pid, since, ends)
               JOIN pg_stat_activity a ON a.pid = wanted.pid AND a.backend_start = wanted.since::timestamptz
              WHERE {LOGIN_ROLES};",
            values.join(", ")
        );
        let what = "stop tenants' sessions";
        let rows = if admin.is_superuser() {
            admin.rows(what, &sql).await?
        } else {
            let mut roles: Vec<String> = sessions.iter().flat_map(|(session, _)| login_roles(session.home)).collect();
            roles.sort();
            roles.dedup();
            let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
            as_member(&mut admin, target, &roles, what, &sql).await?
        };
        let stopped = rows.iter().rev().find_map(|row| row.get(0)).and_then(|count| count.parse().ok());
        Ok(stopped.unwrap_or(0))
    }
}

/// Runs a query as a member of some roles, in a transaction that is rolled back: an admin that stays a member of thousands
/// of roles gets slow.
async fn as_member(
    admin: &mut Admin,
    target: &ClusterTarget,
    roles: &[&str],
    what: &str,
    sql: &str,
) -> Result<Vec<tokio_postgres::SimpleQueryRow>, FleetError> {
    let mut batch = String::from("BEGIN;\n");
    for role in roles {
        let _ = write!(batch, "{}", grant_to_admin(admin.server_version(), &ident(role), &target.user));
    }
    // What this session saw of others before it became a member is forgotten.
    let _ = write!(batch, "DO 'BEGIN PERFORM pg_catalog.pg_stat_clear_snapshot(); END';\n{sql}\nROLLBACK;\n");
    admin.rows(what, &batch).await
}

fn login_roles(home: HomeId) -> [String; 3] {
    let names = tenantry_domain::HomeNames::of(home);
    [&names.login_a, &names.login_b, &names.read_only].map(|role: &RoleName| role.as_str().to_owned())
}

fn read(row: &tokio_postgres::SimpleQueryRow) -> Option<TenantSession> {
    let age = |column: usize| {
        let seconds: f64 = row.get(column)?.parse().ok()?;
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()
    };
    let home = row.get(1)?.strip_prefix("h_")?.split('_').next()?;
    Some(TenantSession {
        pid: row.get(0)?.parse().ok()?,
        home: home.parse().ok()?,
        since: row.get(2)?.to_owned(),
        statement: age(4),
        idle_in_transaction: age(5),
        transaction: age(6),
    })
}
