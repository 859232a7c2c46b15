//! The bare SQL of one home, issued directly.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tenantry_domain::{HomeId, HomeNames, Isolation, RoleName};
use tenantry_migration_set::MigrationSet;
use tenantry_tests::{HomeSession, World};
use tokio_postgres::{Client, Config};
use uuid::Uuid;

/// Kept connections and what can be worked out beforehand: verifiers, the set, the names of what is there already.
pub(crate) struct Floor<'w> {
    world: &'w World<'static>,
    /// The tenant that was looked at.
    model: String,
    /// In the admin database.
    admin: Client,
    /// In the shared database; for a database of its own a connection is made each time, as it must be.
    inside: Option<Client>,
    /// The template, or the shared database.
    base: String,
    set: MigrationSet,
    /// Verifiers of a login and of a migrator, and the migrator's password.
    verifiers: [String; 2],
    migrator_password: String,
}

/// What was made, to be taken away again.
pub(crate) struct Direct {
    pub(crate) took: Duration,
    home: HomeId,
}

impl<'w> Floor<'w> {
    /// Looks at a tenant that Tenantry has made: same template or shared database, same kind of verifiers.
    pub(crate) async fn over(world: &'w World<'static>, isolation: Isolation) -> Self {
        let slug = format!("model-{isolation}-{}", Uuid::now_v7().simple());
        let model = world.tenant(&slug).isolation(isolation).await;
        let session = world.connect(&model).await;
        let role = session.role().to_owned();
        let home = role.strip_prefix("h_").and_then(|role| role.strip_suffix("_a")).expect("a login's name");
        let home = HomeId::new(Uuid::parse_str(home).expect("a home's id"));
        let record = world.store().home(home).await.expect("the home's record");
        let admin = world.root(world.main_cluster(), "postgres").await;
        let verifier = async |role: &str| -> String {
            let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
            admin.query_one(sql, &[&role]).await.expect("a verifier").get(0)
        };
        let verifiers = [verifier(&role).await, verifier(record.home.names().migrator.as_str()).await];
        let (base, inside) = if isolation == Isolation::Schema {
            let name = record.home.database.as_str().to_owned();
            let inside = world.root(world.main_cluster(), &name).await;
            (name, Some(inside))
        } else {
            let catalog = world.catalog_client().await;
            let sql = "SELECT name FROM template WHERE cluster = $1 AND state = 'ready'";
            let row = catalog.query_one(sql, &[&world.main_cluster().id.as_uuid()]).await.expect("a template");
            (row.get(0), None)
        };
        let set = MigrationSet::from_files("sample", tenantry_sample::migrations()).expect("the sample's set");
        let migrator_password = record.secrets.migrator.expose().to_owned();
        Self { world, model: slug, admin, inside, base, set, verifiers, migrator_password }
    }

    /// The same over a connection of its own, for working side by side.
    pub(crate) async fn beside(&self) -> Self {
        let admin = self.world.root(self.world.main_cluster(), "postgres").await;
        let inside = match self.inside {
            Some(_) => Some(self.world.root(self.world.main_cluster(), &self.base).await),
            None => None,
        };
        Self {
            world: self.world,
            model: self.model.clone(),
            admin,
            inside,
            base: self.base.clone(),
            set: self.set.clone(),
            verifiers: self.verifiers.clone(),
            migrator_password: self.migrator_password.clone(),
        }
    }

    /// Makes a home: the statements that no way of doing it can leave out.
    pub(crate) async fn make(&self) -> Direct {
        let home = HomeId::new(Uuid::now_v7());
        let names = HomeNames::of(home);
        let began = Instant::now();
        run(&self.admin, &self.roles(&names)).await;
        if let Some(inside) = &self.inside {
            run(inside, &schema_of(home, &names)).await;
            self.replay(home, &names).await;
        } else {
            let name = format!("h_{}", home.simple());
            let create =
                format!("CREATE DATABASE {name} TEMPLATE {} STRATEGY wal_log ALLOW_CONNECTIONS false", self.base);
            run(&self.admin, &create).await;
            let HomeNames { login_a, login_b, read_only, migrator, .. } = &names;
            let open = format!(
                "BEGIN; REVOKE ALL ON DATABASE {name} FROM PUBLIC;
                 GRANT CONNECT ON DATABASE {name} TO {login_a}, {login_b}, {read_only}, {migrator};
                 ALTER DATABASE {name} ALLOW_CONNECTIONS true; COMMIT;"
            );
            run(&self.admin, &open).await;
            let inside = self.world.root(self.world.main_cluster(), &name).await;
            run(&inside, &self.interior(home, &names)).await;
        }
        Direct { took: began.elapsed(), home }
    }

