//! Homes agree with what their migrations make, whatever they are called; and whatever is changed by hand is found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{ADMINS, Admin, Arena, Tenant, airline, set};
use tenantry_fleet::{
    ApplyOptions, EMPTY_SCHEMA, FleetError, ObjectDifference, ReferenceSchema, schema_differences, schema_divergence,
};
use tenantry_migration_set::MigrationSet;

/// One of everything that a migration may make.
fn everything() -> MigrationSet {
    set(&[
        (
            "V1__types.sql",
            "CREATE TYPE state AS ENUM ('open', 'closed');\n\
             CREATE DOMAIN email AS text CONSTRAINT has_at CHECK (VALUE LIKE '%@%');\n\
             CREATE TYPE pair AS (a int, b text);\n\
             CREATE TYPE span AS RANGE (subtype = float8);",
        ),
        (
            "V2__tables.sql",
            "CREATE TABLE customers (\n    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail email UNIQUE,\n    \
             state state NOT NULL DEFAULT 'open', cents int CONSTRAINT not_negative CHECK (cents >= 0),\n    \
             euro numeric GENERATED ALWAYS AS (cents / 100.0) STORED, tag text COLLATE \"C\", gone int, p pair,\n    \
             fuzzy extensions.citext\n);\n\
             ALTER TABLE customers DROP COLUMN gone;\n\
             CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint REFERENCES customers ON DELETE CASCADE,\n    \
             at timestamptz DEFAULT now(), note text, \"Odd Name\" int);\n\
             CREATE INDEX open_orders ON orders (customer) WHERE note IS NULL;\n\
             CREATE UNIQUE INDEX ON orders (lower(note));\n\
             CREATE STATISTICS together (dependencies) ON customer, note FROM orders;\n\
             CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);\n\
             CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10);\n\
             CREATE INDEX ON parts (v);\n\
             CREATE TABLE money (a int, since timestamptz DEFAULT '2020-01-01 00:00+02', every interval DEFAULT '1 day 2 hours',\n    \
             raw bytea DEFAULT '\\x00ff', part float8 DEFAULT 0.1, paid pg_catalog.money DEFAULT '1.50');\n\
             CREATE SEQUENCE numbers OWNED BY money.a;",
        ),
        (
            "V3__views_and_code.sql",
            "CREATE VIEW totals WITH (security_barrier) AS\n    SELECT c.id, c.state, count(*) AS n\n    FROM customers c \
             JOIN orders o ON o.customer = c.id GROUP BY 1, 2;\n\
             CREATE MATERIALIZED VIEW big AS SELECT * FROM totals WHERE n > 10;\n\
             CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$\n\
             BEGIN NEW.at := now(); RETURN NEW; END $$;\n\
             CREATE FUNCTION plus(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT a + b $$;\n\
             CREATE FUNCTION plus(a text, b state) RETURNS SETOF orders LANGUAGE sql STABLE\n\
             BEGIN ATOMIC SELECT * FROM orders WHERE note = a; END;\n\
             CREATE PROCEDURE tidy() LANGUAGE sql AS $$ DELETE FROM orders $$;\n\
             CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');\n\
             CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();\n\
             CREATE RULE keep AS ON DELETE TO orders WHERE OLD.note = 'x' DO INSTEAD NOTHING;\n\
             CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq);\n\
             CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);\n\
             DO $do$ BEGIN\n\
             EXECUTE format('CREATE FUNCTION here() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN RETURN %L || %L || %L || %I.plus(1); \
             END $f$', current_user, current_schema(), current_database(), current_schema());\n\
             END $do$;\n\
             ALTER TABLE customers ENABLE ROW LEVEL SECURITY;\n\
             CREATE POLICY own ON customers USING (tag = current_user) WITH CHECK (state = 'open'::state);",
        ),
    ])
}

