//! The tables `migration_set`, `migration`, `repeatable` and `promotion`.

use jiff::Timestamp;
use tenantry_domain::{MigrationSetId, SchemaVersion};
use tokio_postgres::Row;

use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{execute, get, parsed, query, query_opt};
use crate::store::Store;
use crate::transaction::Tx;

/// How the file names of repeatable migrations begin.
const REPEATABLE: char = 'R';

/// A registered set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSetRecord {
    /// Its digest.
    pub id: MigrationSetId,
    /// Its name for people.
    pub name: String,
    /// Its highest version.
    pub latest_version: SchemaVersion,
    /// Registered at.
    pub created_at: Timestamp,
    /// Since when new tenants started with it; stays when a later set is promoted.
    pub promoted_at: Option<Timestamp>,
}

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMigration {
    /// Its version; 0 of a repeatable one.
    pub version: i64,
    /// The rest of its file name.
    pub name: String,
    /// `V`, `U` or `R`, as the file name begins.
    pub kind: char,
    /// The checksum that homes write down.
    pub checksum: u64,
    /// Whether it runs inside a transaction.
    pub transactional: bool,
    /// `expand` or `contract`, where its author said so.
    pub phase: Option<String>,
    /// Its text.
    pub sql: String,
    /// The text of what undoes it, where there is such a file.
    pub down: Option<String>,
}

impl StoredMigration {
    /// The name of the file that undoes it, and its text, where there is one.
    pub fn down_file(&self) -> Option<(String, &str)> {
        let stem = self.file_name();
        let stem = stem.strip_suffix(".sql").unwrap_or(&stem);
        self.down.as_deref().map(|sql| (format!("{stem}.down.sql"), sql))
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        match self.kind {
            REPEATABLE => format!("{REPEATABLE}__{}.sql", self.name),
            kind => format!("{kind}{}__{}.sql", self.version, self.name),
        }
    }
}

/// The repeatable files of a set that is being registered, and what tells them from others.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRepeatables<'a> {
    /// The files.
    pub files: &'a [StoredMigration],
    /// Their digest; empty for none.
    pub digest: &'a str,
}

