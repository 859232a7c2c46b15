//! Bringing a home to a migration set.
//!
//! refinery decides what is pending and what diverges, repeatable files apart ([`repeatables`]); the connection is ours
//! ([`ledger`]): it plans in one round trip and applies each file in one more, leaves `-- no-transaction` files outside a
//! transaction ([`statements`]), and tells file, line and PostgreSQL's own words when one fails ([`failure`]). Where the
//! caller knows a home's version, the first file goes at once and the history is checked with it ([`belief`]). Homes that
//! share a database are migrated over connections that are kept ([`shared`]).

mod baseline;
mod belief;
mod down;
mod dry_run;
mod enclosed;
mod failure;
mod guard;
mod ledger;
mod pending;
mod refinery;
pub(crate) mod repeatables;
mod seed;
pub(crate) mod shared;
mod statements;

use std::time::{Duration, Instant};

use tenantry_domain::{DatabaseName, Home, HomeId, Isolation, RoleName, SchemaName, SchemaVersion, Secret};
use tenantry_migration_set::MigrationSet;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::{ident, literal};
use crate::session::{Login, Session};
use crate::target::ClusterTarget;
use crate::template::template_roles;
use belief::Belief;
pub use dry_run::{DryRun, TakenLock, TrialOutcome, TriedFile};
use ledger::Ledger;
pub(crate) use ledger::applied_migration;
pub use seed::SeedFile;

/// refinery's name for its table, so that stock refinery can read a home's history.
pub(crate) const HISTORY: &str = "refinery_schema_history";
/// How far a `-- no-transaction` file has come.
const PROGRESS: &str = "tenantry_migration_progress";
/// A migrator's session asks one thing after the other. One that falls silent belongs to a worker that is stopped: its
/// socket stays open, and the session's lock would keep every successor out for as long as that lasts.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Which repeatable files the home has, by their checksums.
pub(crate) const REPEATABLE: &str = "tenantry_repeatable";
/// What the home was filled with.
const SEED: &str = "tenantry_seed";
/// What tenants may read but not write.
pub(crate) const HISTORY_TABLES: [&str; 4] = [HISTORY, PROGRESS, REPEATABLE, SEED];

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOptions {
    /// For waiting on one lock; short, because a waiting DDL statement blocks every reader behind it.
    pub lock_timeout: Duration,
    /// For one statement of a file.
    pub statement_timeout: Duration,
    /// For all of it; past it the running statement is cancelled and the answer is `Busy`.
    pub deadline: Duration,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_mins(10),
            deadline: Duration::from_hours(1),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Before.
    pub from: SchemaVersion,
    /// After.
    pub to: SchemaVersion,
    /// How many files ran.
    pub count: usize,
    /// From connecting to the last answer.
    pub duration: Duration,
}

/// A row of a home's own history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedMigration {
    /// Its version.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// refinery's checksum.
    pub checksum: u64,
}

/// Where a set is applied, and as whom: a home or a template.
#[derive(Debug, Clone)]
pub(crate) struct Workplace {
    pub(crate) home: Option<HomeId>,
    pub(crate) database: DatabaseName,
    pub(crate) schema: SchemaName,
    pub(crate) owner: RoleName,
    pub(crate) migrator: RoleName,
    /// Who must not write the history although it gets rights on every new table.
    pub(crate) app: Option<RoleName>,
}

impl Workplace {
    pub(crate) fn of(home: &Home) -> Self {
        let names = home.names();
        Self {
            home: Some(home.id),
            database: home.database.clone(),
            schema: home.schema.clone(),
            owner: names.owner,
            migrator: names.migrator,
            app: Some(names.app),
        }
    }

    pub(crate) fn of_template(template: &DatabaseName) -> Self {
        let [owner, migrator] = template_roles(template);
        Self { home: None, database: template.clone(), schema: SchemaName::public(), owner, migrator, app: None }
    }

    /// What a session of the migrator begins with. `SET ROLE` applies no settings of the role, so all is said here.
    fn settle_in(&self) -> String {
        format!(
            "SET search_path = {}, extensions;\nSET ROLE {};\n",
            ident(self.schema.as_str()),
            ident(self.owner.as_str())
        )
    }

    pub(crate) fn table(&self, name: &str) -> String {
        format!("{}.{}", ident(self.schema.as_str()), ident(name))
    }

    /// Held by the session while it works, so that a set is never applied by two at once. In a database that homes share,
    /// each has a number of its own.
    fn lock(&self) -> String {
        format!("SELECT pg_catalog.pg_advisory_lock({});\n", self.lock_key())
    }

    /// The same until the transaction's end, for a session that goes on to other homes.
    fn lock_for_the_transaction(&self) -> String {
        format!("SELECT pg_catalog.pg_advisory_xact_lock({});\n", self.lock_key())
    }

    /// The number of that lock.
    pub(crate) fn lock_key(&self) -> i64 {
        let (high, low) = self.home.map_or((0, 0), |home| home.as_uuid().as_u64_pair());
        (high ^ low).cast_signed()
    }
}

