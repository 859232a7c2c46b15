//! Databases that were made by hand, and become tenants as they are.
//!
//! Each on a server of its own: registering a cluster closes every database of its server to `PUBLIC`, also those of other
//! tests.

use serde_json::json;
use tenantry_api::{AdoptTenant, ClusterRef, DecideOperation, Tenant, TenantRef, TenantWithOperation, WaitSeconds};
use tenantry_domain::{
    ClusterId, DatabaseName, Isolation, Labels, OperationState, RolloutState, SchemaName, SchemaVersion, Slug,
    TenantStatus,
};
use tenantry_testkit::Server;
use tenantry_tests::{Admin, HomeSession, World, files};
use tokio_postgres::{Client, Config};
use uuid::Uuid;

/// A database with everything that somebody may have in one, made by hand: several owners and schemas, grants on tables,
/// columns, sequences, functions, types and to everybody, default privileges, generated keys, large objects.
struct Legacy<'s> {
    server: &'s Server,
    client: tenantry_api::Client,
    cluster: ClusterId,
    name: String,
}

impl<'s> Legacy<'s> {
    async fn make(server: &'s Server, world: &World<'_>, admin: Admin) -> Self {
        let legacy = Self {
            server,
            client: world.client().clone(),
            cluster: world.main_cluster().id,
            name: format!("legacy_{}", Uuid::now_v7().simple()),
        };
        let name = &legacy.name;
        let root = legacy.server.connect("postgres").await;
        root.batch_execute(&format!(
            "CREATE ROLE {name}_o LOGIN PASSWORD 'old'; CREATE ROLE {name}_second NOLOGIN;
             CREATE ROLE {name}_reader LOGIN PASSWORD 'old';"
        ))
        .await
        .unwrap();
        root.batch_execute(&format!("CREATE DATABASE {name} OWNER {name}_o")).await.unwrap();
        let inside = legacy.root().await;
        inside
            .batch_execute(&format!(
                "SET ROLE {name}_o;
                 CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL);
                 CREATE INDEX notes_by_body ON notes (body);
                 CREATE FUNCTION word_count(body text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
                     SELECT cardinality(string_to_array(body, ' ')) $$;
                 CREATE VIEW counted AS SELECT id, word_count(body) AS words FROM notes;
                 INSERT INTO notes (body) VALUES ('the first note'), ('a second one');
                 CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
                 CREATE TYPE pair AS (a int, b int); CREATE SEQUENCE numbers;
                 CREATE TABLE customers (id serial PRIMARY KEY, mood mood, share percent, \"Odd \"\"Name\" text);
                 INSERT INTO customers (mood, share) VALUES ('good', 7);
                 CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at);
                 CREATE TABLE parts_13 PARTITION OF parts FOR VALUES FROM ('2013-01-01') TO ('2014-01-01');
                 CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM customers;
                 CREATE PROCEDURE tidy() LANGUAGE sql AS 'DELETE FROM customers WHERE false';
                 CREATE FUNCTION secret() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
                 CREATE AGGREGATE most(int) (SFUNC = int4larger, STYPE = int);
                 CREATE STATISTICS known (ndistinct) ON mood, share FROM customers;
                 CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
                 CREATE SCHEMA reports; CREATE TABLE reports.daily (day date);
                 SELECT lo_create(0);
                 GRANT SELECT, INSERT ON notes TO {name}_reader; GRANT SELECT (mood) ON customers TO {name}_reader;
                 GRANT USAGE ON SEQUENCE customers_id_seq TO {name}_reader; GRANT USAGE ON SCHEMA reports TO {name}_reader;
                 GRANT SELECT ON customers TO {name}_second WITH GRANT OPTION;
                 REVOKE EXECUTE ON FUNCTION secret() FROM PUBLIC; GRANT EXECUTE ON FUNCTION secret() TO {name}_reader;
                 REVOKE USAGE ON TYPE mood FROM PUBLIC; GRANT USAGE ON TYPE mood TO {name}_second;
                 ALTER DEFAULT PRIVILEGES IN SCHEMA reports GRANT SELECT ON TABLES TO {name}_reader;
                 GRANT CREATE ON SCHEMA public TO {name}_second; GRANT TEMPORARY ON DATABASE {name} TO {name}_reader;
                 RESET ROLE; SET ROLE {name}_second;
                 GRANT SELECT ON customers TO {name}_reader; CREATE TABLE seconds (id int);
                 RESET ROLE; COMMENT ON TABLE notes IS 'made by hand';"
            ))
            .await
            .unwrap();
        match admin {
            Admin::Superuser => inside.batch_execute("CREATE TABLE of_root (id int)").await.unwrap(),
            Admin::Managed => {
                let sql = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()";
                let admin: String = world.fences().await.query_one(sql, &[]).await.unwrap().get(0);
                let grant = format!("GRANT {name}_o, {name}_second TO \"{admin}\"");
                inside.batch_execute(&grant).await.unwrap();
            }
        }
        legacy
    }

