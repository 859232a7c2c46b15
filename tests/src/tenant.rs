//! Making a tenant.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use tenantry_api::{Client, CreateTenant, Tenant, WaitSeconds};
use tenantry_domain::{Isolation, PlanName, Slug, TenantStatus};

/// The longest that a call may be asked to wait.
pub(crate) fn patience() -> Option<WaitSeconds> {
    WaitSeconds::new(60).ok()
}

/// A tenant about to be made; `.await` makes it and waits until it is active.
#[derive(Debug)]
#[must_use = "nothing is made before it is awaited"]
pub struct MakeTenant {
    client: Client,
    create: CreateTenant,
}

impl MakeTenant {
    pub(crate) fn new(client: Client, slug: &str) -> Self {
        Self { client, create: CreateTenant::new(Slug::parse(slug).expect("a slug")) }
    }

    /// With an isolation of its own choice.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.create.isolation = Some(isolation);
        self
    }

    /// On a plan.
    pub fn plan(mut self, plan: &str) -> Self {
        self.create.plan = Some(PlanName::parse(plan).expect("a plan"));
        self
    }

    /// With anything else that the request can say.
    pub fn with(mut self, change: impl FnOnce(&mut CreateTenant)) -> Self {
        change(&mut self.create);
        self
    }
}

impl IntoFuture for MakeTenant {
    type Output = Tenant;
    type IntoFuture = Pin<Box<dyn Future<Output = Tenant> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let slug = self.create.slug.clone();
            let made = self.client.create_tenant(&self.create, patience()).await;
            let made = made.unwrap_or_else(|error| panic!("{slug}: {error}"));
            let reason = made.operation.error;
            assert_eq!(made.tenant.status, TenantStatus::Active, "{slug}: {reason:?}");
            made.tenant
        })
    }
}
