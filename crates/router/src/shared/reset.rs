//! Making a connection that a tenant had as good as new, for any other.

use tenantry_domain::RoleName;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::pool::reset::{RESET_SESSION, answer_of};
use crate::quote::literal;

/// What the driver asks for types that it does not know; it keeps these statements, and needs them (tokio-postgres,
/// `prepare.rs`).
const OF_DRIVER: [&str; 3] = [
    "SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typbasetype, n.nspname, t.typrelid
FROM pg_catalog.pg_type t
LEFT OUTER JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
INNER JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid
WHERE t.oid = $1
",
    "SELECT enumlabel
FROM pg_catalog.pg_enum
WHERE enumtypid = $1
ORDER BY enumsortorder
",
    "SELECT attname, atttypid
FROM pg_catalog.pg_attribute
WHERE attrelid = $1
AND NOT attisdropped
AND attnum > 0
ORDER BY attnum
",
];

/// Why a connection is not as good as new.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unclean {
    #[error(transparent)]
    Postgres(#[from] Error),
    #[error("the connection is still somebody else")]
    IsOther,
}

/// The batch that resets a session in one round trip. Whatever statements the last tenant prepared are gone with it, and it
/// ends with a row that says whether it is the shared login again.
pub(super) fn reset_statements(login: &RoleName) -> String {
    let of_driver = OF_DRIVER.map(literal).join(", ");
    let login = literal(login.as_str());
    format!(
        "{RESET_SESSION} \
         DO LANGUAGE plpgsql $reset$ DECLARE statement pg_catalog.text; BEGIN \
             FOR statement IN SELECT name FROM pg_catalog.pg_prepared_statements AS prepared \
                 WHERE from_sql OR prepared.statement <> ALL (ARRAY[{of_driver}]) LOOP \
                 EXECUTE pg_catalog.format('DEALLOCATE %I', statement); \
             END LOOP; \
         END $reset$; \
         SELECT session_user = {login} AND current_user = {login}"
    )
}

/// Runs it.
pub(super) async fn run(client: &Client, statements: &str) -> Result<(), Unclean> {
    if is_confirmed(&answer_of(client, statements).await?) { Ok(()) } else { Err(Unclean::IsOther) }
}

/// Whether the last row of an answer says yes.
pub(super) fn is_confirmed(answer: &[SimpleQueryMessage]) -> bool {
    let last = answer.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    last.is_some_and(|row| row.get(0) == Some("t"))
}