    async fn root(&self) -> Client {
        self.server.connect(&self.name).await
    }

    /// As its programs connect.
    async fn login(&self, suffix: &str) -> Result<HomeSession, tokio_postgres::Error> {
        let address = self.server.address();
        let mut config = Config::new();
        config.host(address.ip().to_string()).port(address.port()).dbname(&self.name);
        config.user(format!("{}_{suffix}", self.name)).password("old");
        HomeSession::log_in(&config).await
    }

    fn wish(&self, slug: &str) -> AdoptTenant {
        AdoptTenant {
            slug: Slug::parse(slug).unwrap(),
            name: None,
            plan: None,
            parent: None,
            labels: Labels::default(),
            cluster: ClusterRef::Id(self.cluster),
            database: DatabaseName::parse(&self.name).unwrap(),
            schema: None,
            baseline_version: Some(SchemaVersion(3)),
        }
    }

    async fn adopt(&self, wish: &AdoptTenant) -> Tenant {
        let adopted = self.client.adopt_tenant(wish, WaitSeconds::new(60).ok()).await.unwrap();
        assert_eq!(adopted.tenant.status, TenantStatus::Active, "{:?}", adopted.operation.error);
        adopted.tenant
    }

    /// What `pg_dump` says of everything but the data: every object with its owner, rights and comment.
    async fn portrait(&self) -> String {
        let dump = tokio::process::Command::new("pg_dump")
            .args(["--schema-only", "--dbname", &self.server.url(&self.name)])
            .output()
            .await
            .unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let dump = String::from_utf8(dump.stdout).unwrap();
        let lines = dump.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
        // The database's own rights and owner, and memberships, are in no dump of one database.
        let sql = "SELECT format('%s %s %s', pg_get_userbyid(datdba), coalesce(datacl, acldefault('d', datdba)),
                          (SELECT string_agg(o.rolname || '<' || r.rolname, ',' ORDER BY o.rolname, r.rolname)
                             FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member JOIN pg_roles o ON o.oid = m.roleid
                            WHERE starts_with(r.rolname, datname) OR starts_with(o.rolname, datname)))
                   FROM pg_database WHERE datname = current_database()";
        let database: String = self.root().await.query_one(sql, &[]).await.unwrap().get(0);
        lines.chain([database.as_str()]).collect::<Vec<_>>().join("\n")
    }

    /// Forgets what was made by hand; the database is gone where a tenant took it along.
    async fn end(self) {
        let root = self.server.connect("postgres").await;
        root.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await.unwrap();
        root.batch_execute(&format!("DROP ROLE {0}_o, {0}_second, {0}_reader", self.name)).await.unwrap();
    }
}

async fn ended(world: &World<'_>, begun: TenantWithOperation, status: TenantStatus) {
    let operation = world.settled(begun.operation.id).await;
    assert_eq!(operation.state, OperationState::Succeeded, "{operation:?}");
    assert_eq!(world.show(&begun.tenant).await.status, status);
}

async fn cancel(world: &World<'_>, tenant: &Tenant) {
    let begun = world.client().cancel_adoption(&tenant.id.into(), &DecideOperation::default(), None).await.unwrap();
    ended(world, begun, TenantStatus::Deleted).await;
}