/// What is done by hand, the object by whose kind and name that is told, and whether it has an expected and a found side.
const CHANGES: &[(&str, &str, &str, bool, bool)] = &[
    ("CREATE TABLE extra (a int)", "table", "extra", false, true),
    ("DROP TABLE money CASCADE", "table", "money", true, false),
    ("ALTER TABLE orders SET UNLOGGED", "table", "orders", true, true),
    ("ALTER TABLE orders ADD more text", "column", "orders.more", false, true),
    ("ALTER TABLE orders DROP note CASCADE", "column", "orders.note", true, false),
    ("ALTER TABLE money ALTER a TYPE bigint", "column", "money.a", true, true),
    ("ALTER TABLE orders ALTER \"Odd Name\" SET NOT NULL", "column", "orders.\"Odd Name\"", true, true),
    ("ALTER TABLE orders ALTER at DROP DEFAULT", "column", "orders.at", true, true),
    ("ALTER TABLE orders ALTER at SET NOT NULL", "column", "orders.at", true, true),
    ("ALTER TABLE orders ALTER note SET STORAGE EXTERNAL", "column", "orders.note", true, true),
    ("ALTER TABLE customers ALTER id SET GENERATED BY DEFAULT", "column", "customers.id", true, true),
    ("ALTER TABLE customers ALTER euro DROP EXPRESSION", "column", "customers.euro", true, true),
    ("ALTER TABLE customers DROP CONSTRAINT not_negative", "constraint", "customers.not_negative", true, false),
    ("ALTER TABLE orders ADD CONSTRAINT said CHECK (note <> '') NOT VALID", "constraint", "orders.said", false, true),
    ("ALTER TABLE orders DROP CONSTRAINT orders_pkey", "constraint", "orders.orders_pkey", true, false),
    ("DROP INDEX open_orders; CREATE INDEX open_orders ON orders (customer)", "index", "open_orders", true, true),
    ("CREATE INDEX hurried ON orders (at)", "index", "hurried", false, true),
    ("CREATE OR REPLACE VIEW totals AS SELECT id, state, 1::bigint AS n FROM customers", "view", "totals", true, true),
    ("ALTER VIEW totals RESET (security_barrier)", "view", "totals", true, true),
    ("DROP MATERIALIZED VIEW big", "materialized_view", "big", true, false),
    ("ALTER SEQUENCE numbers INCREMENT 5", "sequence", "numbers", true, true),
    (
        "CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "function",
        "touch()",
        true,
        true,
    ),
    ("ALTER FUNCTION plus(int, int) VOLATILE", "function", "plus(integer, integer)", true, true),
    ("DROP FUNCTION plus(text, state)", "function", "plus(text, state)", true, false),
    ("DROP PROCEDURE tidy()", "procedure", "tidy()", true, false),
    ("DROP AGGREGATE total(int)", "aggregate", "total(integer)", true, false),
    ("ALTER TABLE orders DISABLE TRIGGER touch", "trigger", "orders.touch", true, true),
    ("DROP RULE keep ON orders", "rule", "orders.keep", true, false),
    ("ALTER POLICY own ON customers USING (true)", "policy", "customers.own", true, true),
    ("ALTER TABLE customers DISABLE ROW LEVEL SECURITY", "table", "customers", true, true),
    ("ALTER TYPE state ADD VALUE 'lost' BEFORE 'closed'", "enum", "state", true, true),
    ("ALTER DOMAIN email DROP CONSTRAINT has_at", "domain", "email", true, true),
    ("CREATE TYPE triple AS (a int, b int, c int)", "composite_type", "triple", false, true),
    ("DROP TYPE span", "range_type", "span", true, false),
    ("DROP STATISTICS together", "statistics", "together", true, false),
    ("DROP OPERATOR === (text, text)", "operator", "===(text, text)", true, false),
    ("DROP TEXT SEARCH CONFIGURATION words", "text_search_configuration", "words", true, false),
    ("ALTER TABLE parts DETACH PARTITION parts_1", "table", "parts_1", true, true),
];

async fn reference(arena: &Arena, set: &MigrationSet) -> ReferenceSchema {
    let scratch = arena.template_name();
    let made = arena.fleet.make_reference(&arena.target, &scratch, set, &ApplyOptions::default()).await;
    arena.fleet.drop_database(&arena.target, &scratch).await.unwrap();
    made.unwrap()
}

async fn fingerprint(arena: &Arena, tenant: &Tenant) -> String {
    arena.fleet.find_schema(&arena.target, &tenant.home, &tenant.secrets.migrator).await.unwrap().fingerprint
}

async fn differences(arena: &Arena, tenant: &Tenant, reference: &ReferenceSchema) -> Vec<ObjectDifference> {
    let found = arena.fleet.schema_objects(&arena.target, &tenant.home, &tenant.secrets.migrator).await.unwrap();
    schema_differences(&reference.objects, &found)
}

/// A session of whoever changes a home by hand.
async fn by_hand(arena: &Arena, tenant: &Tenant) -> tokio_postgres::Client {
    let root = arena.root(&tenant.home.database).await;
    let (schema, owner) = (&tenant.home.schema, tenant.home.names().owner);
    let sql = format!("SET search_path = \"{schema}\", extensions; SET ROLE \"{owner}\"");
    root.batch_execute(&sql).await.unwrap();
    root
}

