//! What a home's schema really is, and whether that is what its migrations make.
//!
//! One query (`drift/objects.sql`) lists every object with a definition that is the same in every home, whatever its schema
//! and roles are called. The fingerprint is a digest of the list, computed there, so that one row travels where nothing
//! differs. Comments, rights, tuning of storage and data are no part of it.
//!
//! The reference is made the same way that a template is: the set's files, applied to a database of their own.

mod difference;
mod history;

use tenantry_domain::{DatabaseName, Home, Secret};
use tenantry_migration_set::MigrationSet;
use tokio_postgres::SimpleQueryRow;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::migrate::{
    AppliedMigration, ApplyOptions, HISTORY, HISTORY_TABLES, REPEATABLE, Workplace, applied_migration, repeatables,
};
use crate::quote::{ident, literal, literals};
use crate::session::Session;
use crate::target::ClusterTarget;

pub use difference::{ObjectDifference, schema_differences};
pub use history::schema_divergence;

/// Raised with every change of what the query says of an object: fingerprints of another format tell nothing.
pub const SCHEMA_FORMAT: i32 = 1;
/// The fingerprint of a schema without objects.
pub const EMPTY_SCHEMA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Objects of one schema that are told apart at most.
const OBJECTS_MAX: usize = 50_000;
/// Characters of a definition that are told; its digest is of all of it.
const DEFINITION_MAX: usize = 8_000;

const OBJECTS: &str = include_str!("drift/objects.sql");

/// What is in a home now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSchema {
    /// What was applied, by rising version; empty where nothing ever was.
    pub history: Vec<AppliedMigration>,
    /// The repeatable migrations that it has, by name.
    pub repeatables: Vec<AppliedRepeatable>,
    /// Hexadecimal digest of all objects but Tenantry's own. The same in homes with the same objects, whatever their
    /// isolation, on servers of the same major version.
    pub fingerprint: String,
    /// The server's major version, such as 15.
    pub server_major: i32,
}

/// A row of what a home has of repeatable migrations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppliedRepeatable {
    /// Its name.
    pub name: String,
    /// refinery's checksum of its content.
    pub checksum: u64,
}

/// What a set makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceSchema {
    /// As [`FoundSchema::fingerprint`].
    pub fingerprint: String,
    /// Everything behind it.
    pub objects: Vec<SchemaObject>,
    /// The server's major version, such as 15.
    pub server_major: i32,
}

/// A table, a column, an index, …: whatever a schema is made of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SchemaObject {
    /// What it is, such as `table`, `column` or `materialized_view`.
    pub kind: String,
    /// Its name, quoted where SQL needs that; of what belongs to a table, after the table's.
    pub name: String,
    /// Hexadecimal digest of the whole definition.
    pub digest: String,
    /// The definition, cut where it is long.
    pub definition: String,
}

impl Fleet {
    /// Looks at a home's schema and its history, as one moment has them. `Busy` while migrations run there.
    ///
    /// Everything happens with the rights of the home's owner, never with the admin's, and changes nothing.
    pub async fn find_schema(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
    ) -> Result<FoundSchema, FleetError> {
        let workplace = Workplace::of(home);
        let mut session = self.migrator(target, &workplace, migrator_password, &ApplyOptions::default()).await?;
        let sql = begin(&workplace)
            + &format!(
                "SELECT pg_catalog.to_regclass({}) IS NOT NULL AS has_history;\n\
                 SELECT pg_catalog.to_regclass({}) IS NOT NULL AS has_repeatables;\n",
                literal(&workplace.table(HISTORY)),
                literal(&workplace.table(REPEATABLE))
            )
            + &fetch(&workplace, FINGERPRINT);
        let rows = session.rows("look at the home's schema", &sql).await?;
        unless_busy(&rows)?;
        let fingerprint = one(&rows, "fingerprint")?.to_owned();
        let mut sql = String::new();
        if one(&rows, "has_history")? == "t" {
            sql = format!("SELECT version, name, checksum FROM {} ORDER BY version;\n", workplace.table(HISTORY));
        }
        if one(&rows, "has_repeatables")? == "t" {
            sql.push_str(&repeatables::select(&workplace));
        }
        sql.push_str("COMMIT;\n");
        let rows = session.rows("read the home's history", &sql).await?;
        let history = rows.iter().filter(|row| begins_with(row, "version")).map(applied_migration);
        let history = history.collect::<Result<_, _>>()?;
        let present = repeatables::present(&rows).into_iter();
        let mut repeatables: Vec<AppliedRepeatable> =
            present.map(|(name, checksum)| AppliedRepeatable { name: name.to_owned(), checksum }).collect();
        repeatables.sort_unstable();
        Ok(FoundSchema { history, repeatables, fingerprint, server_major: major(&session) })
    }

    /// Everything in a home's schema. `Busy` while migrations run there, `Refused` where there are too many objects.
    pub async fn schema_objects(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
    ) -> Result<Vec<SchemaObject>, FleetError> {
        let workplace = Workplace::of(home);
        let mut session = self.migrator(target, &workplace, migrator_password, &ApplyOptions::default()).await?;
        objects(&mut session, &workplace).await
    }

