//! Handing what somebody else made to a home's roles, without copying anything and without shutting anybody out.
//!
//! Every object changes its owner to the home's; the rights that were granted on it stay, and whoever owned it becomes a
//! member of the new owner, so that what worked before works on. [`Belongings`] remember who owned what, which is all
//! that it takes to go back ([`super::give_back`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tenantry_domain::{Home, Isolation, Limits, RoleName, SchemaName};

use super::grants;
use super::objects::{ALTER_WORD, MOVABLE, in_scope_of};
use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::home::{database_grants, in_transaction};
use crate::interior;
use crate::quote::{do_block, ident, idents, literal};
use crate::roles::for_existing;
use crate::session::Session;
use crate::stamp::{self, Stamp};
use crate::target::ClusterTarget;
use crate::version::grant_to_admin;

/// Who owned what in a database or schema before it was adopted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belongings {
    /// Who owned the database.
    pub database_owner: String,
    /// For a schema: who owned it.
    pub schema_owner: Option<String>,
    /// By owner: the server's own numbers for each object, its catalog's and its.
    pub objects: BTreeMap<String, Vec<(u32, u32)>>,
    /// Whether a history of migrations was there.
    pub had_history: bool,
}

impl Belongings {
    /// Who gets what was made later: the owner of the database, or of the schema.
    pub(super) fn heir(&self) -> &str {
        self.schema_owner.as_deref().unwrap_or(&self.database_owner)
    }

    /// Everybody who owned something.
    pub(super) fn owners(&self) -> Vec<&str> {
        let mut owners: Vec<&str> = self.objects.keys().map(String::as_str).collect();
        owners.push(self.heir());
        owners.sort_unstable();
        owners.dedup();
        owners
    }
}

impl Fleet {
    /// Writes down who owns what, before anything is changed.
    pub async fn belongings(&self, target: &ClusterTarget, home: &Home) -> Result<Belongings, FleetError> {
        let scope = in_scope_of(home);
        let sql = format!(
            "{MOVABLE}
             SELECT 'object', m.classid::text, m.objid::text, pg_get_userbyid(m.owner) FROM movable m WHERE {scope}
             UNION ALL SELECT 'database', '', '', pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()
             UNION ALL SELECT 'schema', '', '', pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = {schema}
             UNION ALL SELECT 'history', '', '', '' WHERE to_regclass({history}) IS NOT NULL;",
            schema = literal(home.schema.as_str()),
            history = literal(&format!("{}.{}", ident(home.schema.as_str()), ident(crate::migrate::HISTORY))),
        );
        let mut belongings = Belongings::default();
        for row in self.inside(target, home).await?.rows("write down who owns what", &sql).await? {
            let owner = row.get(3).unwrap_or_default().to_owned();
            let number = |column: usize| row.get(column).and_then(|number| number.parse().ok()).unwrap_or(0);
            match row.get(0) {
                Some("object") => belongings.objects.entry(owner).or_default().push((number(1), number(2))),
                Some("database") => belongings.database_owner = owner,
                Some("schema") if home.isolation == Isolation::Schema => belongings.schema_owner = Some(owner),
                Some("history") => belongings.had_history = true,
                _ => {}
            }
        }
        Ok(belongings)
    }

