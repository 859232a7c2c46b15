//! Trying a set on a home, in one transaction that is always rolled back.
//!
//! The files run statement by statement, as the migrator and under its guards, so that each lock is seen when it is taken
//! ([`locks`]). Differences to the rollout that is to come: it commits after each file, so locks are held longer here than
//! there (both times are told); deferred constraints are checked at each file's end and stay immediate from then on; and
//! files that say `-- no-transaction` cannot be tried.

mod locks;

use std::time::{Duration, Instant};

use refinery_core::Migration as Planned;
use tenantry_domain::{Home, LockMode, SchemaVersion, Secret};
use tenantry_migration_set::{Migration, MigrationSet, Statement, statements};
use tokio_postgres::error::SqlState;

use super::pending::Pending;
use super::refinery::{self, Work};
use super::{ApplyOptions, Workplace, failure, guard, ledger, repeatables};
use crate::error::{FleetError, MigrationFailure};
use crate::fleet::Fleet;
use crate::session::{Session, StatementFailure};
use crate::target::ClusterTarget;
use locks::Locks;

/// What a set did to a home before it was undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// The home's version, which it still has.
    pub from: SchemaVersion,
    /// Each file that the home lacks, in order.
    pub files: Vec<TriedFile>,
    /// From connecting to the rollback.
    pub duration: Duration,
}

/// What came of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriedFile {
    /// Its version; 0 for a repeatable one.
    pub version: i64,
    /// Its name.
    pub file: String,
    /// What came of it.
    pub outcome: TrialOutcome,
    /// How long it ran.
    pub duration: Duration,
    /// The strongest lock that it took on each relation, unless a file before it held that lock already.
    pub locks: Vec<TakenLock>,
}

/// What came of trying a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialOutcome {
    /// It works.
    Passed,
    /// It does not.
    Failed(Box<MigrationFailure>),
    /// Nobody knows, and why.
    Untried(String),
}

/// A lock on a table, view or sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenLock {
    /// The relation's name, with its schema where that is not the home's.
    pub relation: String,
    /// How it was locked.
    pub mode: LockMode,
    /// The line of the file on which the statement begins that took it.
    pub line: u32,
    /// Whether the relation was there before, so that somebody may be waiting for it.
    pub existed: bool,
    /// Whether the table's content was written anew.
    pub rewritten: bool,
    /// About how many rows it had, where PostgreSQL knows.
    pub rows: Option<u64>,
    /// The space that it takes on disk with all that belongs to it.
    pub bytes: Option<u64>,
    /// From the beginning of the statement to the end of the file, where the rollout will commit.
    pub held_in_file: Duration,
    /// From the beginning of the statement to the rollback, or to the failure that ended the transaction.
    pub held: Duration,
}

impl Fleet {
    /// Tries on a home what its history lacks of the set, and undoes it. What fails is in the answer; an error means that
    /// nothing could be tried. `deadline` bounds all of it: past it the running statement is cancelled and counts as failed.
    pub async fn dry_run(
        &self,
        target: &ClusterTarget,
        home: &Home,
        migrator_password: &Secret,
        set: &MigrationSet,
        lock_timeout: Duration,
        deadline: Duration,
    ) -> Result<DryRun, FleetError> {
        let began = Instant::now();
        let workplace = Workplace::of(home);
        let options = ApplyOptions { lock_timeout, statement_timeout: deadline, deadline };
        let connecting = self.migrator(target, &workplace, migrator_password, &options);
        let session = tokio::time::timeout(deadline, connecting).await.map_err(|elapsed| FleetError::Busy {
            reason: "the dry run's time was over before it had begun; try again, or give it more".into(),
            source: Some(Box::new(elapsed)),
        })??;
        let mut rehearsal = Rehearsal::new(session, &workplace, set);
        let left = deadline.saturating_sub(began.elapsed());
        // Past the deadline the session is dropped, which cancels the statement: the transaction ends with it.
        if let Ok(result) = tokio::time::timeout(left, rehearsal.run(set)).await {
            result?;
        } else {
            rehearsal.run_out(deadline);
        }
        Ok(DryRun { from: rehearsal.pending.found, files: rehearsal.finish(), duration: began.elapsed() })
    }
}

