//! The rights of a home's roles on what somebody else made.
//!
//! Given and taken as the owner: an admin that is no superuser has grant options through several roles, and PostgreSQL
//! picks any of them as the grantor, so that what one statement gave another would not find to take.

use tenantry_domain::{Home, SchemaName};

use crate::migrate::HISTORY_TABLES;
use crate::quote::{do_block, ident, literal, literals};
use crate::roles::for_existing;

/// Statements, as the home's owner.
pub(super) fn as_owner(home: &Home, statements: &str) -> String {
    format!("SET LOCAL ROLE {};\n{statements}RESET ROLE;\n", ident(home.names().owner.as_str()))
}

/// Reading and writing for the app, reading for the read-only role, on everything that the owner has in some schemas and
/// will make there. The history of migrations is for reading only.
pub(super) fn give(home: &Home, schemas: &[SchemaName]) -> String {
    let names = home.names();
    let [owner, app, readers] = [&names.owner, &names.app, &names.read_only].map(|role| ident(role.as_str()));
    let mut rights = do_block(&each_relation(
        home,
        &format!(
            "IF item.is_sequence THEN
        EXECUTE format('GRANT SELECT, USAGE, UPDATE ON SEQUENCE %s TO %I', item.name, {0});
        EXECUTE format('GRANT SELECT ON SEQUENCE %s TO %I', item.name, {1});
    ELSE
        EXECUTE format('GRANT %s ON TABLE %s TO %I', CASE WHEN item.is_history THEN 'SELECT'
            ELSE 'SELECT, INSERT, UPDATE, DELETE' END, item.name, {0});
        EXECUTE format('GRANT SELECT ON TABLE %s TO %I', item.name, {1});
    END IF;",
            literal(names.app.as_str()),
            literal(names.read_only.as_str())
        ),
    ));
    let mut usage = String::new();
    for schema in schemas {
        let schema = ident(schema.as_str());
        usage.push_str(&format!("GRANT USAGE ON SCHEMA {schema} TO {app}, {readers};\n"));
        for (right, objects, role) in [
            ("SELECT, INSERT, UPDATE, DELETE", "TABLES", &app),
            ("SELECT", "TABLES", &readers),
            ("SELECT, USAGE, UPDATE", "SEQUENCES", &app),
            ("SELECT", "SEQUENCES", &readers),
        ] {
            rights.push_str(&format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT {right} ON {objects} TO {role};\n"
            ));
        }
    }
    usage + &as_owner(home, &rights)
}

/// What [`give`] gave on objects; nothing where the roles are gone. Default privileges and the rest go with the roles.
pub(super) fn take(home: &Home) -> String {
    let names = home.names();
    let revoke = format!(
        "EXECUTE format('REVOKE ALL ON %s %s FROM %I, %I', CASE WHEN item.is_sequence THEN 'SEQUENCE' ELSE 'TABLE' END,
            item.name, {}, {});",
        literal(names.app.as_str()),
        literal(names.read_only.as_str())
    );
    let taking = each_relation(home, &revoke);
    do_block(&for_existing(&[&names.owner], |owner| format!("SET LOCAL ROLE {owner};\n{taking}\nRESET ROLE;")))
}

/// Within a block: something for each `item` of tables, views and sequences that are the home's owner's, whatever their schema.
fn each_relation(home: &Home, statements: &str) -> String {
    format!(
        "DECLARE item record; BEGIN
FOR item IN SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind = 'S' AS is_sequence,
        n.nspname = {} AND c.relname IN ({}) AS is_history
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND pg_catalog.pg_get_userbyid(c.relowner) = {}
      AND n.nspname !~ '^pg_'
LOOP
    {statements}
END LOOP; END;",
        literal(home.schema.as_str()),
        literals(HISTORY_TABLES),
        literal(home.names().owner.as_str())
    )
}
