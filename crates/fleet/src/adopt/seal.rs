//! Making an adoption final: whoever had rights before has none any more.

use tenantry_domain::{Home, Isolation, Limits, RoleName};

use super::Belongings;
use super::grants;
use super::objects::{MOVABLE, REVOKE_WORD, in_scope_of, own_roles};
use super::take_over::{hand_over, schemas, without_members};
use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::home::{database_grants, in_transaction};
use crate::quote::{do_block, ident, literal, literals};
use crate::roles::end_sessions_in;
use crate::session::Session;
use crate::stamp::{self, Stamp};
use crate::target::ClusterTarget;

impl Fleet {
    /// Hands over what was made since [`Fleet::take_over`], takes every right from whoever is neither one of the home's
    /// roles nor the admin, and ends their sessions. A whole database is closed to `PUBLIC`; a schema stays in a
    /// database that others may enter, so only the schema is. Superusers keep what they have.
    pub async fn seal_adoption(
        &self,
        target: &ClusterTarget,
        home: &Home,
        fence: &Fence,
        belongings: &Belongings,
        limits: &Limits,
        stamp: &Stamp,
    ) -> Result<(), FleetError> {
        let mut admin = self.admin(target).await?;
        let leaving = fence.guard(&do_block(&without_members(home)));
        let mut inside = self.inside(target, home).await?;
        let mut strangers = strangers(&mut inside, home).await?;
        strangers.extend(belongings.owners().into_iter().filter_map(|owner| RoleName::parse(owner).ok()));
        let schemas = schemas(&mut inside, home).await?;
        // First, because a member of the owner never loses the right to grant.
        admin.batch("part the old owners from the home's", &leaving).await?;
        let mut sql = stamp::write(home, *fence, stamp);
        sql.push_str(&hand_over(home));
        if home.isolation != Isolation::Schema {
            sql.push_str(&format!("REVOKE ALL ON DATABASE {} FROM PUBLIC;\n", ident(home.database.as_str())));
            sql.push_str(&revoke_on_database(home));
            sql.push_str("REVOKE ALL ON SCHEMA public FROM PUBLIC;\n");
            sql.push_str(&database_grants(home, limits));
        }
        sql.push_str(&revoke_on_schemas(home));
        sql.push_str(&grants::as_owner(home, &revoke_on_objects(home)));
        sql.push_str(&grants::give(home, &schemas));
        inside.batch("take the rights that others had", &in_transaction(&sql)).await?;
        end_strangers(&mut admin, home, *fence, &strangers).await
    }
}

/// Roles that had rights: those that own or may do something there, and who is a member of the home's owner.
async fn strangers(session: &mut Session, home: &Home) -> Result<Vec<RoleName>, FleetError> {
    let own = own_roles(home);
    let scope = in_scope_of(home);
    let owner = literal(home.names().owner.as_str());
    let sql = format!(
        "{MOVABLE}
         SELECT DISTINCT r.rolname FROM pg_roles r WHERE r.oid >= 16384 AND NOT r.rolsuper AND r.rolname NOT IN ({own})
           AND r.rolname <> current_user AND r.oid IN (
               SELECT m.owner FROM movable m WHERE {scope}
               UNION SELECT a.grantee FROM movable m, aclexplode(m.acl) a WHERE {scope}
               UNION SELECT a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = {schema}
               UNION SELECT k.member FROM pg_auth_members k JOIN pg_roles o ON o.oid = k.roleid WHERE o.rolname = {owner});",
        schema = literal(home.schema.as_str()),
    );
    let rows = session.rows("list the roles that had rights", &sql).await?;
    Ok(rows.iter().filter_map(|row| RoleName::parse(row.get(0)?).ok()).collect())
}

