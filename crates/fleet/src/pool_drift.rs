//! What somebody changed on the role of a shared database's pool. Who may become which home's roles is the homes' own
//! affair ([`Fleet::role_drift`]); [`Fleet::ensure_shared_pool`] sets the rest right.
//!
//! Whoever writes SQL on a shared connection may change the role's password and settings, which shuts out everybody who is
//! served over it or makes all of their sessions other than they should be.

use std::collections::BTreeMap;

use tenantry_domain::{DatabaseName, RoleName, Secret};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::password::{salt_of, salts};
use crate::quote::{literal, literals};
use crate::target::ClusterTarget;

/// What the pool of a shared database should be.
#[derive(Debug, Clone)]
pub struct IntendedPool {
    /// Of which shared database.
    pub database: DatabaseName,
    /// The password of its role.
    pub password: Secret,
}

/// What a look at the pools of some shared databases found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolReport {
    /// The databases whose pool has anything wrong, and what, as a sentence each.
    pub drifted: BTreeMap<DatabaseName, Vec<String>>,
    /// Whether passwords were looked at too: only a superuser sees verifiers.
    pub sees_passwords: bool,
}

/// What the server says of the role, what it should say, and what is wrong otherwise.
const ATTRIBUTES: [(&str, &str, &str); 10] = [
    ("r.rolcanlogin", "t", "may not log in"),
    ("r.rolinherit", "f", "has the rights of all its homes without becoming one"),
    ("r.rolsuper", "f", "is a superuser"),
    ("r.rolcreatedb", "f", "may create databases"),
    ("r.rolcreaterole", "f", "may create roles"),
    ("r.rolreplication", "f", "may replicate"),
    ("r.rolbypassrls", "f", "is past row-level security"),
    ("r.rolconnlimit", "-1", "has a connection limit"),
    ("coalesce(r.rolvaliduntil, 'infinity') = 'infinity'", "t", "has a password that ends"),
    ("has_database_privilege(r.oid, d.oid, 'CONNECT')", "t", "may not connect to its database"),
];

/// The role as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ObservedPool {
    /// As [`ATTRIBUTES`] lists them.
    attributes: Vec<Option<String>>,
    /// For which database, nothing for all, and name with value. None is right.
    settings: Vec<(String, String)>,
    /// Group and member. None is right.
    strangers: Vec<(String, String)>,
    /// The salt of its verifier; absent where there is none, or where the admin may not see it.
    salt: Option<String>,
}

impl Fleet {
    /// What is wrong with the roles of the pools of some shared databases on one cluster.
    pub async fn shared_pool_drift(
        &self,
        target: &ClusterTarget,
        intended: &[IntendedPool],
    ) -> Result<PoolReport, FleetError> {
        if intended.is_empty() {
            return Ok(PoolReport::default());
        }
        let mut admin = self.admin(target).await?;
        let sees_passwords = admin.is_superuser();
        let rows = admin.rows("look at the roles of the pools", &look(intended, sees_passwords)).await?;
        let mut observed: BTreeMap<String, ObservedPool> = BTreeMap::new();
        for row in &rows {
            let text = |column| row.get(column).unwrap_or_default().to_owned();
            let pool = observed.entry(text(1)).or_default();
            match row.get(0) {
                Some("role") => {
                    pool.salt = row.get(2).filter(|salt| !salt.is_empty()).map(str::to_owned);
                    pool.attributes =
                        (3..3 + ATTRIBUTES.len()).map(|column| row.get(column).map(str::to_owned)).collect();
                }
                Some("setting") => pool.settings.push((text(2), text(3))),
                Some("member") => pool.strangers.push((text(2), text(3))),
                _ => {}
            }
        }
        let mut drifted = BTreeMap::new();
        for intended in intended {
            let role = RoleName::shared_pool(&intended.database);
            let findings = drift(&role, &intended.password, observed.get(role.as_str()), sees_passwords);
            if !findings.is_empty() {
                drifted.insert(intended.database.clone(), findings);
            }
        }
        Ok(PoolReport { drifted, sees_passwords })
    }
}

