//! Real replicas that sleep (`SIGSTOP`) until their lease is over and others have gone on: what they do when they wake up
//! changes nothing.

use rustix::process::Signal;
use tenantry_api::{DeleteTenant, Operation, ResumeTenant, SuspendTenant, Tenant};
use tenantry_domain::{
    HomeId, HomeNames, Isolation, OperationId, OperationKind, OperationState, RoleName, TenantStatus,
};
use tenantry_fleet::failpoints::{Action, VARIABLE};
use tenantry_testkit::{Server, eventually};
use tenantry_tests::{Serve, World};

use super::batch::{Batches, Broken};
use super::case::{Case, Ending, at_each_step};
use super::scenario::{SCENARIOS, Scenario, scenario_of, steps_of};
use super::within_one_process::{say, start_working};

const BOTH: [Isolation; 2] = [Isolation::Database, Isolation::Schema];
/// So many sleep at the same time.
const AT_ONCE: usize = 3;
/// What a replica says when its lease is gone.
const NOTICED: &str = "another replica took this operation over";

/// One replica more than cases at the same time. Each works on one operation at a time, so that each case puts one of
/// them to sleep, and one is left that does the work.
struct Sleepers(Vec<Serve>);

impl Sleepers {
    async fn start(batches: &Batches<'_, '_>) -> Self {
        let directory = batches.arming.path().to_str().expect("a path that is text");
        let settings =
            [(VARIABLE, directory), ("TENANTRY__CONTROL__WORKERS", "1"), ("TENANTRY__TELEMETRY__LOG_FILTER", "info")];
        let starting = (0..=AT_ONCE).map(|_| Serve::start_with(batches.world, &settings));
        Self(futures::future::join_all(starting).await)
    }

    fn all(&self, signal: Signal) {
        self.0.iter().for_each(|serve| serve.signal(signal));
    }

    /// Begins cases while nobody works, so that every point is armed in time.
    async fn begin(
        &self,
        batches: &mut Batches<'_, '_>,
        scenario: &Scenario,
        cases: &[(Case, Isolation)],
    ) -> Vec<Broken> {
        self.all(Signal::STOP);
        let mut broken = Vec::new();
        for (case, isolation) in cases {
            broken.extend(batches.begin(scenario, *isolation, vec![case.clone()]).await);
        }
        self.all(Signal::CONT);
        broken
    }

    /// Wakes up whoever sleeps, and waits until each has seen that its work is not its own any more.
    async fn wake(&self, batches: &Batches<'_, '_>, broken: &[Broken]) {
        batches.let_go(broken);
        self.all(Signal::CONT);
        for Broken { case, operation, .. } in broken {
            eventually(&format!("{case:?}: whoever slept has noticed"), async || self.has_noticed(*operation)).await;
        }
    }

    fn has_noticed(&self, operation: OperationId) -> bool {
        let id = operation.to_string();
        self.0.iter().any(|serve| {
            let log = serve.log();
            let says = |words: &str| log.lines().any(|line| line.contains(words) && line.contains(&id));
            says("a failpoint is taken") && says(NOTICED)
        })
    }

    async fn end(self) {
        for serve in self.0 {
            assert!(serve.terminate().await.success());
        }
    }
}

/// Each case of a kind with an isolation, both in turn.
fn cases_of(scenario: &Scenario) -> Vec<(Case, Isolation)> {
    let cases = at_each_step(&steps_of(scenario.kind), &["before", "performed"], Action::Stop);
    cases.into_iter().zip(BOTH.into_iter().cycle()).collect()
}

