//! A home as a tenant of the product has it: migrated by an owner without special rights, used by a login with grants on
//! rows only.

use tenantry_migration_set::{Migration, MigrationSet};
use tenantry_sample::{NEXT_MIGRATION, migrations};
use tenantry_testkit::{Login, Namespace, Server};
use tokio_postgres::{Client, NoTls};

/// Where the objects lie.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In `public` of a database of its own.
    Database,
    /// In a schema of its own.
    Schema,
}

/// The places that every test on the schema visits.
pub(crate) const PLACES: [Place; 2] = [Place::Database, Place::Schema];

pub(crate) struct Home {
    namespace: Namespace<'static>,
    pub(crate) database: String,
    pub(crate) schema: String,
    owner: Login,
    app: Login,
}

impl Home {
    /// An empty home in a database of its own.
    pub(crate) async fn empty(place: Place) -> Self {
        let namespace = Namespace::on(Server::shared().await);
        let database = namespace.database("home").await;
        let schema = match place {
            Place::Database => "public",
            Place::Schema => "h_1",
        };
        let owner = namespace.login("owner", "").await;
        let app = namespace.login("app", "").await;
        let (owner_name, app_name) = (&owner.name, &app.name);
        let admin = namespace.server().connect(&database).await;
        admin
            .batch_execute(&format!(
                "CREATE SCHEMA extensions;
                 CREATE SCHEMA IF NOT EXISTS {schema};
                 REVOKE ALL ON SCHEMA public FROM public;
                 GRANT CREATE, USAGE ON SCHEMA {schema} TO {owner_name};
                 GRANT USAGE ON SCHEMA {schema} TO {app_name};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {owner_name} IN SCHEMA {schema}
                     GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app_name};"
            ))
            .await
            .unwrap();
        Self { namespace, database, schema: schema.to_owned(), owner, app }
    }

    /// A home at the schema that new tenants get.
    pub(crate) async fn migrated(place: Place) -> Self {
        let home = Self::empty(place).await;
        home.migrate(base_set().migrations()).await;
        home
    }

    /// Applies files as the owner, each in a transaction.
    pub(crate) async fn migrate(&self, migrations: &[Migration]) {
        let mut owner = self.connect(&self.owner).await;
        for migration in migrations {
            let transaction = owner.transaction().await.unwrap();
            let applied = transaction.batch_execute(&migration.sql).await;
            assert!(applied.is_ok(), "{migration}: {applied:?}");
            transaction.commit().await.unwrap();
        }
    }

    /// Connects as the product does.
    pub(crate) async fn client(&self) -> Client {
        self.connect(&self.app).await
    }

    /// Connects as the one who owns the tables.
    pub(crate) async fn owner(&self) -> Client {
        self.connect(&self.owner).await
    }

    async fn connect(&self, login: &Login) -> Client {
        let mut config = self.namespace.server().config();
        config
            .user(&login.name)
            .password(&login.password)
            .dbname(&self.database)
            .options(format!("-c search_path={},extensions", self.schema));
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// The set that new tenants get.
pub(crate) fn base_set() -> MigrationSet {
    MigrationSet::from_files("base", migrations()).unwrap()
}

/// The migrations from one version to another, both included; the next migration is among them.
pub(crate) fn versions(from: i64, to: i64) -> Vec<Migration> {
    let mut files = migrations().to_vec();
    files.push(NEXT_MIGRATION);
    let set = MigrationSet::from_files("next", &files).unwrap();
    set.migrations().iter().filter(|migration| (from..=to).contains(&migration.version)).cloned().collect()
}

/// The one number that a query answers with.
pub(crate) async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}
