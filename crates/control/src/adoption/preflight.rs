//! What stands in the way of an adoption, and what one should know before it: a pure judgement of what was seen.

use tenantry_domain::{DatabaseName, SchemaName, SchemaVersion};
use tenantry_fleet::{AppliedMigration, Found, Survey, SurveyedHistory};
use tenantry_migration_set::MigrationSet;

/// Objects that are handed over in one transaction at most; each takes a lock.
const OBJECTS_MAX: i64 = 20_000;
/// From here on the server should have `max_locks_per_transaction` raised.
const OBJECTS_MANY: i64 = 4_000;
/// The first server on which a membership says by itself whether it is inherited.
const MEMBERSHIPS_INHERIT: i32 = 160_000;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is adopted while it stands.
    Blocker,
    /// It can be adopted; somebody should know.
    Warning,
}

/// One thing about a database that is to be adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptionFinding {
    /// How much it weighs.
    pub severity: Severity,
    /// A word for it that stays the same.
    pub code: &'static str,
    /// What it is.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// What the judgement looks at.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    /// The database.
    pub(crate) database: &'a DatabaseName,
    /// The schema, if only that is to be adopted.
    pub(crate) schema: Option<&'a SchemaName>,
    /// What was seen there.
    pub(crate) survey: &'a Survey,
    /// The admin's own database on that cluster.
    pub(crate) admin_database: &'a DatabaseName,
    /// What databases of that cluster are encoded in.
    pub(crate) encoding: &'a str,
    /// `server_version_num`.
    pub(crate) server_version: i32,
    /// Whether an adopted schema of the same database has brought the interior already.
    pub(crate) has_our_interior: bool,
    /// Whether a home of ours is that database or schema already.
    pub(crate) is_a_home: bool,
    /// The set that new tenants start with.
    pub(crate) set: Option<&'a MigrationSet>,
    /// The version that the schema is said to be at.
    pub(crate) baseline: Option<SchemaVersion>,
}

/// All findings, blockers first, and the version that the history will begin at.
pub(crate) fn judge(candidate: &Candidate<'_>) -> (Vec<AdoptionFinding>, SchemaVersion) {
    let mut findings = Findings(Vec::new());
    findings.place(candidate);
    let survey = candidate.survey;
    if !survey.exists || !survey.is_open || !survey.schema_exists {
        return (findings.0, SchemaVersion::default());
    }
    findings.owners(candidate);
    findings.company(candidate);
    findings.contents(candidate);
    let baseline = findings.baseline(candidate);
    let mut findings = findings.0;
    findings.sort_by_key(|finding| finding.severity != Severity::Blocker);
    (findings, baseline)
}

struct Findings(Vec<AdoptionFinding>);

impl Findings {
    fn block(&mut self, code: &'static str, message: impl Into<String>, advice: impl Into<String>) {
        let (message, advice) = (message.into(), advice.into());
        self.0.push(AdoptionFinding { severity: Severity::Blocker, code, message, advice });
    }

    fn warn(&mut self, code: &'static str, message: impl Into<String>, advice: impl Into<String>) {
        let (message, advice) = (message.into(), advice.into());
        self.0.push(AdoptionFinding { severity: Severity::Warning, code, message, advice });
    }

    /// Whether there is something, and whether it may be taken at all.
    fn place(&mut self, candidate: &Candidate<'_>) {
        let Candidate { database, schema, survey, .. } = candidate;
        let name = database.as_str();
        let is_system = ["postgres", "template0", "template1"].contains(&name) || *database == candidate.admin_database;
        if is_system || survey.is_template {
            self.block(
                "system_database",
                format!("database `{database}` belongs to the server or to the control plane, or is a template"),
                "name a database that holds a customer's data",
            );
        } else if looks_like_ours(name) || candidate.is_a_home {
            self.block(
                "already_a_home",
                format!("database `{database}` holds homes of tenants already"),
                "adopt each database and schema once; `tenantry tenant list` shows the tenants",
            );
        } else if !survey.exists {
            self.block(
                "database_missing",
                format!("there is no database `{database}` on that cluster"),
                "look for its exact name with `psql -l`, or name another cluster",
            );
        } else if !survey.is_open {
            self.block(
                "database_closed",
                format!("database `{database}` takes no connections"),
                format!("open it: ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS true"),
            );
        } else if let Some(schema) = schema
            && (schema.as_str().starts_with("pg_")
                || ["public", "information_schema", "tenantry", "extensions"].contains(&schema.as_str()))
        {
            self.block(
                "system_schema",
                format!("schema `{schema}` cannot become a tenant by itself"),
                "leave --schema out to adopt the whole database, or move the objects to a schema of their own",
            );
        } else if !survey.schema_exists {
            let schema = schema.map_or("public", SchemaName::as_str);
            self.block(
                "schema_missing",
                format!("there is no schema `{schema}` in database `{database}`"),
                "look for its exact name with `\\dn` in psql",
            );
        }
    }

