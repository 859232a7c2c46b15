//! What each ending says, and which exit status it has.

use tenantry_api::{ErrorBudget, Problem, RolloutCounts, RolloutLimits};
use tenantry_domain::{MigrationSetId, OperationId, OperationKind, RolloutId, RolloutStop};

use super::*;

fn rollout(state: RolloutState, failed: u64, stop: Option<RolloutStop>) -> CliError {
    let rollout = Box::new(Rollout {
        id: RolloutId::new(uuid::Uuid::nil()),
        migration_set: MigrationSetId::from_digest([0; 32]),
        state,
        waves: Vec::new(),
        wave: 0,
        bakes_until: None,
        limits: RolloutLimits { concurrency: 8, per_cluster: None, per_database: None },
        error_budget: ErrorBudget::default(),
        breaker: None,
        verify: false,
        priority: 0,
        not_before: None,
        hours: None,
        opens_at: None,
        began_at: None,
        stop,
        counts: RolloutCounts { applied: 5, failed, ..RolloutCounts::default() },
        created_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: None,
    });
    CliError::Rollout { rollout, diverged: false }
}

fn problem(code: Code) -> CliError {
    let problem = Problem::new(code, "The slug is taken.").with_request_id("req-1");
    CliError::Client(ClientError::Problem { problem: Box::new(problem), retry_after: None })
}

#[test]
fn each_ending_has_its_exit_status() {
    assert_eq!(rollout(RolloutState::Failed, 2, None).exit_status(), ExitStatus::FailuresWithinBudget);
    let stop = RolloutStop::WaveBudget { wave: 0, failed: 2 };
    assert_eq!(rollout(RolloutState::Failed, 2, Some(stop)).exit_status(), ExitStatus::BudgetExceeded);
    let CliError::Rollout { rollout: one, .. } = rollout(RolloutState::Failed, 1, None) else { panic!("a rollout") };
    assert_eq!(CliError::Rollout { rollout: one, diverged: true }.exit_status(), ExitStatus::Unwell);
    assert_eq!(rollout(RolloutState::Paused, 0, None).exit_status(), ExitStatus::Interrupted);
    assert_eq!(rollout(RolloutState::Aborted, 0, None).exit_status(), ExitStatus::Failed);
    assert_eq!(problem(Code::MigrationRefused).exit_status(), ExitStatus::Refused);
    assert_eq!(problem(Code::SlugTaken).exit_status(), ExitStatus::Failed);
    assert_eq!(CliError::usage("x").exit_status(), ExitStatus::Failed);
    let refused = MigrationSetError::Refused(
        tenantry_migration_set::MigrationSet::from_files("s", &[("bad.sql", "select 1;")])
            .expect_err("refused")
            .findings()
            .to_vec(),
    );
    assert_eq!(CliError::from(refused).exit_status(), ExitStatus::Refused);
    assert_eq!(CliError::from(MigrationSetError::Empty).exit_status(), ExitStatus::Failed);
    let stopped = |interrupted| CliError::StillRunning { what: String::new(), resume: String::new(), interrupted };
    assert_eq!(stopped(true).exit_status(), ExitStatus::Interrupted);
    assert_eq!(stopped(false).exit_status(), ExitStatus::Failed);
}

#[test]
fn a_problem_keeps_its_code_and_request_id_in_json() {
    let error = problem(Code::SlugTaken).to_json();
    assert_eq!(error["error"]["code"], "slug_taken");
    assert_eq!(error["error"]["message"], "The slug is taken.");
    assert_eq!(error["error"]["request_id"], "req-1");
    assert_eq!(error["error"].get("next_step"), None);
    let error = problem(Code::Unauthenticated).to_json();
    assert!(error["error"]["next_step"].as_str().expect("a sentence").contains("TENANTRY_TOKEN"));
}

#[test]
fn a_cause_that_is_said_already_is_not_repeated() {
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }
    let layer = |text, source: Option<Layer>| Layer { text, source: source.map(Box::new) };
    let error =
        layer("no answer", Some(layer("pool: no server", Some(layer("no server", Some(layer("refused", None)))))));
    assert_eq!(causes(&error), ["pool: no server", "refused"]);
}

#[test]
fn a_parked_operation_says_how_to_go_on() {
    let error = CliError::Operation(Box::new(Operation {
        id: OperationId::new(uuid::Uuid::nil()),
        kind: OperationKind::Provision,
        tenant: None,
        cluster: None,
        state: OperationState::Parked,
        step: Some("ensure_database".to_owned()),
        attempt: 8,
        error: Some(json!({ "message": "no space left on device" })),
        cancel_requested: false,
        next_run_at: jiff::Timestamp::UNIX_EPOCH,
        deadline_at: None,
        waits_until: None,
        held_by: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        updated_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: None,
    }));
    assert!(error.to_string().ends_with("(provision) is parked: no space left on device"), "{error}");
    assert!(error.next_step().expect("a sentence").contains("operation retry"));
}
