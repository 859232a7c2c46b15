//! Taking a server in: what it is, and closing its doors.

use std::time::{SystemTime, UNIX_EPOCH};

use tenantry_domain::{ClusterLocale, Verdict};
use tokio_postgres::SimpleQueryRow;

use crate::error::FleetError;
use crate::fence;
use crate::fleet::Fleet;
use crate::quote::{do_block, ident, literal};
use crate::session::Session;
use crate::target::ClusterTarget;
use crate::version;

/// What a server is and what the admin may do on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Inspection {
    /// `server_version_num`, for example 150018.
    pub server_version: i32,
    /// Whether the admin is a superuser.
    pub is_superuser: bool,
    /// Whether the admin may create databases.
    pub can_create_database: bool,
    /// Whether the admin may create roles.
    pub can_create_role: bool,
    /// Whether the admin may make the fence in the admin database.
    pub can_create_schema: bool,
    /// Whether the admin may end sessions of roles that are not its own (superuser or `pg_signal_backend`).
    pub can_signal: bool,
    /// Whether the admin sees all sessions and sizes (superuser or `pg_read_all_stats`).
    pub can_monitor: bool,
    /// What new databases get: that of `template0`, with UTF8 where the server was made without an encoding.
    pub locale: ClusterLocale,
    /// `wal_level`.
    pub wal_level: String,
    /// Whether it is a standby or in recovery.
    pub in_recovery: bool,
    /// Whether what is committed survives a power cut (`fsync` and `full_page_writes` are on).
    pub is_durable: bool,
    /// `max_connections`.
    pub connections_max: u32,
    /// Of these, kept for superusers and roles with a right to them.
    pub connections_reserved: u32,
    /// Client connections that are open, this one included.
    pub connections_open: u32,
    /// `password_encryption`.
    pub password_encryption: String,
    /// How far the server's clock is ahead of ours, in milliseconds; the way there and back is halved out.
    pub clock_ahead_ms: i64,
    /// Of the data directory: two addresses with one identifier are one server (or a physical copy of it).
    pub system_identifier: String,
    /// Databases besides templates, `postgres` and the admin database.
    pub existing_user_databases: Vec<String>,
    /// Databases that every role of the server may connect to.
    pub open_databases: Vec<String>,
    /// All databases, templates included.
    pub databases: u32,
    /// Whether this connection was encrypted.
    pub tls: bool,
}

impl Inspection {
    /// What stands against using the server, one sentence each; empty when it can be registered.
    pub fn obstacles(&self) -> Vec<String> {
        let failed = self.checks().into_iter().filter(|check| check.verdict == Verdict::Failed);
        failed.map(|check| check.sentence()).collect()
    }
}