fn look(intended: &[IntendedPool], sees_passwords: bool) -> String {
    let pools = intended.iter().map(|it| (RoleName::shared_pool(&it.database), &it.database));
    let (mut names, mut pairs) = (Vec::new(), Vec::new());
    for (pool, database) in pools {
        pairs.push(format!("({}, {})", literal(pool.as_str()), literal(database.as_str())));
        names.push(pool);
    }
    let (pairs, names) = (pairs.join(", "), literals(names.iter().map(RoleName::as_str)));
    let (salt, verifiers) = salts(sees_passwords);
    let attributes = ATTRIBUTES.map(|(column, ..)| column).join(", ");
    format!(
        "SELECT 'role', r.rolname, {salt}, {attributes}
           FROM (VALUES {pairs}) AS own (role, database) JOIN pg_roles r ON r.rolname = own.role
           LEFT JOIN pg_database d ON d.datname = own.database {verifiers};
         SELECT 'setting', r.rolname, coalesce(d.datname, ''), unnest(s.setconfig)
           FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
           LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE r.rolname IN ({names});
         SELECT 'member', CASE WHEN m.rolname IN ({names}) THEN m.rolname ELSE g.rolname END, g.rolname, m.rolname
           {};\n",
        strangers(&names)
    )
}

/// From the memberships those of the pools' roles that nobody may have given, whatever their homes: in what is no home's
/// role, or of what no home has. Those of homes' roles, and of people who manage the cluster, are left out.
pub(crate) fn strangers(pools: &str) -> String {
    format!(
        "FROM pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles g ON g.oid = a.roleid
           JOIN pg_catalog.pg_roles m ON m.oid = a.member
          WHERE m.rolname IN ({pools}) AND g.rolname !~ '^h_[0-9a-f]{{32}}_'
             OR g.rolname IN ({pools}) AND m.rolname ~ '^[st]_[0-9a-f]{{32}}_'"
    )
}

fn drift(role: &RoleName, password: &Secret, seen: Option<&ObservedPool>, sees_passwords: bool) -> Vec<String> {
    let Some(seen) = seen.filter(|seen| !seen.attributes.is_empty()) else { return vec![format!("{role} is missing")] };
    let mut findings = Vec::new();
    for ((_, wanted, wrong), seen) in ATTRIBUTES.iter().zip(&seen.attributes) {
        if seen.as_deref() != Some(*wanted) {
            findings.push(format!("{role} {wrong}"));
        }
    }
    for (database, setting) in &seen.settings {
        let name = setting.split('=').next().unwrap_or_default();
        let place = if database.is_empty() { String::new() } else { format!(" in {database}") };
        findings.push(format!("{role} has a {name} of its own{place}"));
    }
    findings.extend(seen.strangers.iter().map(|(group, member)| format!("{member} is a member of {group}")));
    if sees_passwords
        && let Some(salt) = salt_of(password)
        && seen.salt.as_ref() != Some(&salt)
    {
        findings.push(format!("{role} has another password"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::random_password;

    type Change<'a> = &'a dyn Fn(&mut ObservedPool);

    #[test]
    fn whatever_somebody_changed_is_found_by_itself() {
        let role = RoleName::shared_pool(&DatabaseName::shared(uuid::Uuid::from_u128(7)));
        let password = random_password();
        let right = ObservedPool {
            attributes: ATTRIBUTES.iter().map(|(_, wanted, _)| Some((*wanted).to_owned())).collect(),
            salt: salt_of(&password),
            ..ObservedPool::default()
        };
        assert_eq!(drift(&role, &password, Some(&right), true), Vec::<String>::new());
        assert_eq!(drift(&role, &password, None, true), [format!("{role} is missing")]);
        let changes: [(&str, Change<'_>); 4] = [
            ("another password", &|seen| seen.salt = Some("c2FsdA==".to_owned())),
            ("a work_mem of its own", &|seen| seen.settings.push((String::new(), "work_mem=1GB".to_owned()))),
            ("a role of its own in s_7", &|seen| seen.settings.push(("s_7".to_owned(), "role=x=y".to_owned()))),
            ("is a member of pg_read_all_data", &|seen| {
                seen.strangers.push(("pg_read_all_data".to_owned(), role.to_string()));
            }),
        ];
        let mut changed: Vec<(&str, ObservedPool)> = Vec::new();
        for (finding, change) in changes {
            let mut seen = right.clone();
            change(&mut seen);
            changed.push((finding, seen));
        }
        for (number, (.., wrong)) in ATTRIBUTES.iter().enumerate() {
            for other in [None, Some("x".to_owned())] {
                let mut seen = right.clone();
                seen.attributes[number] = other;
                changed.push((wrong, seen));
            }
        }
        for (finding, seen) in changed {
            let findings = drift(&role, &password, Some(&seen), true);
            assert_eq!(findings.len(), 1, "{finding}: {findings:?}");
            assert!(findings[0].contains(finding), "{finding}: {findings:?}");
        }
        let unseen = ObservedPool { salt: None, ..right };
        assert_eq!(drift(&role, &password, Some(&unseen), false), Vec::<String>::new());
    }
}
