//! Names of its own for each test on a server that many tests share.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio_postgres::{Client, Config};

use crate::server::{Login, Server};
use crate::{scan, sql};

/// A prefix that no other test uses. What bears it, databases, roles and replication slots, is dropped at the end:
/// when the name space is dropped, also by a panic, or earlier by [`end`](Self::end).
#[derive(Debug)]
pub struct Namespace<'a> {
    server: &'a Server,
    prefix: String,
    claimed: Mutex<Vec<String>>,
}

impl<'a> Namespace<'a> {
    /// A new name space on this server.
    pub fn on(server: &'a Server) -> Self {
        let prefix = format!("t{:012x}_", rand::random::<u64>() & 0xFFFF_FFFF_FFFF);
        Self { server, claimed: Mutex::new(vec![prefix.clone()]), prefix }
    }

    /// The server that the names are on.
    pub fn server(&self) -> &'a Server {
        self.server
    }

    /// What the names start with: `t`, twelve hexadecimal digits, `_`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A name in this name space for an object that the test makes itself.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Has objects dropped at the end as well whose names start with `prefix`, for code under test that chooses its
    /// names itself.
    pub fn claim(&self, prefix: impl Into<String>) {
        let prefix = prefix.into();
        assert!(prefix.len() > 4, "a prefix as short as `{prefix}` is not one test's own");
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).push(prefix);
    }

    /// Makes an empty database and answers with its name.
    pub async fn database(&self, name: &str) -> String {
        self.database_from(name, "template0").await
    }

    /// Makes a copy of a template, see [`Server::template`], and answers with its name.
    pub async fn database_from(&self, name: &str, template: &str) -> String {
        let database = self.name(name);
        let (quoted, template) = (sql::identifier(&database), sql::identifier(template));
        let statement = format!("CREATE DATABASE {quoted} TEMPLATE {template} STRATEGY wal_log");
        sql::run(&self.server.connect("postgres").await, &statement).await;
        database
    }

    /// Makes a role that can log in, with further attributes such as `CREATEDB`, and a random password.
    pub async fn login(&self, name: &str, attributes: &str) -> Login {
        self.server.create_login(self.name(name), attributes).await
    }

    /// Makes an admin as managed PostgreSQL gives its customers: `NOSUPERUSER CREATEDB CREATEROLE`.
    pub async fn admin_without_superuser(&self) -> Login {
        self.login("admin", "NOSUPERUSER CREATEDB CREATEROLE").await
    }

    /// Every database and role of this name space (claimed prefixes included) that exists now.
    pub async fn objects(&self) -> Vec<String> {
        let client = self.server.connect("postgres").await;
        let mut found = Vec::new();
        for prefix in self.claimed() {
            found.extend(
                scan::databases_like(&client, &prefix).await.into_iter().map(|name| format!("database {name}")),
            );
            found.extend(scan::roles_like(&client, &prefix).await.into_iter().map(|name| format!("role {name}")));
        }
        found
    }

    /// Drops everything now and panics where something cannot be dropped.
    pub async fn end(self) {
        clean(self.server.config(), self.claimed()).await;
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn claimed(&self) -> Vec<String> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let prefixes = self.claimed();
        if prefixes.is_empty() || !self.server.cluster().is_running() {
            return;
        }
        let config = self.server.config();
        // A destructor cannot wait within the test's runtime, so a thread brings its own.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(clean(config, prefixes));
        });
        let outcome = cleaning.join();
        assert!(outcome.is_ok() || std::thread::panicking(), "a name space could not be dropped; see above");
    }
}

async fn clean(config: Config, prefixes: Vec<String>) {
    let client = sql::connect(&config).await.expect("a connection to the test server");
    for prefix in &prefixes {
        for slot in scan::slots_like(&client, prefix).await {
            drop_slot(&client, &slot).await;
        }
        for database in scan::databases_like(&client, prefix).await {
            drop_database(&client, &database).await;
        }
    }
    // A role of one prefix may own databases of another.
    for prefix in &prefixes {
        for role in scan::roles_like(&client, prefix).await {
            drop_role(&client, &config, &role).await;
        }
    }
}

async fn drop_slot(client: &Client, slot: &str) {
    let end = "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots \
               WHERE slot_name = $1 AND active_pid IS NOT NULL";
    client.query(end, &[&slot]).await.expect("the user of a slot ends");
    client.query("SELECT pg_drop_replication_slot($1)", &[&slot]).await.expect("a slot is dropped");
}

async fn drop_database(client: &Client, database: &str) {
    // A database slot survives `FORCE` and prevents the drop.
    let slots = "SELECT slot_name FROM pg_replication_slots WHERE database = $1";
    for slot in sql::names(client, slots, database).await {
        drop_slot(client, &slot).await;
    }
    let quoted = sql::identifier(database);
    let is_template = "SELECT datname FROM pg_database WHERE datname = $1 AND datistemplate";
    if !sql::names(client, is_template, database).await.is_empty() {
        sql::run(client, &format!("ALTER DATABASE {quoted} IS_TEMPLATE false")).await;
    }
    sql::run(client, &format!("DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")).await;
}

async fn drop_role(client: &Client, config: &Config, role: &str) {
    let quoted = sql::identifier(role);
    // Sessions of a role outlive it, and would hold what it owns.
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = $1";
    client.query(end, &[&role]).await.expect("the sessions of a role end");
    let drop = format!("DROP ROLE IF EXISTS {quoted}");
    if client.batch_execute(&drop).await.is_ok() {
        return;
    }
    // It has rights or objects in databases that stay.
    let open = "SELECT datname FROM pg_database WHERE datallowconn AND datname <> $1";
    for database in sql::names(client, open, "").await {
        let mut inside = config.clone();
        if let Ok(client) = sql::connect(inside.dbname(&database)).await {
            sql::run(&client, &format!("DROP OWNED BY {quoted} CASCADE")).await;
        }
    }
    sql::run(client, &drop).await;
}
