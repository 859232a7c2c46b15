//! The schema of a home with isolation `schema`.

use tenantry_domain::{Home, Isolation};

use crate::adopt::leave;
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::{do_block, ident, literal};
use crate::roles::{drop_owned, join};
use crate::session::Session;
use crate::target::ClusterTarget;

/// Tables dropped in one transaction. Each takes a lock for itself and its indexes, sequences and TOAST.
const TABLES_PER_BATCH: usize = 50;

impl Fleet {
    /// Makes the home's schema in its shared database, empty and closed; [`Fleet::prepare_home`] lets its roles in.
    pub async fn ensure_schema(&self, target: &ClusterTarget, home: &Home) -> Result<(), FleetError> {
        self.inside(target, home).await?.batch("create the home's schema", &create(home)).await
    }

    /// Drops the schema, what the home's roles own elsewhere in its database, their rights there, and the stamp. Large
    /// schemas go in batches, so that one transaction never needs more locks than the server has.
    pub async fn drop_schema(&self, target: &ClusterTarget, home: &Home) -> Result<(), FleetError> {
        if home.isolation != Isolation::Schema {
            return Err(FleetError::refused("this home is a database, not a schema; drop the database"));
        }
        if !database_exists(&mut *self.admin(target).await?, home).await? {
            return Ok(());
        }
        let names = home.names();
        let roles = names.all();
        let mut inside = self.inside(target, home).await?;
        loop {
            let tables = some_tables(&mut inside, home).await?;
            if tables.len() < TABLES_PER_BATCH {
                break;
            }
            let sql = format!("DROP TABLE IF EXISTS {} CASCADE;", tables.join(", "));
            inside.batch("drop a batch of the home's tables", &sql).await?;
        }
        let sql = format!(
            "BEGIN;\nDROP SCHEMA IF EXISTS {} CASCADE;\n{}DELETE FROM tenantry.stamp WHERE home = {};\nCOMMIT;\n",
            ident(home.schema.as_str()),
            do_block(&[join(&inside, target, &roles), drop_owned(&roles)].concat()),
            literal(&home.id.to_string()),
        );
        inside.batch("drop the home's schema", &sql).await?;
        if home.is_adopted() {
            inside.batch("take the interior out of a database that is not ours", &leave(home)).await?;
        }
        Ok(())
    }
}

/// The admin owns the schema, so that no migration can open it to a neighbour.
pub(crate) fn create(home: &Home) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS {};\n", ident(home.schema.as_str()))
}

async fn database_exists(session: &mut Session, home: &Home) -> Result<bool, FleetError> {
    let sql = format!("SELECT FROM pg_database WHERE datname = {};", literal(home.database.as_str()));
    Ok(!session.rows("look for the home's database", &sql).await?.is_empty())
}

/// Quoted names of tables in the schema, a batch at most. Partitions go with their parents.
async fn some_tables(session: &mut Session, home: &Home) -> Result<Vec<String>, FleetError> {
    let sql = format!(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = {} AND c.relkind IN ('r', 'p') AND NOT c.relispartition LIMIT {TABLES_PER_BATCH};",
        literal(home.schema.as_str())
    );
    let rows = session.rows("list the home's tables", &sql).await?;
    Ok(rows.iter().filter_map(|row| row.get(0)).map(str::to_owned).collect())
}