impl Tx {
    /// Registers a set, unless it is there already; says whether it is new. Equal content has equal identity, so a set
    /// that is there needs no comparison.
    pub async fn insert_migration_set(
        &self,
        id: &MigrationSetId,
        name: &str,
        migrations: &[StoredMigration],
        repeatables: NewRepeatables<'_>,
    ) -> Result<bool, StoreError> {
        let client = self.client()?;
        let latest = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
        let inserted = execute(
            client,
            "INSERT INTO migration_set (id, name, latest_version, repeatables) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO NOTHING",
            &[&id.as_str(), &name, &latest, &repeatables.digest],
        )
        .await?;
        if inserted == 0 {
            return Ok(false);
        }
        let versions: Vec<i64> = migrations.iter().map(|it| it.version).collect();
        let names: Vec<&str> = migrations.iter().map(|it| it.name.as_str()).collect();
        let kinds: Vec<String> = migrations.iter().map(|it| it.kind.to_string()).collect();
        // `numeric(20)` holds all of 64 bits without sign; it travels as text.
        let checksums: Vec<String> = migrations.iter().map(|it| it.checksum.to_string()).collect();
        let transactional: Vec<bool> = migrations.iter().map(|it| it.transactional).collect();
        let phases: Vec<Option<&str>> = migrations.iter().map(|it| it.phase.as_deref()).collect();
        let texts: Vec<&str> = migrations.iter().map(|it| it.sql.as_str()).collect();
        let downs: Vec<Option<&str>> = migrations.iter().map(|it| it.down.as_deref()).collect();
        execute(
            client,
            "INSERT INTO migration (migration_set, position, version, name, kind, checksum, transactional, phase, sql, down)
             SELECT $1, position, version, name, kind, checksum::numeric, transactional, phase, sql, down
               FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::text[],
                           $9::text[])
                    WITH ORDINALITY AS file (version, name, kind, checksum, transactional, phase, sql, down, position)",
            &[&id.as_str(), &versions, &names, &kinds, &checksums, &transactional, &phases, &texts, &downs],
        )
        .await?;
        if !repeatables.files.is_empty() {
            insert_repeatables(client, id, repeatables.files).await?;
        }
        Ok(true)
    }

    /// One set.
    pub async fn migration_set(&self, id: &MigrationSetId) -> Result<MigrationSetRecord, StoreError> {
        migration_set(self.client()?, id).await
    }

    /// The files of a set that have a version, in their order.
    pub async fn migrations_of(&self, id: &MigrationSetId) -> Result<Vec<StoredMigration>, StoreError> {
        migrations_of(self.client()?, id).await
    }

    /// The set that new tenants start with. No promotion commits before this transaction ends.
    pub async fn promoted(&self) -> Result<Option<MigrationSetRecord>, StoreError> {
        // The lock comes first and alone: joined to the set, the row read before waiting would be the answer.
        match self.promoted_id().await? {
            Some(id) => migration_set(self.client()?, &id).await.map(Some),
            None => Ok(None),
        }
    }

    /// The id of the same, likewise.
    pub async fn promoted_id(&self) -> Result<Option<MigrationSetId>, StoreError> {
        let locked = query_opt(self.client()?, "SELECT migration_set FROM promotion FOR SHARE", &[]).await?;
        let id = locked.as_ref().map(|row| get::<Option<&str>>(row, "migration_set")).transpose()?.flatten();
        id.map(|id| id.parse().map_err(StoreError::internal)).transpose()
    }

    /// Makes new tenants start with this set from the commit on. Waits for transactions that look at the promoted set.
    pub async fn promote(&self, id: &MigrationSetId) -> Result<(), StoreError> {
        let client = self.client()?;
        let sql = "UPDATE migration_set SET promoted_at = now() WHERE id = $1";
        if execute(client, sql, &[&id.as_str()]).await? == 0 {
            return Err(StoreError::NotFound { what: "migration set", name: id.to_string() });
        }
        execute(client, "UPDATE promotion SET migration_set = $1", &[&id.as_str()]).await?;
        Ok(())
    }

    /// Keeps others from reading or changing the promoted set until this transaction ends.
    pub(crate) async fn lock_promotion(&self) -> Result<(), StoreError> {
        query_opt(self.client()?, "SELECT FROM promotion FOR UPDATE", &[]).await.map(drop)
    }
}

impl Store {
    /// One set.
    pub async fn migration_set(&self, id: &MigrationSetId) -> Result<MigrationSetRecord, StoreError> {
        migration_set(&*self.client().await?, id).await
    }

    /// The files of a set that have a version, in their order.
    pub async fn migrations_of(&self, id: &MigrationSetId) -> Result<Vec<StoredMigration>, StoreError> {
        migrations_of(&*self.client().await?, id).await
    }

    /// The repeatable files of a set, by name.
    pub async fn repeatables_of(&self, id: &MigrationSetId) -> Result<Vec<StoredMigration>, StoreError> {
        let rows = query(
            &*self.client().await?,
            &format!("{SELECT_REPEATABLE} WHERE migration_set = $1 ORDER BY name"),
            &[&id.as_str()],
        )
        .await?;
        rows.iter().map(read_migration).collect()
    }

    /// The repeatable file of this name and checksum, of whatever set.
    pub async fn repeatable(&self, name: &str, checksum: u64) -> Result<Option<StoredMigration>, StoreError> {
        let row = query_opt(
            &*self.client().await?,
            &format!("{SELECT_REPEATABLE} WHERE name = $1 AND checksum::text = $2 LIMIT 1"),
            &[&name, &checksum.to_string()],
        )
        .await?;
        row.as_ref().map(read_migration).transpose()
    }