    fn owners(&mut self, candidate: &Candidate<'_>) {
        let survey = candidate.survey;
        if !survey.is_owner_in_reach && candidate.schema.is_none() {
            let owner = &survey.owner;
            self.block(
                "owner_out_of_reach",
                format!("the admin of the cluster may not act as `{owner}`, who owns the database"),
                format!("as a superuser: GRANT \"{owner}\" TO the admin role"),
            );
        }
        for owner in &survey.owners {
            let name = &owner.name;
            if !owner.is_in_reach {
                self.block(
                    "owner_out_of_reach",
                    format!("the admin of the cluster may not act as `{name}`, who owns {} objects", owner.objects),
                    format!("as a superuser: GRANT \"{name}\" TO the admin role"),
                );
            }
            if !owner.is_superuser && !owner.inherits && candidate.server_version < MEMBERSHIPS_INHERIT {
                self.block(
                    "owner_without_inherit",
                    format!("role `{name}` is NOINHERIT and would lose its rights until the adoption is confirmed"),
                    format!("ALTER ROLE \"{name}\" INHERIT"),
                );
            }
            if owner.is_superuser {
                self.warn(
                    "owned_by_superuser",
                    format!("{} objects belong to `{name}`, a superuser, and will not any more", owner.objects),
                    "superusers can do everything in the database after the confirmation too",
                );
            }
        }
        if survey.owners.len() > 1 {
            let names: Vec<&str> = survey.owners.iter().map(|owner| owner.name.as_str()).collect();
            self.warn(
                "several_owners",
                format!("the objects belong to several roles: {}", names.join(", ")),
                "all of them become the tenant's; cancelling gives each its own back",
            );
        }
        if !survey.homes.is_empty() {
            self.block(
                "other_tenants",
                format!("roles of other tenants own something or have rights there: {}", told(&survey.homes)),
                "revoke these rights and hand the objects to another role first",
            );
        }
    }

    /// Who else is there, and what is going on.
    fn company(&mut self, candidate: &Candidate<'_>) {
        let survey = candidate.survey;
        if !survey.prepared_transactions.is_empty() {
            self.block(
                "prepared_transactions",
                format!("transactions are prepared there: {}", told(&survey.prepared_transactions)),
                "commit or roll back each of them; they hold locks",
            );
        }
        if !survey.subscriptions.is_empty() {
            self.block(
                "subscriptions",
                format!("the database subscribes to others: {}", told(&survey.subscriptions)),
                "drop the subscriptions; a tenant's home has one writer",
            );
        }
        if !survey.slots.is_empty() {
            self.warn(
                "replication_slots",
                format!("logical replication reads from the database: {}", told(&survey.slots)),
                "its readers lose their rights at the confirmation; drop the slots that nobody needs",
            );
        }
        if !survey.publications.is_empty() {
            self.warn(
                "publications",
                format!("the database publishes changes: {}", told(&survey.publications)),
                "they stay, and belong to the tenant",
            );
        }
        if !survey.event_triggers.is_empty() {
            self.warn(
                "event_triggers",
                format!("event triggers run on every DDL statement: {}", told(&survey.event_triggers)),
                "they stay with their owners; make sure that migrations pass them",
            );
        }
        if !survey.sessions.is_empty() {
            self.warn(
                "sessions",
                format!("roles are connected now: {}", told(&survey.sessions)),
                "they go on until the confirmation, which ends their sessions",
            );
        }
        if !survey.public_rights.is_empty() {
            self.warn(
                "public_rights",
                format!("every role of the server has rights: {}", told(&survey.public_rights)),
                match candidate.schema {
                    None => "the confirmation takes them; grant what others still need by name",
                    Some(_) => "the confirmation closes the schema; the database stays open to whom it is open now",
                },
            );
        }
        if !survey.settings.is_empty() {
            self.warn(
                "database_settings",
                format!("the database gives its sessions settings: {}", told(&survey.settings)),
                "they stay and hold for the tenant too, except for the search path",
            );
        }
    }

