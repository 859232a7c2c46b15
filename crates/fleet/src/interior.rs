//! What the control plane keeps in every database with homes: the schemas `tenantry` and `extensions`, the stamp's table
//! and function, and a `public` that is nobody's by default.

use std::fmt::Write as _;

use crate::error::FleetError;
use crate::quote::{ident, literal, literals};
use crate::session::Session;
use crate::stamp;

/// Makes the interior, for use in a transaction. Repeatable. Extensions that the server does not offer, or does not let
/// the admin install, are left out ([`missing_extensions`]).
pub(crate) fn setup(extensions: &[String]) -> String {
    format!("REVOKE ALL ON SCHEMA public FROM PUBLIC;\n{}", rooms(extensions))
}

/// The same beside objects that somebody else made: `public` stays as it is.
pub(crate) fn rooms(extensions: &[String]) -> String {
    let mut sql = String::from(
        "CREATE SCHEMA IF NOT EXISTS tenantry;
CREATE SCHEMA IF NOT EXISTS extensions;
REVOKE ALL ON SCHEMA tenantry, extensions FROM PUBLIC;
",
    );
    sql.push_str(stamp::SETUP);
    for extension in extensions {
        let body = format!(
            "BEGIN
IF EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = {}) THEN
    CREATE EXTENSION IF NOT EXISTS {} SCHEMA extensions;
END IF;
EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file THEN NULL;
END",
            literal(extension),
            ident(extension)
        );
        let _ = writeln!(sql, "DO {};", literal(&body));
    }
    sql
}

/// Within a block: takes the interior out again. Extensions that somebody has come to need stay, and their schema with
/// them.
pub(crate) const REMOVE: &str = "DROP SCHEMA tenantry CASCADE;
DECLARE extension name;
BEGIN
    FOR extension IN SELECT extname FROM pg_catalog.pg_extension
        WHERE extnamespace = pg_catalog.to_regnamespace('extensions')
    LOOP
        BEGIN
            EXECUTE pg_catalog.format('DROP EXTENSION %I', extension);
        EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
        END;
    END LOOP;
    BEGIN
        DROP SCHEMA IF EXISTS extensions;
    EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
    END;
END;";

/// Lets roles (a list of quoted names) use the interior.
pub(crate) fn grants(roles: &str) -> String {
    format!(
        "GRANT USAGE ON SCHEMA tenantry, extensions TO {roles};\nGRANT SELECT ON TABLE tenantry.stamp TO {roles};\n\
         GRANT EXECUTE ON FUNCTION tenantry.attach(uuid, bigint) TO {roles};\n"
    )
}

/// One sentence for each wanted extension that is not there.
pub(crate) async fn missing_extensions(session: &mut Session, wanted: &[String]) -> Result<Vec<String>, FleetError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let sql =
        format!("SELECT extname FROM pg_extension WHERE extname IN ({});", literals(wanted.iter().map(String::as_str)));
    let rows = session.rows("list the extensions", &sql).await?;
    let there: Vec<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
    let sentence = |name: &String| {
        format!(
            "extension `{name}` is not available to tenants; install the server's contrib package, or let the admin \
                 create it"
        )
    };
    Ok(wanted.iter().filter(|name| !there.contains(&name.as_str())).map(sentence).collect())
}
