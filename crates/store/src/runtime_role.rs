//! Who owns the catalog, and who merely works in it.
//!
//! One role owns the schema and migrates it. Replicas log in as another one that may not change what was entered into the
//! audit log, nor the triggers that guard it.

use tenantry_domain::{RoleName, Secret};

use crate::error::StoreError;
use crate::row::{get, query, query_one, query_opt};
use crate::store::Store;

/// Everything that the runtime role may do, said in the order in which it is granted and taken away; `{role}` stands for
/// its quoted name.
const GRANTS: &str = "
    GRANT CONNECT ON DATABASE {database} TO {role};
    GRANT USAGE ON SCHEMA public TO {role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
    REVOKE UPDATE, DELETE ON audit_log FROM {role};
    REVOKE DELETE ON audit_chain FROM {role};
    REVOKE UPDATE ON operation_event FROM {role};
    REVOKE UPDATE ON migration FROM {role};
    REVOKE UPDATE ON repeatable FROM {role};
    REVOKE INSERT, UPDATE, DELETE ON refinery_schema_history FROM {role};";

/// The role that this program logged in as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogRole {
    /// Its name.
    pub name: String,
    /// Whether it may change the catalog's schema, and with it whatever guards the audit log.
    pub is_owner: bool,
}

impl Store {
    /// The role that this program logged in as. Of a catalog that is not set up, whoever may set it up is the owner.
    pub async fn catalog_role(&self) -> Result<CatalogRole, StoreError> {
        let row = query_one(
            &*self.client().await?,
            "SELECT current_user::text AS name,
                    coalesce((SELECT pg_has_role(current_user, c.relowner, 'USAGE') FROM pg_class c
                               WHERE c.oid = to_regclass('public.audit_log')),
                             has_schema_privilege('public', 'CREATE')) AS is_owner",
            &[],
        )
        .await?;
        Ok(CatalogRole { name: get(&row, "name")?, is_owner: get(&row, "is_owner")? })
    }

    /// Makes a role that can log in and nothing else, or brings it to that and to this verifier of its password. To be
    /// called by a superuser, or a role that may make others; whoever logs in by the password before is shut out.
    pub async fn ensure_login_role(&self, role: &RoleName, verifier: &Secret) -> Result<(), StoreError> {
        let client = self.client().await?;
        let known = "SELECT FROM pg_roles WHERE rolname = $1";
        let verb = if query_opt(&client, known, &[&role.as_str()]).await?.is_some() { "ALTER" } else { "CREATE" };
        // It is a utility statement, which takes no parameters.
        let verifier = verifier.expose().replace('\'', "''");
        let sql = format!(
            "{verb} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '{verifier}'",
            quoted(role)
        );
        client.batch_execute(&sql).await?;
        Ok(())
    }

    /// Lets a role work in the catalog without owning it. The role must exist; one that could undo the difference, a
    /// superuser or a member of the owner, is refused. To be called as the owner; doing so twice changes nothing.
    pub async fn grant_runtime_role(&self, role: &RoleName) -> Result<(), StoreError> {
        let client = self.client().await?;
        let sql = "SELECT r.rolsuper OR pg_has_role(r.oid, c.relowner, 'MEMBER') AS is_too_mighty,
                          quote_ident(current_database()) AS database
                     FROM pg_roles r, pg_class c WHERE r.rolname = $1 AND c.oid = 'public.audit_log'::regclass";
        let row = query_opt(&client, sql, &[&role.as_str()])
            .await?
            .ok_or_else(|| StoreError::NotFound { what: "role", name: role.to_string() })?;
        if get::<bool>(&row, "is_too_mighty")? {
            return Err(StoreError::Invalid {
                reason: format!(
                    "the role `{role}` is a superuser, the catalog's owner or a member of it; make another with \
                     `CREATE ROLE … LOGIN PASSWORD …`"
                ),
            });
        }
        // One message is one transaction: nobody sees the rights that are taken away again.
        let grants = GRANTS.replace("{role}", &quoted(role)).replace("{database}", &get::<String>(&row, "database")?);
        client.batch_execute(&grants).await?;
        Ok(())
    }

    /// The roles that were let in by [`grant_runtime_role`](Self::grant_runtime_role).
    pub async fn runtime_roles(&self) -> Result<Vec<RoleName>, StoreError> {
        let sql = "SELECT DISTINCT r.rolname::text AS name
                     FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
                    WHERE c.oid = to_regclass('public.audit_log') AND a.grantee <> c.relowner
                      AND a.privilege_type = 'INSERT' ORDER BY 1";
        let rows = query(&*self.client().await?, sql, &[]).await?;
        rows.iter().map(|row| RoleName::parse(get(row, "name")?).map_err(StoreError::internal)).collect()
    }
}

fn quoted(role: &RoleName) -> String {
    format!("\"{}\"", role.as_str().replace('"', "\"\""))
}