fn revoke_on_database(home: &Home) -> String {
    let own = own_roles(home);
    let body = format!(
        "DECLARE item record;
BEGIN
FOR item IN SELECT DISTINCT r.rolname FROM pg_database d, aclexplode(d.datacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE d.datname = current_database() AND r.oid <> d.datdba AND r.rolname NOT IN ({own})
LOOP
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM %I CASCADE', current_database(), item.rolname);
END LOOP;
END"
    );
    format!("DO {};\n", literal(&body))
}

/// Rights on objects, on their columns, and on sequences that go with a table. Where others may enter the database,
/// `PUBLIC` loses its rights too; functions and types give it theirs by default.
fn revoke_on_objects(home: &Home) -> String {
    let scope = in_scope_of(home);
    revoke_granted(
        home,
        &format!(
            "{MOVABLE}, granted AS (
        SELECT m.classid, m.objid, a.grantee FROM movable m, aclexplode(m.acl) a
        WHERE {scope} AND m.classid <> 'pg_namespace'::regclass
        UNION SELECT 'pg_class'::regclass, s.oid, a.grantee FROM pg_class s
            JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i')
            JOIN movable m ON m.classid = 'pg_class'::regclass AND m.objid = d.refobjid, aclexplode(s.relacl) a
            WHERE s.relkind = 'S' AND {scope}
        UNION SELECT m.classid, m.objid, a.grantee FROM movable m
            JOIN pg_attribute c ON m.classid = 'pg_class'::regclass AND c.attrelid = m.objid, aclexplode(c.attacl) a
            WHERE {scope})"
        ),
    )
}

/// Rights on the home's schema, or on every schema of its database.
fn revoke_on_schemas(home: &Home) -> String {
    let schema = literal(home.schema.as_str());
    let others = if home.isolation == Isolation::Schema { "" } else { " OR n.oid >= 16384" };
    revoke_granted(
        home,
        &format!(
            "WITH granted AS (
        SELECT 'pg_namespace'::regclass AS classid, n.oid AS objid, a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a
        WHERE (n.nspname = {schema}{others}) AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('tenantry', 'extensions')
          AND a.grantee <> n.nspowner)"
        ),
    )
}

/// Takes every right that `granted` lists from whoever is not the home's.
fn revoke_granted(home: &Home, granted: &str) -> String {
    let own = own_roles(home);
    let public = home.isolation == Isolation::Schema;
    let body = format!(
        "DECLARE item record;
BEGIN
FOR item IN {granted}
    SELECT DISTINCT {REVOKE_WORD} AS word, o.identity, coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee
    FROM granted g LEFT JOIN pg_roles r ON r.oid = g.grantee,
         pg_identify_object(g.classid, g.objid, 0) AS o (kind, schema_name, name, identity)
    WHERE CASE WHEN g.grantee = 0 THEN {public}
               ELSE r.rolname NOT IN ({own}) AND r.rolname <> session_user AND r.rolname !~ '^pg_' END
LOOP
    EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', item.word, item.identity, item.grantee);
END LOOP;
END"
    );
    format!("DO {};\n", literal(&body))
}

/// Ends the sessions of those who lost their rights. A whole database has no room for anybody else, and waits until they
/// are gone; beside a schema they may have other business, so each is only sent away once.
async fn end_strangers(
    admin: &mut Session,
    home: &Home,
    fence: Fence,
    strangers: &[RoleName],
) -> Result<(), FleetError> {
    let own = own_roles(home);
    let database = literal(home.database.as_str());
    if home.isolation == Isolation::Schema {
        if strangers.is_empty() {
            return Ok(());
        }
        let names = literals(strangers.iter().map(RoleName::as_str));
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {database} AND usename IN ({names})
             AND usename <> current_user;\n"
        );
        return admin.batch("end the sessions of those who lost their rights", &fence.guard(&sql)).await;
    }
    // Superusers come back if they like; whoever else is there has no right to any more.
    let others = format!(
        "FROM pg_stat_activity s JOIN pg_roles r ON r.oid = s.usesysid WHERE s.datname = {database}
         AND r.rolname NOT IN ({own}) AND r.rolname <> current_user AND s.backend_type = 'client backend'"
    );
    let sql = format!(
        "SELECT pg_terminate_backend(s.pid) {others} AND r.rolsuper;\nSELECT DISTINCT r.rolname {others} AND NOT r.rolsuper;\n"
    );
    let rows = admin.rows("end the sessions of those who lost their rights", &fence.guard(&sql)).await?;
    let of_roles = rows.iter().filter(|row| row.columns().first().is_some_and(|column| column.name() == "rolname"));
    let connected: Vec<RoleName> = of_roles.filter_map(|row| RoleName::parse(row.get(0)?).ok()).collect();
    let connected: Vec<&RoleName> = connected.iter().collect();
    end_sessions_in(admin, fence, &home.database, &connected).await
}
