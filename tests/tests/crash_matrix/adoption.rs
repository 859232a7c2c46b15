//! What was made by hand and is adopted: nothing of it is ever lost, whatever breaks on the way there, back, or on.

use std::collections::HashMap;

use tenantry_api::{AdoptTenant, ClusterRef, Operation, Tenant};
use tenantry_domain::{DatabaseName, Isolation, Labels, SchemaName, SchemaVersion, Slug, TenantId, TenantStatus};
use tenantry_testkit::Server;
use tenantry_tests::World;

/// Who owned everything, and who may read it.
const OWNERS: &str = "CREATE ROLE legacy LOGIN PASSWORD 'old'; CREATE ROLE legacy_reader";
/// What was made by hand.
const OBJECTS: &str = "
    CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL);
    CREATE FUNCTION word_count(body text) RETURNS integer LANGUAGE sql AS 'SELECT 1';
    CREATE VIEW counted AS SELECT id FROM notes; INSERT INTO notes (body) VALUES ('by hand');
    GRANT SELECT ON notes TO legacy_reader; RESET ROLE; CREATE TABLE of_root (id int)";

/// The schema that is adopted where it is not the whole database.
const SCHEMA: &str = "sales";

/// A server with databases that were made by hand, as many as there are cases.
pub(crate) struct Legacy<'s> {
    server: &'s Server,
    portraits: [(Isolation, String); 2],
    made: usize,
    adopted: HashMap<TenantId, (Isolation, String)>,
    /// Those that were given back.
    free: Vec<(Isolation, String)>,
}

impl<'s> Legacy<'s> {
    pub(crate) async fn on(server: &'s Server) -> Self {
        let root = server.connect("postgres").await;
        root.batch_execute(OWNERS).await.expect("roles");
        let mut portraits = Vec::new();
        for isolation in [Isolation::Database, Isolation::Schema] {
            let name = model(isolation);
            root.batch_execute(&format!("CREATE DATABASE {name} OWNER legacy")).await.expect("a database");
            let inside = server.connect(&name).await;
            let place = match isolation {
                Isolation::Schema => format!("CREATE SCHEMA {SCHEMA}; SET search_path = {SCHEMA};"),
                _ => String::new(),
            };
            inside.batch_execute(&format!("SET ROLE legacy; {place} {OBJECTS}")).await.expect("objects");
            drop(inside);
            portraits.push((isolation, portrait(server, &name).await));
        }
        let portraits = portraits.try_into().expect("two of them");
        Self { server, portraits, made: 0, adopted: HashMap::new(), free: Vec::new() }
    }

    /// Asks for the adoption of one of them.
    pub(crate) async fn adopt(&mut self, world: &World<'_>, isolation: Isolation) -> (Tenant, Operation) {
        let free = self.free.iter().position(|(of, _)| *of == isolation);
        let name = match free {
            Some(index) => self.free.swap_remove(index).1,
            None => self.make(isolation).await,
        };
        let wish = AdoptTenant {
            slug: Slug::parse(&format!("t{}", uuid::Uuid::now_v7().simple())).expect("a slug"),
            name: None,
            plan: None,
            parent: None,
            labels: Labels::default(),
            cluster: ClusterRef::Id(world.main_cluster().id),
            database: DatabaseName::parse(&name).expect("a name"),
            schema: (isolation == Isolation::Schema).then(|| SchemaName::parse(SCHEMA).expect("a name")),
            baseline_version: Some(SchemaVersion(3)),
        };
        let begun = world.client().adopt_tenant(&wish, None).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        self.adopted.insert(begun.tenant.id, (isolation, name));
        (begun.tenant, begun.operation)
    }

    async fn make(&mut self, isolation: Isolation) -> String {
        self.made += 1;
        let name = format!("legacy_{}", self.made);
        let sql = format!("CREATE DATABASE {name} OWNER legacy TEMPLATE {}", model(isolation));
        self.server.connect("postgres").await.batch_execute(&sql).await.expect("a database");
        name
    }

    /// What belongs to no tenant any more is as it was before, to the last row and right.
    pub(crate) async fn check(&mut self, tenant: &Tenant) {
        if !matches!(tenant.status, TenantStatus::Deleted | TenantStatus::Failed) {
            return;
        }
        let (isolation, name) = self.adopted.remove(&tenant.id).expect("an adopted tenant");
        let before = &self.portraits.iter().find(|(of, _)| *of == isolation).expect("a portrait").1;
        let after = portrait(self.server, &name).await;
        let lines = |one: &str, other: &str| -> Vec<String> {
            one.lines().filter(|line| !other.lines().any(|it| it == *line)).map(str::to_owned).collect()
        };
        let (gone, new) = (lines(before, &after), lines(&after, before));
        assert_eq!(&after, before, "{tenant:?}: it lost {gone:?} and has {new:?}");
        self.free.push((isolation, name));
    }
}

fn model(isolation: Isolation) -> String {
    format!("legacy_of_{isolation}")
}

/// Every object with its rows, its owner and its rights, as `pg_dump` tells them.
async fn portrait(server: &Server, name: &str) -> String {
    let mut dump = tokio::process::Command::new("pg_dump");
    let dump = dump.args(["--dbname", &server.url(name)]).output().await.expect("pg_dump");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let dump = String::from_utf8(dump.stdout).expect("text");
    // A server that was killed leaves gaps in sequences.
    let is_its_own = |line: &&str| !line.contains("restrict") && !line.contains("pg_catalog.setval");
    dump.lines().filter(is_its_own).collect::<Vec<_>>().join("\n")
}
