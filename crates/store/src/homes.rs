//! The tables `home`, `placement` and `resource`: physical places, who lives in them, and the objects they are made of.

use tenantry_domain::{
    ClusterId, DatabaseName, Generation, Home, HomeId, LoginSlot, MigrationSetId, OperationId, SchemaName,
    SchemaVersion, Secret, TenantId,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::keyring::{KeyOwner, Keyring};
use crate::resources::NewResource;
use crate::row::{execute, get, parsed, query};
use crate::secrets::{self, OpenKeys, insert_key, insert_sealed, new_ids, new_key, open_secret};
use crate::store::Store;
use crate::transaction::Tx;
/// Where a home stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeState {
    /// Recorded, perhaps not there yet.
    Planned,
    /// There, waiting for its tenant.
    Warm,
    /// There, and being handed to its tenant.
    Claimed,
    /// There, its tenant's.
    Ready,
    /// Never to be claimed; it is being taken down.
    Retired,
    /// Gone; its id is never used again.
    Released,
}

/// Passwords of a home's roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeSecrets {
    /// Of the login role in use.
    pub login: Secret,
    /// Of the read-only role.
    pub read_only: Secret,
    /// Of the migrator.
    pub migrator: Secret,
}

/// A home with what the catalog knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeRecord {
    /// The home.
    pub home: Home,
    /// Which of the alternating login roles is in use.
    pub login: LoginSlot,
    /// Passwords of its roles.
    pub secrets: HomeSecrets,
    /// For `schema` homes: the shared database.
    pub shared_database: Option<Uuid>,
    /// The set that it started with.
    pub migration_set: Option<MigrationSetId>,
    /// The version of its schema as last seen.
    pub schema_version: SchemaVersion,
    /// Whose it is, once claimed.
    pub tenant: Option<TenantId>,
    /// Whether the pool's role of its database may become its roles.
    pub pool_member: bool,
    /// Where it stands.
    pub state: HomeState,
}

/// A home to be recorded, with everything that will be made for it.
#[derive(Debug, Clone)]
pub struct NewHome {
    /// The home.
    pub home: Home,
    /// Which of the alternating login roles is used first.
    pub login: LoginSlot,
    /// Passwords of its roles; sealed before they are written.
    pub secrets: HomeSecrets,
    /// For `schema` homes: the shared database.
    pub shared_database: Option<Uuid>,
    /// The set that it starts with.
    pub migration_set: Option<MigrationSetId>,
    /// The connection ceiling of the tenant that it is for; zero where there is none.
    pub connections: u32,
    /// Its objects, in the order in which they can be made.
    pub resources: Vec<NewResource>,
    /// Whose it is; absent for one that will wait for its tenant.
    pub tenant: Option<TenantId>,
    /// Who makes it.
    pub operation: OperationId,
}

impl Store {
    /// One home with its passwords. A released one has none and is not found.
    pub async fn home(&self, id: HomeId) -> Result<HomeRecord, StoreError> {
        home(&*self.client().await?, self.keyring(), id).await
    }

    /// The same for several at once, in any order. Those that are not found or not readable are left out: asked for alone,
    /// each says why.
    pub async fn homes(&self, ids: &[HomeId]) -> Result<Vec<HomeRecord>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let homes = homes(&*self.client().await?, self.keyring(), &ids).await?;
        Ok(homes.into_iter().flatten().collect())
    }
}

pub(crate) async fn home(client: &Connection, keyring: &Keyring, id: HomeId) -> Result<HomeRecord, StoreError> {
    let found = homes(client, keyring, &[id.as_uuid()]).await?.pop();
    found.ok_or_else(|| StoreError::NotFound { what: "home", name: id.to_string() })?
}

type Read = Result<HomeRecord, StoreError>;

