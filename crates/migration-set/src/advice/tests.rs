//! What advice is given on which migrations.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::finding::Severity;
use crate::policy::LintPolicy;
use crate::report::LintReport;
use crate::rule::Level;
use proptest::prelude::*;

fn report(files: &[(&str, &str)], policy: &LintPolicy) -> LintReport {
    LintReport::from_files("set", files, policy).unwrap()
}

/// Findings as `file:line severity rule`.
fn told(files: &[(&str, &str)], policy: &LintPolicy) -> Vec<String> {
    let findings = report(files, policy).findings;
    findings.iter().map(|one| format!("{}:{} {} {}", one.file, one.line, one.severity, one.rule)).collect()
}

/// The rules broken by one file, each once.
fn rules(sql: &str) -> Vec<String> {
    let findings = report(&[("V1__a.sql", sql)], &LintPolicy::default()).findings;
    let mut rules: Vec<String> = findings.iter().map(|one| one.rule.to_string()).collect();
    rules.dedup();
    rules
}

fn applied_up_to(version: i64) -> LintPolicy {
    let mut policy = LintPolicy::default();
    policy.set_applied_up_to(version);
    policy
}

const NOTES: (&str, &str) = ("V1__notes.sql", "CREATE TABLE notes (id bigint PRIMARY KEY, body text);\n");

#[test]
fn what_locks_a_table_with_rows_refuses() {
    for (sql, rule) in [
        ("CREATE INDEX i ON notes (body);", "squawk/require-concurrent-index-creation"),
        ("DROP INDEX i;", "squawk/require-concurrent-index-deletion"),
        (
            "ALTER TABLE notes ADD COLUMN at timestamptz NOT NULL DEFAULT clock_timestamp();",
            "squawk/adding-field-with-default",
        ),
        (
            "ALTER TABLE notes ADD COLUMN key uuid NOT NULL DEFAULT gen_random_uuid();",
            "squawk/adding-field-with-default",
        ),
        ("ALTER TABLE notes ADD COLUMN stars integer NOT NULL;", "squawk/adding-required-field"),
        ("ALTER TABLE notes ADD CONSTRAINT c CHECK (body <> '');", "squawk/constraint-missing-not-valid"),
        ("ALTER TABLE notes ADD CONSTRAINT u UNIQUE (body);", "squawk/disallowed-unique-constraint"),
        (
            "ALTER TABLE notes ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES other (id);",
            "squawk/adding-foreign-key-constraint",
        ),
        ("ALTER TABLE notes ALTER COLUMN body SET NOT NULL;", "squawk/adding-not-nullable-field"),
        ("ALTER TABLE notes ALTER COLUMN id TYPE numeric;", "squawk/changing-column-type"),
    ] {
        let report = report(&[("V2__a.sql", sql)], &LintPolicy::default());
        assert_eq!(rules(sql), [rule], "{sql}");
        assert!(report.findings.iter().all(|one| one.severity == Severity::Error), "{sql}");
        assert!(report.set.is_some(), "advice leaves the set readable: {sql}");
    }
}

#[test]
fn what_locks_nobody_for_long_is_silent() {
    for sql in [
        "ALTER TABLE notes ADD COLUMN stars integer NOT NULL DEFAULT 0;",
        "ALTER TABLE notes ADD COLUMN stars integer NOT NULL DEFAULT -1;",
        "ALTER TABLE notes ADD COLUMN at timestamptz NOT NULL DEFAULT now();",
        "ALTER TABLE notes ADD CONSTRAINT c CHECK (body <> '') NOT VALID;",
        "ALTER TABLE notes VALIDATE CONSTRAINT c;",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON notes (body);",
        "CREATE TABLE other (id int PRIMARY KEY, name varchar(10));\nCREATE INDEX ON other (name);\n\
         ALTER TABLE other ADD COLUMN at timestamptz DEFAULT clock_timestamp();",
        "ALTER TYPE cause ADD VALUE 'crew' AFTER 'carrier';",
        "UPDATE notes SET body = '' WHERE body IS NULL;",
    ] {
        assert_eq!(rules(sql), [""; 0], "{sql}");
    }
}