    fn contents(&mut self, candidate: &Candidate<'_>) {
        let survey = candidate.survey;
        if survey.objects > OBJECTS_MAX {
            self.block(
                "too_many_objects",
                format!("there are {} objects; {OBJECTS_MAX} can be taken over at once", survey.objects),
                "drop what nobody needs, or copy the data into a new tenant",
            );
        } else if survey.objects > OBJECTS_MANY {
            self.warn(
                "many_objects",
                format!("there are {} objects, and each takes a lock", survey.objects),
                "raise max_locks_per_transaction on the server if the adoption runs out of them",
            );
        }
        if !survey.reserved_schemas.is_empty() && !candidate.has_our_interior {
            self.block(
                "reserved_schemas",
                format!("schemas of these names are kept for the control plane: {}", told(&survey.reserved_schemas)),
                "rename them",
            );
        }
        if !survey.extensions.is_empty() {
            self.warn(
                "extensions",
                format!("extensions that other tenants do not get: {}", told(&survey.extensions)),
                "they stay; add them to `fleet.extensions` where migrations rely on them",
            );
        }
        if survey.large_objects > 0 && candidate.schema.is_some() {
            self.warn(
                "large_objects",
                format!("the database holds {} large objects, which belong to no schema", survey.large_objects),
                "they stay with their owners; move those that the tenant needs into a table",
            );
        }
        if !survey.security_definers.is_empty() {
            self.warn(
                "security_definers",
                format!("functions run with their owner's rights: {}", told(&survey.security_definers)),
                "that owner will be the tenant's own; check that they need no more than that",
            );
        }
        if !survey.row_security.is_empty() {
            self.warn(
                "row_security",
                format!("tables have row-level security: {}", told(&survey.row_security)),
                "the tenant's login is a new role; add it to the policies that name roles",
            );
        }
        if !survey.other_schemas.is_empty() && candidate.schema.is_none() {
            self.warn(
                "other_schemas",
                format!("objects live in schemas beside `public`: {}", told(&survey.other_schemas)),
                "the tenant may use them by their full names; its search path and migrations know `public` only",
            );
        }
        if !survey.crossings.is_empty() {
            self.warn(
                "crosses_schemas",
                format!("the schema and others depend on each other: {}", told(&survey.crossings)),
                "cut these ties, or adopt the whole database",
            );
        }
        if !survey.hard_coded.is_empty() {
            self.warn(
                "hard_coded_public",
                format!("functions name the schema `public`: {}", told(&survey.hard_coded)),
                "the tenant has no rights there; let them use unqualified names",
            );
        }
        if survey.encoding == "SQL_ASCII" {
            self.block(
                "encoding",
                "the database is SQL_ASCII, so nobody knows what its text means",
                "copy it into a database with a real encoding first",
            );
        } else if survey.encoding != candidate.encoding {
            self.warn(
                "encoding",
                format!("the database is {}, the cluster's others are {}", survey.encoding, candidate.encoding),
                "it stays as it is; text that cannot be converted fails at the client",
            );
        }
    }

    /// The version that the history will begin at.
    fn baseline(&mut self, candidate: &Candidate<'_>) -> SchemaVersion {
        let found = match &candidate.survey.history {
            SurveyedHistory::Absent => None,
            SurveyedHistory::Rows(rows) if rows.is_empty() => None,
            SurveyedHistory::Rows(rows) => Some(rows),
            SurveyedHistory::Foreign(name) => {
                self.block(
                    "history_unreadable",
                    format!("`{name}` bears the name of the history of migrations and is no such table"),
                    "rename it",
                );
                return SchemaVersion::default();
            }
        };
        let Some(set) = candidate.set else {
            if found.is_some() || candidate.baseline.is_some_and(|version| version.0 > 0) {
                self.block(
                    "no_migration_set",
                    "no migration set is promoted, so there is nothing to hold a history against",
                    "push the product's set and roll it out first, or leave --baseline-version out",
                );
            }
            return SchemaVersion::default();
        };
        match found {
            Some(rows) => self.known_history(rows, set, candidate.baseline),
            None => self.new_history(set, candidate.baseline),
        }
    }

