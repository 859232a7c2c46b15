//! What somebody changed on a home's roles, and setting it right.
//!
//! A role may change its own password and settings, and up to PostgreSQL 15 grant itself to others. An admin may change
//! anything by hand. One look at the server's role tables finds it, for hundreds of homes at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use tenantry_domain::{Home, HomeId, Isolation, Limits, RoleName};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::password::{Reader, salt_of, salts, verifiers};
use crate::quote::{block_of, do_block, ident, literal, literals};
use crate::roles::{
    MIGRATOR_CONNECTIONS, OUT_OF_USE, RoleSecrets, connection_limit, defaults, ensure_role,
    forget_settings_per_database, memberships, password_role, settings,
};
use crate::shared_pool::{let_pool, shut_out_pool};
use crate::target::ClusterTarget;

/// What the roles of a home should be.
#[derive(Debug, Clone)]
pub struct IntendedRoles {
    /// Which home.
    pub home: Home,
    /// Passwords, and which login role is in use.
    pub secrets: RoleSecrets,
    /// The tenant's effective limits.
    pub limits: Limits,
    /// Whether the tenant may log in. A suspended one may not.
    pub is_open: bool,
    /// Whether the pool's role of its shared database may become its roles. Elsewhere there is none.
    pub pool: PoolAccess,
}

/// Whether the pool's role of a shared database may become a home's app and read-only roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolAccess {
    /// It must be able to.
    LetIn,
    /// It must not.
    ShutOut,
    /// On the way from one to the other, where either is right.
    Changing,
}

/// What a look at the roles of some homes found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleReport {
    /// The homes with anything wrong, and what, as a sentence each.
    pub drifted: Vec<(HomeId, Vec<String>)>,
    /// Whether passwords were looked at too: only a superuser sees verifiers.
    pub sees_passwords: bool,
}

/// A role as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ObservedRole {
    can_log_in: bool,
    connection_limit: i64,
    settings: BTreeMap<String, String>,
    has_settings_per_database: bool,
    /// The salt of its verifier; absent where there is none, or where the admin may not see it.
    salt: Option<String>,
}

/// What one look found.
#[derive(Debug, Default)]
struct Observed {
    roles: HashMap<String, ObservedRole>,
    /// Group and member.
    memberships: BTreeSet<(String, String)>,
    /// Roles that may create temporary tables in the database that is theirs alone.
    temporary: BTreeSet<String>,
    sees_verifiers: bool,
}

impl Fleet {
    /// What is wrong with the roles of some homes on one cluster.
    pub async fn role_drift(
        &self,
        target: &ClusterTarget,
        intended: &[IntendedRoles],
    ) -> Result<RoleReport, FleetError> {
        if intended.is_empty() {
            return Ok(RoleReport::default());
        }
        let mut admin = self.admin(target).await?;
        let (sees_verifiers, version) = (admin.is_superuser(), admin.server_version());
        let rows = admin.rows("look at the homes' roles", &look(intended, sees_verifiers)).await?;
        let mut observed = Observed { sees_verifiers, ..Observed::default() };
        for row in &rows {
            let text = |column| row.get(column).unwrap_or_default().to_owned();
            match row.get(0) {
                Some("role") => {
                    let role = ObservedRole {
                        can_log_in: row.get(3) == Some("t"),
                        connection_limit: row.get(4).and_then(|limit| limit.parse().ok()).unwrap_or(-1),
                        has_settings_per_database: row.get(5) == Some("t"),
                        salt: row.get(2).filter(|salt| !salt.is_empty()).map(str::to_owned),
                        settings: BTreeMap::new(),
                    };
                    observed.roles.insert(text(1), role);
                }
                Some("setting") => {
                    if let (Some(role), Some((name, value))) =
                        (observed.roles.get_mut(&text(1)), row.get(2).and_then(|setting| setting.split_once('=')))
                    {
                        role.settings.insert(name.to_owned(), value.to_owned());
                    }
                }
                Some("member") => {
                    observed.memberships.insert((text(1), text(2)));
                }
                Some("temporary") => {
                    observed.temporary.insert(text(1));
                }
                _ => {}
            }
        }
        let drifted = intended.iter().map(|intended| (intended.home.id, drift(intended, &observed, version)));
        let drifted = drifted.filter(|(_, findings)| !findings.is_empty()).collect();
        Ok(RoleReport { drifted, sees_passwords: sees_verifiers })
    }