#[tokio::test]
async fn untouched_homes_of_every_isolation_agree_with_the_reference() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let set = everything();
        let reference = reference(&arena, &set).await;
        assert!(reference.objects.len() > 50, "{}", reference.objects.len());

        let template = arena.template_name();
        arena.fleet.ensure_template(&arena.target, &template, Some(&set)).await.unwrap();
        let shared = arena.shared_database().await;
        let (cloned, replayed) = (arena.database_home(), arena.database_home());
        let (one, two) = (arena.schema_home(&shared), arena.schema_home(&shared));
        arena.provision(&cloned, Some(&template), None).await;
        for tenant in [&replayed, &one, &two] {
            arena.provision(tenant, None, Some(&set)).await;
        }
        // Settings of a database change what is printed, not what is there.
        let root = arena.root(&replayed.home.database).await;
        for setting in [
            "timezone = 'Asia/Tokyo'",
            "datestyle = 'German'",
            "intervalstyle = 'iso_8601'",
            "bytea_output = 'escape'",
            "extra_float_digits = 0",
            "quote_all_identifiers = on",
            "standard_conforming_strings = off",
        ] {
            let sql = format!("ALTER DATABASE \"{}\" SET {setting}", replayed.home.database);
            root.batch_execute(&sql).await.unwrap();
        }
        drop(root);
        for tenant in [&cloned, &replayed, &one, &two] {
            assert_eq!(differences(&arena, tenant, &reference).await, [], "{admin:?}");
            assert_eq!(fingerprint(&arena, tenant).await, reference.fingerprint, "{admin:?}");
            let found = arena.fleet.find_schema(&arena.target, &tenant.home, &tenant.secrets.migrator).await.unwrap();
            assert_eq!(schema_divergence(&set, &found.history), None);
            assert_eq!(found.history.len(), 3);
            assert_eq!(found.server_major, reference.server_major);
        }
        arena.fleet.drop_database(&arena.target, &template).await.unwrap();
        let shared_again = arena.schema_home(&shared);
        arena.provision(&shared_again, None, None).await;
        let empty = arena.fleet.find_schema(&arena.target, &shared_again.home, &shared_again.secrets.migrator).await;
        let empty = empty.unwrap();
        assert_eq!((empty.history.as_slice(), empty.fingerprint.as_str()), ([].as_slice(), EMPTY_SCHEMA));
    }
}

#[tokio::test]
async fn whatever_is_changed_by_hand_is_found_and_named() {
    let arena = Arena::new(Admin::Managed).await;
    let set = everything();
    let reference = reference(&arena, &set).await;
    let shared = arena.shared_database().await;
    let (changed, neighbour) = (arena.schema_home(&shared), arena.schema_home(&shared));
    for tenant in [&changed, &neighbour] {
        arena.provision(tenant, None, Some(&set)).await;
    }
    let hand = by_hand(&arena, &changed).await;
    let own = hand.query_one("SELECT current_schema()::text", &[]).await.unwrap().get::<_, String>(0);
    for (sql, kind, name, has_expected, has_found) in CHANGES {
        // The look is a session of another's, so the change must be there for it to see.
        hand.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_ne!(fingerprint(&arena, &changed).await, reference.fingerprint, "{sql}");
        let told = differences(&arena, &changed, &reference).await;
        let object = told.iter().find(|it| it.kind == *kind && it.name == *name);
        let object = object.unwrap_or_else(|| panic!("{sql}: {told:#?}"));
        assert_eq!((object.expected.is_some(), object.found.is_some()), (*has_expected, *has_found), "{sql}");
        assert_eq!(fingerprint(&arena, &neighbour).await, reference.fingerprint, "{sql}");
        // A fresh home for the next change, under the same name.
        let fresh = format!(
            "RESET ROLE; DROP SCHEMA \"{own}\" CASCADE; CREATE SCHEMA \"{own}\"; \
             GRANT USAGE, CREATE ON SCHEMA \"{own}\" TO \"{owner}\"; SET ROLE \"{owner}\"",
            owner = changed.home.names().owner
        );
        hand.batch_execute(&fresh).await.unwrap();
        arena.provision(&changed, None, Some(&set)).await;
    }
    assert_eq!(fingerprint(&arena, &changed).await, reference.fingerprint);
}