    /// Applies a set to a database made for this alone, and looks at what came of it. The caller has recorded the database
    /// before, and drops it afterwards, whatever came of this.
    pub async fn make_reference(
        &self,
        target: &ClusterTarget,
        scratch: &DatabaseName,
        set: &MigrationSet,
        options: &ApplyOptions,
    ) -> Result<ReferenceSchema, FleetError> {
        let mut builder = self.builder(target, scratch).await?;
        let password = self.open_template(target, &mut builder, scratch).await?;
        let workplace = Workplace::of_template(scratch);
        self.apply_at(target, &workplace, &password, set, options).await?;
        let mut session = self.migrator(target, &workplace, &password, options).await?;
        let objects = objects(&mut session, &workplace).await?;
        let sql = begin(&workplace) + &fetch(&workplace, FINGERPRINT) + "COMMIT;\n";
        let rows = session.rows("look at the reference", &sql).await?;
        let fingerprint = one(&rows, "fingerprint")?.to_owned();
        Ok(ReferenceSchema { fingerprint, objects, server_major: major(&session) })
    }
}

const FINGERPRINT: &str = r#"SELECT encode(sha256(convert_to(coalesce(string_agg(
    jsonb_build_array(kind, name, definition)::text, E'\n' ORDER BY kind COLLATE "C", name COLLATE "C"), ''), 'UTF8')), 'hex')
    AS fingerprint FROM object"#;

/// Whatever decides how PostgreSQL prints a definition: databases and roles have settings of their own.
const PRINTING: &str =
    "SET LOCAL jit = off;\nSET LOCAL cursor_tuple_fraction = 1;\nSET LOCAL quote_all_identifiers = off;
SET LOCAL DateStyle = 'ISO, MDY';\nSET LOCAL IntervalStyle = 'postgres';\nSET LOCAL TimeZone = 'UTC';
SET LOCAL bytea_output = 'hex';\nSET LOCAL extra_float_digits = 1;\nSET LOCAL lc_monetary = 'C';
SET LOCAL standard_conforming_strings = on;\n";

/// A transaction that sees what the home's owner may see, with a lock that keeps migrations from beginning meanwhile; or
/// without it where they have begun.
fn begin(workplace: &Workplace) -> String {
    format!(
        "BEGIN READ ONLY;\nSET LOCAL ROLE {};\n{PRINTING}SELECT pg_catalog.pg_try_advisory_xact_lock_shared({}) AS is_quiet;\n",
        ident(workplace.owner.as_str()),
        workplace.lock_key()
    )
}

/// Runs the query with `select` behind it. A cursor is analysed under the search path at its declaration, which no tenant
/// can write to; what is printed depends on the one at its execution, where the home's schema comes first.
fn fetch(workplace: &Workplace, select: &str) -> String {
    let query = OBJECTS
        .replace("{schema}", &literal(workplace.schema.as_str()))
        .replace("{owner}", &literal(workplace.owner.as_str()))
        .replace("{ours}", &literals(HISTORY_TABLES));
    format!(
        "SET LOCAL search_path = pg_catalog;\nDECLARE objects NO SCROLL CURSOR FOR {query}{select};\n\
         SET LOCAL search_path = {}, pg_catalog, extensions;\nFETCH ALL FROM objects;\n",
        ident(workplace.schema.as_str())
    )
}

async fn objects(session: &mut Session, workplace: &Workplace) -> Result<Vec<SchemaObject>, FleetError> {
    let select = format!(
        "SELECT kind, name, encode(sha256(convert_to(definition, 'UTF8')), 'hex') AS digest, \
         left(definition, {DEFINITION_MAX}) AS definition FROM object \
         ORDER BY kind COLLATE \"C\", name COLLATE \"C\" LIMIT {}",
        OBJECTS_MAX + 1
    );
    let sql = begin(workplace) + &fetch(workplace, &select) + "COMMIT;\n";
    let rows = session.rows("list the objects of a schema", &sql).await?;
    unless_busy(&rows)?;
    let objects = rows.iter().filter(|row| begins_with(row, "kind")).map(|row| {
        let read = |column: &str| row.get(column).unwrap_or_default().to_owned();
        SchemaObject { kind: read("kind"), name: read("name"), digest: read("digest"), definition: read("definition") }
    });
    let objects: Vec<SchemaObject> = objects.collect();
    if objects.len() > OBJECTS_MAX {
        return Err(FleetError::refused(format!(
            "the schema has more than {OBJECTS_MAX} objects, too many to compare"
        )));
    }
    Ok(objects)
}

fn unless_busy(rows: &[SimpleQueryRow]) -> Result<(), FleetError> {
    if one(rows, "is_quiet")? == "t" {
        Ok(())
    } else {
        Err(FleetError::busy("migrations run in the home right now; look again once they are through"))
    }
}

/// The only value of the only row whose first column is called so.
fn one<'a>(rows: &'a [SimpleQueryRow], column: &str) -> Result<&'a str, FleetError> {
    let row = rows.iter().find(|row| begins_with(row, column));
    row.and_then(|row| row.get(0)).ok_or_else(|| FleetError::refused("the schema cannot be read: an answer is missing"))
}

fn begins_with(row: &SimpleQueryRow, column: &str) -> bool {
    row.columns().first().is_some_and(|first| first.name() == column)
}

fn major(session: &Session) -> i32 {
    session.server_version() / 10_000
}
