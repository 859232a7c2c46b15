//! A home as a tenant of the product has it: migrated by an owner without special rights, used by a login with grants on
//! rows only.

use tenantry_api::FeedCluster;
use tenantry_domain::{
    ClusterId, Credential, DatabaseName, FeedVersion, Generation, Limits, RoleName, Route, RouteState, RouteTarget,
    SchemaName, Secret, Slug, TenantId, TlsMode,
};
use tenantry_migration_set::{Migration, MigrationSet};
use tenantry_sample::{NEXT_MIGRATION, migrations};
use tenantry_testkit::{Login, Namespace, Server};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

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

    /// The home's route as the control plane would publish it, and the cluster that it names. The function that connections
    /// check their placement with is stood in for: it sets the search path and checks nothing.
    pub(crate) async fn route(&self, slug: &str) -> (Route, FeedCluster) {
        let admin = self.namespace.server().connect(&self.database).await;
        let (schema, app) = (&self.schema, &self.app.name);
        admin
            .batch_execute(&format!(
                "CREATE SCHEMA tenantry;
                 GRANT USAGE ON SCHEMA tenantry TO {app};
                 CREATE FUNCTION tenantry.attach(tenant uuid, generation bigint) RETURNS void
                 LANGUAGE plpgsql AS 'BEGIN PERFORM set_config(''search_path'', ''{schema}, extensions'', false); END';"
            ))
            .await
            .unwrap();
        let cluster = ClusterId::new(Uuid::now_v7());
        let role = RoleName::parse(app).unwrap();
        let credential = Credential { role, password: Some(Secret::new(self.app.password.clone())) };
        let target = RouteTarget {
            cluster,
            database: DatabaseName::parse(&self.database).unwrap(),
            schema: SchemaName::parse(schema).unwrap(),
            read_only_credential: credential.clone(),
            shared: None,
            credential,
        };
        let route = Route {
            version: FeedVersion(2),
            tenant: TenantId::new(Uuid::now_v7()),
            slug: Slug::parse(slug).unwrap(),
            hosts: Vec::new(),
            state: RouteState::Active,
            generation: Generation(1),
            target: Some(target),
            limits: Limits::default(),
            schema_version: base_set().latest_version(),
        };
        let address = self.namespace.server().address();
        let cluster = FeedCluster {
            version: FeedVersion(1),
            cluster,
            host: address.ip().to_string(),
            port: address.port(),
            tls_mode: TlsMode::Disable,
            tls_ca: None,
            replicas: Vec::new(),
            unleased_connections: None,
        };
        (route, cluster)
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
