//! A catalog of a hundred thousand tenants who were never provisioned: rows without objects on any server.

use tenantry_api::Tenant;
use tokio_postgres::Client;

/// How many there are.
pub const TENANTS: i32 = 100_000;
const CLUSTERS: i32 = 20;

/// Rows as a hundred thousand provisions would have left them. Their passwords are the model's: what opening them costs
/// does not depend on what they are.
pub async fn fill(catalog: &Client, model: &Tenant) {
    let model = model.id;
    let sql = format!(
        "SET session_replication_role = replica;
CREATE FUNCTION pg_temp.id(kind text, number integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(1790000000000 + number), 12, '0') || '7' || substr(md5(kind || number), 1, 3) || '8'
            || substr(md5(kind || number), 4, 15))::uuid
$$;
INSERT INTO cluster (id, name, region, tenancy, provider, host, port, tls_mode, admin_user, admin_database, admin_secret,
                     system_identifier, server_version, locale, limits, state, homes, databases)
SELECT pg_temp.id('cluster', number), 'cluster-' || number, 'local', 'shared', 'registered', host, port, tls_mode,
       admin_user, admin_database, admin_secret, number::text, server_version, locale, limits, 'cordoned',
       {TENANTS} / {CLUSTERS}, {TENANTS} / {CLUSTERS}
  FROM cluster, generate_series(1, {CLUSTERS}) AS number WHERE name = 'main';
INSERT INTO tenant (id, slug, name, plan, region, isolation, labels, status, status_reason, suspended_for, suspended_by,
                    suspended_since, generation, schema_version, created_at)
SELECT pg_temp.id('tenant', number), 'company-' || number, 'Company ' || number || ' Ltd',
       CASE WHEN number % 10 = 0 THEN 'team' ELSE 'developer' END, 'local', 'database',
       jsonb_build_object('tier', CASE WHEN number % 20 = 0 THEN 'gold' WHEN number % 4 = 0 THEN 'silver' ELSE 'free' END,
                          'account', (number % 5000)::text, 'country', substr(md5((number % 190)::text), 1, 2)),
       CASE WHEN number % 50 = 0 THEN 'suspended' ELSE 'active' END, CASE WHEN number % 50 = 0 THEN 'unpaid' END,
       CASE WHEN number % 50 = 0 THEN 'payment' END, CASE WHEN number % 50 = 0 THEN 'billing' END,
       CASE WHEN number % 50 = 0 THEN now() END, 1, 3, now() - ({TENANTS} - number) * interval '1 minute'
  FROM generate_series(1, {TENANTS}) AS number;
INSERT INTO home (id, cluster, isolation, database_name, schema_name, migration_set, schema_version, state, login_slot,
                  login_secret, read_only_secret, migrator_secret, tenant, claimed_at, region, residence, connections)
SELECT pg_temp.id('home', number), pg_temp.id('cluster', 1 + number % {CLUSTERS}), 'database',
       'h_' || replace(pg_temp.id('home', number)::text, '-', ''), 'public', migration_set, 3, 'ready', 'a', login_secret,
       read_only_secret, migrator_secret, pg_temp.id('tenant', number), now() - interval '1 day', model.region, residence,
       coalesce((limits ->> 'connections')::bigint, 0)
  FROM generate_series(1, {TENANTS}) AS number JOIN tenant ON tenant.id = pg_temp.id('tenant', number)
  JOIN plan ON plan.name = tenant.plan, home AS model WHERE model.tenant = '{model}';
UPDATE cluster SET connections = (SELECT sum(connections) FROM home WHERE home.cluster = cluster.id)
 WHERE name LIKE 'cluster-%';
INSERT INTO placement (tenant, home, since)
SELECT pg_temp.id('tenant', number), pg_temp.id('home', number), 1 FROM generate_series(1, {TENANTS}) AS number;
INSERT INTO host (name, tenant)
SELECT 'www.company-' || number || '.example', pg_temp.id('tenant', number)
  FROM generate_series(1, {TENANTS}, 3) AS number;
INSERT INTO route (tenant, version, state, generation, home)
SELECT pg_temp.id('tenant', number), 1000 + number, CASE WHEN number % 50 = 0 THEN 'suspended' ELSE 'active' END, 1,
       pg_temp.id('home', number)
  FROM generate_series(1, {TENANTS}) AS number;
UPDATE feed_clock SET version = 1000 + {TENANTS} + 1;
SET session_replication_role = origin;
VACUUM ANALYZE;"
    );
    for statement in sql.split(";\n") {
        let done = catalog.batch_execute(statement).await;
        assert!(done.is_ok(), "{done:?}: {statement}");
    }
}

/// Takes the rows away again, so that the world can be taken down as any other. Rollouts over them must be finished.
pub async fn empty(catalog: &Client, model: &Tenant) {
    let model = model.id;
    let sql = format!(
        "SET session_replication_role = replica;
         DELETE FROM rollout_target WHERE tenant <> '{model}';
         DELETE FROM route WHERE tenant <> '{model}';
         DELETE FROM placement WHERE tenant <> '{model}';
         DELETE FROM host;
         DELETE FROM home WHERE tenant <> '{model}';
         DELETE FROM tenant WHERE id <> '{model}';
         DELETE FROM cluster WHERE name LIKE 'cluster-%';
         SET session_replication_role = origin"
    );
    catalog.batch_execute(&sql).await.expect("an empty catalog");
}