/// A migrator's session in a transaction that is never committed.
struct Rehearsal<'a> {
    session: Session,
    workplace: &'a Workplace,
    pending: Pending<'a>,
    files: Vec<TriedFile>,
    locks: Locks,
    /// Why nothing more can be tried.
    ended: Option<String>,
    /// The last file that could not be tried while later ones were.
    left_out: Option<&'a Migration>,
    /// The file that runs, and since when.
    running: Option<(&'a Migration, Instant)>,
}

impl<'a> Rehearsal<'a> {
    fn new(session: Session, workplace: &'a Workplace, set: &'a MigrationSet) -> Self {
        Self {
            session,
            workplace,
            pending: Pending::of(set),
            files: Vec::new(),
            locks: Locks::default(),
            ended: None,
            left_out: None,
            running: None,
        }
    }

    async fn run(&mut self, set: &MigrationSet) -> Result<(), FleetError> {
        let workplace = self.workplace;
        refinery::bring(self, workplace, set).await?;
        while let Some(migration) = self.pending.repeatables.pop_front() {
            self.try_one(migration).await?;
        }
        self.session.batch("undo what was tried", "ROLLBACK;").await
    }

    async fn try_one(&mut self, migration: &'a Migration) -> Result<(), FleetError> {
        if let Some(reason) = &self.ended {
            let outcome = TrialOutcome::Untried(reason.clone());
            self.note(migration, outcome, Duration::ZERO);
            return Ok(());
        }
        if !migration.transactional {
            self.left_out = Some(migration);
            let reason = "it says `-- no-transaction`, and what cannot be undone is not tried; the files after it are";
            self.note(migration, TrialOutcome::Untried(reason.to_owned()), Duration::ZERO);
            return Ok(());
        }
        let began = Instant::now();
        self.running = Some((migration, began));
        let outcome = match self.attempt(migration).await {
            Ok(()) => TrialOutcome::Passed,
            Err(stop) => self.end(migration, stop)?,
        };
        self.running = None;
        self.note(migration, outcome, began.elapsed());
        Ok(())
    }

    async fn attempt(&mut self, migration: &'a Migration) -> Result<(), Stop> {
        let mark = ledger::mark(migration, true);
        self.session.batch("begin with a file", &mark).await.map_err(Stop::Fleet)?;
        for statement in statements(&migration.sql) {
            let since = Instant::now();
            if let Err((_, cause)) = self.session.counted(statement.text).await {
                return Err(Stop::of(cause, migration, Some(&statement)));
            }
            let seen = self.locks.look(&mut self.session, self.workplace, self.files.len(), statement.line(), since);
            seen.await.map_err(Stop::Fleet)?;
        }
        if let Err((_, cause)) = self.session.counted("SET CONSTRAINTS ALL IMMEDIATE;").await {
            return Err(Stop::of(cause, migration, None));
        }
        let ask = format!("SELECT {};", guard::is_as_it_was(self.workplace, migration));
        let rows = self.session.rows("look who a file is", &ask).await.map_err(Stop::Fleet)?;
        if rows.first().and_then(|row| row.get(0)) == Some("t") {
            return Ok(());
        }
        let (sqlstate, message, hint) = guard::VERDICT;
        Err(Stop::Failed(Box::new(MigrationFailure {
            version: migration.version,
            name: migration.name.clone(),
            file: migration.file_name(),
            line: None,
            column: None,
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            detail: None,
            hint: Some(hint.to_owned()),
            context: None,
        })))
    }

    /// The transaction is broken: nothing more can be tried in it. An error is one that says nothing of the file.
    fn end(&mut self, migration: &Migration, stop: Stop) -> Result<TrialOutcome, FleetError> {
        let failure = match stop {
            Stop::Failed(failure) => failure,
            Stop::Fleet(error) => return Err(error),
        };
        self.locks.end(Instant::now());
        if let Some(left_out) = self.left_out
            && is_about_something_missing(&failure.sqlstate)
        {
            self.ended = Some(format!("{} could not be tried, and they are tried together", migration.file_name()));
            return Ok(TrialOutcome::Untried(format!(
                "it needs what {} would have made: {failure}",
                left_out.file_name()
            )));
        }
        // What one file adds to an enumeration is usable once it is committed, which it never is here.
        if failure.sqlstate == SqlState::UNSAFE_NEW_ENUM_VALUE_USAGE.code() {
            self.ended = Some(format!("{} could not be tried, and they are tried together", migration.file_name()));
            let reason = format!("it uses what an earlier file has to commit first: {failure}");
            return Ok(TrialOutcome::Untried(reason));
        }
        self.ended = Some(format!("{} failed before it", migration.file_name()));
        Ok(TrialOutcome::Failed(failure))
    }

