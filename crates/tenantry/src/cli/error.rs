//! What a command can end in, and what a person should do then.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use tenantry_api::{ClientError, Code, Operation, Rollout};
use tenantry_domain::{OperationState, RolloutState, RolloutStop};
use tenantry_migration_set::{MigrationSetError, PolicyError};

use super::exit_status::ExitStatus;
use super::reason;
use crate::demo::DemoError;
use crate::serve::ServeError;
use crate::world::WorldError;

/// What to do about advice that a team knows better than.
const ADVICE_OVERRULED: &str = "where the table is small or the program gone, write `-- lint-ignore RULE: reason` before the \
                                statement, or give --allow RULE; files that every tenant has applied are left out by \
                                --since VERSION";

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// What was given, or is missing, makes the command impossible. The message says what to do.
    #[error("{message}")]
    Usage {
        /// What is wrong and what to do.
        message: String,
    },
    /// A file cannot be used.
    #[error("cannot read {what} {}; check that it exists and may be read", .path.display())]
    File {
        /// What the file is: "the profile", "the token file".
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's own reason.
        source: io::Error,
    },
    /// The call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The folder is no migration set.
    #[error(transparent)]
    MigrationSet(#[from] MigrationSetError),
    /// The folder's lint policy, or what was to be changed in it, cannot be used.
    #[error(transparent)]
    LintPolicy(#[from] PolicyError),
    /// The folder was checked and findings were printed.
    #[error("the migration set is refused, errors: {findings}; mend the files and try again")]
    Linted {
        /// How many refuse it.
        findings: usize,
        /// Whether one of them is advice, which a team may overrule.
        advice: bool,
    },
    /// The folder of another tool holds what cannot be kept; the reasons were printed.
    #[error("the folder cannot be imported as it is, reasons: {reasons}; mend the files and try again")]
    ImportRefused {
        /// How many.
        reasons: usize,
    },
    /// The fleet is not as it was when the plan was made; nothing was begun.
    #[error("nothing was begun: a rollout would not do any more what was planned; {}", differences.join("; "))]
    PlanChanged {
        /// What it would do now instead.
        differences: Vec<String>,
    },
    /// A set was tried on some tenants, and what came of it was printed.
    #[error("the set does not work for {failed} of the {tenants} tenants that it was tried on; nothing was kept")]
    DryRun {
        /// With how many something failed.
        failed: usize,
        /// Of how many.
        tenants: usize,
    },
    /// A dry run came to the answer that nothing would come of it.
    #[error("it would be refused: {reason}")]
    WouldFail {
        /// Why.
        reason: String,
    },
    /// Catalog and clusters do not agree; what was found was printed.
    #[error("catalog and clusters do not agree: {findings} findings")]
    Unwell {
        /// How many.
        findings: usize,
    },
    /// Tenants' schemas are not what their migrations make; which was printed.
    #[error("tenants in drift: {in_drift}; their schemas are not what their migrations make")]
    Drift {
        /// How many.
        in_drift: usize,
        /// Whether every object was told.
        is_explained: bool,
    },
    /// The operation ended otherwise than wished, or waits for a person.
    #[error("operation {} ({}) {}{}", .0.id, .0.kind, ended(.0.state.as_str()), reason_after_colon(.0.error.as_ref()))]
    Operation(Box<Operation>),
    /// The rollout ended otherwise than wished, or waits for a person.
    #[error("rollout {} {}{}", .rollout.id, ended(.rollout.state.as_str()), failures_after_colon(.rollout))]
    Rollout {
        /// As it ended.
        rollout: Box<Rollout>,
        /// Whether a tenant's own history is not the set's.
        diverged: bool,
    },
    /// What was asked for was done and shown, but it is not what was hoped for.
    #[error("{message}")]
    Unsuccessful {
        /// In what way.
        message: String,
    },
    /// Some of many tenants came to nothing; all others are as they were asked to be.
    #[error("{failures} of {rows} tenants were refused or have failed")]
    Bulk {
        /// How many came to nothing.
        failures: u64,
        /// Of how many.
        rows: u64,
    },
    /// Some of the tenants that were asked have not answered; the others' rows were shown.
    #[error("{failed} of the {asked} tenants that were asked have not answered")]
    Query {
        /// How many have not.
        failed: u64,
        /// Of how many.
        asked: u64,
    },
    /// The audit log was checked and breaches were printed.
    #[error("the audit log is not sound: {breaches} breaches; somebody changed or removed entries")]
    Audit {
        /// How many.
        breaches: usize,
    },
    /// A replica could not be started, or ended by itself.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A world could not be brought up, or ended by itself.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The demo did not show what it promises.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// Nobody waits any longer, but the work goes on.
    #[error("no longer waiting; {what} goes on")]
    StillRunning {
        /// What goes on: "operation 0192…".
        what: String,
        /// The command with which to go on waiting.
        resume: String,
        /// Whether a person gave up, rather than the time limit.
        interrupted: bool,
    },
    /// Whoever read our output has gone away, as `head` does.
    #[error("nobody reads the output")]
    OutputClosed,
    /// The result cannot be written.
    #[error("the result cannot be written; check the disk or pipe that it goes to")]
    Output(#[source] io::Error),
    /// Another program that is needed cannot be run.
    #[error("{message}")]
    Program {
        /// Which, and what to do.
        message: String,
        /// The system's own reason.
        source: io::Error,
    },
}

impl CliError {
    /// Wrong usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }

    /// What the program exits with.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Client(error) if error.code() == Some(Code::MigrationRefused) => ExitStatus::Refused,
            Self::MigrationSet(error) if !error.findings().is_empty() => ExitStatus::Refused,
            Self::Linted { .. } | Self::ImportRefused { .. } | Self::PlanChanged { .. } | Self::DryRun { .. } => {
                ExitStatus::Refused
            }
            Self::Unwell { .. } | Self::Audit { .. } | Self::Drift { .. } | Self::Rollout { diverged: true, .. } => {
                ExitStatus::Unwell
            }
            Self::Bulk { .. } | Self::Query { .. } => ExitStatus::FailuresWithinBudget,
            Self::Rollout { rollout, .. } => rollout_status(rollout),
            Self::StillRunning { interrupted: true, .. } => ExitStatus::Interrupted,
            Self::OutputClosed => ExitStatus::Done,
            Self::Usage { .. }
            | Self::Unsuccessful { .. }
            | Self::File { .. }
            | Self::Client(_)
            | Self::MigrationSet(_)
            | Self::LintPolicy(_)
            | Self::Serve(_)
            | Self::World(_)
            | Self::Demo(_)
            | Self::WouldFail { .. }
            | Self::Operation(_)
            | Self::StillRunning { interrupted: false, .. }
            | Self::Output(_)
            | Self::Program { .. } => ExitStatus::Failed,
        }
    }

    /// What to do next, where the message does not say so itself.
    pub(crate) fn next_step(&self) -> Option<String> {
        match self {
            Self::Client(error) => match error.code()? {
                Code::Unauthenticated => {
                    Some("give a valid token by TENANTRY_TOKEN, --token-file or a profile".to_owned())
                }
                Code::Forbidden => Some("use a token with that scope (`tenantry token create --scope …`)".to_owned()),
                Code::Internal => Some("look for the request id in the control plane's log".to_owned()),
                _ => None,
            },
            Self::Operation(operation) => match operation.state {
                OperationState::Parked => Some(format!(
                    "mend the cause, then `tenantry operation retry {id}`; `tenantry operation watch {id}` shows what \
                     happened, `abandon` gives up",
                    id = operation.id
                )),
                _ => Some(format!("`tenantry operation watch {}` shows what happened", operation.id)),
            },
            Self::Rollout { rollout, .. } => match rollout.state {
                RolloutState::Paused => Some(format!("`tenantry migrate resume {}` goes on", rollout.id)),
                RolloutState::Failed => Some(format!(
                    "where the tenants are to blame, mend them and `tenantry migrate retry {}` takes up the failed ones; \
                     where a file is, mend it and apply the folder again",
                    rollout.id
                )),
                _ => None,
            },
            Self::Drift { is_explained: false, .. } => {
                Some("--explain tells the objects; mend them by hand, or by a migration that suits both".to_owned())
            }
            Self::Drift { is_explained: true, .. } => {
                Some("make the objects as expected by hand, or by a migration that suits both".to_owned())
            }
            Self::StillRunning { resume, .. } => Some(format!("`{resume}` waits for it again")),
            Self::PlanChanged { .. } => Some("make a new plan with `tenantry migrate plan` and look at it".to_owned()),
            Self::Linted { advice: true, .. } => Some(ADVICE_OVERRULED.to_owned()),
            Self::MigrationSet(refused) if refused.findings().iter().any(|finding| !finding.rule.is_fixed()) => {
                Some(ADVICE_OVERRULED.to_owned())
            }
            Self::Usage { .. }
            | Self::Unsuccessful { .. }
            | Self::Bulk { .. }
            | Self::Query { .. }
            | Self::File { .. }
            | Self::MigrationSet(_)
            | Self::LintPolicy(_)
            | Self::Linted { advice: false, .. }
            | Self::ImportRefused { .. }
            | Self::DryRun { .. }
            | Self::WouldFail { .. }
            | Self::Unwell { .. }
            | Self::Serve(_)
            | Self::World(_)
            | Self::Demo(_)
            | Self::OutputClosed
            | Self::Output(_)
            | Self::Audit { .. }
            | Self::Program { .. } => None,
        }
    }

    /// The request, as the control plane's log names it.
    pub(crate) fn request_id(&self) -> Option<&str> {
        match self {
            Self::Client(ClientError::Problem { problem, .. }) => problem.request_id.as_deref(),
            _ => None,
        }
    }

    /// The sentences of the errors below this one.
    pub(crate) fn causes(&self) -> Vec<String> {
        causes(self)
    }

    /// The error as `--output json` shows it, on standard error.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code(), "message": self.to_string() });
        if let Self::Client(ClientError::Problem { problem, .. }) = self {
            error["message"] = json!(problem.detail);
            if !problem.errors.is_empty() {
                error["errors"] = json!(problem.errors);
            }
        }
        match self {
            Self::Operation(operation) => error["operation"] = json!(operation),
            Self::Rollout { rollout, .. } => error["rollout"] = json!(rollout),
            Self::PlanChanged { differences } => error["differences"] = json!(differences),
            Self::MigrationSet(refused) if !refused.findings().is_empty() => {
                error["findings"] = json!(refused.findings());
            }
            _ => {}
        }
        if let Some(request_id) = self.request_id() {
            error["request_id"] = json!(request_id);
        }
        if let Some(next_step) = self.next_step() {
            error["next_step"] = json!(next_step);
        }
        let causes = self.causes();
        if !causes.is_empty() {
            error["causes"] = json!(causes);
        }
        json!({ "error": error })
    }

    /// A word that scripts may rely on: the control plane's own where there is one.
    fn code(&self) -> &'static str {
        match self {
            Self::Client(error) => match error {
                ClientError::Problem { problem, .. } => problem.code.as_str(),
                ClientError::Unreachable { .. } => "unreachable",
                ClientError::Refused { .. } => "refused",
                ClientError::Unexpected { .. } => "unexpected_answer",
            },
            Self::Usage { .. } => "usage",
            Self::Unsuccessful { .. } => "unsuccessful",
            Self::Bulk { .. } => "bulk_failures",
            Self::Query { .. } => "query_failures",
            Self::File { .. } => "file",
            Self::MigrationSet(_) | Self::Linted { .. } => "migration_refused",
            Self::LintPolicy(_) => "lint_policy",
            Self::ImportRefused { .. } => "import_refused",
            Self::PlanChanged { .. } => "plan_changed",
            Self::DryRun { .. } => "dry_run_failed",
            Self::Unwell { .. } => "unwell",
            Self::Drift { .. } => "drift",
            Self::Operation(_) => "operation_failed",
            Self::WouldFail { .. } => "would_fail",
            Self::Audit { .. } => "audit_broken",
            Self::Serve(_) => "serve_failed",
            Self::World(_) => "world_failed",
            Self::Demo(_) => "demo_failed",
            Self::Rollout { .. } => "rollout_failed",
            Self::StillRunning { interrupted: true, .. } => "interrupted",
            Self::StillRunning { interrupted: false, .. } => "time_limit",
            Self::OutputClosed | Self::Output(_) => "output",
            Self::Program { .. } => "program",
        }
    }
}