#[test]
fn a_table_of_an_earlier_file_is_empty_when_that_file_is_not_applied() {
    let files =
        [NOTES, ("V2__index.sql", "CREATE INDEX by_body ON notes (body);\n"), ("V3__drop.sql", "DROP INDEX by_body;")];
    assert_eq!(told(&files, &applied_up_to(0)), [""; 0]);
    let of_unknown = told(&files, &LintPolicy::default());
    assert_eq!(of_unknown.len(), 2, "without knowing, each file stands alone: {of_unknown:?}");
    assert_eq!(
        told(&files, &applied_up_to(1)),
        [
            "V2__index.sql:1 error squawk/require-concurrent-index-creation",
            "V3__drop.sql:1 error squawk/require-concurrent-index-deletion",
        ]
    );
    assert_eq!(told(&files, &applied_up_to(3)), [""; 0], "what is applied is not judged any more");
}

#[test]
fn files_are_known_to_be_applied_by_version_and_checksum() {
    let files = [NOTES, ("V2__index.sql", "CREATE INDEX by_body ON notes (body);\n")];
    let set = crate::MigrationSet::from_files("set", &files).unwrap();
    let mut policy = LintPolicy::default();
    policy.set_applied_files(set.migrations().iter().take(1).map(|one| (one.version, one.checksum)));
    assert_eq!(told(&files, &policy), ["V2__index.sql:1 error squawk/require-concurrent-index-creation"]);
    policy.set_applied_files(set.migrations().iter().map(|one| (one.version, one.checksum)));
    assert_eq!(told(&files, &policy), [""; 0]);
}

#[test]
fn what_running_programs_use_is_kept_unless_the_file_contracts() {
    let sql = "ALTER TABLE notes DROP COLUMN body;\nALTER TABLE notes RENAME COLUMN id TO key;\nDROP TABLE old;\n";
    let contract = format!("-- phase: contract\n{sql}");
    assert_eq!(
        told(&[("V2__a.sql", sql)], &LintPolicy::default()),
        [
            "V2__a.sql:1 warning squawk/ban-drop-column",
            "V2__a.sql:2 warning squawk/renaming-column",
            "V2__a.sql:3 warning squawk/ban-drop-table",
        ]
    );
    assert_eq!(told(&[("V2__a.sql", &contract)], &LintPolicy::default()), [""; 0]);
}

#[test]
fn style_is_off_until_it_is_asked_for() {
    let sql = "CREATE TABLE a (id int PRIMARY KEY, name varchar(10), at timestamp);";
    assert_eq!(rules(sql), [""; 0]);
    let mut policy = LintPolicy::default();
    policy.set("squawk/prefer-text-field".parse().unwrap(), Level::Warning).unwrap();
    assert_eq!(told(&[("V1__a.sql", sql)], &policy), ["V1__a.sql:1 warning squawk/prefer-text-field"]);
    policy.deny_warnings();
    assert_eq!(told(&[("V1__a.sql", sql)], &policy), ["V1__a.sql:1 error squawk/prefer-text-field"]);
}

