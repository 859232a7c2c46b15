//! Looking at a database or schema that somebody else made, before it is adopted. Changes nothing.

use tenantry_domain::{DatabaseName, SchemaName};
use tokio_postgres::SimpleQueryRow;

use super::objects::{MOVABLE, in_scope};
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::migrate::{AppliedMigration, HISTORY, applied_migration};
use crate::quote::{ident, literal, literals};
use crate::session::Session;
use crate::target::ClusterTarget;

/// Names per finding at most; the count tells how many there are.
const NAMES_MAX: usize = 20;

/// Names that were found, and how many there are in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The first twenty.
    pub names: Vec<String>,
    /// All of them.
    pub count: usize,
}

impl Found {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < NAMES_MAX {
            self.names.push(name.to_owned());
        }
    }
}

/// A role that owns something there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedOwner {
    /// Its name.
    pub name: String,
    /// How many objects it owns there.
    pub objects: i64,
    /// Whether it is a superuser.
    pub is_superuser: bool,
    /// Whether it uses what it is a member of without asking.
    pub inherits: bool,
    /// Whether the admin may act as it.
    pub is_in_reach: bool,
}

/// The history of migrations that is there already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SurveyedHistory {
    /// None.
    #[default]
    Absent,
    /// These.
    Rows(Vec<AppliedMigration>),
    /// Something bears the name of the history and is none.
    Foreign(String),
}

/// What is there.
#[expect(clippy::struct_excessive_bools, reason = "each is one observation")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Whether the database exists.
    pub exists: bool,
    /// Whether the schema that was asked for exists; true where none was.
    pub schema_exists: bool,
    /// Whether anyone may connect.
    pub is_open: bool,
    /// Whether it is a template.
    pub is_template: bool,
    /// Who owns the database.
    pub owner: String,
    /// Whether the admin may act as that role.
    pub is_owner_in_reach: bool,
    /// Its encoding.
    pub encoding: String,
    /// Bytes on disk, of the whole database.
    pub size_bytes: i64,
    /// Prepared transactions in the database.
    pub prepared_transactions: Found,
    /// Logical replication slots on the database.
    pub slots: Found,
    /// Subscriptions of the database.
    pub subscriptions: Found,
    /// Publications of the database.
    pub publications: Found,
    /// Event triggers of the database.
    pub event_triggers: Found,
    /// Roles that are connected now, other than the admin.
    pub sessions: Found,
    /// Settings that the database gives to every session in it.
    pub settings: Found,
    /// What everybody may do with the database and its schemas, such as `CONNECT on the database`.
    pub public_rights: Found,
    /// Who owns what would be handed over.
    pub owners: Vec<SurveyedOwner>,
    /// How many objects would be handed over.
    pub objects: i64,
    /// Roles of other tenants' homes that own something or have rights there.
    pub homes: Found,
    /// Extensions that are not among those that tenants get.
    pub extensions: Found,
    /// Large objects in the database.
    pub large_objects: i64,
    /// Functions that run with their owner's rights.
    pub security_definers: Found,
    /// Tables with row-level security.
    pub row_security: Found,
    /// Schemas beside the one in which migrations work.
    pub other_schemas: Found,
    /// Whether schemas named `tenantry` or `extensions` are there.
    pub reserved_schemas: Found,
    /// For a schema: what depends on other schemas, or they on it.
    pub crossings: Found,
    /// For a schema: functions whose text names `public`.
    pub hard_coded: Found,
    /// The history of migrations.
    pub history: SurveyedHistory,
}

impl Fleet {
    /// Looks at a database, or at one schema of it. Whatever its owners have put there is read from the server's own
    /// catalogs only, and none of their code runs.
    pub async fn survey(
        &self,
        target: &ClusterTarget,
        database: &DatabaseName,
        schema: Option<&SchemaName>,
    ) -> Result<Survey, FleetError> {
        let mut survey = Survey { schema_exists: schema.is_none(), ..Survey::default() };
        let mut admin = self.admin(target).await?;
        for row in admin.rows("look at the database", &of_database(database)).await? {
            survey.note(&row);
        }
        if !survey.exists || !survey.is_open {
            return Ok(survey);
        }
        let mut inside = self.once(target, database, None).await?;
        for row in inside.rows("look into the database", &self.of_inside(schema)).await? {
            survey.note(&row);
        }
        if survey.schema_exists {
            survey.history = history(&mut inside, schema).await?;
        }
        Ok(survey)
    }

