//! Taking a server in: what it is, and closing its doors.

use tenantry_domain::ClusterLocale;
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
    /// What new databases get: that of `template0`, with UTF8 where the server was made without an encoding.
    pub locale: ClusterLocale,
    /// `wal_level`.
    pub wal_level: String,
    /// `max_connections`.
    pub max_connections: i32,
    /// Of the data directory: two addresses with one identifier are one server (or a physical copy of it).
    pub system_identifier: String,
    /// Databases besides templates, `postgres` and the admin database.
    pub existing_user_databases: Vec<String>,
    /// Whether this connection was encrypted.
    pub tls: bool,
}

impl Inspection {
    /// What stands against using the server, one sentence each; empty when it can be registered.
    pub fn obstacles(&self) -> Vec<String> {
        let checks = [
            (self.server_version < version::OLDEST, "the server is older than PostgreSQL 15; upgrade it"),
            (!self.is_superuser && !self.can_create_database, "the admin may not create databases; give it CREATEDB"),
            (!self.is_superuser && !self.can_create_role, "the admin may not create roles; give it CREATEROLE"),
            (
                !self.can_create_schema,
                "the admin may not create a schema in its database; grant it CREATE there, or name a database that it owns",
            ),
            (
                self.locale.encoding != "UTF8",
                "the server's encoding is not UTF8; make a new server with `initdb --encoding=UTF8`",
            ),
        ];
        checks.into_iter().filter(|(stands, _)| *stands).map(|(_, sentence)| sentence.to_owned()).collect()
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
        let sql = format!(
            "SELECT a.rolsuper, a.rolcreatedb, a.rolcreaterole,
                    has_database_privilege(current_database(), 'CREATE'),
                    pg_has_role(a.oid, 'pg_signal_backend', 'USAGE'),
                    pg_encoding_to_char(t.encoding), t.datcollate, t.datctype,
                    CASE t.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END, t.{own_locale},
                    current_setting('wal_level'), current_setting('max_connections'),
                    (SELECT system_identifier FROM pg_control_system()),
                    COALESCE((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false)
             FROM pg_roles a, pg_database t WHERE a.rolname = current_user AND t.datname = 'template0';"
        );
        let rows = session.rows("inspect the server", &sql).await?;
        let Some(row) = rows.first() else {
            return Err(FleetError::refused("the server has no database `template0`; it cannot be used"));
        };
        let others = format!(
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname NOT IN ('postgres', {}) ORDER BY 1;",
            literal(target.admin_database.as_str())
        );
        let existing = session.rows("list the server's databases", &others).await?;
        let flag = |column| row.get(column) == Some("t");
        Ok(Inspection {
            server_version: version,
            is_superuser: flag(0),
            can_create_database: flag(1),
            can_create_role: flag(2),
            can_create_schema: flag(3),
            can_signal: flag(4),
            locale: locale(row),
            wal_level: text(row, 10),
            max_connections: text(row, 11).parse().unwrap_or(0),
            system_identifier: text(row, 12),
            existing_user_databases: existing.iter().map(|row| text(row, 0)).collect(),
            tls: flag(13),
        })
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
        encoding: text(row, 5),
        collate: text(row, 6),
        ctype: text(row, 7),
        provider: text(row, 8),
        provider_locale: row.get(9).map(str::to_owned),
    };
    // `initdb` under the C locale picks no encoding; UTF8 goes with that locale as well.
    let unnamed = locale.encoding == "SQL_ASCII" && ["C", "POSIX"].contains(&locale.ctype.as_str());
    if unnamed { ClusterLocale { encoding: "UTF8".to_owned(), ..locale } } else { locale }
}

fn text(row: &SimpleQueryRow, column: usize) -> String {
    row.get(column).unwrap_or_default().to_owned()
}