    /// The set that new tenants start with now.
    pub async fn promoted(&self) -> Result<Option<MigrationSetRecord>, StoreError> {
        let sql =
            "SELECT migration_set.* FROM promotion JOIN migration_set ON migration_set.id = promotion.migration_set";
        query_opt(&*self.client().await?, sql, &[]).await?.as_ref().map(read).transpose()
    }

    /// A page of sets, newest first.
    pub async fn migration_sets(&self, page: &PageRequest) -> Result<Page<MigrationSetRecord>, StoreError> {
        // The mark is the last set's id; its time is looked up, so that the order has no ties.
        let after = page.after_name();
        let rows = query(
            &*self.client().await?,
            "SELECT * FROM migration_set
              WHERE $1::text IS NULL
                 OR (created_at, id) < (SELECT created_at, id FROM migration_set WHERE id = $1)
              ORDER BY created_at DESC, id DESC LIMIT $2",
            &[&after, &page.probe()],
        )
        .await?;
        let sets = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(sets, |set: &MigrationSetRecord| set.id.to_string()))
    }
}

const SELECT_REPEATABLE: &str =
    "SELECT 0::bigint AS version, name, 'R' AS kind, checksum::text AS checksum, transactional, phase, sql,
            NULL::text AS down
       FROM repeatable";

async fn insert_repeatables(
    client: &Connection,
    id: &MigrationSetId,
    files: &[StoredMigration],
) -> Result<(), StoreError> {
    let names: Vec<&str> = files.iter().map(|it| it.name.as_str()).collect();
    let checksums: Vec<String> = files.iter().map(|it| it.checksum.to_string()).collect();
    let transactional: Vec<bool> = files.iter().map(|it| it.transactional).collect();
    let phases: Vec<Option<&str>> = files.iter().map(|it| it.phase.as_deref()).collect();
    let texts: Vec<&str> = files.iter().map(|it| it.sql.as_str()).collect();
    execute(
        client,
        "INSERT INTO repeatable (migration_set, name, checksum, transactional, phase, sql)
         SELECT $1, name, checksum::numeric, transactional, phase, sql
           FROM unnest($2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[])
                AS file (name, checksum, transactional, phase, sql)",
        &[&id.as_str(), &names, &checksums, &transactional, &phases, &texts],
    )
    .await?;
    Ok(())
}

async fn migration_set(client: &Connection, id: &MigrationSetId) -> Result<MigrationSetRecord, StoreError> {
    let row = query_opt(client, "SELECT * FROM migration_set WHERE id = $1", &[&id.as_str()]).await?;
    row.as_ref()
        .map(read)
        .transpose()?
        .ok_or_else(|| StoreError::NotFound { what: "migration set", name: id.to_string() })
}

async fn migrations_of(client: &Connection, id: &MigrationSetId) -> Result<Vec<StoredMigration>, StoreError> {
    let rows = query(
        client,
        "SELECT version, name, kind, checksum::text AS checksum, transactional, phase, sql, down
           FROM migration WHERE migration_set = $1 ORDER BY position",
        &[&id.as_str()],
    )
    .await?;
    rows.iter().map(read_migration).collect()
}

fn read(row: &Row) -> Result<MigrationSetRecord, StoreError> {
    Ok(MigrationSetRecord {
        id: parsed(row, "id")?,
        name: get(row, "name")?,
        latest_version: SchemaVersion(get(row, "latest_version")?),
        created_at: get(row, "created_at")?,
        promoted_at: get(row, "promoted_at")?,
    })
}

fn read_migration(row: &Row) -> Result<StoredMigration, StoreError> {
    Ok(StoredMigration {
        version: get(row, "version")?,
        name: get(row, "name")?,
        kind: parsed(row, "kind")?,
        checksum: parsed(row, "checksum")?,
        transactional: get(row, "transactional")?,
        phase: get(row, "phase")?,
        sql: get(row, "sql")?,
        down: get(row, "down")?,
    })
}