async fn homes(client: &Connection, keyring: &Keyring, ids: &[Uuid]) -> Result<Vec<Read>, StoreError> {
    // One after another, by their keys: joined at once, the planner reads whole tables of secrets for a few homes. How many
    // they are is kept from it, or it plans anew each time.
    let sql = format!(
        "SELECT found.* FROM unnest((SELECT $1::uuid[])) AS wanted (id) CROSS JOIN LATERAL (
             SELECT h.*, {}, {}, {} FROM home h
               LEFT JOIN sealed_secret login ON login.id = h.login_secret
               LEFT JOIN sealed_secret read_only ON read_only.id = h.read_only_secret
               LEFT JOIN sealed_secret migrator ON migrator.id = h.migrator_secret
              WHERE h.id = wanted.id AND h.state <> 'released' OFFSET 0) AS found",
        secrets::columns("login"),
        secrets::columns("read_only"),
        secrets::columns("migrator"),
    );
    let rows = query(client, &sql, &[&ids]).await?;
    let keys = OpenKeys::of(keyring, &rows, &["login", "read_only", "migrator"]).await?;
    Ok(rows.iter().map(|row| read_record(row, &keys)).collect())
}

fn read_record(row: &Row, keys: &OpenKeys<'_>) -> Read {
    let id = HomeId::new(get(row, "id")?);
    let secret = |alias| {
        open_secret(keys, row, alias)?
            .ok_or_else(|| StoreError::internal(format!("home {id} lacks its {alias} secret")))
    };
    Ok(HomeRecord {
        home: read_home(row, id, "cluster", "isolation")?,
        login: parse_slot(get(row, "login_slot")?)?,
        secrets: HomeSecrets {
            login: secret("login")?,
            read_only: secret("read_only")?,
            migrator: secret("migrator")?,
        },
        shared_database: get(row, "shared_database")?,
        migration_set: get::<Option<&str>>(row, "migration_set")?
            .map(|id| id.parse().map_err(StoreError::internal))
            .transpose()?,
        schema_version: SchemaVersion(get(row, "schema_version")?),
        tenant: get::<Option<Uuid>>(row, "tenant")?.map(TenantId::new),
        pool_member: get(row, "pool_member")?,
        state: match get::<&str>(row, "state")? {
            "planned" => HomeState::Planned,
            "warm" => HomeState::Warm,
            "claimed" => HomeState::Claimed,
            "ready" => HomeState::Ready,
            "retired" => HomeState::Retired,
            _ => HomeState::Released,
        },
    })
}

