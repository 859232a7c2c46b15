//! Random schedules over many tenants, with replicas and servers that end in between. The seed is said on standard error;
//! `TENANTRY_SEED` plays one again, `TENANTRY_SOAK` (seconds) plays one after the other until the time is up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tenantry_api::{DoctorQuery, DoctorReport};
use tenantry_control::ControlConfig;
use tenantry_domain::{Isolation, OperationId, OperationState, TenantStatus};
use tenantry_testkit::Server;
use tenantry_tests::World;

use super::scenario::{SCENARIOS, create};
use super::within_one_process::say;

/// What happens in one schedule.
const EVENTS: usize = 60;

/// How much time a person has given by `TENANTRY_SOAK`.
pub(crate) fn soak() -> Option<Duration> {
    let seconds = std::env::var("TENANTRY_SOAK").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("TENANTRY_SOAK is a number of seconds")))
}

fn configure(config: &mut ControlConfig) {
    config.lease = Duration::from_secs(1);
}

/// A schedule under way.
struct Schedule<'w, 's> {
    world: &'w mut World<'s>,
    homes: &'w Server,
    random: StdRng,
    tenants: Vec<tenantry_api::Tenant>,
    operations: Vec<OperationId>,
    happened: HashMap<&'static str, usize>,
}

impl Schedule<'_, '_> {
    async fn step(&mut self) {
        let what = match self.random.random_range(0..100) {
            0..35 => self.create().await,
            35..80 => self.ask().await,
            80..88 => self.cancel().await,
            88..96 => self.crash().await,
            _ => self.restart().await,
        };
        *self.happened.entry(what).or_default() += 1;
        // Sometimes the next comes at once, sometimes work gets somewhere in between.
        if self.random.random_bool(0.5) {
            tokio::time::sleep(Duration::from_millis(self.random.random_range(1..80))).await;
        }
    }

    async fn create(&mut self) -> &'static str {
        let isolation = if self.random.random_bool(0.5) { Isolation::Database } else { Isolation::Schema };
        let (tenant, operation) = create(self.world, isolation).await;
        self.tenants.push(tenant);
        self.operations.push(operation.id);
        "create"
    }

    /// Asks for any work on any tenant, allowed or not.
    async fn ask(&mut self) -> &'static str {
        if self.tenants.is_empty() {
            return "nothing";
        }
        let scenario = &SCENARIOS[self.random.random_range(1..SCENARIOS.len())];
        let tenant = &self.tenants[self.random.random_range(0..self.tenants.len())];
        let begin = scenario.begin.expect("only the first kind makes tenants");
        match begin(self.world.client(), tenant).await {
            Ok(operation) => {
                self.operations.push(operation.id);
                scenario.kind.as_str()
            }
            // The tenant is not in a state for it, or other work on it is unfinished.
            Err(error) if error.code().is_some_and(|code| ["invalid_state", "conflict"].contains(&code.as_str())) => {
                "refused"
            }
            // The catalog is as it is while a server restarts; nothing may have been done.
            Err(error) if error.is_retryable() => "unavailable",
            Err(error) => panic!("{}: {error}", scenario.kind),
        }
    }

    async fn cancel(&mut self) -> &'static str {
        if self.operations.is_empty() {
            return "nothing";
        }
        let operation = self.operations[self.random.random_range(0..self.operations.len())];
        if self.world.client().cancel_operation(operation).await.is_ok() { "cancel" } else { "refused" }
    }

    /// One of the workers dies, another comes.
    async fn crash(&mut self) -> &'static str {
        let index = self.random.random_range(1..self.world.replicas().len());
        self.world.take_replica(index).crash().await;
        self.world.add_replica(configure).await;
        "crash"
    }

    async fn restart(&mut self) -> &'static str {
        if self.random.random_bool(0.5) {
            self.homes.cluster().kill().await.expect("a server that can be killed");
        }
        self.homes.cluster().restart().await.expect("a server that starts again");
        "restart"
    }

    /// In the end everything is decided, and all agrees.
    async fn end(&mut self) {
        for operation in &self.operations {
            let ended = self.world.settled(*operation).await;
            if ended.state == OperationState::Parked {
                // Servers were away for too many attempts; a person says that they are back.
                self.world.client().retry_operation(*operation).await.expect("a parked operation is taken up again");
                let ended = self.world.settled(*operation).await;
                assert!(ended.state.is_finished(), "{ended:?}");
            }
        }
        for tenant in &self.tenants {
            let now = self.world.show(tenant).await;
            match now.status {
                TenantStatus::Active => {
                    let session = self.world.connect(&now).await;
                    assert_eq!(session.one::<i64>("SELECT count(*) FROM notes").await, 1, "{now:?}");
                }
                TenantStatus::Suspended | TenantStatus::Failed | TenantStatus::Deleted | TenantStatus::Deleting => {}
                status => panic!("{} is {status}: {now:?}", now.slug),
            }
        }
        self.world.assert_nothing_orphaned().await;
        let cluster = self.world.main_cluster().id.into();
        let report = self.world.client().examine_cluster(&cluster, &DoctorQuery::default()).await.expect("a report");
        assert_eq!(report, DoctorReport { checked: report.checked, ..DoctorReport::default() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_schedules_leave_nothing_undecided() {
    let began = Instant::now();
    let soak = soak().unwrap_or_default();
    let given = std::env::var("TENANTRY_SEED").ok().map(|seed| seed.parse().expect("TENANTRY_SEED is a number"));
    let mut seed: u64 = given.unwrap_or_else(rand::random);
    loop {
        say(&format!("random schedule: TENANTRY_SEED={seed}"));
        let homes = Server::own().await;
        let mut world = World::builder().homes_on(&homes).configure(configure).start().await;
        world.rest().await;
        for _ in 0..2 {
            world.add_replica(configure).await;
        }
        let mut schedule = Schedule {
            world: &mut world,
            homes: &homes,
            random: StdRng::seed_from_u64(seed),
            tenants: Vec::new(),
            operations: Vec::new(),
            happened: HashMap::new(),
        };
        for _ in 0..EVENTS {
            schedule.step().await;
        }
        schedule.end().await;
        say(&format!("random schedule: {:?}", schedule.happened));
        world.end().await;
        if given.is_some() || began.elapsed() >= soak {
            return;
        }
        seed = seed.wrapping_add(1);
    }
}