    /// Makes the home's roles the owners of everything, writes the stamp and lets the roles in. The roles must exist
    /// ([`Fleet::ensure_roles`]). Who had rights before keeps them until [`Fleet::seal_adoption`].
    pub async fn take_over(
        &self,
        target: &ClusterTarget,
        home: &Home,
        fence: &Fence,
        belongings: &Belongings,
        limits: &Limits,
        stamp: &Stamp,
    ) -> Result<(), FleetError> {
        self.let_old_owners_in(target, home, fence, belongings).await?;
        let mut inside = self.inside(target, home).await?;
        let schemas = schemas(&mut inside, home).await?;
        let names = home.names();
        let logins = [&names.login_a, &names.login_b, &names.read_only, &names.migrator];
        let mut sql = interior::rooms(&self.config().extensions);
        // First of what matters: it raises for a lease that is over.
        sql.push_str(&stamp::write(home, *fence, stamp));
        if home.isolation == Isolation::Schema {
            sql.push_str(&format!("ALTER SCHEMA {} OWNER TO CURRENT_USER;\n", ident(home.schema.as_str())));
        } else {
            sql.push_str(&format!("ALTER DATABASE {} OWNER TO CURRENT_USER;\n", ident(home.database.as_str())));
        }
        sql.push_str(&format!(
            "GRANT CONNECT ON DATABASE {} TO {};\n",
            ident(home.database.as_str()),
            idents(logins.map(RoleName::as_str))
        ));
        sql.push_str(&database_grants(home, limits));
        for schema in &schemas {
            let (schema, owner) = (ident(schema.as_str()), ident(names.owner.as_str()));
            sql.push_str(&format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};\n"));
        }
        sql.push_str(&hand_over(home));
        sql.push_str(&grants::give(home, &schemas));
        inside.batch("hand the database over to the home's roles", &in_transaction(&sql)).await
    }

    /// Whoever owned something goes on with all its rights, as a member of the new owner.
    async fn let_old_owners_in(
        &self,
        target: &ClusterTarget,
        home: &Home,
        fence: &Fence,
        belongings: &Belongings,
    ) -> Result<(), FleetError> {
        let mut admin = self.admin(target).await?;
        let owner = home.names().owner;
        let mut body = String::new();
        for old in belongings.owners() {
            let Ok(old) = RoleName::parse(old) else { continue };
            // A superuser needs no membership, and the admin has its own. `pg_database_owner` cannot be a member.
            body.push_str(&format!(
                "IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {} AND NOT rolsuper AND oid >= 16384
                    AND rolname <> current_user) THEN {} END IF;\n",
                literal(old.as_str()),
                grant_to_admin(admin.server_version(), &ident(owner.as_str()), old.as_str())
            ));
        }
        admin.batch("let the old owners go on", &fence.guard(&do_block(&body))).await
    }
}

/// The schemas that the home's roles work in: its own, and for a whole database every one that somebody made.
pub(super) async fn schemas(session: &mut Session, home: &Home) -> Result<Vec<SchemaName>, FleetError> {
    let mut schemas = vec![home.schema.clone()];
    if home.isolation == Isolation::Schema {
        return Ok(schemas);
    }
    let sql = format!("{MOVABLE} SELECT schema FROM movable WHERE classid = 'pg_namespace'::regclass ORDER BY 1;");
    let rows = session.rows("list the schemas", &sql).await?;
    schemas.extend(rows.iter().filter_map(|row| SchemaName::parse(row.get(0)?).ok()).filter(|it| *it != home.schema));
    Ok(schemas)
}

/// Makes the home's owner the owner of everything that is in scope and not its already.
pub(super) fn hand_over(home: &Home) -> String {
    let owner = home.names().owner;
    let scope = in_scope_of(home);
    let body = format!(
        "DECLARE item record;
BEGIN
FOR item IN {MOVABLE}
    SELECT {ALTER_WORD} AS word, identity FROM movable m, pg_get_userbyid(m.owner) old,
           pg_identify_object(m.classid, m.objid, 0) AS o (kind, schema_name, name, identity)
    WHERE {scope} AND old <> {}
LOOP
    EXECUTE format('ALTER %s %s OWNER TO %I', item.word, item.identity, {0});
END LOOP;
END",
        literal(owner.as_str())
    );
    format!("DO {};\n", literal(&body))
}

/// Within a block: nothing of the home's roles is anybody else's.
pub(super) fn without_members(home: &Home) -> String {
    let names = home.names();
    for_existing(&[&names.owner], |owner| {
        format!(
            "DECLARE member record; BEGIN
FOR member IN SELECT r.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
    WHERE m.roleid = {}::pg_catalog.regrole AND r.rolname <> current_user AND r.rolname <> {}
LOOP
    EXECUTE pg_catalog.format('REVOKE %I FROM %I', {}, member.rolname);
END LOOP; END;",
            literal(owner),
            literal(names.migrator.as_str()),
            literal(names.owner.as_str())
        )
    })
}