impl Fleet {
    /// Applies what the home's history lacks of the set, in order, and after that its repeatable files that are new or have
    /// changed, by name, as the home's migrator acting as its owner. Files run in one transaction with their history row,
    /// or statement by statement where they say `-- no-transaction`.
    pub async fn apply(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
        set: &MigrationSet,
        options: &ApplyOptions,
    ) -> Result<Applied, FleetError> {
        self.apply_at(target, &Workplace::of(home), migrator_password, set, options).await
    }

    /// The same for a home that is believed to be at a version, which saves a round trip. The home's own history is checked
    /// all the same, and where it says something else, that counts.
    pub async fn apply_from(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
        set: &MigrationSet,
        believed: SchemaVersion,
        options: &ApplyOptions,
    ) -> Result<Applied, FleetError> {
        let workplace = Workplace::of(home);
        let Some(belief) = Belief::new(&workplace, set, believed) else {
            return self.apply_at(target, &workplace, migrator_password, set, options).await;
        };
        let working = async {
            if belief.is_transactional
                && home.isolation == Isolation::Schema
                && !home.is_adopted()
                && let Some(result) = self.apply_over_kept(target, home, set, &belief, options).await
            {
                return result;
            }
            let mut session = self.migrator(target, &workplace, migrator_password, options).await?;
            run(&mut session, &workplace, set, Some(&belief)).await
        };
        in_time(options.deadline, Box::pin(working)).await
    }

    /// The home's own history, by rising version; empty where nothing was ever applied.
    ///
    /// Read as the home's migrator, never as the admin: whatever the owner has put in the table's place runs with no more
    /// rights than the owner's.
    pub async fn history(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
    ) -> Result<Vec<AppliedMigration>, FleetError> {
        let workplace = Workplace::of(home);
        let mut session = self.migrator(target, &workplace, migrator_password, &ApplyOptions::default()).await?;
        let history = workplace.table(HISTORY);
        let look = format!("{}SELECT pg_catalog.to_regclass({});", workplace.settle_in(), literal(&history));
        let found = session.rows("look for the home's history", &look).await?;
        if found.first().and_then(|row| row.get(0)).is_none() {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT version, name, checksum FROM {history} ORDER BY version;");
        let rows = session.rows("read the home's history", &sql).await?;
        rows.iter().map(ledger::applied_migration).collect()
    }

    pub(crate) async fn apply_at(
        &self,
        target: &ClusterTarget,
        workplace: &Workplace,
        migrator_password: &Secret,
        set: &MigrationSet,
        options: &ApplyOptions,
    ) -> Result<Applied, FleetError> {
        let working = async {
            let mut session = self.migrator(target, workplace, migrator_password, options).await?;
            run(&mut session, workplace, set, None).await
        };
        in_time(options.deadline, Box::pin(working)).await
    }

    pub(crate) async fn migrator(
        &self,
        target: &ClusterTarget,
        workplace: &Workplace,
        password: &Secret,
        options: &ApplyOptions,
    ) -> Result<Session, FleetError> {
        let tls = self.tls(target)?;
        let login = Login {
            endpoint: &target.endpoint,
            tls: &tls,
            user: workplace.migrator.as_str(),
            password,
            database: workplace.database.as_str(),
            application_name: self.application_name(workplace.home),
            connect_timeout: self.config().connect_timeout,
            statement_timeout: options.statement_timeout,
            lock_timeout: options.lock_timeout,
            idle_timeout: Some(IDLE_MAX),
        };
        Session::open(login).await
    }
}

/// From which version to which, and by how many files.
type Brought = (SchemaVersion, SchemaVersion, usize);

/// When time is up the future is dropped, and with it the session, which cancels what it runs.
async fn in_time(
    deadline: Duration,
    working: impl Future<Output = Result<Brought, FleetError>>,
) -> Result<Applied, FleetError> {
    let started = Instant::now();
    match tokio::time::timeout(deadline, working).await {
        Ok(result) => result.map(|(from, to, count)| Applied { from, to, count, duration: started.elapsed() }),
        Err(elapsed) => Err(FleetError::Busy {
            reason: "the migrations took longer than their deadline and were cancelled; raise it or retry".into(),
            source: Some(Box::new(elapsed)),
        }),
    }
}

async fn run(
    session: &mut Session,
    workplace: &Workplace,
    set: &MigrationSet,
    belief: Option<&Belief>,
) -> Result<Brought, FleetError> {
    let mut ledger = Ledger::new(session, workplace, set, belief);
    let report = match refinery::bring(&mut ledger, workplace, set).await {
        Err(_) if ledger.is_in_doubt() => refinery::bring(&mut ledger, workplace, set).await?,
        other => other?,
    };
    let (from, to, count) = brought(ledger.found(), &report);
    let repeated = ledger.repeat().await?;
    Ok((from, to, count + repeated))
}

fn brought(from: SchemaVersion, report: &refinery_core::Report) -> Brought {
    let applied = report.applied_migrations();
    let newest = applied.iter().map(refinery_core::Migration::version).max();
    (from, from.max(SchemaVersion(newest.unwrap_or(0))), applied.len())
}