async fn confirm(world: &World<'_>, tenant: &Tenant) {
    let begun = world.client().confirm_adoption(&tenant.id.into(), None).await.unwrap();
    ended(world, begun, TenantStatus::Active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_made_by_hand_becomes_a_tenant_and_nobody_is_shut_out_until_somebody_says_so() {
    let server = Server::own().await;
    let world = World::builder().homes_on(&server).start().await;
    let legacy = Legacy::make(&server, &world, Admin::Superuser).await;
    let (old, reader) = (legacy.login("o").await.unwrap(), legacy.login("reader").await.unwrap());
    let wish = legacy.wish("acme");
    let portrait = legacy.portrait().await;

    let report = world.client().preview_adoption(&wish).await.unwrap();
    let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert!(report.is_possible, "{report:?}");
    for expected in
        ["owned_by_superuser", "several_owners", "sessions", "public_rights", "security_definers", "other_schemas"]
    {
        assert!(codes.contains(&expected), "{expected}: {codes:?}");
    }
    assert_eq!((report.isolation, report.schema_version.0), (Isolation::Database, 3));
    let wrong = AdoptTenant { baseline_version: Some(SchemaVersion(99)), ..wish.clone() };
    let body = serde_json::to_value(&wrong).unwrap();
    let refused = world.wire().post("/v1/tenants/adopt", &body).await;
    refused.problem(409, "conflict");
    assert!(refused.text.contains("baseline_unknown"), "{}", refused.text);
    assert_eq!(legacy.portrait().await, portrait, "looking changes nothing");

    let acme = legacy.adopt(&wish).await;
    assert_eq!((acme.isolation, acme.schema_version.0, acme.generation.0), (Isolation::Database, 3, 1));
    let again = serde_json::to_value(legacy.wish("again")).unwrap();
    world.wire().post("/v1/tenants/adopt", &again).await.problem(409, "conflict");

    // Both the tenant's own login and the old ones read and write the same rows.
    let home = world.connect(&acme).await;
    assert_eq!(home.one::<i64>("SELECT count(*) FROM notes").await, 2);
    home.run("INSERT INTO notes (body) VALUES ('from the tenant'); UPDATE customers SET share = 8; SELECT nextval('numbers')")
        .await;
    home.run("INSERT INTO seconds VALUES (1); INSERT INTO of_root VALUES (1); SELECT * FROM reports.daily").await;
    assert_eq!(home.refusal("DROP TABLE notes").await, "42501");
    old.run("INSERT INTO notes (body) VALUES ('from the old owner'); ALTER TABLE notes ADD COLUMN since date").await;
    old.run("CREATE TABLE made_since (id int); INSERT INTO seconds VALUES (2)").await;
    reader.run("SELECT * FROM notes; SELECT mood FROM customers; INSERT INTO notes (body) VALUES ('read')").await;
    assert_eq!(home.one::<i64>("SELECT count(*) FROM notes").await, 5);

    // Nothing may drop what may have to be given back.
    world.wire().delete(&format!("/v1/tenants/{}", acme.id)).await.problem(409, "conflict");

    let next = files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n");
    let set = world.push("next", &next).await;
    let rollout = world.begin_rollout(&set).await;
    let rolled = world.rolled_out(rollout.id).await;
    assert_eq!((rolled.state, rolled.counts.failed), (RolloutState::Succeeded, 0), "{rolled:?}");
    assert_eq!(world.show(&acme).await.schema_version.0, 4);
    home.run("SELECT stars FROM notes").await;

    confirm(&world, &acme).await;
    assert!(old.batch_execute("SELECT 1").await.is_err(), "the sessions of the old owners have ended");
    for suffix in ["o", "reader"] {
        let refused =
            legacy.login(suffix).await.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
        assert_eq!(refused.as_deref(), Some("42501"), "{suffix} may not connect");
    }
    home.run("INSERT INTO made_since VALUES (1); INSERT INTO notes (body, stars) VALUES ('still here', 5)").await;
    let leftover: Vec<String> = legacy
        .root()
        .await
        .query(
            "SELECT c.relname || ' ' || a::text FROM pg_class c, unnest(c.relacl) a WHERE a::text LIKE 'legacy_%'
             UNION ALL SELECT p.proname || ' ' || a::text FROM pg_proc p, unnest(p.proacl) a WHERE a::text LIKE 'legacy_%'
             UNION ALL SELECT c.relname || ' owner' FROM pg_class c WHERE pg_get_userbyid(c.relowner) LIKE 'legacy_%'
             UNION ALL SELECT n.nspname || ' ' || a::text FROM pg_namespace n, unnest(n.nspacl) a
                       WHERE a::text LIKE 'legacy_%' OR a::text LIKE '=%' AND n.nspname = 'public'
             UNION ALL SELECT c.attname || ' ' || a::text FROM pg_attribute c, unnest(c.attacl) a WHERE a::text LIKE 'legacy_%'",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(leftover, [""; 0], "rights of old owners");
    world.wire().post(&format!("/v1/tenants/{}/adopt-cancel", acme.id), &json!({})).await.problem(409, "invalid_state");
    drop((old, reader, home));
    world.delete(&acme).await;
    assert!(legacy.server.databases_like(&legacy.name).await.is_empty(), "the database went with its tenant");
    world.end().await;
    legacy.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_puts_back_owners_and_rights_exactly() {
    for admin in Admin::ALL {
        let server = Server::own().await;
        let world = World::builder().homes_on(&server).admin(admin).start().await;
        let legacy = Legacy::make(&server, &world, admin).await;
        let portrait = legacy.portrait().await;
        let acme = legacy.adopt(&legacy.wish("acme")).await;
        assert_ne!(legacy.portrait().await, portrait);
        let home = world.connect(&acme).await;
        home.run("INSERT INTO notes (body) VALUES ('from the tenant')").await;
        drop(home);
        cancel(&world, &acme).await;
        similar(&legacy.portrait().await, &portrait);
        let old = legacy.login("o").await.unwrap();
        assert_eq!(old.one::<i64>("SELECT count(*) FROM notes").await, 3, "what the tenant wrote stays");
        drop(old);
        world.assert_nothing_orphaned().await;

        // The same once more, under the same slug, and as the cancellation of its operation.
        world.client().purge_tenant(&TenantRef::Id(acme.id)).await.unwrap();
        let adopted = world.client().adopt_tenant(&legacy.wish("acme"), WaitSeconds::new(60).ok()).await.unwrap();
        let cancelling = world.client().cancel_operation(adopted.operation.id).await.unwrap();
        assert_eq!(world.settled(cancelling.id).await.state, OperationState::Succeeded);
        similar(&legacy.portrait().await, &portrait);
        world.end().await;
        legacy.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_schema_of_a_database_becomes_a_tenant_beside_the_others() {
    let server = Server::own().await;
    let world = World::builder().homes_on(&server).start().await;
    let legacy = Legacy::make(&server, &world, Admin::Superuser).await;
    let name = &legacy.name;
    let root = legacy.root().await;
    root.batch_execute(&format!(
        "CREATE SCHEMA shop AUTHORIZATION {name}_o; SET ROLE {name}_o;
         CREATE TABLE shop.notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL);
         INSERT INTO shop.notes (body) VALUES ('in the shop');
         CREATE TABLE shop.items (id int REFERENCES public.customers, at date);
         CREATE FUNCTION shop.names_public() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.notes';
         GRANT USAGE ON SCHEMA shop TO {name}_reader; GRANT SELECT ON shop.notes TO {name}_reader; RESET ROLE"
    ))
    .await
    .unwrap();
    let portrait = legacy.portrait().await;
    let wish = AdoptTenant { schema: Some(SchemaName::parse("shop").unwrap()), ..legacy.wish("shop") };
    let report = world.client().preview_adoption(&wish).await.unwrap();
    let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code.as_str()).collect();
    for expected in ["crosses_schemas", "hard_coded_public", "large_objects"] {
        assert!(codes.contains(&expected), "{expected}: {codes:?}");
    }
    for (schema, code) in [("public", "system_schema"), ("nowhere", "schema_missing")] {
        let wrong = AdoptTenant { schema: Some(SchemaName::parse(schema).unwrap()), ..wish.clone() };
        let report = world.client().preview_adoption(&wrong).await.unwrap();
        assert_eq!((report.is_possible, report.findings[0].code.as_str()), (false, code));
    }

    let shop = legacy.adopt(&wish).await;
    assert_eq!(shop.isolation, Isolation::Schema);
    let old = legacy.login("o").await.unwrap();
    let home = world.connect(&shop).await;
    home.run("INSERT INTO notes (body) VALUES ('from the tenant')").await;
    assert_eq!(old.one::<i64>("SELECT count(*) FROM shop.notes").await, 2);
    assert_eq!(home.refusal("SELECT * FROM public.notes").await, "42501");
    drop(home);
    cancel(&world, &shop).await;
    similar(&legacy.portrait().await, &portrait);

    world.client().purge_tenant(&TenantRef::Id(shop.id)).await.unwrap();
    let shop = legacy.adopt(&wish).await;
    let set = world.push("next", &files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars int;\n")).await;
    let rollout = world.begin_rollout(&set).await;
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
    confirm(&world, &shop).await;
    let old = legacy.login("o").await.expect("the rest of the database is still theirs");
    assert_eq!(old.refusal("SELECT * FROM shop.notes").await, "42501");
    old.run("SELECT * FROM public.notes").await;
    assert_eq!(world.connect(&shop).await.one::<i64>("SELECT count(stars) FROM notes").await, 0);
    drop(old);
    world.delete(&shop).await;
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('shop', 'tenantry')";
    assert_eq!(root.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    drop(root);
    world.end().await;
    legacy.end().await;
}

/// Fails with the lines that differ, not with two long texts.
fn similar(after: &str, before: &str) {
    let gone: Vec<&str> = before.lines().filter(|line| !after.lines().any(|it| it == *line)).collect();
    let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|it| it == *line)).collect();
    assert!(after == before, "gone: {gone:#?}\nnew: {new:#?}");
}