    fn known_history(
        &mut self,
        rows: &[AppliedMigration],
        set: &MigrationSet,
        wanted: Option<SchemaVersion>,
    ) -> SchemaVersion {
        let newest = SchemaVersion(rows.iter().map(|row| row.version).max().unwrap_or(0));
        let foreign: Vec<String> = rows
            .iter()
            .filter(|row| set.migration(row.version).is_none_or(|known| known.checksum != row.checksum))
            .map(|row| format!("{}__{}", row.version, row.name))
            .collect();
        if !foreign.is_empty() {
            self.block(
                "history_diverges",
                format!(
                    "the database has applied what the promoted set has not, or has otherwise: {}",
                    foreign.join(", ")
                ),
                "roll out a set that holds these files unchanged first",
            );
        }
        let missing: Vec<String> = set
            .migrations()
            .iter()
            .filter(|it| it.version <= newest.0 && !rows.iter().any(|row| row.version == it.version))
            .map(ToString::to_string)
            .collect();
        if !missing.is_empty() {
            self.block(
                "history_has_gaps",
                format!("migrations below the database's version were never applied to it: {}", missing.join(", ")),
                "apply them to the database first",
            );
        }
        if wanted.is_some_and(|wanted| wanted != newest) {
            self.block(
                "baseline_contradicts_history",
                format!("the database's own history says version {newest}"),
                "leave --baseline-version out",
            );
        }
        newest
    }

    fn new_history(&mut self, set: &MigrationSet, wanted: Option<SchemaVersion>) -> SchemaVersion {
        match wanted {
            Some(wanted) if wanted.0 != 0 && set.migration(wanted.0).is_none() => {
                let known: Vec<String> = set.migrations().iter().map(|it| it.version.to_string()).collect();
                self.block(
                    "baseline_unknown",
                    format!("version {wanted} is not in the promoted set"),
                    format!("use 0 or one of {}", known.join(", ")),
                );
                SchemaVersion::default()
            }
            Some(wanted) => wanted,
            None => {
                self.warn(
                    "no_baseline",
                    format!("the database has no history, so all {} migrations are pending", set.migrations().len()),
                    "if its tables are there already, say up to where with --baseline-version",
                );
                SchemaVersion::default()
            }
        }
    }
}

fn told(found: &Found) -> String {
    let names = found.names.join(", ");
    let more = found.count.saturating_sub(found.names.len());
    if more == 0 { names } else { format!("{names} and {more} more") }
}