#[test]
fn names_with_a_schema_are_told_in_ddl_dml_and_bodies() {
    for sql in [
        "CREATE TABLE public.a (b int);",
        "CREATE TABLE IF NOT EXISTS \"public\".a (b int);",
        "CREATE TABLE a (b int REFERENCES app.c (d));",
        "INSERT INTO public.a VALUES (1);",
        "UPDATE app.a SET b = 1;",
        "DELETE FROM app.a;",
        "SELECT b FROM public.a;",
        "CREATE VIEW v AS SELECT 1 FROM a JOIN app.b ON a.x = b.x;",
        "CREATE INDEX CONCURRENTLY i ON app.a (b);",
        "GRANT USAGE ON SCHEMA public TO CURRENT_USER;",
        "SELECT FROM information_schema.tables WHERE table_schema = 'public' AND table_name = 'a';",
        "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public');",
        "ALTER TABLE a ALTER COLUMN b SET DEFAULT nextval('public.a_b_seq');",
        "SELECT '\"public\".a'::regclass;",
        "DO $$ BEGIN UPDATE public.a SET b = 1; END $$;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT b FROM public.a';",
    ] {
        let with_header = format!("-- no-transaction\n{sql}");
        assert_eq!(rules(&with_header), ["qualified-name"], "{sql}");
    }
}

#[test]
fn names_of_what_all_tenants_share_and_of_columns_are_no_schemas() {
    for sql in [
        "SELECT pg_catalog.now(), extensions.digest('a', 'md5') FROM information_schema.schemata;",
        "SELECT a.public FROM a AS a WHERE a.public.b IS DISTINCT FROM a.c;",
        "SELECT extract(epoch FROM flights.departed) FROM flights JOIN airports ON airports.code = flights.origin;",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN \
         SELECT 1 INTO NEW.b; RETURN NEW; END $$;",
        "COMMENT ON COLUMN a.b IS 'public.a';",
        "SELECT b FROM a WHERE c = 'public' OR c IN ('public.a', 'public');",
        "CREATE TYPE public AS ENUM ('a');",
    ] {
        assert_eq!(rules(sql), [""; 0], "{sql}");
    }
}

#[test]
fn a_name_in_a_body_is_told_at_its_line() {
    let sql = "DO $$\nBEGIN\n    UPDATE public.a SET b = 1;\nEND $$;";
    assert_eq!(told(&[("V1__a.sql", sql)], &LintPolicy::default()), ["V1__a.sql:3 warning qualified-name"]);
}

#[test]
fn a_function_that_postgresql_calls_by_itself_needs_a_search_path() {
    let function = "CREATE FUNCTION norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(t) $$;\n";
    let with_path = function.replace("IMMUTABLE", "IMMUTABLE SET search_path FROM CURRENT");
    for uses in [
        "CREATE TABLE a (b text CHECK (norm(b) <> ''));",
        "CREATE TABLE a (b text, c text GENERATED ALWAYS AS (upper(norm(b))) STORED);",
        "CREATE TABLE a (b text); CREATE UNIQUE INDEX i ON a (norm(b));",
        "CREATE MATERIALIZED VIEW v AS SELECT norm('a');",
        "CREATE DOMAIN d AS text CHECK (norm(VALUE) <> '');",
    ] {
        assert_eq!(rules(&format!("{function}{uses}")), ["function-search-path"], "{uses}");
        assert_eq!(rules(&format!("{with_path}{uses}")), [""; 0], "{uses}");
        let altered = format!("{function}ALTER FUNCTION norm(text) SET search_path FROM CURRENT;\n{uses}");
        assert_eq!(rules(&altered), [""; 0], "{uses}");
    }
    for harmless in [
        "CREATE VIEW v AS SELECT norm('a');",
        "CREATE TABLE a (b text DEFAULT norm('a'), norm text CHECK (norm <> ''));",
    ] {
        assert_eq!(rules(&format!("{function}{harmless}")), [""; 0], "{harmless}");
    }
    let standard = "CREATE FUNCTION norm(t text) RETURNS text IMMUTABLE RETURN lower(t);\n";
    assert_eq!(rules(&format!("{standard}CREATE MATERIALIZED VIEW v AS SELECT norm('a');")), [""; 0]);
}