    /// Sets the roles of a home right: logins, passwords, connection limits, settings, memberships and the right to
    /// temporary tables. Sessions that are open stay, but for those of a pool whose role could become the home's and must
    /// not: all of them end.
    pub async fn set_roles_right(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        intended: &IntendedRoles,
    ) -> Result<(), FleetError> {
        let IntendedRoles { home, secrets, limits, is_open, pool } = intended;
        let [login, read_only, migrator] = verifiers([
            (&secrets.login, Reader::Anyone),
            (&secrets.read_only, Reader::Anyone),
            (&secrets.migrator, Reader::Ourselves),
        ])
        .await?;
        let (names, shares) = (home.names(), limits.connection_shares());
        let mut admin = self.admin(target).await?;
        let mut body = String::new();
        for role in [&names.owner, &names.app] {
            body.push_str(&ensure_role(role, "NOLOGIN"));
        }
        for (role, verifier, share) in
            [(names.login(secrets.slot), &login, shares.login), (&names.read_only, &read_only, shares.read_only)]
        {
            body.push_str(&ensure_role(
                role,
                &password_role(if *is_open { "LOGIN" } else { "NOLOGIN" }, verifier, share),
            ));
        }
        body.push_str(&ensure_role(names.login(secrets.slot.other()), OUT_OF_USE));
        body.push_str(&ensure_role(&names.migrator, &password_role("LOGIN", &migrator, Some(MIGRATOR_CONNECTIONS))));
        body.push_str(&settings(home, limits, admin.server_version()));
        let mut sql = do_block(&body);
        sql.push_str(&forget_settings_per_database(home.names().all()));
        sql.push_str(&revoke_strangers(home, limits));
        sql.push_str(&memberships(home, &names, limits, &admin));
        if home.isolation != Isolation::Schema {
            let (verb, word) = if limits.temporary_tables == Some(true) { ("GRANT", "TO") } else { ("REVOKE", "FROM") };
            let database = ident(home.database.as_str());
            let _ = writeln!(sql, "{verb} TEMPORARY ON DATABASE {database} {word} {};", ident(names.app.as_str()));
        }
        let is_in_ours = own_pool(home).is_some();
        if is_in_ours && *pool == PoolAccess::LetIn {
            sql.push_str(&let_pool(&admin, home));
        }
        admin.batch("set the home's roles right", &fence.guard(&sql)).await?;
        if is_in_ours && *pool == PoolAccess::ShutOut {
            shut_out_pool(&mut admin, target, *fence, home, false).await?;
        }
        Ok(())
    }
}

/// The server's role tables, as far as they are about these homes.
fn look(intended: &[IntendedRoles], sees_verifiers: bool) -> String {
    let roles: Vec<String> =
        intended.iter().flat_map(|it| it.home.names().all().map(|role| role.as_str().to_owned())).collect();
    let roles = literals(roles.iter().map(String::as_str));
    let (salt, verifiers) = salts(sees_verifiers);
    let databases = intended.iter().filter(|it| it.home.isolation != Isolation::Schema);
    let databases: Vec<String> = databases
        .map(|it| format!("({}, {})", literal(it.home.names().app.as_str()), literal(it.home.database.as_str())))
        .collect();
    let temporary = if databases.is_empty() {
        String::new()
    } else {
        format!(
            "SELECT 'temporary', r.rolname FROM (VALUES {}) AS own (role, database)
               JOIN pg_roles r ON r.rolname = own.role JOIN pg_database d ON d.datname = own.database
              WHERE has_database_privilege(r.oid, d.oid, 'TEMPORARY');\n",
            databases.join(", ")
        )
    };
    format!(
        "SELECT 'role', r.rolname, {salt}, r.rolcanlogin, r.rolconnlimit,
                EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase <> 0)
           FROM pg_roles r {verifiers} WHERE r.rolname IN ({roles});
         SELECT 'setting', r.rolname, unnest(r.rolconfig) FROM pg_roles r WHERE r.rolname IN ({roles});
         SELECT 'member', g.rolname, m.rolname
           FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
          WHERE (g.rolname IN ({roles}) OR m.rolname IN ({roles})) AND {ROLE_OF_TENANTS};
         {temporary}"
    )
}

/// Who is looked at as a member: roles of homes and of pools. Whoever manages the cluster joins roles to act through them,
/// and those who had rights in a database that was adopted keep them for a while; that is no drift.
const ROLE_OF_TENANTS: &str = "m.rolname ~ '^(h_[0-9a-f]{32}_|s_[0-9a-f]{32}_pool$)'";

