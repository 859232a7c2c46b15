//! Throw-away PostgreSQL servers: one that the tests of a process share, and private ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tenantry_pglocal::{Cluster, ClusterBuilder, Listen};
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::{Client, Config};

use crate::{scan, sql};

/// The one server of this process. It is never dropped: a static is not. It ends with the process all the same, and
/// its directory with it; see `tenantry_pglocal`.
static SHARED: OnceCell<Server> = OnceCell::const_new();

/// Lets every sequence fetch anew where it is. Otherwise a clone hands out values twice when its server is killed: it
/// takes over how many more values a sequence may count to, but not the log that says so.
const FETCH_ANEW: &str = "SELECT setval(seqrelid, pg_sequence_last_value(seqrelid)) FROM pg_sequence";

/// A PostgreSQL server for tests: no fsync, 300 connections, on TCP and on a Unix socket.
#[derive(Debug)]
pub struct Server {
    cluster: Cluster,
    templates: Mutex<HashMap<String, Arc<OnceCell<String>>>>,
}

/// A role that can log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The role's name.
    pub name: String,
    /// Its password: letters and digits.
    pub password: String,
}

impl Server {
    /// The server that all tests of this process share, started by the first that asks. Databases and roles belong
    /// to the whole server: take names from a [`Namespace`](crate::Namespace).
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::own).await
    }

    /// A server for one test alone, for example one that is killed. Ends when dropped.
    pub async fn own() -> Self {
        Self::own_with(|builder| builder).await
    }

    /// A server for one test alone, with other settings:
    /// `Server::own_with(|builder| builder.setting("max_connections", "10"))`.
    pub async fn own_with(change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let builder = Cluster::temporary()
            .listen(Listen::AnyPort)
            .settings([("max_connections", "300"), ("max_prepared_transactions", "10")]);
        let cluster = match change(builder).start().await {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error}"),
        };
        Self { cluster, templates: Mutex::default() }
    }

    /// A server for one test alone that follows this one as a physical standby, with the same superuser. Ends when dropped,
    /// which must be before this server ends.
    pub async fn standby(&self) -> Self {
        let cluster = match self.cluster.standby().listen(Listen::AnyPort).start().await {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error}"),
        };
        Self { cluster, templates: Mutex::default() }
    }

    /// The cluster behind this server, to restart, kill or pause it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where the server listens on TCP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.cluster.port()))
    }

    /// The superuser's way into the database `postgres`; other databases by [`Config::dbname`].
    pub fn config(&self) -> Config {
        self.config_at(self.address())
    }

    /// Like [`config`](Self::config), by way of another address, such as a
    /// [`BreakableSocket`](crate::BreakableSocket)'s.
    pub fn config_at(&self, address: SocketAddr) -> Config {
        let mut config = Config::new();
        config
            .host(address.ip().to_string())
            .port(address.port())
            .user(self.cluster.user())
            .password(self.cluster.password())
            .dbname("postgres");
        config
    }

    /// The superuser's URL of a database. Holds the password.
    pub fn url(&self, database: &str) -> String {
        self.url_at(self.address(), database)
    }

    /// Like [`url`](Self::url), by way of another address.
    pub fn url_at(&self, address: SocketAddr, database: &str) -> String {
        let (user, password) = (self.cluster.user(), self.cluster.password());
        format!("postgres://{user}:{password}@{address}/{database}")
    }

    /// Connects the superuser to a database. The connection belongs to the runtime of the caller's test.
    pub async fn connect(&self, database: &str) -> Client {
        sql::connect(self.config().dbname(database)).await.expect("a connection to the test server")
    }

    /// Connects another role to a database.
    pub async fn connect_as(&self, login: &Login, database: &str) -> Result<Client, tokio_postgres::Error> {
        sql::connect(self.config().user(&login.name).password(&login.password).dbname(database)).await
    }

    /// Makes an admin as managed PostgreSQL gives its customers: `NOSUPERUSER CREATEDB CREATEROLE`. It stays until
    /// the server ends; [`Namespace::admin_without_superuser`](crate::Namespace::admin_without_superuser) makes one
    /// that is dropped earlier.
    pub async fn admin_without_superuser(&self) -> Login {
        let name = format!("admin_{:08x}", rand::random::<u32>());
        self.create_login(name, "NOSUPERUSER CREATEDB CREATEROLE").await
    }

    /// The name of a database that `prepare` has filled, made once per process and closed to connections: to be cloned
    /// by [`Namespace::database_from`](crate::Namespace::database_from). `prepare` gets the superuser's way into it.
    pub async fn template(&self, name: &str, prepare: impl AsyncFnOnce(Config)) -> String {
        let cell = Arc::clone(self.templates.lock().await.entry(name.to_owned()).or_default());
        let template = cell.get_or_init(async || {
            let database = format!("template_{name}");
            let quoted = sql::identifier(&database);
            let client = self.connect("postgres").await;
            // Half made by a test that panicked in `prepare`.
            sql::run(&client, &format!("DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")).await;
            sql::run(&client, &format!("CREATE DATABASE {quoted} TEMPLATE template0 STRATEGY wal_log")).await;
            let mut config = self.config();
            config.dbname(&database);
            prepare(config).await;
            sql::run(&self.connect(&database).await, FETCH_ANEW).await;
            sql::run(&client, &format!("ALTER DATABASE {quoted} ALLOW_CONNECTIONS false")).await;
            // A session that is still ending would make clones wait.
            let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1";
            client.query(end, &[&database]).await.expect("the sessions of a template end");
            database
        });
        template.await.clone()
    }

    /// The databases whose names start with `prefix`, in order.
    pub async fn databases_like(&self, prefix: &str) -> Vec<String> {
        scan::databases_like(&self.connect("postgres").await, prefix).await
    }

    /// The roles whose names start with `prefix`, in order.
    pub async fn roles_like(&self, prefix: &str) -> Vec<String> {
        scan::roles_like(&self.connect("postgres").await, prefix).await
    }

    pub(crate) async fn create_login(&self, name: String, attributes: &str) -> Login {
        let password = sql::random_password();
        let role = sql::identifier(&name);
        let statement = format!("CREATE ROLE {role} LOGIN {attributes} PASSWORD '{password}'");
        sql::run(&self.connect("postgres").await, &statement).await;
        Login { name, password }
    }
}