impl Fleet {
    /// Looks at a server. Changes nothing.
    pub async fn inspect(&self, target: &ClusterTarget) -> Result<Inspection, FleetError> {
        let mut session = self.once(target, &target.admin_database, None).await?;
        let version = session.server_version();
        if version < version::OLDEST {
            return Err(FleetError::refused("the server is older than PostgreSQL 15; upgrade it"));
        }
        let own_locale = version::provider_locale_column(version);
        let reserved = version::reserved_connections_column(version);
        let sql = format!(
            "SELECT a.rolsuper, a.rolcreatedb, a.rolcreaterole,
                    has_database_privilege(current_database(), 'CREATE'),
                    pg_has_role(a.oid, 'pg_signal_backend', 'USAGE'), pg_has_role(a.oid, 'pg_read_all_stats', 'USAGE'),
                    pg_encoding_to_char(t.encoding), t.datcollate, t.datctype,
                    CASE t.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END, t.{own_locale},
                    current_setting('wal_level'), pg_is_in_recovery(),
                    current_setting('fsync')::bool AND current_setting('full_page_writes')::bool,
                    current_setting('max_connections'), {reserved},
                    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                    current_setting('password_encryption'),
                    (SELECT system_identifier FROM pg_control_system()), (SELECT count(*) FROM pg_database),
                    COALESCE((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false),
                    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
             FROM pg_roles a, pg_database t WHERE a.rolname = current_user AND t.datname = 'template0';"
        );
        let asked = SystemTime::now();
        let rows = session.rows("inspect the server", &sql).await?;
        let ours = middle_ms(asked, SystemTime::now());
        let Some(row) = rows.first() else {
            return Err(FleetError::refused("the server has no database `template0`; it cannot be used"));
        };
        let others = format!(
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname NOT IN ('postgres', {}) ORDER BY 1;",
            literal(target.admin_database.as_str())
        );
        let existing = session.rows("list the server's databases", &others).await?;
        let open = open_databases(&mut session).await?;
        let flag = |column| row.get(column) == Some("t");
        let number = |column| text(row, column).parse().unwrap_or(0);
        Ok(Inspection {
            server_version: version,
            is_superuser: flag(0),
            can_create_database: flag(1),
            can_create_role: flag(2),
            can_create_schema: flag(3),
            can_signal: flag(4),
            can_monitor: flag(5),
            locale: locale(row),
            wal_level: text(row, 11),
            in_recovery: flag(12),
            is_durable: flag(13),
            connections_max: number(14),
            connections_reserved: number(15),
            connections_open: number(16),
            password_encryption: text(row, 17),
            clock_ahead_ms: text(row, 21).parse().map_or(0, |theirs: i64| theirs - ours),
            system_identifier: text(row, 18),
            existing_user_databases: existing.iter().map(|row| text(row, 0)).collect(),
            open_databases: open.into_iter().map(|database| database.name).collect(),
            databases: number(19),
            tls: flag(20),
        })
    }

    /// The bytes on disk of every database whose name is one that homes, templates and shared databases have. Visits every
    /// file of them, so it is slow where there are many.
    pub async fn measure_disk(&self, target: &ClusterTarget) -> Result<u64, FleetError> {
        let sql = "SELECT COALESCE(sum(pg_database_size(oid)), 0) FROM pg_database
                   WHERE datname ~ '^[hst]_[0-9a-f]{32}$' AND datconnlimit <> -2
                     AND (has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE'));";
        let rows = self.admin(target).await?.rows("measure the databases", sql).await?;
        Ok(rows.first().and_then(|row| row.get(0)?.parse().ok()).unwrap_or(0))
    }

    /// Makes the fence and closes the doors ([`Fleet::close_public`], whose findings it returns).
    pub async fn prepare_cluster(&self, target: &ClusterTarget) -> Result<Vec<String>, FleetError> {
        let mut admin = self.admin(target).await?;
        // One at a time: two sessions that replace one function fail.
        let sql = format!("BEGIN;\nSELECT pg_advisory_xact_lock(hashtext('tenantry'));\n{}COMMIT;\n", fence::SETUP);
        admin.batch("make the fence in the admin database", &sql).await?;
        drop(admin);
        self.close_public(target).await
    }

    /// Takes `PUBLIC`'s rights on every database of the server, `postgres` and `template1` included. What the admin is not
    /// allowed to close comes back as findings, one sentence each.
    pub async fn close_public(&self, target: &ClusterTarget) -> Result<Vec<String>, FleetError> {
        let mut admin = self.admin(target).await?;
        let sql: String = open_databases(&mut admin)
            .await?
            .iter()
            .filter(|database| database.is_ours_to_close)
            .map(|database| close(&database.name, target))
            .collect();
        if !sql.is_empty() {
            admin.batch("close the server's databases to PUBLIC", &sql).await?;
        }
        let mut findings: Vec<String> = open_databases(&mut admin)
            .await?
            .into_iter()
            .map(|database| {
                format!(
                    "every role of the server may connect to database `{0}`; as its owner run: \
                     REVOKE ALL ON DATABASE {1} FROM PUBLIC",
                    database.name,
                    ident(&database.name)
                )
            })
            .collect();
        let settings =
            admin.rows("read the server's settings", "SELECT current_setting('lo_compat_privileges');").await?;
        if settings.first().and_then(|row| row.get(0)) == Some("on") {
            findings.push(
                "`lo_compat_privileges` is on, so any role may read any large object of its database; turn it off"
                    .to_owned(),
            );
        }
        Ok(findings)
    }

    /// Removes the fence from a server that is given back; it must hold no home any more.
    pub async fn release_cluster(&self, target: &ClusterTarget) -> Result<(), FleetError> {
        let mut admin = self.admin(target).await?;
        admin.batch("remove the fence from the admin database", "DROP SCHEMA IF EXISTS tenantry CASCADE;").await?;
        drop(admin);
        self.forget(target.id);
        Ok(())
    }
}

/// Takes everybody's rights. A database that goes away meanwhile, or whose rights someone else changes in the same moment,
/// stops nothing; the second look tells what is still open.
fn close(database: &str, target: &ClusterTarget) -> String {
    let name = ident(database);
    let mut body = format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n");
    if database == target.admin_database.as_str() {
        body.push_str(&format!("GRANT CONNECT ON DATABASE {name} TO CURRENT_USER;\n"));
    }
    do_block(&format!("{body}EXCEPTION WHEN invalid_catalog_name OR internal_error THEN NULL;"))
}

/// A database that lets everybody in.
struct OpenDatabase {
    name: String,
    is_ours_to_close: bool,
}

async fn open_databases(session: &mut Session) -> Result<Vec<OpenDatabase>, FleetError> {
    let sql = "SELECT d.datname, pg_has_role(d.datdba, 'USAGE') FROM pg_database d
               WHERE d.datallowconn AND EXISTS (
                   SELECT FROM aclexplode(COALESCE(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee = 0)
               ORDER BY 1;";
    let rows = session.rows("list the server's databases", sql).await?;
    let open = |row: &SimpleQueryRow| OpenDatabase { name: text(row, 0), is_ours_to_close: row.get(1) == Some("t") };
    Ok(rows.iter().map(open).collect())
}

fn locale(row: &SimpleQueryRow) -> ClusterLocale {
    let locale = ClusterLocale {
        encoding: text(row, 6),
        collate: text(row, 7),
        ctype: text(row, 8),
        provider: text(row, 9),
        provider_locale: row.get(10).map(str::to_owned),
    };
    // `initdb` under the C locale picks no encoding; UTF8 goes with that locale as well.
    let unnamed = locale.encoding == "SQL_ASCII" && ["C", "POSIX"].contains(&locale.ctype.as_str());
    if unnamed { ClusterLocale { encoding: "UTF8".to_owned(), ..locale } } else { locale }
}

/// The middle between two moments, in milliseconds since the epoch.
fn middle_ms(before: SystemTime, after: SystemTime) -> i64 {
    let since = |moment: SystemTime| moment.duration_since(UNIX_EPOCH).map_or(0, |span| span.as_millis());
    i64::try_from(u128::midpoint(since(before), since(after))).unwrap_or(i64::MAX)
}

fn text(row: &SimpleQueryRow, column: usize) -> String {
    row.get(column).unwrap_or_default().to_owned()
}