/// A rollout that ended with failures but was never stopped by them stayed within its budget.
fn rollout_status(rollout: &Rollout) -> ExitStatus {
    match rollout.state {
        RolloutState::Failed => {
            match rollout.stop {
                // Nobody was touched: the set is refused.
                Some(RolloutStop::Overtaken { .. }) => ExitStatus::Refused,
                Some(_) => ExitStatus::BudgetExceeded,
                None => ExitStatus::FailuresWithinBudget,
            }
        }
        RolloutState::Paused => ExitStatus::Interrupted,
        RolloutState::Queued | RolloutState::Running | RolloutState::Succeeded | RolloutState::Aborted => {
            ExitStatus::Failed
        }
    }
}

/// The sentences of the errors below one. Some libraries end their sentence with the one below: that is said once.
pub(crate) fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let sentence = error.to_string();
        if !said.ends_with(&sentence) {
            causes.push(sentence.clone());
            said = sentence;
        }
        next = error.source();
    }
    causes
}

/// What became of it, to go on from "operation 0192…".
fn ended(state: &str) -> String {
    match state {
        "failed" => "has failed".to_owned(),
        "cancelled" | "aborted" => format!("was {state}"),
        _ => format!("is {state}"),
    }
}

fn reason_after_colon(error: Option<&Value>) -> String {
    error.map(|error| format!(": {}", reason::of(error))).unwrap_or_default()
}

fn failures_after_colon(rollout: &Rollout) -> String {
    if let Some(stop) = &rollout.stop {
        return format!(": {stop}");
    }
    match rollout.counts.failed + rollout.counts.parked {
        0 => String::new(),
        failures => format!(": {failures} of {} tenants could not be migrated", rollout.counts.total()),
    }
}

#[cfg(test)]
mod tests;