/// Group and member, as they should be.
fn intended_memberships(home: &Home, limits: &Limits) -> BTreeSet<(String, String)> {
    let names = home.names();
    let pair = |group: &RoleName, member: &RoleName| (group.as_str().to_owned(), member.as_str().to_owned());
    let mut pairs = BTreeSet::from([
        pair(&names.app, &names.login_a),
        pair(&names.app, &names.login_b),
        pair(&names.owner, &names.migrator),
    ]);
    if home.isolation == Isolation::Schema && !home.is_adopted() {
        let homes = RoleName::shared_homes(&home.database);
        pairs.extend([&names.owner, &names.app, &names.read_only, &names.migrator].map(|role| pair(&homes, role)));
        let temporary = RoleName::shared_temporary(&home.database);
        pairs.insert(pair(&temporary, &names.owner));
        if limits.temporary_tables == Some(true) {
            pairs.insert(pair(&temporary, &names.app));
        }
    }
    pairs
}

/// The role of the pool of its database, where that is ours.
fn own_pool(home: &Home) -> Option<RoleName> {
    let is_in_ours = home.isolation == Isolation::Schema && !home.is_adopted();
    is_in_ours.then(|| RoleName::shared_pool(&home.database))
}

/// Group and member, where the pool is let in.
fn pool_memberships(home: &Home) -> BTreeSet<(String, String)> {
    let (names, pool) = (home.names(), own_pool(home));
    let groups = [&names.app, &names.read_only].map(RoleName::as_str);
    pool.iter().flat_map(|pool| groups.map(|group| (group.to_owned(), pool.to_string()))).collect()
}

fn drift(intended: &IntendedRoles, observed: &Observed, version: i32) -> Vec<String> {
    let IntendedRoles { home, secrets, limits, is_open, pool } = intended;
    let (names, shares) = (home.names(), limits.connection_shares());
    let mut findings = Vec::new();
    let expected = [
        (&names.owner, false, None, None),
        (&names.app, false, None, None),
        (names.login(secrets.slot), *is_open, Some(shares.login), Some(&secrets.login)),
        (names.login(secrets.slot.other()), false, Some(Some(0)), None),
        (&names.read_only, *is_open, Some(shares.read_only), Some(&secrets.read_only)),
        (&names.migrator, true, Some(Some(MIGRATOR_CONNECTIONS)), Some(&secrets.migrator)),
    ];
    for (role, can_log_in, connections, password) in expected {
        let Some(seen) = observed.roles.get(role.as_str()) else {
            findings.push(format!("{role} is missing"));
            continue;
        };
        if seen.can_log_in != can_log_in {
            let may = if seen.can_log_in { "may" } else { "may not" };
            findings.push(format!("{role} {may} log in"));
        }
        if let Some(connections) = connections.map(connection_limit)
            && seen.connection_limit != connections
        {
            findings.push(format!("{role} has a connection limit of {}, not {connections}", seen.connection_limit));
        }
        let is_login = [&names.login_a, &names.login_b, &names.read_only].contains(&role);
        let wanted = if is_login { defaults(role, home, limits, version) } else { Vec::new() };
        findings.extend(changed_settings(role, &wanted, seen));
        if observed.sees_verifiers
            && let Some(salt) = password.and_then(salt_of)
            && seen.salt.as_ref() != Some(&salt)
        {
            findings.push(format!("{role} has another password"));
        }
    }
    let (mut wanted, of_pool) = (intended_memberships(home, limits), pool_memberships(home));
    if *pool == PoolAccess::LetIn {
        wanted.extend(of_pool.iter().cloned());
    }
    let ours: BTreeSet<&str> = names.all().map(RoleName::as_str).into();
    let seen: BTreeSet<_> = observed
        .memberships
        .iter()
        .filter(|(group, member)| ours.contains(group.as_str()) || ours.contains(member.as_str()))
        .filter(|(group, _)| !is_shared_with_old_owners(home, group))
        .filter(|pair| *pool != PoolAccess::Changing || !of_pool.contains(*pair))
        .cloned()
        .collect();
    findings.extend(wanted.difference(&seen).map(|(group, member)| format!("{member} is no member of {group}")));
    findings.extend(seen.difference(&wanted).map(|(group, member)| format!("{member} is a member of {group}")));
    // Until an adoption is confirmed everybody may what `PUBLIC` may.
    if home.isolation != Isolation::Schema && !home.is_adopted() {
        let may = observed.temporary.contains(names.app.as_str());
        if may != (limits.temporary_tables == Some(true)) {
            let word = if may { "may" } else { "may not" };
            findings.push(format!("{} {word} create temporary tables", names.app));
        }
    }
    findings
}

