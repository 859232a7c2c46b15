//! What becomes of other tools' folders.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{Import, ImportError, ImportTool, SourceFile};
use crate::set::MigrationSet;

fn import(tool: ImportTool, files: &[(&str, &str)]) -> Result<Import, ImportError> {
    let file = |&(path, content): &(&str, &str)| SourceFile { path: path.to_owned(), content: content.into() };
    let files: Vec<SourceFile> = files.iter().map(file).collect();
    Import::from_files(tool, &files)
}

/// `file < source`, in order.
fn order(import: &Import) -> Vec<String> {
    import.files.iter().map(|one| format!("{} < {}", one.file, one.source)).collect()
}

fn refused(tool: ImportTool, files: &[(&str, &str)]) -> Vec<String> {
    match import(tool, files) {
        Err(ImportError::Refused(remarks)) => remarks.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn left_out(import: &Import) -> Vec<&str> {
    import.left_out.iter().map(|one| one.source.as_str()).collect()
}

fn is_transactional(import: &Import) -> Vec<bool> {
    let files: Vec<_> = import.files.iter().map(|one| (one.file.as_str(), one.content.as_str())).collect();
    let set = MigrationSet::from_files("set", &files).unwrap();
    assert_eq!(
        set.migrations().iter().map(|one| format!("{one}.sql")).collect::<Vec<_>>(),
        import.files.iter().map(|one| one.file.clone()).filter(|file| !file.ends_with(".down.sql")).collect::<Vec<_>>(),
        "the set runs them in the order of the import"
    );
    set.migrations().iter().map(|one| one.transactional).collect()
}

#[test]
fn diesels_folders_keep_their_versions() {
    let import = import(
        ImportTool::Diesel,
        &[
            ("2020-01-02-030405_add_posts/up.sql", "CREATE TABLE posts (id int);"),
            ("2020-01-02-030405_add_posts/down.sql", "DROP TABLE posts;"),
            ("00000000000000_diesel_initial_setup/up.sql", "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1;"),
            ("20210101000000_index/up.sql", "CREATE INDEX CONCURRENTLY i ON posts (id);"),
            ("20210101000000_index/metadata.toml", "run_in_transaction = false\nnote = 'x'\n"),
            ("20220101000000_more/up.sql", "SELECT 1;"),
            ("20220101000000_more/metadata.toml", "run_in_transaction = true\n"),
            ("20230101000000_unsaid/up.sql", "SELECT 1;"),
            ("20230101000000_unsaid/metadata.toml", "note = 'x'\n"),
            (".keep/up.sql.orig", ""),
            ("README.md", ""),
        ],
    )
    .unwrap();
    assert_eq!(
        order(&import),
        [
            "V1__diesel_initial_setup.sql < 00000000000000_diesel_initial_setup/up.sql",
            "V20200102030405__add_posts.sql < 2020-01-02-030405_add_posts/up.sql",
            "V20200102030405__add_posts.down.sql < 2020-01-02-030405_add_posts/down.sql",
            "V20210101000000__index.sql < 20210101000000_index/up.sql",
            "V20220101000000__more.sql < 20220101000000_more/up.sql",
            "V20230101000000__unsaid.sql < 20230101000000_unsaid/up.sql",
        ]
    );
    assert_eq!(is_transactional(&import), [true, true, false, true, false]);
    assert!(import.notes[0].contains("0 and becomes 1"), "{:?}", import.notes);
    assert!(import.files[3].content.starts_with("-- no-transaction\nCREATE INDEX"));
}

#[test]
fn diesel_orders_versions_as_text() {
    let import = import(ImportTool::Diesel, &[("9_a/up.sql", "SELECT 9;"), ("10_b/up.sql", "SELECT 10;")]).unwrap();
    assert_eq!(order(&import), ["V1__b.sql < 10_b/up.sql", "V2__a.sql < 9_a/up.sql"]);
    assert!(import.notes[0].contains("numbered anew"));
}

#[test]
fn what_diesel_would_not_run_or_cannot_tell_apart_is_refused() {
    let told = refused(
        ImportTool::Diesel,
        &[
            ("2020-01-02-030405_a/up.sql", "SELECT 1;"),
            ("20200102030405_b/up.sql", "SELECT 1;"),
            ("stray.sql", "SELECT 1;"),
            ("3_c/nested/up.sql", "SELECT 1;"),
            ("4_d/up.sql", "SELECT 1;"),
            ("4_d/metadata.toml", "run_in_transaction = maybe"),
        ],
    );
    let sources: Vec<&str> = told.iter().filter_map(|one| one.split(':').next()).collect();
    assert_eq!(sources, ["20200102030405_b/up.sql", "3_c/nested/up.sql", "4_d/metadata.toml", "stray.sql"], "{told:?}");
}

#[test]
fn prismas_folders_keep_their_order() {
    let import = import(
        ImportTool::Prisma,
        &[
            ("migration_lock.toml", "# Please do not edit\nprovider = \"postgresql\"\n"),
            ("20230105101010_add-users/migration.sql", "-- AddTable\nCREATE TABLE \"User\" (id int);"),
            ("0_init/migration.sql", "CREATE TABLE a (id int);"),
            ("20230106101010_empty/migration.sql", "-- This is an empty migration."),
            ("20230107101010_index/migration.sql", "CREATE INDEX CONCURRENTLY i ON a (id);"),
        ],
    )
    .unwrap();
    assert_eq!(
        order(&import),
        [
            "V1__init.sql < 0_init/migration.sql",
            "V20230105101010__add_users.sql < 20230105101010_add-users/migration.sql",
            "V20230107101010__index.sql < 20230107101010_index/migration.sql",
        ]
    );
    assert_eq!(is_transactional(&import), [true, true, false]);
    assert_eq!(left_out(&import), ["20230106101010_empty/migration.sql"]);
}

#[test]
fn prismas_migrations_for_another_database_are_refused() {
    let told = refused(
        ImportTool::Prisma,
        &[("migration_lock.toml", "provider = \"mysql\""), ("1_a/migration.sql", "SELECT 1;"), ("2_b/other.sql", "")],
    );
    assert!(told[0].starts_with("2_b/other.sql: ") && told[1].contains("mysql"), "{told:?}");
}

#[test]
fn sqlxs_files_of_both_kinds_are_taken() {
    let import = import(
        ImportTool::Sqlx,
        &[
            ("20240101000000_a_table.sql", "CREATE TABLE a (b int);"),
            ("20240102000000_more.up.sql", "-- no-transaction, it is an index\nCREATE INDEX CONCURRENTLY i ON a (b);"),
            ("20240102000000_more.down.sql", "DROP INDEX i;"),
            ("20240101000000_a_table.down.sql", "BEGIN; COMMIT; BEGIN;"),
            ("20230101000000_gone.down.sql", "DROP TABLE gone;"),
            ("3_early.sql", "-- no-transaction\nVACUUM;"),
            ("notes.txt", ""),
        ],
    )
    .unwrap();
    assert_eq!(
        order(&import),
        [
            "V3__early.sql < 3_early.sql",
            "V20240101000000__a_table.sql < 20240101000000_a_table.sql",
            "V20240102000000__more.sql < 20240102000000_more.up.sql",
            "V20240102000000__more.down.sql < 20240102000000_more.down.sql",
        ]
    );
    assert_eq!(is_transactional(&import), [false, true, false]);
    assert_eq!(import.files[0].content, "-- no-transaction\nVACUUM;", "what says it already is left as it is");
    assert_eq!(left_out(&import), ["20230101000000_gone.down.sql", "20240101000000_a_table.down.sql"]);
}

#[test]
fn what_sqlx_would_not_run_or_misread_is_refused() {
    let told = refused(
        ImportTool::Sqlx,
        &[
            ("1_a.sql", "SELECT 1;"),
            ("01_b.sql", "SELECT 1;"),
            ("0_zero.sql", "SELECT 1;"),
            ("x_y.sql", "SELECT 1;"),
            ("plain.sql", "SELECT 1;"),
            ("deep/2_c.sql", "SELECT 1;"),
            ("5_e.sql", "-- First.\n-- no-transaction\nSELECT 1;"),
        ],
    );
    assert_eq!(told.len(), 6, "{told:?}");
}

#[test]
fn golang_migrates_files_lose_their_own_transaction() {
    let import = import(
        ImportTool::GolangMigrate,
        &[
            ("000010_later.up.sql", "SELECT 10;"),
            ("000002_users.v2.up.sql", "-- Why.\nBEGIN;\n\nCREATE TABLE users (id int);\n\nCOMMIT;\n"),
            ("000002_users.v2.down.sql", "DROP TABLE users;"),
            ("000003_index.up.sql", "CREATE INDEX CONCURRENTLY i ON users (id);"),
            ("Makefile", ""),
        ],
    )
    .unwrap();
    assert_eq!(
        order(&import),
        [
            "V2__users_v2.sql < 000002_users.v2.up.sql",
            "V2__users_v2.down.sql < 000002_users.v2.down.sql",
            "V3__index.sql < 000003_index.up.sql",
            "V10__later.sql < 000010_later.up.sql",
        ]
    );
    assert_eq!(import.files[0].content, "-- Why.\n\n\nCREATE TABLE users (id int);\n\n\n");
    assert_eq!(import.files[0].changes.len(), 1);
    assert_eq!(is_transactional(&import), [true, false, true]);
}

#[test]
fn what_golang_migrate_would_not_run_is_refused() {
    let told = refused(
        ImportTool::GolangMigrate,
        &[
            ("1_a.up.sql", "SELECT 1;"),
            ("01_b.up.sql", "SELECT 1;"),
            ("2_plain.sql", "SELECT 1;"),
            ("3_c.up.json", "{}"),
            ("99999999999999999999_d.up.sql", "SELECT 1;"),
            ("deep/4_e.up.sql", "SELECT 1;"),
        ],
    );
    assert_eq!(told.len(), 5, "{told:?}");
}

#[test]
fn flyways_versions_are_compared_number_by_number() {
    let import = import(
        ImportTool::Flyway,
        &[
            ("V1.10__ten.sql", "SELECT 10;"),
            ("V1.9__nine.sql", "SELECT 9;"),
            ("sub/V1_2_1__two one.sql", "SELECT 2;"),
            ("V2__index.sql", "CREATE INDEX CONCURRENTLY i ON a (b);\nVACUUM a;"),
            ("V1__first.sql", "SELECT 1;"),
            ("V3__said.sql", "SELECT 3;"),
            ("V3__said.sql.conf", "# why\nexecuteInTransaction=false\n"),
            ("U1__first.sql", "SELECT 0;"),
            ("B1.9__all.sql", "SELECT 9;"),
            ("R__b views.sql", "CREATE OR REPLACE VIEW v AS SELECT 1;"),
            ("R__a_functions.sql", "SELECT 1;"),
        ],
    )
    .unwrap();
    assert_eq!(
        order(&import),
        [
            "V1__first.sql < V1__first.sql",
            "V2__two_one.sql < sub/V1_2_1__two one.sql",
            "V3__nine.sql < V1.9__nine.sql",
            "V4__ten.sql < V1.10__ten.sql",
            "V5__index.sql < V2__index.sql",
            "V6__said.sql < V3__said.sql",
            "R__a_functions.sql < R__a_functions.sql",
            "R__b_views.sql < R__b views.sql",
        ]
    );
    assert_eq!(left_out(&import), ["B1.9__all.sql", "U1__first.sql"]);
    let files: Vec<_> = import.files.iter().map(|one| (one.file.as_str(), one.content.as_str())).collect();
    let set = MigrationSet::from_files("set", &files).unwrap();
    let transactional: Vec<bool> = set.migrations().iter().map(|one| one.transactional).collect();
    assert_eq!(transactional, [true, true, true, true, false, false]);
    assert_eq!(set.repeatables().len(), 2);
}

#[test]
fn flyways_whole_numbers_are_kept() {
    let files = [("V001__a.sql", "SELECT 1;"), ("V20.0__b.sql", "SELECT 2;"), ("V20130115113556__c.sql", "SELECT 3;")];
    let import = import(ImportTool::Flyway, &files).unwrap();
    let names: Vec<&str> = import.files.iter().map(|one| one.file.as_str()).collect();
    assert_eq!(names, ["V1__a.sql", "V20__b.sql", "V20130115113556__c.sql"]);
    assert!(import.notes.is_empty());
}

#[test]
fn what_flyway_does_and_tenantry_does_not_is_refused() {
    let told = refused(
        ImportTool::Flyway,
        &[
            ("V1__a.sql", "SELECT 1;"),
            ("V1.0__same.sql", "SELECT 1;"),
            ("V2__place.sql", "SELECT 1;\nSELECT '${schema}';"),
            ("V3__mixed.sql.conf", "encoding=UTF-16\n"),
            ("V3__mixed.sql", "SELECT 1;"),
            ("R__views.sql", "SELECT '${schema}';"),
            ("V4__code.java", ""),
            ("afterMigrate.sql", "SELECT 1;"),
            ("v5__small.sql", "SELECT 1;"),
            ("V6_one.sql", "SELECT 1;"),
            ("B0.5__base.sql", "SELECT 1;"),
        ],
    );
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(told.iter().any(|one| one.starts_with("V2__place.sql:2: ")), "{told:?}");
}

#[test]
fn what_tenantry_refuses_is_told_of_the_tools_own_file_and_line() {
    let told = refused(
        ImportTool::Sqlx,
        &[
            ("1_a.sql", "SELECT 1;\nSET ROLE admin;"),
            ("2_b.sql", "-- no-transaction: slow\nSELECT 1;\nSELECT 2;\nCOMMIT;"),
            ("3_c.sql", "BEGIN;\nSELECT 1;\nCOMMIT;\nBEGIN;\nSELECT 2;\nCOMMIT;"),
        ],
    );
    let starts: Vec<bool> = ["1_a.sql:2: ", "2_b.sql:4: ", "3_c.sql:3: ", "3_c.sql:4: "]
        .iter()
        .map(|start| told.iter().any(|one| one.starts_with(start)))
        .collect();
    assert_eq!(starts, [true; 4], "{told:?}");
}

#[test]
fn a_folder_without_migrations_says_so() {
    assert!(matches!(import(ImportTool::Sqlx, &[]), Err(ImportError::Unreadable(_))));
    assert!(matches!(import(ImportTool::Sqlx, &[("1_a.down.sql", "SELECT 1;")]), Err(ImportError::Unreadable(_))));
}

#[test]
fn a_byte_order_mark_is_removed_and_other_encodings_are_refused() {
    let imported = import(ImportTool::Sqlx, &[("1_a.sql", "\u{feff}SELECT 1;")]).unwrap();
    assert_eq!(imported.files[0].content, "SELECT 1;");
    let latin = SourceFile { path: "1_a.sql".to_owned(), content: b"SELECT '\xe9';".to_vec() };
    assert!(matches!(Import::from_files(ImportTool::Sqlx, &[latin]), Err(ImportError::Refused(_))));
}

#[test]
fn a_folder_is_read_with_the_paths_in_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("1_a")).unwrap();
    std::fs::write(folder.path().join("1_a/up.sql"), "SELECT 1;").unwrap();
    std::fs::write(folder.path().join("1_a/picture.png"), b"\xff\xfe").unwrap();
    std::fs::write(folder.path().join(".gitkeep"), "").unwrap();
    let import = Import::read(ImportTool::Diesel, folder.path()).unwrap();
    assert_eq!(order(&import), ["V1__a.sql < 1_a/up.sql"]);
}
