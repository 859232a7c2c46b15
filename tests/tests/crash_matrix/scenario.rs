//! Kinds of work as a person asks for them: from what a tenant begins, and what it is in the end.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tenantry_api::{
    Client, ClientError, CreateTenant, DecideOperation, DeleteTenant, MigrateDown, Operation, ResumeTenant,
    SuspendTenant, Tenant,
};
use tenantry_control::KindSteps;
use tenantry_domain::{Isolation, OperationKind, SchemaVersion, Slug, TenantStatus};
use tenantry_tests::World;

/// One kind of work that is asked for on a tenant.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) kind: OperationKind,
    /// What the tenant is before.
    pub(crate) from: TenantStatus,
    /// How the work is asked for. The first kind of all makes its tenants.
    pub(crate) begin: Option<Begin>,
    /// What it is once the work is done.
    pub(crate) to: TenantStatus,
    /// What it is once the work is walked back.
    pub(crate) walked_back: TenantStatus,
    /// Whether the tenant is then as good for other work as any other of its status.
    pub(crate) leaves_as_it_was: bool,
}

type Begin = for<'a> fn(&'a Client, &'a Tenant) -> BoxFuture<'a, Result<Operation, ClientError>>;

/// In the order of a tenant's life, so that each finds the tenants that it needs.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        kind: OperationKind::Provision,
        from: TenantStatus::Provisioning,
        begin: None,
        to: TenantStatus::Active,
        walked_back: TenantStatus::Failed,
        leaves_as_it_was: true,
    },
    Scenario {
        kind: OperationKind::RotateCredentials,
        from: TenantStatus::Active,
        begin: Some(|client, tenant| {
            async move { Ok(client.rotate_credentials(&tenant.id.into(), None).await?.operation) }.boxed()
        }),
        to: TenantStatus::Active,
        walked_back: TenantStatus::Active,
        leaves_as_it_was: true,
    },
    Scenario {
        kind: OperationKind::MigrateDown,
        from: TenantStatus::Active,
        begin: Some(|client, tenant| {
            // To where it is: with or without files, the steps are the same.
            let down = MigrateDown { version: SchemaVersion(3), migration_set: None };
            async move { Ok(client.migrate_tenant_down(&tenant.id.into(), &down, None).await?.operation) }.boxed()
        }),
        to: TenantStatus::Active,
        walked_back: TenantStatus::Active,
        leaves_as_it_was: true,
    },
    Scenario {
        kind: OperationKind::Suspend,
        from: TenantStatus::Active,
        begin: Some(|client, tenant| {
            let wish = SuspendTenant::default();
            async move { Ok(client.suspend_tenant(&tenant.id.into(), &wish, None).await?.operation) }.boxed()
        }),
        to: TenantStatus::Suspended,
        walked_back: TenantStatus::Active,
        leaves_as_it_was: true,
    },
    Scenario {
        kind: OperationKind::Resume,
        from: TenantStatus::Suspended,
        begin: Some(|client, tenant| {
            let wish = ResumeTenant::default();
            async move { Ok(client.resume_tenant(&tenant.id.into(), &wish, None).await?.operation) }.boxed()
        }),
        to: TenantStatus::Active,
        walked_back: TenantStatus::Suspended,
        leaves_as_it_was: true,
    },
    Scenario {
        kind: OperationKind::Delete,
        from: TenantStatus::Active,
        begin: Some(|client, tenant| {
            async move { Ok(client.delete_tenant(&tenant.id.into(), &DeleteTenant::at_once()).await?.operation) }
                .boxed()
        }),
        to: TenantStatus::Deleted,
        walked_back: TenantStatus::Active,
        leaves_as_it_was: true,
    },
];

/// What nobody asks for: see [`upkeep`](super::upkeep).
pub(crate) const UPKEEP: &[OperationKind] = &[OperationKind::PrepareHome, OperationKind::DropHome];

/// What begins with a database or schema of somebody else's; also in the order in which they find their tenants.
pub(crate) const ADOPTIONS: &[Scenario] = &[
    Scenario {
        kind: OperationKind::Adopt,
        from: TenantStatus::Provisioning,
        begin: None,
        to: TenantStatus::Active,
        walked_back: TenantStatus::Failed,
        leaves_as_it_was: true,
    },
    Scenario {
        kind: OperationKind::AdoptCancel,
        from: TenantStatus::Active,
        begin: Some(|client, tenant| {
            let decision = DecideOperation::default();
            async move { Ok(client.cancel_adoption(&tenant.id.into(), &decision, None).await?.operation) }.boxed()
        }),
        to: TenantStatus::Deleted,
        walked_back: TenantStatus::Active,
        leaves_as_it_was: true,
    },
    Scenario {
        kind: OperationKind::AdoptConfirm,
        from: TenantStatus::Active,
        begin: Some(|client, tenant| {
            async move { Ok(client.confirm_adoption(&tenant.id.into(), None).await?.operation) }.boxed()
        }),
        to: TenantStatus::Active,
        walked_back: TenantStatus::Active,
        // What is confirmed can neither be confirmed again nor cancelled.
        leaves_as_it_was: false,
    },
];

/// The scenario of a kind that tenants are made for.
pub(crate) fn scenario_of(kind: OperationKind) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.kind == kind).expect("a kind with a scenario")
}

/// The steps of a kind.
pub(crate) fn steps_of(kind: OperationKind) -> KindSteps {
    KindSteps::all().into_iter().find(|steps| steps.kind == kind).expect("a kind that is known")
}

/// Asks for a tenant.
pub(crate) async fn create(world: &World<'_>, isolation: Isolation) -> (Tenant, Operation) {
    let slug = format!("t{}", uuid::Uuid::now_v7().simple());
    let create = CreateTenant { isolation: Some(isolation), ..CreateTenant::new(Slug::parse(&slug).expect("a slug")) };
    let begun = world.client().create_tenant(&create, None).await.unwrap_or_else(|error| panic!("{slug}: {error}"));
    (begun.tenant, begun.operation)
}

#[test]
fn every_kind_of_work_has_a_scenario() {
    for kind in OperationKind::ALL {
        let mut scenarios = SCENARIOS.iter().chain(ADOPTIONS);
        let is_there = scenarios.any(|scenario| scenario.kind == *kind) || UPKEEP.contains(kind);
        assert!(is_there, "{kind} is in no scenario; add one");
    }
}
