//! Who suspends and resumes tenants, gives them new passwords, and changes their plans.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use tenantry_api::route::ResolveBy;
use tenantry_api::{Client, ListOperations, Operation, ResumeTenant, SuspendTenant, Tenant, UpdateTenant};
use tenantry_domain::{OperationState, PlanName, TenantId, TenantStatus};
use tenantry_router::Router;
use tenantry_tests::World;
use tokio_util::sync::CancellationToken;

use crate::PLANS;
use crate::findings::Findings;
use crate::visit::Home;

/// The longest that one wish may take, whatever is killed meanwhile.
const PATIENCE: Duration = Duration::from_mins(3);
/// So often a tenant that is suspended is asked for.
const KNOCKS: usize = 3;

/// Acts until told to stop; in the end everybody is let in. Says what it did.
pub(crate) async fn run(
    world: &World<'_>,
    router: &Router,
    homes: &[Home],
    findings: &Findings,
    mut random: StdRng,
    stop: &CancellationToken,
) -> String {
    let (mut suspended, mut rotated, mut changed) = (0, 0, 0);
    while !stop.is_cancelled() {
        let home = &homes[random.random_range(0..homes.len())];
        let wishes = Wishes { client: world.client(), tenant: home.tenant };
        match random.random_range(0..3) {
            0 => {
                wishes.suspend().await;
                for _ in 0..KNOCKS {
                    if home.visit(router, findings).await.is_ok() {
                        findings.add(format!("{} is suspended and gets in", home.slug));
                    }
                }
                wishes.resume().await;
                suspended += 1;
            }
            1 => {
                wishes.rotate().await;
                rotated += 1;
            }
            _ => {
                wishes.change_plan(PLANS[random.random_range(0..PLANS.len())].0).await;
                changed += 1;
            }
        }
    }
    format!("{suspended} suspensions, {rotated} rotations, {changed} plans")
}

/// What is wished for one tenant, whatever becomes of single calls.
struct Wishes<'c> {
    client: &'c Client,
    tenant: TenantId,
}

impl Wishes<'_> {
    async fn suspend(&self) {
        let ask = async || drop(self.client.suspend_tenant(&self.tenant.into(), &SuspendTenant::default(), None).await);
        self.bring("suspended", async || Some(self.show().await?.status == TenantStatus::Suspended), ask).await;
    }

    async fn resume(&self) {
        let ask = async || drop(self.client.resume_tenant(&self.tenant.into(), &ResumeTenant::default(), None).await);
        self.bring("resumed", async || Some(self.show().await?.status == TenantStatus::Active), ask).await;
    }

    /// New passwords: the next of the tenant's two login roles.
    async fn rotate(&self) {
        let mut before = None;
        while before.is_none() {
            before = self.role().await;
        }
        let ask = async || drop(self.client.rotate_credentials(&self.tenant.into(), None).await);
        self.bring("given new passwords", async || Some(self.role().await? != *before.as_ref()?), ask).await;
    }

    async fn change_plan(&self, plan: &str) {
        let plan = PlanName::parse(plan).expect("a plan");
        let update = UpdateTenant { plan: Some(plan.clone()), ..UpdateTenant::default() };
        let ask = async || drop(self.client.update_tenant(&self.tenant.into(), &update, None).await);
        self.bring("on another plan", async || Some(self.show().await?.plan == plan), ask).await;
    }

    /// Asks until what is wished is true, and nothing is under way any more. Whatever an outage parks is retried.
    async fn bring(&self, what: &str, is_true: impl AsyncFn() -> Option<bool>, ask: impl AsyncFn()) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            if let Some(operations) = self.unfinished().await {
                seen = operations;
                if seen.is_empty() {
                    match is_true().await {
                        Some(true) => return,
                        Some(false) => ask().await,
                        None => {}
                    }
                }
                for parked in seen.iter().filter(|operation| operation.state == OperationState::Parked) {
                    let _ = self.client.retry_operation(parked.id).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} is not {what} after {PATIENCE:?}: {seen:?}", self.tenant);
    }

    /// What is under way; `None` where nobody answers.
    async fn unfinished(&self) -> Option<Vec<Operation>> {
        let list = ListOperations { tenant: Some(self.tenant.into()), ..ListOperations::default() };
        let page = self.client.list_operations(&list).await.ok()?;
        Some(page.items.into_iter().filter(|operation| !operation.state.is_finished()).collect())
    }

    async fn show(&self) -> Option<Tenant> {
        Some(self.client.show_tenant(&self.tenant.into()).await.ok()?.value)
    }

    async fn role(&self) -> Option<String> {
        let route = self.client.resolve_route(ResolveBy::Id(self.tenant)).await.ok()?;
        Some(route.credential?.role.as_str().to_owned())
    }
}