async fn stock(batches: &mut Batches<'_, '_>, scenario: &Scenario, cases: &[(Case, Isolation)]) {
    for isolation in BOTH {
        let wanted = cases.iter().filter(|(_, of)| *of == isolation).count();
        batches.stock(scenario, isolation, wanted).await;
    }
    batches.world.rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_slept_through_its_lease_changes_nothing_when_it_wakes() {
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    let mut batches = Batches::new(&mut world);
    for scenario in SCENARIOS {
        let cases = cases_of(scenario);
        stock(&mut batches, scenario, &cases).await;
        let sleepers = Sleepers::start(&batches).await;
        for cases in cases.chunks(AT_ONCE) {
            let broken = sleepers.begin(&mut batches, scenario, cases).await;
            batches.all_taken(&broken).await;
            for case in &broken {
                let ended = batches.settled(case.operation).await;
                assert_eq!(ended.state, OperationState::Succeeded, "{:?}: {ended:?}", case.case);
            }
            sleepers.wake(&batches, &broken).await;
            batches.check(scenario, broken).await;
        }
        sleepers.end().await;
        start_working(&mut batches).await;
    }
    batches.report("processes stopped past their lease");
    drop(batches);
    world.end().await;
}

async fn suspend(batches: &Batches<'_, '_>, tenant: &Tenant) {
    let begun = batches.world.client().suspend_tenant(&tenant.id.into(), &SuspendTenant::default(), None).await;
    succeeded(batches, begun.expect("a suspension").operation.id).await;
}

async fn resume(batches: &Batches<'_, '_>, tenant: &Tenant) {
    let begun = batches.world.client().resume_tenant(&tenant.id.into(), &ResumeTenant::default(), None).await;
    succeeded(batches, begun.expect("a resumption").operation.id).await;
}

async fn succeeded(batches: &Batches<'_, '_>, operation: OperationId) {
    let ended = batches.settled(operation).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
}

/// None of the roles that the tenant logs in as can, and its home says that it is suspended.
async fn assert_shut_out(batches: &Batches<'_, '_>, homes: &Server, broken: &Broken) {
    let now = batches.world.show(&broken.tenant).await;
    assert_eq!(now.status, TenantStatus::Suspended, "{:?}", broken.case);
    let catalog = batches.world.catalog_client().await;
    let sql = "SELECT h.id, h.database_name FROM home h JOIN placement p ON p.home = h.id
                WHERE p.tenant = $1 AND p.until IS NULL";
    let row = catalog.query_one(sql, &[&now.id.as_uuid()]).await.expect("a placement");
    let (home, database): (uuid::Uuid, String) = (row.get(0), row.get(1));
    let names = HomeNames::of(HomeId::new(home));
    let logins = [&names.login_a, &names.login_b, &names.read_only].map(RoleName::as_str);
    let inside = homes.connect(&database).await;
    let sql = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1) AND rolcanlogin),
                      (SELECT state FROM tenantry.stamp WHERE home = $2)";
    let row = inside.query_one(sql, &[&&logins[..], &home]).await.expect("a look at the home");
    let seen: (i64, String) = (row.get(0), row.get(1));
    assert_eq!(seen, (0, "suspended".to_owned()), "{:?}: the tenant is let in", broken.case);
}

/// While one sleeps in the middle of a tenant's work, a person suspends the tenant. `None` where that is refused as long
/// as the work is not done.
async fn suspend_meanwhile(batches: &Batches<'_, '_>, broken: &Broken) -> Option<Operation> {
    let wish = SuspendTenant::default();
    match batches.world.client().suspend_tenant(&broken.tenant.id.into(), &wish, None).await {
        Ok(begun) => Some(begun.operation),
        Err(error) if error.code().is_some_and(|code| code.as_str() == "invalid_state") => None,
        Err(error) => panic!("{:?}: {error}", broken.case),
    }
}