    fn of_inside(&self, schema: Option<&SchemaName>) -> String {
        let allowed = literals(self.config().extensions.iter().map(String::as_str).chain(["plpgsql"]));
        let home_schema = literal(schema.map_or("public", SchemaName::as_str));
        let scope = in_scope(schema);
        let crossings = schema.map(|schema| crossings(&literal(schema.as_str()))).unwrap_or_default();
        format!(
            "{MOVABLE}, scoped AS (SELECT m.* FROM movable m WHERE {scope})
             SELECT 'schema_exists', EXISTS (SELECT FROM pg_namespace WHERE nspname = {home_schema})::text, NULL, NULL, NULL, NULL
             UNION ALL SELECT 'objects', count(*)::text, NULL, NULL, NULL, NULL FROM scoped
             UNION ALL SELECT 'owner', r.rolname, count(*)::text, r.rolsuper::text, r.rolinherit::text,
                              pg_has_role(r.oid, 'USAGE')::text
                       FROM scoped s JOIN pg_roles r ON r.oid = s.owner GROUP BY r.oid, r.rolname, r.rolsuper, r.rolinherit
             UNION ALL SELECT 'homes', rolname, NULL, NULL, NULL, NULL FROM pg_roles
                       WHERE rolname ~ '^h_[0-9a-f]{{32}}_' AND oid IN (
                           SELECT owner FROM scoped UNION SELECT a.grantee FROM scoped s, aclexplode(s.acl) a)
             UNION ALL SELECT 'extensions', extname, NULL, NULL, NULL, NULL FROM pg_extension WHERE extname NOT IN ({allowed})
             UNION ALL SELECT 'large_objects', count(*)::text, NULL, NULL, NULL, NULL FROM pg_largeobject_metadata
             UNION ALL SELECT 'security_definers', p.oid::regprocedure::text, NULL, NULL, NULL, NULL FROM scoped s
                       JOIN pg_proc p ON s.classid = 'pg_proc'::regclass AND p.oid = s.objid WHERE p.prosecdef
             UNION ALL SELECT 'row_security', c.oid::regclass::text, NULL, NULL, NULL, NULL FROM scoped s
                       JOIN pg_class c ON s.classid = 'pg_class'::regclass AND c.oid = s.objid WHERE c.relrowsecurity
             UNION ALL SELECT 'other_schemas', nspname, NULL, NULL, NULL, NULL FROM pg_namespace
                       WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'tenantry', 'extensions', {home_schema})
             UNION ALL SELECT 'reserved_schemas', nspname, NULL, NULL, NULL, NULL FROM pg_namespace
                       WHERE nspname IN ('tenantry', 'extensions')
             UNION ALL SELECT 'publications', pubname, NULL, NULL, NULL, NULL FROM pg_publication
             UNION ALL SELECT 'event_triggers', evtname, NULL, NULL, NULL, NULL FROM pg_event_trigger
             UNION ALL SELECT 'public_rights', a.privilege_type || ' on schema ' || n.nspname, NULL, NULL, NULL, NULL
                       FROM pg_namespace n, aclexplode(n.nspacl) a
                       WHERE a.grantee = 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND {in_schema}
             {crossings};",
            in_schema = schema.map_or_else(|| "true".to_owned(), |_| format!("n.nspname = {home_schema}")),
        )
    }
}

fn of_database(database: &DatabaseName) -> String {
    let name = literal(database.as_str());
    format!(
        "SELECT 'database', d.datallowconn::text, d.datistemplate::text, pg_get_userbyid(d.datdba),
                pg_has_role(d.datdba, 'USAGE')::text, pg_encoding_to_char(d.encoding), pg_database_size(d.oid)::text
         FROM pg_database d WHERE d.datname = {name}
         UNION ALL SELECT 'prepared_transactions', gid, NULL, NULL, NULL, NULL, NULL FROM pg_prepared_xacts WHERE database = {name}
         UNION ALL SELECT 'slots', slot_name, NULL, NULL, NULL, NULL, NULL FROM pg_replication_slots WHERE database = {name}
         UNION ALL SELECT 'subscriptions', s.subname, NULL, NULL, NULL, NULL, NULL FROM pg_subscription s
                   JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = {name}
         UNION ALL SELECT 'sessions', usename || ' (' || count(*) || ')', NULL, NULL, NULL, NULL, NULL FROM pg_stat_activity
                   WHERE datname = {name} AND pid <> pg_backend_pid() AND usename <> current_user GROUP BY usename
         UNION ALL SELECT 'settings', coalesce(r.rolname || ': ', '') || setting, NULL, NULL, NULL, NULL, NULL
                   FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                   LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) setting WHERE d.datname = {name}
         UNION ALL SELECT 'public_rights', a.privilege_type || ' on the database', NULL, NULL, NULL, NULL, NULL
                   FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                   WHERE d.datname = {name} AND a.grantee = 0;"
    )
}