#[tokio::test]
async fn an_object_that_another_role_owns_is_found() {
    let arena = Arena::new(Admin::Superuser).await;
    let set = airline();
    let reference = reference(&arena, &set).await;
    let tenant = arena.database_home();
    arena.provision(&tenant, None, Some(&set)).await;
    let root = arena.root(&tenant.home.database).await;
    root.batch_execute("ALTER TABLE flights OWNER TO CURRENT_USER").await.unwrap();
    let told = differences(&arena, &tenant, &reference).await;
    let table = told.iter().find(|it| it.kind == "table").unwrap();
    assert!(table.found.as_ref().unwrap().contains("-- owner "), "{table:?}");
    root.batch_execute(&format!("ALTER TABLE flights OWNER TO \"{}\"", tenant.home.names().owner)).await.unwrap();
    assert_eq!(differences(&arena, &tenant, &reference).await, []);
}

#[tokio::test]
async fn what_says_nothing_about_the_schema_is_no_drift() {
    let arena = Arena::new(Admin::Managed).await;
    let set = airline();
    let tenant = arena.database_home();
    arena.provision(&tenant, None, Some(&set)).await;
    let before = fingerprint(&arena, &tenant).await;
    let hand = by_hand(&arena, &tenant).await;
    for sql in [
        "COMMENT ON TABLE flights IS 'by hand'",
        "ALTER TABLE flights SET (autovacuum_vacuum_scale_factor = 0.01)",
        "INSERT INTO flights (tailnum, delay) VALUES ('N1', 20)",
        "ALTER TABLE flights ALTER delay SET STATISTICS 500",
        "ANALYZE flights",
    ] {
        hand.batch_execute(sql).await.unwrap();
        assert_eq!(fingerprint(&arena, &tenant).await, before, "{sql}");
    }
}

#[tokio::test]
async fn nothing_that_a_home_puts_in_the_way_of_a_name_is_called() {
    let arena = Arena::new(Admin::Managed).await;
    let set = airline();
    let tenant = arena.database_home();
    arena.provision(&tenant, None, Some(&set)).await;
    let hand = by_hand(&arena, &tenant).await;
    let traps = "CREATE FUNCTION trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
         CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = trap);
         CREATE FUNCTION concat_ws(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
         CREATE FUNCTION quote_ident(name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
         CREATE TABLE pg_class (oid oid)";
    hand.batch_execute(traps).await.unwrap();
    let told = differences(&arena, &tenant, &reference(&arena, &set).await).await;
    assert!(told.iter().all(|it| it.expected.is_none()), "{told:#?}");
    assert_eq!(told.len(), 6, "{told:#?}");
}

#[tokio::test]
async fn a_home_that_is_being_migrated_is_left_alone() {
    let arena = Arena::new(Admin::Managed).await;
    let tenant = arena.database_home();
    arena.provision(&tenant, None, Some(&airline())).await;
    let hand = by_hand(&arena, &tenant).await;
    let (high, low) = tenant.home.id.as_uuid().as_u64_pair();
    let lock = |verb: &str| format!("SELECT pg_advisory_{verb}({})", (high ^ low).cast_signed());
    hand.batch_execute(&lock("lock")).await.unwrap();
    let busy = arena.fleet.find_schema(&arena.target, &tenant.home, &tenant.secrets.migrator).await.unwrap_err();
    assert!(matches!(busy, FleetError::Busy { .. }), "{busy}");
    hand.batch_execute(&lock("unlock")).await.unwrap();
    arena.fleet.find_schema(&arena.target, &tenant.home, &tenant.secrets.migrator).await.unwrap();
}

#[tokio::test]
async fn a_reference_that_cannot_be_made_leaves_nothing() {
    let arena = Arena::new(Admin::Managed).await;
    let scratch = arena.template_name();
    let broken = set(&[("V1__broken.sql", "CREATE TABLE a (b nothing);")]);
    let options = ApplyOptions::default();
    let failed = arena.fleet.make_reference(&arena.target, &scratch, &broken, &options).await.unwrap_err();
    assert!(matches!(failed, FleetError::Migration(_)), "{failed}");
    for _ in 0..2 {
        arena.fleet.drop_database(&arena.target, &scratch).await.unwrap();
    }
    let root = arena.server().connect("postgres").await;
    let left =
        "SELECT count(*) FROM (SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles) AS t (name)
                 WHERE starts_with(name::text, $1)";
    let left: i64 = root.query_one(left, &[&scratch.as_str()]).await.unwrap().get(0);
    assert_eq!(left, 0);
}
