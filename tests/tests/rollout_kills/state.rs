//! What is in the homes, and in the catalog, when all is over.

use std::collections::BTreeMap;

use serde_json::Value;
use tenantry_testkit::Server;
use tenantry_tests::World;
use tokio_postgres::Client;

/// Compares every home with those that were never disturbed, and the catalog with the homes.
pub(crate) async fn compare(world: &World<'_>, homes: &Server, seed: u64) {
    let catalog = world.catalog_client().await;
    let sql = "SELECT tenant.slug, tenant.schema_version, home.database_name, home.schema_name
                 FROM tenant JOIN home ON home.tenant = tenant.id AND home.state = 'ready'
                WHERE tenant.status = 'active' ORDER BY tenant.slug";
    let rows = catalog.query(sql, &[]).await.expect("the homes");
    assert_eq!(rows.len(), super::TENANTS + 2);
    let mut inside: BTreeMap<String, Client> = BTreeMap::new();
    let mut states: BTreeMap<String, Value> = BTreeMap::new();
    for row in &rows {
        let (slug, version, database, schema): (String, i64, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        assert_eq!(version, 7, "TENANTRY_SEED={seed}: the catalog knows {slug} at another version");
        if !inside.contains_key(&database) {
            // One at a time: a server has fewer connections than there are tenants.
            inside.clear();
            inside.insert(database.clone(), homes.connect(&database).await);
        }
        states.insert(slug, state(&inside[&database], &schema).await);
    }
    let undisturbed = states["undisturbed-database"].clone();
    assert_eq!(undisturbed["runs"], serde_json::json!(["V4", "V5", "V7"]));
    for (slug, state) in &states {
        assert_eq!(state, &undisturbed, "TENANTRY_SEED={seed}: {slug} is not as an undisturbed home");
    }
    let sql = "SELECT count(*) FROM rollout_target WHERE state NOT IN ('applied', 'already')";
    let unfinished: i64 = catalog.query_one(sql, &[]).await.expect("a number").get(0);
    assert_eq!(unfinished, 0, "TENANTRY_SEED={seed}");
}

/// Everything that a file could have done twice, halfway or not at all.
async fn state(client: &Client, schema: &str) -> Value {
    let sql = format!(
        "SELECT jsonb_build_object(
                'history', (SELECT jsonb_agg(to_jsonb(row) - 'applied_on' ORDER BY version)
                              FROM {schema}.refinery_schema_history AS row),
                'runs', (SELECT jsonb_agg(file ORDER BY file) FROM {schema}.runs),
                'notes', (SELECT jsonb_agg(to_jsonb(row) ORDER BY id) FROM {schema}.notes AS row),
                'progress', (SELECT count(*) FROM {schema}.tenantry_migration_progress),
                'relations', (SELECT jsonb_agg(jsonb_build_array(relname, relkind) ORDER BY relname)
                                FROM pg_class WHERE relnamespace = '{schema}'::regnamespace),
                'indexes', (SELECT jsonb_agg(jsonb_build_array(relname, indisvalid, indisready, indislive) ORDER BY relname)
                              FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
                             WHERE relnamespace = '{schema}'::regnamespace),
                'columns', (SELECT jsonb_agg(jsonb_build_array(relname, attname, atttypid, attnotnull, atthasdef)
                                             ORDER BY relname, attnum)
                              FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
                             WHERE relnamespace = '{schema}'::regnamespace AND attnum > 0 AND atttypid < 16384))"
    );
    client.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{schema}: {error:?}")).get(0)
}