/// Names that the control plane gives to databases.
fn looks_like_ours(name: &str) -> bool {
    let id = ["h_", "s_", "t_"].iter().find_map(|prefix| name.strip_prefix(prefix));
    id.is_some_and(|id| id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use tenantry_fleet::SurveyedOwner;

    use super::*;

    fn set() -> MigrationSet {
        let files = [
            ("V1__notes.sql", "CREATE TABLE notes (id bigint);"),
            ("V2__stars.sql", "ALTER TABLE notes ADD stars int;"),
        ];
        let files = files.map(|(name, sql)| (name.to_owned(), sql.to_owned()));
        MigrationSet::from_files("product", &files).expect("a set")
    }

    fn plain() -> Survey {
        Survey {
            exists: true,
            schema_exists: true,
            is_open: true,
            owner: "legacy".to_owned(),
            is_owner_in_reach: true,
            encoding: "UTF8".to_owned(),
            objects: 3,
            owners: vec![SurveyedOwner {
                name: "legacy".to_owned(),
                objects: 3,
                is_superuser: false,
                inherits: true,
                is_in_reach: true,
            }],
            ..Survey::default()
        }
    }

    fn codes(change: impl FnOnce(&mut Survey, &mut Candidate<'_>)) -> (Vec<&'static str>, i64) {
        let (mut survey, set) = (plain(), set());
        let (database, admin) = ("legacy".to_owned().try_into(), "postgres".to_owned().try_into());
        let (database, admin): (DatabaseName, DatabaseName) = (database.expect("valid"), admin.expect("valid"));
        let empty = Survey::default();
        let mut candidate = Candidate {
            database: &database,
            schema: None,
            survey: &empty,
            admin_database: &admin,
            encoding: "UTF8",
            server_version: 150_000,
            has_our_interior: false,
            is_a_home: false,
            set: Some(&set),
            baseline: Some(SchemaVersion(2)),
        };
        change(&mut survey, &mut candidate);
        let (findings, baseline) = judge(&Candidate { survey: &survey, ..candidate });
        let of = |severity| findings.iter().filter(move |it| it.severity == severity).map(|it| it.code);
        assert_eq!(
            of(Severity::Blocker).chain(of(Severity::Warning)).collect::<Vec<_>>(),
            findings.iter().map(|it| it.code).collect::<Vec<_>>()
        );
        (findings.iter().map(|it| it.code).collect(), baseline.0)
    }

    #[test]
    fn a_plain_database_at_a_known_version_has_nothing_against_it() {
        assert_eq!(codes(|_, _| ()), (vec![], 2));
    }

    #[test]
    fn what_is_not_there_or_not_to_be_had_is_told_alone() {
        assert_eq!(codes(|survey, _| *survey = Survey::default()).0, ["database_missing"]);
        assert_eq!(codes(|survey, _| survey.is_open = false).0, ["database_closed"]);
        assert_eq!(codes(|survey, _| survey.schema_exists = false).0, ["schema_missing"]);
        assert_eq!(codes(|_, candidate| candidate.is_a_home = true).0, ["already_a_home"]);
        assert_eq!(codes(|survey, _| survey.is_template = true).0, ["system_database"]);
        assert_eq!(codes(|_, candidate| candidate.database = candidate.admin_database).0, ["system_database"]);
    }

    #[test]
    fn owners_must_be_in_reach_and_keep_their_rights_meanwhile() {
        assert_eq!(codes(|survey, _| survey.owners[0].is_in_reach = false).0, ["owner_out_of_reach"]);
        assert_eq!(codes(|survey, _| survey.owners[0].inherits = false).0, ["owner_without_inherit"]);
        let newer = codes(|survey, candidate| {
            survey.owners[0].inherits = false;
            candidate.server_version = 160_000;
        });
        assert_eq!(newer.0, [""; 0]);
    }

    #[test]
    fn all_findings_come_at_once_and_blockers_first() {
        let found = codes(|survey, _| {
            survey.sessions.names = vec!["app (2)".to_owned()];
            survey.sessions.count = 1;
            survey.subscriptions.count = 1;
            survey.encoding = "SQL_ASCII".to_owned();
        });
        assert_eq!(found.0, ["subscriptions", "encoding", "sessions"]);
    }

    #[test]
    fn the_history_is_held_against_the_promoted_set() {
        let row = |version, checksum| AppliedMigration { version, name: "x".to_owned(), checksum };
        let set = set();
        let first = set.migration(1).expect("there").checksum;
        let second = set.migration(2).expect("there").checksum;
        let with = |rows: Vec<AppliedMigration>, wanted: Option<i64>| {
            codes(|survey, candidate| {
                survey.history = SurveyedHistory::Rows(rows);
                candidate.baseline = wanted.map(SchemaVersion);
            })
        };
        assert_eq!(with(vec![row(1, first)], None), (vec![], 1));
        assert_eq!(with(vec![row(1, first)], Some(2)).0, ["baseline_contradicts_history"]);
        assert_eq!(with(vec![row(1, first + 1)], None).0, ["history_diverges"]);
        assert_eq!(with(vec![row(2, second)], None).0, ["history_has_gaps"]);
        assert_eq!(codes(|_, candidate| candidate.baseline = Some(SchemaVersion(7))).0, ["baseline_unknown"]);
        assert_eq!(codes(|_, candidate| candidate.baseline = None), (vec!["no_baseline"], 0));
        assert_eq!(codes(|_, candidate| candidate.set = None).0, ["no_migration_set"]);
    }
}