/// What ties a schema to others of its database: foreign keys, views, defaults, types, functions that name `public`.
fn crossings(schema: &str) -> String {
    format!(
        "UNION ALL SELECT DISTINCT 'crossings', pg_describe_object(d.classid, d.objid, 0) || ' uses '
                || pg_describe_object(d.refclassid, d.refobjid, 0), NULL, NULL, NULL, NULL
            FROM pg_depend d
            JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) o ON true
            JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) r ON true
            JOIN movable m ON (m.classid, m.objid) IN ((d.classid, d.objid), (d.refclassid, d.refobjid)) AND m.schema = {schema}
            WHERE d.deptype = 'n' AND d.refobjid >= 16384 AND d.objid >= 16384
              AND o.schema <> r.schema AND {schema} IN (o.schema, r.schema) AND 'extensions' NOT IN (o.schema, r.schema)
         UNION ALL SELECT 'crossings', conrelid::regclass || ' refers to ' || confrelid::regclass, NULL, NULL, NULL, NULL
            FROM pg_constraint k JOIN pg_class a ON a.oid = k.conrelid JOIN pg_class b ON b.oid = k.confrelid
            WHERE k.contype = 'f' AND a.relnamespace <> b.relnamespace
              AND {schema} IN (a.relnamespace::regnamespace::text, b.relnamespace::regnamespace::text)
         UNION ALL SELECT DISTINCT 'crossings', v.oid::regclass || ' reads ' || d.refobjid::regclass, NULL, NULL, NULL, NULL
            FROM pg_rewrite w JOIN pg_class v ON v.oid = w.ev_class
            JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
            JOIN pg_class t ON t.oid = d.refobjid
            WHERE t.oid >= 16384 AND v.relnamespace <> t.relnamespace
              AND {schema} IN (v.relnamespace::regnamespace::text, t.relnamespace::regnamespace::text)
         UNION ALL SELECT 'hard_coded', p.oid::regprocedure::text, NULL, NULL, NULL, NULL FROM scoped s
            JOIN pg_proc p ON s.classid = 'pg_proc'::regclass AND p.oid = s.objid WHERE p.prosrc ~* '\\mpublic\\.'"
    )
}

impl Survey {
    fn note(&mut self, row: &SimpleQueryRow) {
        let text = |column| row.get(column).unwrap_or_default();
        let flag = |column| ["t", "true"].contains(&row.get(column).unwrap_or_default());
        let name = text(1);
        match text(0) {
            "database" => {
                self.exists = true;
                self.is_open = flag(1);
                self.is_template = flag(2);
                text(3).clone_into(&mut self.owner);
                self.is_owner_in_reach = flag(4);
                text(5).clone_into(&mut self.encoding);
                self.size_bytes = text(6).parse().unwrap_or(0);
            }
            "schema_exists" => self.schema_exists = flag(1),
            "objects" => self.objects = name.parse().unwrap_or(0),
            "large_objects" => self.large_objects = name.parse().unwrap_or(0),
            "owner" => self.owners.push(SurveyedOwner {
                name: name.to_owned(),
                objects: text(2).parse().unwrap_or(0),
                is_superuser: flag(3),
                inherits: flag(4),
                is_in_reach: flag(5),
            }),
            "prepared_transactions" => self.prepared_transactions.add(name),
            "slots" => self.slots.add(name),
            "subscriptions" => self.subscriptions.add(name),
            "publications" => self.publications.add(name),
            "event_triggers" => self.event_triggers.add(name),
            "sessions" => self.sessions.add(name),
            "settings" => self.settings.add(name),
            "public_rights" => self.public_rights.add(name),
            "homes" => self.homes.add(name),
            "extensions" => self.extensions.add(name),
            "security_definers" => self.security_definers.add(name),
            "row_security" => self.row_security.add(name),
            "other_schemas" => self.other_schemas.add(name),
            "reserved_schemas" => self.reserved_schemas.add(name),
            "crossings" => self.crossings.add(name),
            "hard_coded" => self.hard_coded.add(name),
            _ => {}
        }
    }
}

/// Read only where it is a plain table of plain columns: then reading it runs nobody's code.
async fn history(session: &mut Session, schema: Option<&SchemaName>) -> Result<SurveyedHistory, FleetError> {
    let schema = schema.map_or("public", SchemaName::as_str);
    let look = format!(
        "SELECT c.relkind = 'r' AND NOT c.relrowsecurity AND NOT c.relhasrules AND 4 = (
             SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attname IN ('version', 'name', 'applied_on', 'checksum') AND a.atttypid IN (20, 23, 25, 1043))
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {};",
        literal(schema),
        literal(HISTORY)
    );
    let rows = session.rows("look for a history of migrations", &look).await?;
    match rows.first().map(|row| row.get(0) == Some("t")) {
        None => return Ok(SurveyedHistory::Absent),
        Some(false) => return Ok(SurveyedHistory::Foreign(format!("{schema}.{HISTORY}"))),
        Some(true) => {}
    }
    let sql = format!(
        "SELECT version, name, checksum FROM ONLY {}.{} ORDER BY version LIMIT 10000;",
        ident(schema),
        ident(HISTORY)
    );
    let rows = session.rows("read the history of migrations", &sql).await?;
    match rows.iter().map(applied_migration).collect::<Result<Vec<_>, _>>() {
        Ok(applied) => Ok(SurveyedHistory::Rows(applied)),
        Err(_) => Ok(SurveyedHistory::Foreign(format!("{schema}.{HISTORY}"))),
    }
}