    /// Time is up in the middle of a file, or between two.
    fn run_out(&mut self, deadline: Duration) {
        let now = Instant::now();
        self.locks.end(now);
        let said = format!("its {} s were over", deadline.as_secs());
        if let Some((migration, began)) = self.running.take() {
            let failure = MigrationFailure {
                version: migration.version,
                name: migration.name.clone(),
                file: migration.file_name(),
                line: None,
                column: None,
                sqlstate: SqlState::QUERY_CANCELED.code().to_owned(),
                message: format!("the dry run was stopped in the middle of this file: {said}"),
                detail: None,
                hint: None,
                context: None,
            };
            self.note(migration, TrialOutcome::Failed(Box::new(failure)), now - began);
        }
        let Pending { files, repeatables, found } = &self.pending;
        let lacking = files.iter().filter(|file| file.version > found.0).chain(repeatables);
        let rest: Vec<&Migration> = lacking.copied().collect();
        for migration in rest {
            self.note(migration, TrialOutcome::Untried(format!("the dry run was stopped: {said}")), Duration::ZERO);
        }
    }

    fn note(&mut self, migration: &Migration, outcome: TrialOutcome, duration: Duration) {
        self.locks.end_file(Instant::now());
        self.files.push(TriedFile {
            version: migration.version,
            file: migration.file_name(),
            outcome,
            duration,
            locks: Vec::new(),
        });
    }

    fn finish(self) -> Vec<TriedFile> {
        let mut files = self.files;
        for (file, lock) in self.locks.finish(Instant::now()) {
            if let Some(file) = files.get_mut(file) {
                file.locks.push(lock);
            }
        }
        files
    }
}

impl Work for Rehearsal<'_> {
    async fn plan(&mut self, select: &str) -> Result<Vec<Planned>, FleetError> {
        let workplace = self.workplace;
        let (settle_in, lock) = (workplace.settle_in(), workplace.lock());
        let end = if select.trim_end().ends_with(';') { "" } else { ";" };
        // The tables are undone with everything else where they are not there yet.
        let (make, mut questions) = (ledger::history_table(workplace), format!("{select}{end}\n"));
        if !self.pending.repeatables.is_empty() {
            questions = format!("{}{questions}{}", repeatables::table(workplace), repeatables::select(workplace));
        }
        let sql = format!("{settle_in}{lock}BEGIN;\n{make}{questions}");
        let rows = self.session.rows("read the home's history", &sql).await?;
        let history = refinery::as_refinery_has_it(self.pending.leave_out(&rows)?);
        self.locks.remember(&mut self.session, self.workplace).await?;
        Ok(history)
    }

    /// The history row would be undone with the file.
    async fn run(&mut self, sql: &str, _history_row: &str) -> Result<(), FleetError> {
        let migration = self.pending.take(sql)?;
        self.try_one(migration).await
    }
}

/// Why a file came to no end.
enum Stop {
    /// It, or the moment, is to blame; told as of the file in either case.
    Failed(Box<MigrationFailure>),
    /// The connection is.
    Fleet(FleetError),
}

impl Stop {
    fn of(cause: StatementFailure, migration: &Migration, statement: Option<&Statement<'_>>) -> Self {
        let said = match &cause {
            StatementFailure::Answered(error) => error.as_db_error(),
            StatementFailure::Silent(_) => None,
        };
        match said {
            Some(said) if !failure::ends_the_session(said.code()) => {
                Self::Failed(Box::new(failure::told(said, migration, statement)))
            }
            _ => Self::Fleet(cause.sorted(&format!("try {migration}"))),
        }
    }
}

/// An object, or a value of an enumeration, that another file may have been meant to make.
fn is_about_something_missing(sqlstate: &str) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::INVALID_TEXT_REPRESENTATION,
    ]
    .iter()
    .any(|code| code.code() == sqlstate)
}
