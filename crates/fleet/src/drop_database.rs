//! Dropping a database, and what stands in the way of that.

use tenantry_domain::{DatabaseName, RoleName};
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::{ident, idents, literal};
use crate::session::Session;
use crate::shared_database::shared_database_roles;
use crate::target::ClusterTarget;
use crate::template::template_roles;

/// What `DROP DATABASE … WITH (FORCE)` does not remove.
#[derive(Default)]
struct InTheWay {
    exists: bool,
    is_open: bool,
    slots: Vec<String>,
    prepared_transactions: Vec<String>,
    subscriptions: Vec<String>,
    /// A backend still creates it, perhaps for a client that is gone; it was told to stop.
    is_being_created: bool,
}

impl Fleet {
    /// Drops a database of ours (a home's, a shared one, a template) with its logical slots, subscriptions and prepared
    /// transactions; for shared databases and templates also the roles that belong to them. Finishes an interrupted drop.
    pub async fn drop_database(&self, target: &ClusterTarget, database: &DatabaseName) -> Result<(), FleetError> {
        let mut admin = self.admin(target).await?;
        let found = look(&mut admin, database).await?;
        if found.is_being_created {
            return Err(FleetError::busy(format!("the database {database} was being created; that is being stopped")));
        }
        let name = ident(database.as_str());
        if found.exists {
            if !found.prepared_transactions.is_empty() || !found.subscriptions.is_empty() {
                self.clear_inside(target, &mut admin, database, &found).await?;
            }
            let mut close = String::new();
            if found.is_open {
                close.push_str(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false;\n"));
            }
            for slot in &found.slots {
                close.push_str(&drop_slot_sql(slot));
            }
            if !close.is_empty() {
                admin.batch("close the database and drop its replication slots", &close).await?;
            }
            drop_it(&mut admin, database).await?;
        }
        let roles = roles_of(database);
        if !roles.is_empty() {
            let sql = format!("DROP ROLE IF EXISTS {};", idents(roles.iter().map(RoleName::as_str)));
            admin.batch("drop the roles of the database", &sql).await?;
        }
        Ok(())
    }

    /// Drops a replication slot, after ending whoever reads from it. Content when it is not there.
    pub(crate) async fn drop_slot(&self, target: &ClusterTarget, slot: &str) -> Result<(), FleetError> {
        self.admin(target).await?.batch("drop a replication slot", &drop_slot_sql(slot)).await
    }

    /// Prepared transactions and subscriptions can be ended only from inside their database.
    async fn clear_inside(
        &self,
        target: &ClusterTarget,
        admin: &mut Session,
        database: &DatabaseName,
        found: &InTheWay,
    ) -> Result<(), FleetError> {
        if !found.is_open {
            let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;", ident(database.as_str()));
            admin.batch("open the database for clearing it", &sql).await?;
        }
        let mut inside = self.once(target, database, None).await?;
        for transaction in &found.prepared_transactions {
            let sql = format!("ROLLBACK PREPARED {};", literal(transaction));
            inside.batch("roll back a prepared transaction", &sql).await?;
        }
        for subscription in &found.subscriptions {
            let name = ident(subscription);
            // Without its slot's name it does not call its publisher, which may be gone; that slot is its publisher's.
            let sql = format!(
                "ALTER SUBSCRIPTION {name} DISABLE;\nALTER SUBSCRIPTION {name} SET (slot_name = NONE);\n\
                 DROP SUBSCRIPTION {name};"
            );
            inside.batch("drop a subscription", &sql).await?;
        }
        Ok(())
    }
}

/// `FORCE` asks for the right to end every process in the database before it ends any. It counts autovacuum among
/// them, which belongs to no role, so only a superuser may. Without `FORCE` the server sends autovacuum
/// away by itself, and waits a few seconds for others; our own sessions are ended first.
async fn drop_it(admin: &mut Session, database: &DatabaseName) -> Result<(), FleetError> {
    let name = ident(database.as_str());
    let mut is_refused = false;
    let forced = admin
        .batch_unless("drop the database", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE);"), |error| {
            is_refused = *error.code() == SqlState::INSUFFICIENT_PRIVILEGE;
            None
        })
        .await;
    if !is_refused || admin.is_superuser() {
        return forced;
    }
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = {} AND usename = current_user AND pid <> pg_backend_pid();",
        literal(database.as_str())
    );
    admin.batch("end our own sessions in the database", &end).await?;
    admin.batch("drop the database without force", &format!("DROP DATABASE IF EXISTS {name};")).await
}

async fn look(session: &mut Session, database: &DatabaseName) -> Result<InTheWay, FleetError> {
    let name = literal(database.as_str());
    let sql = format!(
        "SELECT 'database', datallowconn::text FROM pg_database WHERE datname = {name}
         UNION ALL SELECT 'slot', slot_name FROM pg_replication_slots WHERE database = {name}
         UNION ALL SELECT 'prepared', gid FROM pg_prepared_xacts WHERE database = {name}
         UNION ALL SELECT 'subscription', s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
             WHERE d.datname = {name}
         UNION ALL SELECT 'creating', pg_terminate_backend(pid)::text FROM pg_stat_activity
             WHERE usename = current_user AND state = 'active' AND pid <> pg_backend_pid() AND starts_with(query, {});",
        literal(&format!("CREATE DATABASE {} ", ident(database.as_str())))
    );
    let mut found = InTheWay::default();
    for row in session.rows("look for what keeps the database", &sql).await? {
        found.add(&row);
    }
    Ok(found)
}

impl InTheWay {
    fn add(&mut self, row: &SimpleQueryRow) {
        let value = row.get(1).unwrap_or_default().to_owned();
        match row.get(0) {
            Some("database") => {
                self.exists = true;
                self.is_open = value == "true";
            }
            Some("slot") => self.slots.push(value),
            Some("prepared") => self.prepared_transactions.push(value),
            Some("creating") => self.is_being_created = true,
            Some("subscription") => self.subscriptions.push(value),
            _ => {}
        }
    }
}

/// A slot in use cannot be dropped: its reader is ended first, and the drop waits for that a little.
fn drop_slot_sql(slot: &str) -> String {
    let slot = literal(slot);
    let body = format!(
        "FOR attempt IN 1..100 LOOP
    PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = {slot} AND active;
    EXIT WHEN NOT FOUND;
    PERFORM pg_sleep(0.05);
END LOOP;
PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {slot};"
    );
    crate::quote::do_block(&body)
}

/// The roles that come and go with the database itself. A home's are dropped by themselves.
fn roles_of(database: &DatabaseName) -> Vec<RoleName> {
    // An adopted database bears any name.
    let is_ours =
        database.as_str().get(2..).is_some_and(|id| id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit()));
    match database.as_str().get(..2).filter(|_| is_ours) {
        Some("s_") => shared_database_roles(database).into_iter().chain([RoleName::shared_pool(database)]).collect(),
        Some("t_") => template_roles(database).to_vec(),
        _ => Vec::new(),
    }
}