#[test]
fn the_function_may_be_of_an_applied_file() {
    let files = [
        ("V1__f.sql", "CREATE FUNCTION norm(t text) RETURNS text LANGUAGE sql AS $$ SELECT lower(t) $$;"),
        ("V2__v.sql", "CREATE MATERIALIZED VIEW v AS SELECT norm('a');"),
    ];
    let report = report(&files, &applied_up_to(1));
    assert!(report.findings[0].message.contains("norm() of V1__f.sql"), "{report:?}");
}

#[test]
fn extensions_are_the_control_planes() {
    assert_eq!(rules("CREATE EXTENSION citext;"), ["extension-if-not-exists"]);
    assert_eq!(rules("CREATE EXTENSION IF NOT EXISTS citext;"), [""; 0]);
    assert_eq!(rules("CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\";"), ["extension-not-allowed"]);
    assert_eq!(rules("CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA extensions;"), ["extension-schema"]);
    let mut policy = LintPolicy::default();
    policy.set_extensions(["uuid-ossp".to_owned()]);
    assert_eq!(told(&[("V1__a.sql", "CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\";")], &policy), [""; 0]);
}

#[test]
fn what_no_home_s_owner_may_do_refuses_on_every_isolation() {
    for sql in ["CREATE SCHEMA app;", "CREATE SCHEMA IF NOT EXISTS public;"] {
        assert_eq!(rules(sql), ["schema-statement"], "{sql}");
    }
    for sql in [
        "ALTER TABLE a OWNER TO app;",
        "ALTER FUNCTION f() OWNER TO \"App\";",
        "GRANT SELECT (b, c) ON a TO reporting;",
        "REVOKE ALL ON a FROM reporting;",
        "ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO PUBLIC;",
        "CREATE POLICY p ON a TO app USING (b = 1);",
    ] {
        assert_eq!(rules(sql), ["role-name"], "{sql}");
    }
    for sql in [
        "CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION f();",
        "CREATE PUBLICATION p FOR TABLE a;",
        "COMMENT ON EXTENSION citext IS 'text';",
        "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'lib', 'f';",
        "CREATE FUNCTION f() RETURNS int AS $$ return 1 $$ LANGUAGE plpython3u;",
        "ALTER TABLE a DISABLE TRIGGER ALL;",
        "SET session_replication_role = replica;",
    ] {
        assert_eq!(rules(sql), ["needs-superuser"], "{sql}");
    }
    for sql in [
        "ALTER TABLE a OWNER TO CURRENT_USER; GRANT SELECT ON a TO PUBLIC; REVOKE ALL ON a FROM CURRENT_ROLE;",
        "-- phase: contract\nCREATE POLICY p ON a USING ((SELECT b FROM c) = 1); ALTER POLICY p ON a RENAME TO q;",
        "ALTER TABLE a DISABLE TRIGGER USER; SELECT 1 AS owner;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plv8 AS 'return 1';",
    ] {
        assert_eq!(rules(sql), [""; 0], "{sql}");
    }
}

#[test]
fn a_lookup_that_finds_neighbours_is_told_and_one_that_says_whose_is_not() {
    for condition in
        ["FROM pg_constraint WHERE conname = 'c'", "FROM information_schema.columns WHERE table_name = 'a'"]
    {
        let sql = format!("DO $$\nBEGIN\n  IF NOT EXISTS (SELECT {condition}) THEN SELECT 1; END IF;\nEND $$;");
        assert_eq!(told(&[("V1__a.sql", &sql)], &LintPolicy::default()), ["V1__a.sql:3 warning unscoped-lookup"]);
        assert_eq!(rules(&format!("SELECT 1 {condition};")), ["unscoped-lookup"]);
    }
    for sql in [
        "SELECT FROM pg_constraint WHERE conname = 'c' AND conrelid = 'a'::regclass;",
        "SELECT FROM pg_catalog.pg_type WHERE typname = 't' AND typnamespace = current_schema()::regnamespace;",
        "SELECT FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = 'a';",
        "SELECT FROM pg_class WHERE relname = 'a' AND pg_table_is_visible(oid);",
        "SELECT pg_class FROM a;",
        "SELECT FROM information_schema.schemata;",
    ] {
        assert_eq!(rules(sql), [""; 0], "{sql}");
    }
}