    /// Takes a home away again.
    pub(crate) async fn unmake(&self, direct: Direct) {
        let names = HomeNames::of(direct.home);
        let name = format!("h_{}", direct.home.simple());
        let roles = names.all().map(RoleName::as_str).join(", ");
        if let Some(inside) = &self.inside {
            run(inside, &format!("DROP SCHEMA {name} CASCADE; DROP OWNED BY {roles}")).await;
            run(inside, &format!("DELETE FROM tenantry.stamp WHERE home = '{}'", direct.home)).await;
        } else {
            run(&self.admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
        run(&self.admin, &format!("DROP ROLE {roles}")).await;
    }

    /// Deletes the tenant that served as the model.
    pub(crate) async fn end(self) {
        drop((self.admin, self.inside));
        crate::remove(self.world, &self.model).await;
    }

    fn roles(&self, names: &HomeNames) -> String {
        let HomeNames { owner, app, login_a, login_b, read_only, migrator } = names;
        let [login_verifier, migrator_verifier] = &self.verifiers;
        let path = if self.inside.is_some() {
            names.owner.as_str().strip_suffix("_owner").expect("an owner's name")
        } else {
            "public"
        };
        let mut sql = format!(
            "BEGIN;
             CREATE ROLE {owner} NOLOGIN; CREATE ROLE {app} NOLOGIN;
             CREATE ROLE {login_a} LOGIN PASSWORD '{login_verifier}' CONNECTION LIMIT 10; CREATE ROLE {login_b} NOLOGIN;
             CREATE ROLE {read_only} LOGIN PASSWORD '{login_verifier}' CONNECTION LIMIT 10;
             CREATE ROLE {migrator} LOGIN PASSWORD '{migrator_verifier}' CONNECTION LIMIT 4;
             GRANT {app} TO {login_a}, {login_b}; GRANT {owner} TO {migrator};
             ALTER ROLE {read_only} SET default_transaction_read_only = on;"
        );
        for role in [login_a, login_b, read_only] {
            let _ = write!(
                sql,
                "ALTER ROLE {role} SET search_path = {path}, extensions;
                 ALTER ROLE {role} SET statement_timeout = 30000;
                 ALTER ROLE {role} SET idle_in_transaction_session_timeout = 60000;"
            );
        }
        if self.inside.is_some() {
            let base = &self.base;
            let _ = write!(
                sql,
                "GRANT {base}_homes TO {owner}, {app}, {read_only}, {migrator}; GRANT {base}_temp TO {owner};"
            );
        }
        sql + "COMMIT;"
    }

    fn interior(&self, home: HomeId, names: &HomeNames) -> String {
        let HomeNames { owner, app, read_only, .. } = names;
        let all = format!("{owner}, {app}, {read_only}");
        format!(
            "BEGIN; GRANT USAGE, CREATE ON SCHEMA public TO {owner};
             REASSIGN OWNED BY {template}_owner TO {owner}; DROP OWNED BY {template}_owner;
             GRANT USAGE ON SCHEMA tenantry, extensions TO {all}; GRANT SELECT ON TABLE tenantry.stamp TO {all};
             GRANT EXECUTE ON FUNCTION tenantry.attach(uuid, bigint) TO {all};
             GRANT TEMPORARY ON DATABASE h_{home} TO {owner};{grants}{stamp}COMMIT;",
            template = self.base,
            home = home.simple(),
            grants = grants("public", names),
            stamp = stamp(home, "public", names),
        )
    }

    /// The set's files as the home's own migrator, each in a transaction with its history row.
    async fn replay(&self, home: HomeId, names: &HomeNames) {
        let schema = format!("h_{}", home.simple());
        let mut config = Config::new();
        let address = self.world.server().address();
        config.host(address.ip().to_string()).port(address.port()).dbname(&self.base);
        config.user(names.migrator.as_str()).password(&self.migrator_password);
        let session = HomeSession::log_in(&config).await.expect("the migrator logs in");
        let begin = format!(
            "SET search_path = {schema}, extensions; SET ROLE {};
             CREATE TABLE refinery_schema_history (version int8 PRIMARY KEY, name text, applied_on text, checksum text);",
            names.owner
        );
        run(&session, &begin).await;
        for migration in self.set.migrations() {
            let sql = format!(
                "BEGIN;\n{}\n;\nINSERT INTO {schema}.refinery_schema_history VALUES ({}, '{}', '', '{}');\nCOMMIT;",
                migration.sql, migration.version, migration.name, migration.checksum
            );
            run(&session, &sql).await;
        }
    }
}

fn schema_of(home: HomeId, names: &HomeNames) -> String {
    let schema = format!("h_{}", home.simple());
    format!(
        "BEGIN; CREATE SCHEMA {schema}; GRANT USAGE, CREATE ON SCHEMA {schema} TO {};{}{}COMMIT;",
        names.owner,
        grants(&schema, names),
        stamp(home, &schema, names),
    )
}

fn grants(schema: &str, names: &HomeNames) -> String {
    let HomeNames { owner, app, read_only, .. } = names;
    let mut sql = format!("GRANT USAGE ON SCHEMA {schema} TO {app}, {read_only};");
    for (rights, objects, role) in [
        ("SELECT, INSERT, UPDATE, DELETE", "TABLES", app),
        ("SELECT", "TABLES", read_only),
        ("SELECT, USAGE, UPDATE", "SEQUENCES", app),
        ("SELECT", "SEQUENCES", read_only),
    ] {
        let _ = write!(
            sql,
            "GRANT {rights} ON ALL {objects} IN SCHEMA {schema} TO {role};
             ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT {rights} ON {objects} TO {role};"
        );
    }
    sql
}

fn stamp(home: HomeId, schema: &str, names: &HomeNames) -> String {
    let roles = names.all().map(|role| format!("'{role}'")).join(", ");
    format!(
        "INSERT INTO tenantry.stamp VALUES ('{home}', '{home}', 1, 'active', 1, '{schema}', ARRAY[{roles}]::name[]);"
    )
}

async fn run(client: &Client, sql: &str) {
    let outcome = client.batch_execute(sql).await;
    assert!(outcome.is_ok(), "{outcome:?}: {sql}");
}
