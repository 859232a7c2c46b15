//! Many cases at once: each on a tenant of its own, armed before anybody works.

use std::collections::HashMap;
use std::time::Duration;

use tenantry_api::{DecideOperation, Operation, SuspendTenant, Tenant};
use tenantry_domain::{Isolation, OperationId, OperationKind, OperationState, TenantStatus};
use tenantry_testkit::eventually;
use tenantry_tests::World;

use super::adoption::Legacy;
use super::arming::Arming;
use super::case::{Case, Ending};
use super::scenario::{Scenario, create};
use super::within_one_process::say;

/// The tenants of a matrix and the failpoints of its world.
pub(crate) struct Batches<'w, 's> {
    pub(crate) world: &'w mut World<'s>,
    pub(crate) arming: Arming,
    /// Whose databases tenants come with; without it they come with nothing.
    legacy: Option<Legacy<'w>>,
    tenants: Vec<Tenant>,
    counts: HashMap<OperationKind, usize>,
}

/// A case under way.
pub(crate) struct Broken {
    pub(crate) case: Case,
    pub(crate) tenant: Tenant,
    pub(crate) operation: OperationId,
}

impl<'w, 's> Batches<'w, 's> {
    pub(crate) fn new(world: &'w mut World<'s>) -> Self {
        Self { world, arming: Arming::new(), legacy: None, tenants: Vec::new(), counts: HashMap::new() }
    }

    /// The same where every tenant is adopted.
    pub(crate) fn adopting(world: &'w mut World<'s>, legacy: Legacy<'w>) -> Self {
        Self { legacy: Some(legacy), ..Self::new(world) }
    }

    /// Asks for a tenant.
    async fn create(&mut self, isolation: Isolation) -> (Tenant, Operation) {
        match &mut self.legacy {
            Some(legacy) => legacy.adopt(self.world, isolation).await,
            None => create(self.world, isolation).await,
        }
    }

    /// Asks for the work of each case on a tenant of its own, and arms its points. Nobody may be at work meanwhile.
    pub(crate) async fn begin(&mut self, scenario: &Scenario, isolation: Isolation, cases: Vec<Case>) -> Vec<Broken> {
        let mut broken = Vec::new();
        for case in cases {
            let (tenant, operation) = match scenario.begin {
                None => self.create(isolation).await,
                Some(begin) => {
                    let tenant = self.take(scenario.from, isolation);
                    let begun = begin(self.world.client(), &tenant).await;
                    (tenant, begun.unwrap_or_else(|error| panic!("{}: {error}", scenario.kind)))
                }
            };
            for (point, action) in &case.armed {
                self.arming.arm(point, operation.id, *action);
            }
            broken.push(Broken { case, tenant, operation: operation.id });
        }
        broken
    }

    /// Waits until each has ended as it must, thaws who slept, and lets a person say "again" where that is due.
    pub(crate) async fn settle(&self, broken: &[Broken]) {
        for case in broken {
            self.settle_one(case).await;
        }
    }

    async fn settle_one(&self, broken: &Broken) {
        let Broken { case, operation, .. } = broken;
        let ended = self.settled(*operation).await;
        let state = match case.ending {
            Ending::Done => OperationState::Succeeded,
            Ending::WalkedBack => OperationState::Failed,
            Ending::Parked => OperationState::Parked,
        };
        assert_eq!(ended.state, state, "{case:?}: {ended:?}");
        // Who sleeps wakes up only now, when somebody else has done the work.
        self.let_go(std::slice::from_ref(broken));
        if case.ending == Ending::Parked {
            self.world.client().retry_operation(*operation).await.expect("a parked operation is taken up again");
            let ended = self.settled(*operation).await;
            assert_eq!(ended.state, OperationState::Succeeded, "{case:?}: {ended:?}");
        }
    }

    /// Waits until an operation is finished or parked.
    pub(crate) async fn settled(&self, operation: OperationId) -> Operation {
        let ended = self.world.client().wait_for_operation(operation, Duration::from_mins(2)).await;
        ended.expect("an operation")
    }

