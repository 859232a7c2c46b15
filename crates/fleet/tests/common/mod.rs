//! A cluster's admin, a fleet, and homes with names that no other test has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "a failed preparation is a failed test, and each file uses its part"
)]

use tenantry_domain::{
    ClusterId, DatabaseName, Endpoint, Generation, Home, HomeId, Isolation, Limits, LoginSlot, RoleName, RouteState,
    SchemaName, Secret, TenantId, TlsMode,
};
use tenantry_fleet::{ClusterTarget, Fence, Fleet, FleetConfig, RoleSecrets, Stamp, random_password};
use tenantry_migration_set::MigrationSet;
use tenantry_testkit::{Login, Namespace, Server};
use tokio_postgres::Client;
use uuid::Uuid;

/// The two kinds of admin that a cluster is managed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    Superuser,
    Managed,
}

pub const ADMINS: [Admin; 2] = [Admin::Superuser, Admin::Managed];

/// A prepared cluster.
pub struct Arena {
    pub namespace: Namespace<'static>,
    pub fleet: Fleet,
    pub target: ClusterTarget,
    pub findings: Vec<String>,
}

impl Arena {
    pub async fn new(admin: Admin) -> Self {
        let server = Server::shared().await;
        let namespace = Namespace::on(server);
        let database = namespace.database("control").await;
        let login = match admin {
            Admin::Superuser => namespace.login("super", "SUPERUSER").await,
            Admin::Managed => namespace.admin_without_superuser().await,
        };
        let owner = format!("ALTER DATABASE \"{database}\" OWNER TO \"{}\"", login.name);
        server.connect("postgres").await.batch_execute(&owner).await.unwrap();
        let mut target = target(server, &login, &database);
        let fleet = Fleet::new(FleetConfig::default());
        let inspection = fleet.inspect(&target).await.unwrap();
        assert_eq!(inspection.obstacles(), Vec::<String>::new());
        assert_eq!(inspection.is_superuser, admin == Admin::Superuser);
        target.locale = inspection.locale;
        target.server_version = inspection.server_version;
        let findings = fleet.prepare_cluster(&target).await.unwrap();
        Self { namespace, fleet, target, findings }
    }

    pub fn server(&self) -> &'static Server {
        self.namespace.server()
    }

    /// A new home with isolation `database`; nothing exists yet.
    pub fn database_home(&self) -> Tenant {
        let id = HomeId::new(Uuid::now_v7());
        self.namespace.claim(format!("h_{}", id.simple()));
        Tenant::new(Home {
            id,
            cluster: self.target.id,
            isolation: Isolation::Database,
            database: DatabaseName::of_home(id),
            schema: SchemaName::public(),
        })
    }

    /// A new home with isolation `schema`; nothing exists yet.
    pub fn schema_home(&self, database: &DatabaseName) -> Tenant {
        let id = HomeId::new(Uuid::now_v7());
        self.namespace.claim(format!("h_{}", id.simple()));
        Tenant::new(Home {
            id,
            cluster: self.target.id,
            isolation: Isolation::Schema,
            database: database.clone(),
            schema: SchemaName::of_home(id),
        })
    }

    /// The name for a shared database.
    pub fn shared_name(&self) -> DatabaseName {
        let id = Uuid::now_v7();
        self.namespace.claim(format!("s_{}", id.simple()));
        DatabaseName::shared(id)
    }

    /// The name for a template.
    pub fn template_name(&self) -> DatabaseName {
        let id = Uuid::now_v7();
        self.namespace.claim(format!("t_{}", id.simple()));
        DatabaseName::template(id)
    }

    pub async fn shared_database(&self) -> DatabaseName {
        let name = self.shared_name();
        self.fleet.ensure_shared_database(&self.target, &name).await.unwrap();
        name
    }

    /// Makes a home whole, with its stamp, and brings it to a set.
    pub async fn provision(&self, tenant: &Tenant, template: Option<&DatabaseName>, set: Option<&MigrationSet>) {
        self.fleet.ensure_home(&self.target, &tenant.spec(template)).await.unwrap();
        if let Some(set) = set {
            let options = tenantry_fleet::ApplyOptions::default();
            let password = &tenant.secrets.migrator;
            self.fleet.apply(&self.target, &tenant.home, password, set, &options).await.unwrap();
        }
    }

    /// A session as one of the home's roles.
    pub async fn log_in(&self, role: &RoleName, password: &Secret, database: &DatabaseName) -> Result<Client, String> {
        let login = Login { name: role.to_string(), password: password.expose().to_owned() };
        let result = self.server().connect_as(&login, database.as_str()).await;
        result.map_err(|error| sqlstate(&error))
    }

    /// A session as the home's application.
    pub async fn app(&self, tenant: &Tenant) -> Client {
        let names = tenant.home.names();
        self.log_in(&names.login_a, &tenant.secrets.login, &tenant.home.database).await.unwrap()
    }

    /// A session of the server's superuser.
    pub async fn root(&self, database: &DatabaseName) -> Client {
        self.server().connect(database.as_str()).await
    }
}

