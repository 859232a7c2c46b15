//! Databases that `schema` homes share.

use tenantry_domain::{DatabaseName, RoleName};

use crate::database::{create_database, from_template0};
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::interior;
use crate::quote::{do_block, ident, literal};
use crate::roles::ensure_role;
use crate::session::Session;
use crate::target::ClusterTarget;
use crate::version::grant_to_admin;

/// The roles of a shared database, so that they can be recorded before they exist: first the group that every home in it
/// joins (`CONNECT`, the stamp, extensions), then the one for homes with temporary tables, then the role that migrates many
/// of its homes over one connection. [`Fleet::drop_database`] drops them.
///
/// Homes join a group because grants to many roles on one object would fail when made at the same time.
pub fn shared_database_roles(database: &DatabaseName) -> [RoleName; 3] {
    [RoleName::shared_homes(database), RoleName::shared_temporary(database), RoleName::shared_migrator(database)]
}

/// Large objects have owners and belong to no schema. Without these functions, homes that share a database make none.
const LARGE_OBJECT_FUNCTIONS: &str = "pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), \
     pg_catalog.lo_from_bytea(oid, bytea), pg_catalog.lo_import(text), pg_catalog.lo_import(text, oid), \
     pg_catalog.lo_export(oid, text), pg_catalog.lo_put(oid, bigint, bytea), pg_catalog.lo_open(oid, integer), \
     pg_catalog.lo_get(oid), pg_catalog.lo_get(oid, bigint, integer), pg_catalog.lo_unlink(oid)";

impl Fleet {
    /// Makes a shared database with its group roles, closed to `PUBLIC` in every respect, and returns what the admin's
    /// rights do not allow to close. `Busy` while another worker makes it.
    pub async fn ensure_shared_database(
        &self,
        target: &ClusterTarget,
        database: &DatabaseName,
    ) -> Result<Vec<String>, FleetError> {
        let mut builder = self.builder(target, database).await?;
        let source = from_template0(&builder, target)?;
        create_database(self, target, &mut builder, database, &source).await?;
        let [homes, temporary, migrator] = shared_database_roles(database);
        let mut sql = do_block(&[&homes, &temporary].map(|role| ensure_role(role, "NOLOGIN")).concat());
        sql.push_str(&do_block(&make_migrator(&migrator)));
        if !builder.is_superuser() {
            let both = format!("{}, {}", ident(homes.as_str()), ident(temporary.as_str()));
            sql.push_str(&grant_to_admin(builder.server_version(), &both, &target.user));
        }
        let name = ident(database.as_str());
        sql.push_str(&format!(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n\
             GRANT CONNECT ON DATABASE {name} TO {};\nGRANT TEMPORARY ON DATABASE {name} TO {};\n\
             ALTER DATABASE {name} ALLOW_CONNECTIONS true;\n",
            ident(homes.as_str()),
            ident(temporary.as_str()),
        ));
        builder.batch("open the shared database to its homes", &format!("BEGIN;\n{sql}COMMIT;\n")).await?;

        let mut inside = self.kept(target, database).await?;
        let mut sql = interior::setup(&self.config().extensions);
        sql.push_str(&interior::grants(&ident(homes.as_str())));
        if inside.is_superuser() {
            sql.push_str(&format!("REVOKE EXECUTE ON FUNCTION {LARGE_OBJECT_FUNCTIONS} FROM PUBLIC;\n"));
        }
        inside.batch("set up the shared database", &format!("BEGIN;\n{sql}COMMIT;\n")).await?;
        let mut findings = interior::missing_extensions(&mut inside, &self.config().extensions).await?;
        if !inside.is_superuser() {
            findings.push(
                "tenants that share a database can make large objects (each readable by its owner only), because only a \
                 superuser may forbid it"
                    .to_owned(),
            );
        }
        Ok(findings)
    }

    /// A session for making one database: whoever has it holds the lock on that name until it is dropped.
    pub(crate) async fn builder(&self, target: &ClusterTarget, database: &DatabaseName) -> Result<Session, FleetError> {
        let mut session = self.once(target, &target.admin_database, None).await?;
        let sql = format!("SELECT pg_try_advisory_lock(hashtextextended({}, 0));", literal(database.as_str()));
        let rows = session.rows("lock the name of the database", &sql).await?;
        if rows.first().and_then(|row| row.get(0)) == Some("t") {
            Ok(session)
        } else {
            Err(FleetError::busy(format!("another worker makes the database {database} now")))
        }
    }
}

/// Within a block: the role that migrates many homes, where it is missing. Whoever uses it first lets it log in.
fn make_migrator(migrator: &RoleName) -> String {
    let role = ident(migrator.as_str());
    let there = literal(&role);
    format!("IF pg_catalog.to_regrole({there}) IS NULL THEN CREATE ROLE {role} NOLOGIN NOINHERIT; END IF;")
}
