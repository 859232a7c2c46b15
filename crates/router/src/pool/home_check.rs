//! Whether the objects of a home may change a session behind a plain statement's back.
//!
//! A function, a trigger, a default, a view or a policy of the tenant's own can call `set_config` or take an advisory
//! lock, and neither a tag nor a text tells of it. So the home is looked at once, off the callers' path, and again when
//! its schema changes; until then, and where something is found, every connection that was used is reset.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::sync::{AtomicU64, Ordering};

/// What a home's objects may do, and whether that was looked at.
#[derive(Default)]
pub(crate) struct HomeCheck {
    /// The schema version that was looked at, one higher, where nothing was found; zero otherwise.
    plain_at: AtomicU64,
    /// The schema version that was looked at, one higher.
    looked_at: AtomicU64,
}

/// What hides in an object's text, as a regular expression of PostgreSQL.
const SUSPECT_TEXT: &str = r"\m(set|reset|set_\w*|\w*advisory_\w*|listen|unlisten|temp|temporary|pg_temp\w*|prepare|execute|discard|declare|setseed|query_to_xml\w*|ts_stat|ts_rewrite|dblink\w*)\M|u&";

/// The same in the stored form of an expression, which names functions by their numbers: those of `set_config`,
/// `setseed` and the session's advisory locks.
const SUSPECT_TREE: &str = "
    SELECT ':funcid (' || pg_catalog.string_agg(oid::pg_catalog.text, '|') || ') ' AS calls FROM pg_catalog.pg_proc
     WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace
       AND (proname IN ('set_config', 'setseed') OR (proname ~ 'advisory_lock' AND proname !~ 'xact'))";

/// Objects that PostgreSQL made itself have lower numbers than these (`FirstNormalObjectId`).
const FIRST_OF_USERS: u32 = 16_384;

fn statement() -> String {
    format!(
        "WITH suspect AS ({SUSPECT_TREE}), reachable AS (
             SELECT oid FROM pg_catalog.pg_namespace
              WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry', 'extensions')
                AND pg_catalog.has_schema_privilege(oid, 'USAGE')
         ), relation AS (
             SELECT c.oid FROM pg_catalog.pg_class c JOIN reachable ON reachable.oid = c.relnamespace
         )
         SELECT pg_catalog.has_schema_privilege(pg_catalog.current_schema(), 'CREATE')
             OR EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'dblink')
             OR EXISTS (SELECT FROM pg_catalog.pg_proc p
                          JOIN pg_catalog.pg_language l ON l.oid = p.prolang
                          JOIN reachable ON reachable.oid = p.pronamespace
                         WHERE p.oid >= {FIRST_OF_USERS}
                           AND (l.lanname NOT IN ('sql', 'plpgsql') OR p.prosqlbody IS NOT NULL
                                OR p.prosrc ~* '{SUSPECT_TEXT}'))
             OR EXISTS (SELECT FROM pg_catalog.pg_attrdef JOIN relation ON relation.oid = adrelid, suspect
                         WHERE adbin::pg_catalog.text ~ calls)
             OR EXISTS (SELECT FROM pg_catalog.pg_constraint JOIN relation ON relation.oid = conrelid, suspect
                         WHERE conbin::pg_catalog.text ~ calls)
             OR EXISTS (SELECT FROM pg_catalog.pg_rewrite JOIN relation ON relation.oid = ev_class, suspect
                         WHERE ev_action::pg_catalog.text ~ calls)
             OR EXISTS (SELECT FROM pg_catalog.pg_policy JOIN relation ON relation.oid = polrelid, suspect
                         WHERE polqual::pg_catalog.text ~ calls OR polwithcheck::pg_catalog.text ~ calls)"
    )
}

impl HomeCheck {
    /// Whether a home with this schema was looked at and has nothing that hides.
    pub(crate) fn is_plain(&self, schema_version: i64) -> bool {
        self.plain_at.load(Ordering::Acquire) == mark(schema_version)
    }

    pub(crate) fn is_known(&self, schema_version: i64) -> bool {
        self.looked_at.load(Ordering::Acquire) == mark(schema_version)
    }

    /// Looks, over a connection that nobody uses.
    pub(crate) async fn look(&self, client: &Client, schema_version: i64) -> Result<(), Error> {
        let answer = client.simple_query(&statement()).await?;
        let is_suspect = !answer.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("f"),
            _ => false,
        });
        if !is_suspect {
            self.plain_at.store(mark(schema_version), Ordering::Release);
        }
        self.looked_at.store(mark(schema_version), Ordering::Release);
        Ok(())
    }
}

/// Zero stays for "never".
fn mark(schema_version: i64) -> u64 {
    schema_version.cast_unsigned().wrapping_add(1)
}