#[test]
fn a_history_that_no_tenant_has_begun_locks_nobody_and_breaks_nobody() {
    let files = [
        ("V1__a.sql", "CREATE TABLE a (b int);"),
        ("V2__b.sql", "ALTER TABLE a RENAME TO c;\nCREATE INDEX i ON c (b);\nDROP INDEX i;\nDROP VIEW v;"),
    ];
    assert_eq!(told(&files, &applied_up_to(0)), [""; 0]);
    assert!(!told(&files, &applied_up_to(1)).is_empty());
}

#[test]
fn what_a_repeatable_file_creates_must_bear_being_there() {
    let sql = "CREATE VIEW v AS SELECT 1;\nCREATE OR REPLACE VIEW w AS SELECT 1;\nDROP FUNCTION IF EXISTS f();\n\
               CREATE FUNCTION f() RETURNS int RETURN 1;\nCREATE INDEX IF NOT EXISTS i ON notes (body);";
    let files = [NOTES, ("R__v.sql", sql)];
    let mut policy = applied_up_to(1);
    policy.set("squawk/require-concurrent-index-creation".parse().unwrap(), Level::Off).unwrap();
    policy.set("squawk/ban-drop-function".parse().unwrap(), Level::Off).unwrap();
    assert_eq!(told(&files, &policy), ["R__v.sql:1 warning not-repeatable"]);
    let checksum = report(&files, &policy).set.unwrap().repeatables()[0].checksum;
    policy.set_applied_files([(0, checksum)]);
    assert_eq!(told(&files, &policy), [""; 0]);
}

#[test]
fn what_is_ignored_with_a_reason_is_not_told() {
    for sql in [
        "-- lint-ignore squawk/require-concurrent-index-creation: ten rows at most\nCREATE INDEX i ON notes (body);",
        "SELECT 1;\n-- lint-ignore squawk/require-concurrent-index-creation: small\n-- more words\nCREATE INDEX i ON notes (body);",
        "-- lint-ignore squawk/ban-drop-column, squawk/ban-drop-table : nobody reads them\nDROP TABLE a;\nALTER TABLE b DROP COLUMN c;",
        "-- phase: expand\n-- lint-ignore qualified-name: only isolation database\n\nSELECT 1;\nSELECT public.f();\nSELECT public.g();",
    ] {
        assert_eq!(rules(sql), [""; 0], "{sql}");
    }
    // The second statement is another one.
    let sql = "SELECT 1;\n-- lint-ignore qualified-name: this\nSELECT public.f();\nSELECT public.g();";
    assert_eq!(told(&[("V1__a.sql", sql)], &LintPolicy::default()), ["V1__a.sql:4 warning qualified-name"]);
}

#[test]
fn an_ignore_that_says_too_little_or_asks_too_much_is_told() {
    for sql in [
        "-- lint-ignore qualified-name\nSELECT public.f();",
        "-- lint-ignore qualified-name:\nSELECT public.f();",
        "-- lint-ignore: because\nSELECT public.f();",
        "-- lint-ignore no-such-rule: because\nSELECT public.f();",
        "-- lint-ignore role-switch: because\nSELECT public.f();",
        "-- lint-ignore unused-ignore: because\nSELECT public.f();",
        "SELECT 1; -- lint-ignore qualified-name: because\nSELECT public.f();",
        "SELECT\n-- lint-ignore qualified-name: because\npublic.f();",
        "SELECT public.f();\n-- lint-ignore qualified-name: because",
    ] {
        let mut told = rules(sql);
        told.sort_unstable();
        assert_eq!(told, ["lint-ignore", "qualified-name"], "{sql}");
    }
    let unused = "-- lint-ignore qualified-name, squawk/ban-drop-table: because\nSELECT public.f();";
    assert_eq!(told(&[("V1__a.sql", unused)], &LintPolicy::default()), ["V1__a.sql:1 warning unused-ignore"]);
}

