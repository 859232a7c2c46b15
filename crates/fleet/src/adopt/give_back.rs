//! Putting everything back as it was before an adoption.

use tenantry_domain::{Home, Isolation};

use super::objects::{ALTER_WORD, MOVABLE};
use super::{Belongings, grants};
use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::home::in_transaction;
use crate::interior;
use crate::migrate::HISTORY_TABLES;
use crate::quote::{do_block, ident, literal};
use crate::roles::{drop_owned, for_existing, join};
use crate::stamp::{self, Stamp};
use crate::target::ClusterTarget;

impl Fleet {
    /// Gives every object back to whom it belonged to, takes the home's roles every right, and removes what was put
    /// beside the objects: the stamp, the history of migrations where it was the adoption's (`forgets_history`), the
    /// interior. What was made since goes to the owner of the database or schema. The roles remain
    /// ([`Fleet::drop_roles`]). Repeatable, also where nothing was taken over yet.
    pub async fn give_back(
        &self,
        target: &ClusterTarget,
        home: &Home,
        fence: &Fence,
        belongings: &Belongings,
        forgets_history: bool,
        stamp: &Stamp,
    ) -> Result<(), FleetError> {
        let names = home.names();
        let roles = names.all();
        let mut inside = self.inside(target, home).await?;
        // Raises for a lease that is over, before anything is changed.
        let mut sql = do_block(&format!(
            "IF pg_catalog.to_regclass('tenantry.stamp') IS NOT NULL THEN {} END IF;",
            stamp::write(home, *fence, stamp).replacen("SELECT", "PERFORM", 1)
        ));
        sql.push_str(&do_block(&join(&inside, target, &roles)));
        if forgets_history && !belongings.had_history {
            for table in HISTORY_TABLES {
                sql.push_str(&format!("DROP TABLE IF EXISTS {}.{};\n", ident(home.schema.as_str()), ident(table)));
            }
        }
        sql.push_str(&grants::take(home));
        sql.push_str(&restore(home, belongings));
        let heir = ident(belongings.heir());
        let rest = for_existing(&roles, |role| format!("REASSIGN OWNED BY {role} TO {heir};"));
        sql.push_str(&do_block(&rest));
        match (&belongings.schema_owner, home.isolation) {
            (Some(owner), Isolation::Schema) => sql.push_str(&do_block(&format!(
                "IF pg_catalog.to_regnamespace({0}) IS NOT NULL THEN ALTER SCHEMA {1} OWNER TO {2}; END IF;",
                literal(&ident(home.schema.as_str())),
                ident(home.schema.as_str()),
                ident(owner)
            ))),
            _ => sql.push_str(&format!(
                "ALTER DATABASE {} OWNER TO {};\n",
                ident(home.database.as_str()),
                ident(&belongings.database_owner)
            )),
        }
        sql.push_str(&do_block(&drop_owned(&roles)));
        sql.push_str(&leave(home));
        inside.batch("give the database back to its owners", &in_transaction(&sql)).await
    }
}

/// Each object that still is the home's goes to the role that owned it.
fn restore(home: &Home, belongings: &Belongings) -> String {
    let owners = home.names();
    let owner = literal(owners.owner.as_str());
    let mut rows = String::new();
    for (old, objects) in &belongings.objects {
        for (catalog, object) in objects {
            if !rows.is_empty() {
                rows.push_str(", ");
            }
            rows.push_str(&format!("({catalog}::oid, {object}::oid, {})", literal(old)));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let body = format!(
        "DECLARE item record;
BEGIN
FOR item IN {MOVABLE}
    SELECT {ALTER_WORD} AS word, identity, b.owner AS old
    FROM (VALUES {rows}) AS b (classid, objid, owner) JOIN movable m ON m.classid = b.classid AND m.objid = b.objid,
         pg_identify_object(m.classid, m.objid, 0) AS o (kind, schema_name, name, identity)
    WHERE pg_get_userbyid(m.owner) = {owner}
LOOP
    EXECUTE format('ALTER %s %s OWNER TO %I', item.word, item.identity, item.old);
END LOOP;
END"
    );
    format!("DO {};\n", literal(&body))
}

/// The stamp goes, and the interior with the last one.
pub(crate) fn leave(home: &Home) -> String {
    let body = format!(
        "IF pg_catalog.to_regclass('tenantry.stamp') IS NULL THEN RETURN; END IF;
DELETE FROM tenantry.stamp WHERE home = {};
IF EXISTS (SELECT FROM tenantry.stamp) THEN RETURN; END IF;
{}",
        literal(&home.id.to_string()),
        interior::REMOVE
    );
    do_block(&body)
}