/// A home and what belongs to it.
pub struct Tenant {
    pub id: TenantId,
    pub home: Home,
    pub fence: Fence,
    pub secrets: RoleSecrets,
    pub limits: Limits,
}

impl Tenant {
    fn new(home: Home) -> Self {
        Self {
            id: TenantId::new(Uuid::now_v7()),
            fence: Fence { home: home.id, epoch: 1 },
            home,
            secrets: RoleSecrets {
                slot: LoginSlot::A,
                login: random_password(),
                read_only: random_password(),
                migrator: random_password(),
            },
            limits: Limits { connections: Some(5), statement_timeout_ms: Some(30_000), ..Limits::default() },
        }
    }

    pub fn stamp(&self) -> Stamp {
        Stamp { tenant: self.id, generation: Generation::FIRST, state: RouteState::Active }
    }

    pub fn spec<'a>(&'a self, template: Option<&'a DatabaseName>) -> tenantry_fleet::HomeSpec<'a> {
        tenantry_fleet::HomeSpec {
            home: &self.home,
            fence: self.fence,
            secrets: &self.secrets,
            limits: &self.limits,
            template,
            stamp: Some(self.stamp()),
        }
    }
}

/// The way of a login to a server.
pub fn target(server: &Server, login: &Login, database: &str) -> ClusterTarget {
    ClusterTarget::unseen(
        ClusterId::new(Uuid::now_v7()),
        Endpoint::new(&server.address().ip().to_string(), server.address().port()).unwrap(),
        TlsMode::Disable,
        None,
        login.name.clone(),
        Secret::new(login.password.clone()),
        DatabaseName::parse(database).unwrap(),
    )
}

/// A set with what a product's schema has: tables, keys, a sequence, a view, a function, a trigger, data.
pub fn airline() -> MigrationSet {
    set(&[
        (
            "V1__aircraft.sql",
            "CREATE TABLE aircraft (tailnum text PRIMARY KEY, seats int);\n\
             INSERT INTO aircraft VALUES ('N1', 180), ('N2', 90);",
        ),
        (
            "V2__flights.sql",
            "CREATE TABLE flights (id bigserial PRIMARY KEY, tailnum text REFERENCES aircraft, delay int);\n\
             CREATE INDEX flights_delay ON flights (delay);",
        ),
        (
            "V3__audit.sql",
            "CREATE TABLE changes (id bigint GENERATED ALWAYS AS IDENTITY, what text);\n\
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$\n\
             BEGIN INSERT INTO changes (what) VALUES (TG_OP); RETURN NEW; END $$;\n\
             CREATE TRIGGER note AFTER INSERT ON flights FOR EACH ROW EXECUTE FUNCTION note();\n\
             CREATE VIEW late AS SELECT * FROM flights WHERE delay > 15;",
        ),
    ])
}

pub fn set(files: &[(&str, &str)]) -> MigrationSet {
    MigrationSet::from_files("test", files).unwrap()
}

pub fn sqlstate(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| format!("no sqlstate: {error}"), |code| code.code().to_owned())
}

/// The SQLSTATE with which statements fail; panics where they succeed.
pub async fn refusal(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => panic!("was allowed: {sql}"),
        Err(error) => sqlstate(&error),
    }
}

pub async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}
