//! One request of a tenant: looks for traces of others, writes, and leaves a mess behind.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tenantry_api::{Route, Tenant};
use tenantry_domain::TenantId;
use tenantry_router::{Connection, Router};
use tenantry_tests::Failure;

use crate::findings::Findings;

/// What somebody before has left in this session; an empty text where nothing is.
const TRACES: &str = "
    SELECT concat_ws(', ',
        nullif(current_setting('soak.mark', true), ''),
        CASE WHEN current_setting('statement_timeout') = '4321ms' THEN 'a time limit' END,
        CASE WHEN current_setting('transaction_read_only') = 'on' THEN 'a session that only reads' END,
        CASE WHEN current_user <> session_user THEN 'a role' END,
        (SELECT 'an advisory lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() LIMIT 1),
        (SELECT 'a channel' FROM pg_listening_channels() LIMIT 1),
        (SELECT 'a cursor' FROM pg_cursors WHERE is_holdable LIMIT 1),
        (SELECT 'a statement' FROM pg_prepared_statements WHERE from_sql LIMIT 1))";

/// Bodies of notes that are neither this tenant's nor the migration's.
const STRANGERS: &str = "
    SELECT body FROM (SELECT body FROM notes ORDER BY id DESC LIMIT 40) AS latest
     WHERE body NOT LIKE $1 || ' %' AND body <> 'the first note' LIMIT 1";

/// What is left behind: settings, session objects, transactions that nobody ends. Some of it fails on purpose.
const MESSES: [&str; 9] = [
    "SET soak.mark = 'a setting'; SET statement_timeout = '4321ms'",
    "SET search_path = pg_catalog",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "BEGIN; INSERT INTO notes (body) VALUES ('forgotten'); SET LOCAL soak.mark = 'a local setting'",
    "BEGIN; INSERT INTO notes (body) VALUES ('failed'); SELECT 1 / 0",
    "LISTEN soak; PREPARE soak AS SELECT 1",
    "SELECT pg_advisory_lock_shared(42)",
    "BEGIN; DECLARE soak CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    "DO $$ BEGIN PERFORM set_config('soak.mark', 'a setting of a block', false); END $$",
];

/// A tenant and what tells its home from others.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) tenant: TenantId,
    pub(crate) slug: String,
    database: String,
    schema: String,
}

impl Home {
    pub(crate) fn of(tenant: &Tenant, route: &Route) -> Self {
        Self {
            tenant: tenant.id,
            slug: tenant.slug.as_str().to_owned(),
            database: route.database.as_ref().expect("a database").as_str().to_owned(),
            schema: route.schema.as_ref().expect("a schema").as_str().to_owned(),
        }
    }

    /// A connection that is looked at, and a note that is written.
    pub(crate) async fn visit(&self, router: &Router, findings: &Findings) -> Result<Connection, Failure> {
        let client = router.tenant(self.tenant).await?.client().await?;
        let row = client.query_one("SELECT current_database()::text, current_schema()::text", &[]).await?;
        let (database, schema): (String, Option<String>) = (row.get(0), row.get(1));
        if database != self.database || schema.as_ref() != Some(&self.schema) {
            findings.add(format!("{} is in {database} and {schema:?}", self.slug));
        }
        let traces: String = client.query_one(TRACES, &[]).await?.get(0);
        if !traces.is_empty() {
            findings.add(format!("{} was handed {traces}", self.slug));
        }
        for row in client.query(STRANGERS, &[&self.slug]).await? {
            findings.add(format!("{} sees: {}", self.slug, row.get::<_, String>(0)));
        }
        let body = format!("{} was here", self.slug);
        client.execute("INSERT INTO notes (body) VALUES ($1)", &[&body]).await?;
        // However long this goes on, homes stay small.
        client.execute("DELETE FROM notes WHERE id < (SELECT max(id) FROM notes) - 100", &[]).await?;
        Ok(client)
    }
}

/// Leaves a mess behind, or a query that nobody waits for.
pub(crate) async fn leave(client: Connection, random: &mut StdRng) {
    if let Some(mess) = MESSES.get(random.random_range(0..MESSES.len() + 2)) {
        // Whatever becomes of it.
        let _ = client.batch_execute(mess).await;
    } else {
        let sleeping = client.batch_execute("SELECT pg_sleep(0.5)");
        let _ = tokio::time::timeout(Duration::from_millis(random.random_range(0..5)), sleeping).await;
    }
}