#[test]
fn fixed_rules_are_not_ignored_and_refuse_the_set_beside_advice() {
    let report = report(&[("V1__a.sql", "SELECT public.f();\nCOMMIT;")], &LintPolicy::default());
    assert!(report.set.is_none());
    assert_eq!((report.errors(), report.warnings()), (1, 1));
    assert_eq!(report.findings[0].line, 1, "{report:?}");
}

#[test]
fn squawks_own_comments_silence_nothing() {
    let sql = "-- squawk-ignore-file\n/* squawk-ignore ban-drop-table */\nDROP TABLE a;";
    assert_eq!(rules(sql), ["squawk/ban-drop-table"]);
}

#[test]
fn a_place_is_right_behind_other_alphabets_and_line_endings() {
    let sql = "-- Größe №1\r\nSELECT 'ß';\r\nSELECT 'é'; DROP TABLE a;";
    let finding = &report(&[("V1__a.sql", sql)], &LintPolicy::default()).findings[0];
    assert_eq!((finding.line, finding.column), (3, 13));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_judged() {
    let sql = "CREATE TABLE (;\nDROP TABLE a;";
    assert_eq!(rules(sql), ["syntax", "squawk/ban-drop-table"]);
}

#[test]
fn hostile_files_are_judged_within_bounds() {
    let deep = format!("ALTER TABLE a ADD CHECK ({}1{});", "(".repeat(900), ")".repeat(900));
    let too_long = format!("CREATE VIEW v AS SELECT 1{};", "+1".repeat(50_000));
    let many = "CREATE INDEX i ON notes (body);\n".repeat(3_000);
    let ignores = "-- lint-ignore qualified-name: a\n".repeat(3_000) + "SELECT public.f();";
    let calls = format!(
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$; CREATE TABLE a (b int CHECK ({}));",
        "f()".repeat(5_000)
    );
    for (sql, rule) in [
        (deep.as_str(), "squawk/constraint-missing-not-valid"),
        (&too_long, "syntax"),
        (&many, "squawk/require-concurrent-index-creation"),
        (&ignores, "lint-ignore"),
        (&calls, "function-search-path"),
        (&";".repeat(50_000), "empty-file"),
    ] {
        let report = report(&[("V1__a.sql", sql)], &LintPolicy::default());
        assert!(report.findings.len() <= 300, "{rule}: {}", report.findings.len());
        assert!(report.findings.iter().any(|one| one.rule.to_string() == rule), "{rule}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_statements_make_advice_panic_or_point_outside_the_file(words in prop::collection::vec(
        prop::sample::select(vec![
            "CREATE", "ALTER", "DROP", "TABLE", "INDEX", "ON", "ONLY", "IF", "EXISTS", "FUNCTION", "EXTENSION", "SCHEMA",
            "CHECK", "GENERATED", "ALWAYS", "AS", "MATERIALIZED", "VIEW", "UNIQUE", "ADD", "COLUMN", "DEFAULT", "SET",
            "public", ".", "a", "é", "(", ")", ";", ",", "1", "-", "$$ b $$", "'c'", "\n", "--lint-ignore syntax: x\n",
            "-- lint-ignore\n", "/* d */", "LANGUAGE sql", "TYPE", "REFERENCES", "UPDATE", "DELETE", "FROM", "INTO",
        ]), 0..40,
    )) {
        let sql = words.join(" ");
        let lines = sql.lines().count().max(1);
        for finding in report(&[("V1__a.sql", &sql)], &LintPolicy::default()).findings {
            prop_assert!((1..=lines).contains(&usize::try_from(finding.line).unwrap()), "{finding} of {sql:?}");
        }
    }
}