impl Tx {
    /// Records a home and its objects as planned, with its passwords sealed.
    pub async fn insert_home(&self, new: &NewHome) -> Result<(), StoreError> {
        let (client, keyring) = (self.client()?, self.keyring());
        let secrets =
            [("login", &new.secrets.login), ("read_only", &new.secrets.read_only), ("migrator", &new.secrets.migrator)];
        let (key, wrapped) = new_key(keyring, KeyOwner::Home(new.home.id)).await?;
        let ids @ [login, read_only, migrator] = new_ids();
        let home = &new.home;
        let (isolation, database, schema) = (home.isolation.as_str(), home.database.as_str(), home.schema.as_str());
        let (tenant, connections) = (new.tenant.map(TenantId::as_uuid), i64::from(new.connections));
        let migration_set = new.migration_set.as_ref().map(MigrationSetId::as_str);
        let parameters: [&(dyn ToSql + Sync); 14] = [
            &home.id.as_uuid(),
            &home.cluster.as_uuid(),
            &isolation,
            &database,
            &schema,
            &new.shared_database,
            &migration_set,
            &slot_text(new.login),
            &login,
            &read_only,
            &migrator,
            &tenant,
            &connections,
            &home.is_adopted(),
        ];
        let inserting = execute(
            client,
            "INSERT INTO home (id, cluster, isolation, database_name, schema_name, shared_database, migration_set,
                               login_slot, login_secret, read_only_secret, migrator_secret, tenant, claimed_at,
                               connections, is_adopted)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, CASE WHEN $12::uuid IS NOT NULL THEN now() END,
                     $13, $14)",
            &parameters,
        );
        // In the order in which they refer to each other, and in one round trip.
        let (keyed, sealed, inserted, planned) = futures::join!(
            insert_key(client, &key, &wrapped),
            insert_sealed(client, &key, ids, secrets),
            inserting,
            self.insert_resources(new.operation, Some(home.id), &new.resources),
        );
        if !keyed? {
            return Err(StoreError::internal("a home that is being recorded has a data key already"));
        }
        sealed?;
        inserted?;
        planned
    }

    /// The home is there, at this version. One that was made has its set's repeatable files; nobody knows what an adopted
    /// one has.
    pub async fn home_ready(&self, id: HomeId, version: SchemaVersion) -> Result<(), StoreError> {
        let sql = "UPDATE home SET state = 'ready', schema_version = $2, pooling_due = shared_database IS NOT NULL,
                       repeatables = coalesce(
                       (SELECT made_of.repeatables FROM migration_set AS made_of
                         WHERE made_of.id = home.migration_set AND NOT home.is_adopted), '')
                    WHERE id = $1";
        execute(self.client()?, sql, &[&id.as_uuid(), &version.0]).await?;
        Ok(())
    }

    /// The home is gone, and with it its data key: whatever was sealed for it is unreadable from now on, in every copy of
    /// a secret too.
    pub async fn home_released(&self, id: HomeId) -> Result<(), StoreError> {
        execute(
            self.client()?,
            "WITH old AS (SELECT login_secret, read_only_secret, migrator_secret, next_login_secret,
                                 next_read_only_secret
                            FROM home WHERE id = $1 FOR UPDATE),
                  released AS (UPDATE home SET state = 'released', released_at = coalesce(released_at, now()),
                                               login_secret = NULL, read_only_secret = NULL,
                                               migrator_secret = NULL, next_login_secret = NULL,
                                               next_read_only_secret = NULL, roles_due = false,
                                               pool_member = false, is_pooled = false, pooling_due = false
                               WHERE id = $1),
                  shredded AS (DELETE FROM data_key WHERE home = $1 RETURNING id)
             DELETE FROM secret
              WHERE id IN (SELECT unnest(ARRAY[login_secret, read_only_secret, migrator_secret, next_login_secret,
                                               next_read_only_secret]) FROM old)
                 OR data_key IN (SELECT id FROM shredded)",
            &[&id.as_uuid()],
        )
        .await?;
        Ok(())
    }

    /// From this generation on the tenant lives there.
    pub async fn open_placement(&self, tenant: TenantId, home: HomeId, since: Generation) -> Result<(), StoreError> {
        let sql = "INSERT INTO placement (tenant, home, since) VALUES ($1, $2, $3)";
        execute(self.client()?, sql, &[&tenant.as_uuid(), &home.as_uuid(), &since.0]).await?;
        Ok(())
    }

    /// The tenant lives nowhere any more.
    pub async fn close_placement(&self, tenant: TenantId) -> Result<(), StoreError> {
        let sql = "UPDATE placement SET until = since + 1 WHERE tenant = $1 AND until IS NULL";
        execute(self.client()?, sql, &[&tenant.as_uuid()]).await?;
        Ok(())
    }
}

/// A home from a row whose columns `database_name` and `schema_name` are its own.
pub(crate) fn read_home(row: &Row, id: HomeId, cluster: &str, isolation: &str) -> Result<Home, StoreError> {
    Ok(Home {
        id,
        cluster: ClusterId::new(get(row, cluster)?),
        isolation: parsed(row, isolation)?,
        database: DatabaseName::parse(get(row, "database_name")?).map_err(StoreError::internal)?,
        schema: SchemaName::parse(get(row, "schema_name")?).map_err(StoreError::internal)?,
    })
}

pub(crate) fn slot_text(slot: LoginSlot) -> &'static str {
    match slot {
        LoginSlot::A => "a",
        LoginSlot::B => "b",
    }
}

pub(crate) fn parse_slot(text: &str) -> Result<LoginSlot, StoreError> {
    match text {
        "a" => Ok(LoginSlot::A),
        "b" => Ok(LoginSlot::B),
        other => Err(StoreError::internal(format!("`{other}` is no login slot"))),
    }
}
