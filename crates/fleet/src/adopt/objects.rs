//! Which objects of a database have an owner that can change, and how that is said in SQL.

use tenantry_domain::{Home, Isolation, RoleName, SchemaName};

use crate::quote::{literal, literals};

/// A common table expression `movable (classid, objid, owner, schema, acl)`: everything in the database that somebody
/// made and owns. Left out: what the server came with, members of extensions (they go with theirs), sequences and types
/// that go with a table, temporary objects, and the control plane's own schemas.
pub(super) const MOVABLE: &str = r"
WITH every (classid, objid, owner, namespace, acl) AS (
    SELECT 'pg_class'::regclass::oid, c.oid, c.relowner, c.relnamespace, c.relacl FROM pg_class c
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
        OR c.relkind = 'S' AND NOT EXISTS (
               SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, pronamespace, proacl FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typowner, t.typnamespace, t.typacl FROM pg_type t
     WHERE t.typtype IN ('b', 'd', 'e', 'r') AND t.typrelid = 0
       AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
    UNION ALL SELECT 'pg_collation'::regclass, oid, collowner, collnamespace, NULL FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner, connamespace, NULL FROM pg_conversion
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner, oprnamespace, NULL FROM pg_operator
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner, opcnamespace, NULL FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner, opfnamespace, NULL FROM pg_opfamily
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner, cfgnamespace, NULL FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner, dictnamespace, NULL FROM pg_ts_dict
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner, stxnamespace, NULL FROM pg_statistic_ext
    UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, oid, nspacl FROM pg_namespace
    UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner, 0, NULL FROM pg_publication
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner, 0, srvacl FROM pg_foreign_server
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwowner, 0, fdwacl FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_language'::regclass, oid, lanowner, 0, lanacl FROM pg_language
    UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner, 0, lomacl FROM pg_largeobject_metadata
), movable AS (
    SELECT e.classid, e.objid, e.owner, n.nspname AS schema, e.acl
    FROM every e LEFT JOIN pg_namespace n ON n.oid = e.namespace
    WHERE e.objid >= 16384 AND coalesce(n.nspname !~ '^pg_' AND n.nspname <> ALL ('{information_schema,tenantry,extensions}'), true)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = e.classid AND d.objid = e.objid AND d.deptype = 'e')
)";

/// The word that `ALTER … OWNER TO` wants for what `pg_identify_object` calls `kind`.
pub(super) const ALTER_WORD: &str = "CASE WHEN kind IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE' \
     WHEN kind = 'composite type' THEN 'TYPE' WHEN kind = 'statistics object' THEN 'STATISTICS' \
     WHEN kind = 'foreign-data wrapper' THEN 'FOREIGN DATA WRAPPER' ELSE upper(kind) END";

/// The word that `REVOKE … ON` wants for the same. Foreign tables and views are tables to it.
pub(super) const REVOKE_WORD: &str = "CASE WHEN kind IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE' \
     WHEN kind IN ('view', 'materialized view', 'foreign table') THEN 'TABLE' \
     WHEN kind = 'composite type' THEN 'TYPE' WHEN kind = 'server' THEN 'FOREIGN SERVER' \
     WHEN kind = 'foreign-data wrapper' THEN 'FOREIGN DATA WRAPPER' ELSE upper(kind) END";

/// The condition on `movable AS m` for what an adoption takes over: a whole database, or what is in one schema. The schema
/// itself is the admin's afterwards, so that no migration can open it to a neighbour.
pub(super) fn in_scope(schema: Option<&SchemaName>) -> String {
    schema.map_or_else(
        || "true".to_owned(),
        |schema| format!("m.schema = {} AND m.classid <> 'pg_namespace'::regclass", literal(schema.as_str())),
    )
}

/// The same for an adopted home.
pub(super) fn in_scope_of(home: &Home) -> String {
    in_scope((home.isolation == Isolation::Schema).then_some(&home.schema))
}

/// The home's roles as a list of literals.
pub(super) fn own_roles(home: &Home) -> String {
    literals(home.names().all().map(RoleName::as_str))
}