/// Whoever owned the objects of an adopted home goes on as a member of their new owner until that is confirmed. Nobody can
/// join by themselves: the owner does not log in and has no right to pass itself on.
fn is_shared_with_old_owners(home: &Home, group: &str) -> bool {
    home.is_adopted() && group == home.names().owner.as_str()
}

fn changed_settings(role: &RoleName, wanted: &[(&'static str, String)], seen: &ObservedRole) -> Vec<String> {
    let mut findings = Vec::new();
    // The server quotes a name only where it must.
    let plain = |value: &str| value.replace('"', "");
    for (setting, value) in wanted {
        if seen.settings.get(*setting).is_none_or(|found| plain(found) != plain(value)) {
            findings.push(format!("{role} has another {setting}"));
        }
    }
    for setting in seen.settings.keys().filter(|setting| wanted.iter().all(|(wanted, _)| wanted != setting)) {
        findings.push(format!("{role} has a {setting} of its own"));
    }
    if seen.has_settings_per_database {
        findings.push(format!("{role} has settings for one database"));
    }
    findings
}

/// Takes away every membership that is not one of ours. Shutting out the pool of its database ends sessions, too, and is
/// left to [`shut_out_pool`].
fn revoke_strangers(home: &Home, limits: &Limits) -> String {
    let ours = literals(home.names().all().map(RoleName::as_str));
    let wanted: Vec<String> = intended_memberships(home, limits)
        .union(&pool_memberships(home))
        .map(|(group, member)| format!("({}, {})", literal(group), literal(member)))
        .collect();
    block_of(&format!(
        "SELECT DISTINCT format('REVOKE %I FROM %I', g.rolname, m.rolname)
           FROM pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles g ON g.oid = a.roleid
           JOIN pg_catalog.pg_roles m ON m.oid = a.member
          WHERE (g.rolname IN ({ours}) OR m.rolname IN ({ours})) AND {ROLE_OF_TENANTS}
            AND (g.rolname::text, m.rolname::text) NOT IN ({}) AND g.rolname <> ALL (ARRAY[{}]::pg_catalog.name[])",
        wanted.join(", "),
        if home.is_adopted() { literal(home.names().owner.as_str()) } else { String::new() },
    ))
}

#[cfg(test)]
mod tests {
    use tenantry_domain::{ClusterId, DatabaseName, LoginSlot, SchemaName};

    use super::*;
    use crate::password::random_password;

    fn intended(is_open: bool) -> IntendedRoles {
        let id: HomeId = "01900000-0000-7000-8000-000000000001".parse().expect("an id");
        let cluster: ClusterId = "01900000-0000-7000-8000-000000000002".parse().expect("an id");
        IntendedRoles {
            home: Home {
                id,
                cluster,
                isolation: Isolation::Database,
                database: DatabaseName::of_home(id),
                schema: SchemaName::public(),
            },
            secrets: RoleSecrets {
                slot: LoginSlot::A,
                login: random_password(),
                read_only: random_password(),
                migrator: random_password(),
            },
            limits: Limits { connections: Some(8), statement_timeout_ms: Some(1_000), ..Limits::default() },
            is_open,
            pool: PoolAccess::ShutOut,
        }
    }

    fn in_shared_database(pool: PoolAccess) -> IntendedRoles {
        let mut intended = IntendedRoles { pool, ..intended(true) };
        intended.home.isolation = Isolation::Schema;
        intended.home.database = DatabaseName::shared(uuid::Uuid::from_u128(7));
        intended.home.schema = SchemaName::of_home(intended.home.id);
        intended
    }

    /// What a server shows where all is right.
    fn right(intended: &IntendedRoles) -> Observed {
        let IntendedRoles { home, secrets, limits, is_open, .. } = intended;
        let names = home.names();
        let role = |role: &RoleName, can_log_in, connection_limit, password: Option<&tenantry_domain::Secret>| {
            let login = [&names.login_a, &names.login_b, &names.read_only].contains(&role);
            let settings = if login { defaults(role, home, limits, 150_000) } else { Vec::new() };
            let seen = ObservedRole {
                can_log_in,
                connection_limit,
                settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value.replace('"', ""))).collect(),
                has_settings_per_database: false,
                salt: password.and_then(salt_of),
            };
            (role.as_str().to_owned(), seen)
        };
        Observed {
            roles: HashMap::from([
                role(&names.owner, false, -1, None),
                role(&names.app, false, -1, None),
                role(&names.login_a, *is_open, 6, Some(&secrets.login)),
                role(&names.login_b, false, 0, None),
                role(&names.read_only, *is_open, 2, Some(&secrets.read_only)),
                role(&names.migrator, true, 4, Some(&secrets.migrator)),
            ]),
            memberships: intended_memberships(home, limits),
            temporary: BTreeSet::new(),
            sees_verifiers: true,
        }
    }

    #[test]
    fn roles_as_they_should_be_are_no_drift() {
        for is_open in [true, false] {
            let intended = intended(is_open);
            assert_eq!(drift(&intended, &right(&intended), 150_000), Vec::<String>::new());
        }
    }

    #[test]
    fn whatever_somebody_changed_is_found_by_itself() {
        let intended = intended(true);
        let names = intended.home.names();
        let changes: [(&str, Change<'_>); 8] = [
            ("may not log in", &|seen, roles| seen.role(&roles.login).can_log_in = false),
            ("connection limit of -1", &|seen, roles| seen.role(&roles.login).connection_limit = -1),
            ("another password", &|seen, roles| seen.role(&roles.read_only).salt = Some("c2FsdA==".to_owned())),
            ("another statement_timeout", &|seen, roles| {
                seen.role(&roles.login).settings.insert("statement_timeout".to_owned(), "0".to_owned());
            }),
            ("a work_mem of its own", &|seen, roles| {
                seen.role(&roles.login).settings.insert("work_mem".to_owned(), "1GB".to_owned());
            }),
            ("settings for one database", &|seen, roles| seen.role(&roles.login).has_settings_per_database = true),
            ("is a member of", &|seen, roles| {
                seen.memberships.insert((roles.login.clone(), "h_other_app".to_owned()));
            }),
            ("may create temporary tables", &|seen, roles| {
                seen.temporary.insert(roles.app.clone());
            }),
        ];
        let roles = HomeRoles {
            login: names.login_a.to_string(),
            read_only: names.read_only.to_string(),
            app: names.app.to_string(),
        };
        for (finding, change) in changes {
            let mut seen = right(&intended);
            change(&mut seen, &roles);
            let findings = drift(&intended, &seen, 150_000);
            assert_eq!(findings.len(), 1, "{finding}: {findings:?}");
            assert!(findings[0].contains(finding), "{finding}: {findings:?}");
        }
    }

    #[test]
    fn the_pool_is_judged_unless_it_is_on_its_way() {
        let pool = RoleName::shared_pool(&in_shared_database(PoolAccess::Changing).home.database);
        for (access, finding_within, finding_without) in [
            (PoolAccess::LetIn, None, Some("is no member of")),
            (PoolAccess::ShutOut, Some("is a member of"), None),
            (PoolAccess::Changing, None, None),
        ] {
            let intended = in_shared_database(access);
            let outside = right(&intended);
            let mut inside = right(&intended);
            inside.memberships.extend(pool_memberships(&intended.home));
            for (seen, finding) in [(inside, finding_within), (outside, finding_without)] {
                let findings = drift(&intended, &seen, 150_000);
                assert_eq!(findings.len(), if finding.is_some() { 2 } else { 0 }, "{access:?}: {findings:?}");
                let says = |it: &String| it.contains(finding.unwrap_or_default()) && it.contains(pool.as_str());
                assert!(findings.iter().all(says), "{access:?}: {findings:?}");
            }
            // What else the pool's role is given of the home, and to whom else it is, is never right.
            let names = intended.home.names();
            for (group, member) in [(&names.owner, &pool), (&pool, &names.login_a)] {
                let mut seen = right(&intended);
                seen.memberships.insert((group.to_string(), member.to_string()));
                let finding = format!("{member} is a member of {group}");
                assert!(drift(&intended, &seen, 150_000).contains(&finding), "{access:?}: {finding}");
            }
        }
    }

    type Change<'a> = &'a dyn Fn(&mut Observed, &HomeRoles);

    struct HomeRoles {
        login: String,
        read_only: String,
        app: String,
    }

    impl Observed {
        fn role(&mut self, name: &str) -> &mut ObservedRole {
            self.roles.get_mut(name).expect("a role")
        }
    }
}