    /// Once nobody is at work any more: every point was passed, and every tenant is usable or gone.
    pub(crate) async fn check(&mut self, scenario: &Scenario, broken: Vec<Broken>) {
        let mut counted = 0;
        for Broken { case, tenant, operation } in broken {
            let missed = case.armed.iter().find(|(point, _)| !self.arming.is_taken(point, operation));
            assert!(missed.is_none() || case.may_be_missed(), "{case:?}: {missed:?} was not passed");
            counted += if missed.is_none() { case.count() } else { 0 };
            let now = self.world.show(&tenant).await;
            let wanted = if case.ending == Ending::WalkedBack { scenario.walked_back } else { scenario.to };
            assert_eq!(now.status, wanted, "{case:?}: {now:?}");
            if now.status == TenantStatus::Active {
                let session = self.world.connect(&now).await;
                assert_eq!(session.one::<i64>("SELECT count(*) FROM notes").await, 1, "{case:?}");
            }
            if let Some(legacy) = &mut self.legacy {
                legacy.check(&now).await;
            }
            if scenario.leaves_as_it_was {
                self.tenants.push(now);
            }
        }
        self.world.assert_nothing_orphaned().await;
        *self.counts.entry(scenario.kind).or_default() += counted;
    }

    /// A tenant that was made before.
    pub(crate) fn take(&mut self, status: TenantStatus, isolation: Isolation) -> Tenant {
        let fits = |tenant: &Tenant| tenant.status == status && tenant.isolation == isolation;
        let index = self.tenants.iter().position(fits).expect("a tenant; make more of them");
        self.tenants.swap_remove(index)
    }

    /// How many tenants there are in a state.
    pub(crate) fn count(&self, status: TenantStatus, isolation: Isolation) -> usize {
        let fits = |tenant: &&Tenant| tenant.status == status && tenant.isolation == isolation;
        self.tenants.iter().filter(fits).count()
    }

    /// Makes sure that there are so many tenants in a state. Somebody must be at work.
    pub(crate) async fn stock(&mut self, scenario: &Scenario, isolation: Isolation, wanted: usize) {
        if scenario.begin.is_none() {
            return;
        }
        let missing = wanted.saturating_sub(self.count(scenario.from, isolation));
        let mut begun = Vec::new();
        for _ in 0..missing {
            begun.push(self.create(isolation).await);
        }
        for (tenant, operation) in begun {
            let ended = self.settled(operation.id).await;
            assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
            if scenario.from == TenantStatus::Suspended {
                let suspend = SuspendTenant::default();
                let begun = self.world.client().suspend_tenant(&tenant.id.into(), &suspend, None).await;
                let ended = self.settled(begun.expect("a suspension").operation.id).await;
                assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
            }
            self.tenants.push(self.world.show(&tenant).await);
        }
    }

    /// Lets go whoever waits at a point.
    pub(crate) fn let_go(&self, broken: &[Broken]) {
        for Broken { case, operation, .. } in broken {
            for (point, _) in &case.armed {
                self.arming.let_go(point, *operation);
            }
        }
    }

    /// Waits until every point is reached.
    pub(crate) async fn all_taken(&self, broken: &[Broken]) {
        for Broken { case, operation, .. } in broken {
            for (point, _) in &case.armed {
                eventually(&format!("{point} is passed"), async || self.arming.is_taken(point, *operation)).await;
            }
        }
    }

    /// Gives back whatever is adopted still: nobody can delete it before that is decided. Somebody must be at work.
    pub(crate) async fn give_back(&mut self) {
        let Some(legacy) = &mut self.legacy else { return };
        let open = self.tenants.iter().filter(|tenant| tenant.status == TenantStatus::Active);
        let mut begun = Vec::new();
        for tenant in open {
            let decision = DecideOperation::default();
            let begun_now = self.world.client().cancel_adoption(&tenant.id.into(), &decision, None).await;
            begun.push(begun_now.unwrap_or_else(|error| panic!("{}: {error}", tenant.slug)));
        }
        for begun in begun {
            let ended = self.world.settled(begun.operation.id).await;
            assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
            legacy.check(&self.world.show(&begun.tenant).await).await;
        }
    }

    /// Says how many cases there were.
    pub(crate) fn report(&self, how: &str) {
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_by_key(|(kind, _)| kind.as_str());
        for (kind, count) in counts {
            say(&format!("crash matrix: {kind}: {count} cases, {how}"));
        }
    }
}
