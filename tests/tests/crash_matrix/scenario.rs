//! Kinds of work as a person asks for them: from what a tenant begins, and what it is in the end.

use tenantry_api::{CreateTenant, Operation, Tenant};
use tenantry_control::KindSteps;
use tenantry_domain::{Isolation, OperationKind, Slug, TenantStatus};
use tenantry_tests::World;

/// One kind of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) kind: OperationKind,
    /// What the tenant is before; nothing before its first work.
    pub(crate) from: Option<TenantStatus>,
    /// What it is once the work is done.
    pub(crate) to: TenantStatus,
    /// What it is once the work is walked back.
    pub(crate) walked_back: TenantStatus,
}

/// In the order of a tenant's life, so that each finds the tenants that it needs.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        kind: OperationKind::Provision,
        from: None,
        to: TenantStatus::Active,
        walked_back: TenantStatus::Failed,
    },
    Scenario {
        kind: OperationKind::Delete,
        from: Some(TenantStatus::Active),
        to: TenantStatus::Deleted,
        walked_back: TenantStatus::Active,
    },
];

impl Scenario {
    /// Its steps.
    pub(crate) fn steps(self) -> KindSteps {
        KindSteps::all().into_iter().find(|steps| steps.kind == self.kind).expect("a kind that is known")
    }

    /// Asks for the work on a tenant.
    pub(crate) async fn begin(self, world: &World<'_>, tenant: &Tenant) -> Operation {
        let client = world.client();
        let begun = match self.kind {
            OperationKind::Delete => client.delete_tenant(&tenant.id.into(), None).await,
            OperationKind::Provision => panic!("there is no tenant to provision; create one"),
        };
        begun.unwrap_or_else(|error| panic!("{}: {error}", tenant.slug)).operation
    }
}

/// Asks for a tenant.
pub(crate) async fn create(world: &World<'_>, slug: &str, isolation: Isolation) -> (Tenant, Operation) {
    let create = CreateTenant { isolation: Some(isolation), ..CreateTenant::new(Slug::parse(slug).expect("a slug")) };
    let begun = world.client().create_tenant(&create, None).await.unwrap_or_else(|error| panic!("{slug}: {error}"));
    (begun.tenant, begun.operation)
}

#[test]
fn every_kind_of_work_has_a_scenario() {
    for kind in OperationKind::ALL {
        assert!(SCENARIOS.iter().any(|scenario| scenario.kind == *kind), "{kind} is in no scenario; add one");
    }
}
