//! Migration files for journeys.

use tenantry_api::{MigrationFile, PushMigrationSet};
use tenantry_domain::DisplayName;

/// Files of a set: name and content each.
pub type Files = Vec<(String, String)>;

/// Files from literals.
pub fn files(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

/// The sample product's schema.
pub fn sample() -> Files {
    files(tenantry_sample::migrations())
}

/// A small schema that has one of everything that a home's roles must reach: a table with a generated key, an index, a
/// view, a function with a `$$` body, and a row that the migration brings along.
pub fn notes() -> Files {
    files(&[
        (
            "V1__notes.sql",
            "CREATE TABLE notes (\n    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n    body text NOT NULL\n);\n\
             CREATE INDEX notes_by_body ON notes (body);\n",
        ),
        (
            "V2__word_count.sql",
            "CREATE FUNCTION word_count(body text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$\n    \
             SELECT cardinality(string_to_array(body, ' '))\n$$;\n\
             CREATE VIEW counted AS SELECT id, word_count(body) AS words FROM notes;\n",
        ),
        ("V3__first_note.sql", "INSERT INTO notes (body) VALUES ('the first note');\n"),
    ])
}

/// [`notes`] and one file more.
pub fn notes_and(name: &str, content: &str) -> Files {
    let mut files = notes();
    files.push((name.to_owned(), content.to_owned()));
    files
}

/// The request that pushes files.
pub fn push(name: &str, files: &Files) -> PushMigrationSet {
    let file = |(name, content): &(String, String)| MigrationFile { name: name.clone(), content: content.clone() };
    PushMigrationSet { name: DisplayName::parse(name).expect("a name"), files: files.iter().map(file).collect() }
}
