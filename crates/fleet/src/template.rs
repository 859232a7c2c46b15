//! Golden templates: a database per migration set, closed, to be cloned.

use tenantry_domain::{DatabaseName, RoleName, SchemaVersion, Secret};
use tenantry_migration_set::MigrationSet;

use crate::database::{create_database, from_template0};
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::interior;
use crate::migrate::{ApplyOptions, Workplace};
use crate::password::{Reader, random_password, verifiers};
use crate::quote::{do_block, ident, literal};
use crate::roles::{end_sessions, ensure_role};
use crate::session::Session;
use crate::target::ClusterTarget;
use crate::version::{grant_to_admin, grant_to_migrator};

/// How the comment of a finished template starts; its schema version follows. Until then it is work in progress.
const FINISHED: &str = "tenantry template at version ";

/// Lets every sequence fetch anew where it is. One that has been used says on its page how many more values the log
/// already holds; a clone made with `STRATEGY wal_log` takes the page over, but not the log, and after a crash or a
/// failover hands out once more what it had handed out (seen on PostgreSQL 15; told to pgsql-hackers, of newer ones too, as
/// "sequence value may rollback after CREATE DATABASE TEMPLATE with WAL_LOG strategy"). An extension's sequences that the
/// admin may not set are left.
const FETCH_ANEW: &str = "
    SELECT CASE WHEN has_sequence_privilege(seqrelid, 'SELECT') AND has_sequence_privilege(seqrelid, 'UPDATE')
                THEN setval(seqrelid, pg_sequence_last_value(seqrelid)) END
      FROM pg_sequence;";

/// Every role of a template, so that they can be recorded before they exist. [`Fleet::drop_database`] drops them.
pub fn template_roles(template: &DatabaseName) -> [RoleName; 2] {
    [RoleName::template_owner(template), RoleName::template_migrator(template)]
}

impl Fleet {
    /// Makes a template and brings it to the migration set (to the bare interior where there is none), then closes it for
    /// good. A half-made one is finished, a finished one left alone. `Busy` while another worker builds it.
    pub async fn ensure_template(
        &self,
        target: &ClusterTarget,
        template: &DatabaseName,
        set: Option<&MigrationSet>,
    ) -> Result<SchemaVersion, FleetError> {
        let mut builder = self.builder(target, template).await?;
        if let Some(version) = finished(&mut builder, template).await? {
            return Ok(version);
        }
        let password = self.open_template(target, &mut builder, template).await?;
        let version = match set {
            None => SchemaVersion::default(),
            Some(set) => {
                let workplace = Workplace::of_template(template);
                self.apply_at(target, &workplace, &password, set, &ApplyOptions::default()).await?.to
            }
        };
        self.once(target, template, None).await?.batch("set the template's sequences", FETCH_ANEW).await?;
        let [owner, migrator] = template_roles(template);
        let database = ident(template.as_str());
        let (owner, migrator_name) = (ident(owner.as_str()), ident(migrator.as_str()));
        let sql = format!(
            "BEGIN;\nREVOKE ALL ON DATABASE {database} FROM {owner}, {migrator_name};\n\
             ALTER DATABASE {database} ALLOW_CONNECTIONS false;\nCOMMIT;\n"
        );
        builder.batch("close the template", &sql).await?;
        // Whoever is still in there would make clones wait.
        end_sessions(&mut builder, None, &[&migrator]).await?;
        let comment = literal(&format!("{FINISHED}{version}"));
        let sql =
            format!("BEGIN;\nCOMMENT ON DATABASE {database} IS {comment};\nDROP ROLE {migrator_name};\nCOMMIT;\n");
        builder.batch("finish the template", &sql).await?;
        Ok(version)
    }

    /// Makes the database and its roles, or finds them, and lets the migrator in; returns the migrator's new password.
    pub(crate) async fn open_template(
        &self,
        target: &ClusterTarget,
        builder: &mut Session,
        template: &DatabaseName,
    ) -> Result<Secret, FleetError> {
        let source = from_template0(builder, target)?;
        create_database(self, target, builder, template, &source).await?;
        let [owner, migrator] = template_roles(template);
        let password = random_password();
        let [verifier] = verifiers([(&password, Reader::Ourselves)]).await?;
        let database = ident(template.as_str());
        let login = format!("LOGIN PASSWORD {}", literal(verifier.expose()));
        let mut sql = do_block(&[ensure_role(&owner, "NOLOGIN"), ensure_role(&migrator, &login)].concat());
        sql.push_str(&grant_to_migrator(builder.server_version(), owner.as_str(), migrator.as_str()));
        if !builder.is_superuser() {
            let both = format!("{}, {}", ident(owner.as_str()), ident(migrator.as_str()));
            sql.push_str(&grant_to_admin(builder.server_version(), &both, &target.user));
        }
        sql.push_str(&format!(
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC;\nGRANT CONNECT ON DATABASE {database} TO {};\n\
             GRANT TEMPORARY ON DATABASE {database} TO {};\nALTER DATABASE {database} ALLOW_CONNECTIONS true;\n",
            ident(migrator.as_str()),
            ident(owner.as_str()),
        ));
        builder.batch("open the template to its migrator", &format!("BEGIN;\n{sql}COMMIT;\n")).await?;
        self.furnish(target, template, &owner).await?;
        Ok(password)
    }

    async fn furnish(
        &self,
        target: &ClusterTarget,
        template: &DatabaseName,
        owner: &RoleName,
    ) -> Result<(), FleetError> {
        let mut inside = self.once(target, template, None).await?;
        let owner = ident(owner.as_str());
        let mut sql = interior::setup(&self.config().extensions);
        sql.push_str(&format!(
            "GRANT USAGE, CREATE ON SCHEMA public TO {owner};\nGRANT USAGE ON SCHEMA extensions TO {owner};\n"
        ));
        inside.batch("set up the template", &format!("BEGIN;\n{sql}COMMIT;\n")).await
    }
}

/// The version of a finished template.
async fn finished(session: &mut Session, template: &DatabaseName) -> Result<Option<SchemaVersion>, FleetError> {
    let sql = format!(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = {} AND NOT datallowconn;",
        literal(template.as_str())
    );
    let rows = session.rows("look at the template", &sql).await?;
    let comment = rows.first().and_then(|row| row.get(0)).and_then(|comment| comment.strip_prefix(FINISHED));
    Ok(comment.and_then(|version| version.parse().ok()).map(SchemaVersion))
}