/// How work ends whose tenant is suspended in the middle of it.
fn end_of(scenario: &Scenario, case: &Case) -> OperationState {
    let steps = steps_of(scenario.kind);
    let is_at = |step: &&str| case.armed.iter().any(|(point, _)| point.contains(&format!(".{step}.")));
    match scenario.kind {
        // It was not wanted any more.
        OperationKind::Resume => OperationState::Cancelled,
        // Nobody is given a new login while it is shut out: before its pivot a rotation is walked back.
        OperationKind::RotateCredentials if steps.steps[..steps.before_pivot].iter().any(is_at) => {
            OperationState::Failed
        }
        _ => OperationState::Succeeded,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_suspended_meanwhile_is_not_let_in_by_whoever_wakes() {
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    let mut batches = Batches::new(&mut world);
    for kind in [OperationKind::Provision, OperationKind::RotateCredentials, OperationKind::Resume] {
        let scenario = scenario_of(kind);
        let cases = cases_of(scenario);
        stock(&mut batches, scenario, &cases).await;
        let sleepers = Sleepers::start(&batches).await;
        for cases in cases.chunks(AT_ONCE) {
            let broken = sleepers.begin(&mut batches, scenario, cases).await;
            batches.all_taken(&broken).await;
            // All at once: the sooner, the fewer leases are over already.
            let asked = futures::future::join_all(broken.iter().map(|case| suspend_meanwhile(&batches, case))).await;
            for (case, suspension) in broken.iter().zip(&asked) {
                if let Some(suspension) = suspension {
                    succeeded(&batches, suspension.id).await;
                } else {
                    succeeded(&batches, case.operation).await;
                    suspend(&batches, &case.tenant).await;
                }
            }
            sleepers.wake(&batches, &broken).await;
            for (case, suspension) in broken.iter().zip(asked) {
                // What the suspension held back has gone on as far as it may.
                let ended = batches.settled(case.operation).await;
                let came_too_late = suspension.is_none_or(|suspension| ended.finished_at < Some(suspension.created_at));
                let wanted = if came_too_late { OperationState::Succeeded } else { end_of(scenario, &case.case) };
                assert_eq!(ended.state, wanted, "{:?}: {ended:?}", case.case);
                assert_shut_out(&batches, &homes, case).await;
                resume(&batches, &case.tenant).await;
            }
            batches.check(scenario, broken).await;
        }
        sleepers.end().await;
        start_working(&mut batches).await;
    }
    batches.report("processes stopped past their lease, with a suspension in between");
    drop(batches);
    world.end().await;
}

/// A deletion that is being taken back lets its tenant in again: another has done that, and then it was suspended.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_restored_and_suspended_meanwhile_is_not_let_in_by_whoever_wakes() {
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    let mut batches = Batches::new(&mut world);
    let scenario = scenario_of(OperationKind::Suspend);
    for isolation in BOTH {
        batches.stock(scenario, isolation, 1).await;
    }
    batches.world.rest().await;
    let sleepers = Sleepers::start(&batches).await;
    let mut counted = 0;
    for isolation in BOTH {
        let tenant = batches.take(TenantStatus::Active, isolation);
        for moment in ["before", "performed"] {
            let client = batches.world.client();
            let begun = client.delete_tenant(&tenant.id.into(), &DeleteTenant::default()).await.expect("a deletion");
            let operation = begun.operation.id;
            eventually("the tenant is shut out, and its grace runs", async || {
                client.show_operation(operation).await.expect("an operation").state == OperationState::Waiting
            })
            .await;
            sleepers.all(Signal::STOP);
            let point = format!("{}.undo.{moment}", OperationKind::Delete);
            batches.arming.arm(&point, operation, Action::Stop);
            client.restore_tenant(&tenant.id.into(), None).await.expect("a restoration");
            sleepers.all(Signal::CONT);
            let case = Case { armed: vec![(point, Action::Stop)], ending: Ending::Done };
            let broken = [Broken { case, tenant: tenant.clone(), operation }];
            batches.all_taken(&broken).await;
            assert_eq!(batches.settled(operation).await.state, OperationState::Cancelled);
            suspend(&batches, &tenant).await;
            sleepers.wake(&batches, &broken).await;
            assert_shut_out(&batches, &homes, &broken[0]).await;
            resume(&batches, &tenant).await;
            batches.world.connect(&tenant).await;
            counted += 1;
        }
    }
    sleepers.end().await;
    say(&format!("crash matrix: delete: {counted} cases, taken back while a process slept, and suspended in between"));
    start_working(&mut batches).await;
    drop(batches);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_resumed_meanwhile_is_not_shut_out_by_whoever_wakes() {
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    let mut batches = Batches::new(&mut world);
    let scenario = scenario_of(OperationKind::Suspend);
    let cases = cases_of(scenario);
    stock(&mut batches, scenario, &cases).await;
    let sleepers = Sleepers::start(&batches).await;
    for cases in cases.chunks(AT_ONCE) {
        let broken = sleepers.begin(&mut batches, scenario, cases).await;
        batches.all_taken(&broken).await;
        let mut sessions = Vec::new();
        for case in &broken {
            succeeded(&batches, case.operation).await;
            resume(&batches, &case.tenant).await;
            sessions.push(batches.world.connect(&case.tenant).await);
        }
        sleepers.wake(&batches, &broken).await;
        for (case, session) in broken.iter().zip(&sessions) {
            session.run("SELECT count(*) FROM notes").await;
            batches.world.connect(&case.tenant).await;
            suspend(&batches, &case.tenant).await;
        }
        batches.check(scenario, broken).await;
    }
    sleepers.end().await;
    batches.report("processes stopped past their lease, with a resumption in between");
    start_working(&mut batches).await;
    drop(batches);
    world.end().await;
}
