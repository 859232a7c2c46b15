//! Tenants from creation to deletion, on a real server that holds the catalog and the homes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tenantry_control::clusters::{self, RegisterCluster};
use tenantry_control::records::{ClusterChange, ClusterRef, OperationFilter, PageRequest, TenantFilter, TenantRef};
use tenantry_control::seeds::SeedChoice;
use tenantry_control::tenants::{self, CreateTenant};
use tenantry_control::{Caller, Control, ControlConfig, ControlError, migration_sets, operations, rollouts, routes};
use tenantry_domain::{
    Affinity, ClusterLimits, Endpoint, ErrorBudget, Isolation, Labels, OperationState, Overrides, RequestId,
    RolloutState, Scope, ScopeSet, Secret, Tenancy, Tenant, TenantStatus, Wave, WaveSelection,
};
use tenantry_fleet::{Fleet, FleetConfig};
use tenantry_store::{Keyring, Store, StoreConfig};
use tenantry_testkit::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_mins(1);
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

struct Plane {
    server: Server,
    control: Control,
    caller: Caller,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Plane {
    async fn start() -> Self {
        let server = Server::own().await;
        let admin = server.connect("postgres").await;
        admin.batch_execute("CREATE DATABASE catalog").await.unwrap();
        let keyring = Keyring::parse(&Keyring::generate().unwrap()).unwrap();
        let store = Store::connect(&StoreConfig::new(Secret::new(server.url("catalog"))), keyring).await.unwrap();
        store.migrate().await.unwrap();
        let mut config = ControlConfig::new(Uuid::now_v7());
        config.place_on_catalog_server = true;
        let fleet = Fleet::new(FleetConfig::default());
        let control = Control::new(store, fleet, config, Vec::new()).await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (control, stop) = (control.clone(), stop.clone());
            async move { control.run(stop).await }
        });
        let caller = Caller::system("test", RequestId::new(Uuid::now_v7()));
        Self { server, control, caller, stop, running }
    }

    async fn register(&self) {
        self.register_at(&self.server, "one", "eu-1").await;
    }

    async fn register_at(&self, server: &Server, name: &str, region: &str) {
        let wish = RegisterCluster {
            name: name.parse().unwrap(),
            region: region.parse().unwrap(),
            tenancy: Tenancy::Shared,
            endpoint: Endpoint::new("127.0.0.1", server.address().port()).unwrap(),
            user: server.cluster().user().to_owned(),
            password: Secret::new(server.cluster().password().to_owned()),
            database: None,
            tls_mode: None,
            tls_ca: None,
            limits: ClusterLimits::default(),
        };
        clusters::register(&self.control, &self.caller, wish).await.unwrap();
    }

    async fn promote(&self, files: &[(&str, &str)]) {
        let files: Vec<_> = files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
        let (detail, _) = migration_sets::push(&self.control, &self.caller, "product", &files).await.unwrap();
        let wish = rollouts::CreateRollout::new(detail.set.id);
        let rollout = rollouts::create(&self.control, &self.caller, wish).await.unwrap();
        let rollout = rollouts::wait(&self.control, &self.caller, rollout.id, PATIENCE).await.unwrap();
        assert_eq!(rollout.state, RolloutState::Succeeded, "{rollout:?}");
    }

    async fn create(&self, slug: &str, isolation: Isolation) -> Tenant {
        let (tenant, operation) =
            tenants::create(&self.control, &self.caller, wish(slug, isolation), None).await.unwrap();
        assert_eq!(tenant.state.status(), TenantStatus::Provisioning);
        let operation = operations::wait(&self.control, &self.caller, operation.id, PATIENCE).await.unwrap();
        let events = operations::events(&self.control, &self.caller, operation.id, 0, 100).await.unwrap();
        assert_eq!(operation.state, OperationState::Succeeded, "{operation:?}\n{events:?}");
        tenants::show(&self.control, &self.caller, &TenantRef::Id(tenant.id)).await.unwrap()
    }

    /// What is left on the server of homes.
    async fn homes_left(&self) -> Vec<String> {
        let mut left = self.server.databases_like("h_").await;
        left.extend(self.server.roles_like("h_").await);
        left
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

fn wish(slug: &str, isolation: Isolation) -> CreateTenant {
    CreateTenant {
        slug: slug.parse().unwrap(),
        name: None,
        plan: None,
        region: None,
        isolation: Some(isolation),
        parent: None,
        labels: Labels::default(),
        overrides: Overrides::default(),
        trial_ends_at: None,
        cluster: None,
        seed: SeedChoice::OfPlan,
        affinity: Affinity::default(),
    }
}

const FIRST: (&str, &str) = ("V1__orders.sql", "CREATE TABLE orders (id bigint PRIMARY KEY);");

#[tokio::test]
async fn a_tenant_is_provisioned_served_and_deleted_without_a_trace() {
    let plane = Plane::start().await;
    plane.register().await;
    plane.promote(&[FIRST]).await;
    for (slug, isolation) in [("in-a-schema", Isolation::Schema), ("in-a-database", Isolation::Database)] {
        let tenant = plane.create(slug, isolation).await;
        assert_eq!(tenant.state.status(), TenantStatus::Active);
        assert_eq!(tenant.schema_version.0, 1);

        let by = routes::ResolveBy::Slug(tenant.slug.clone());
        let target = routes::resolve(&plane.control, &plane.caller, &by).await.unwrap().route.target.unwrap();
        let login = tenantry_testkit::Login {
            name: target.credential.role.as_str().to_owned(),
            password: target.credential.password.unwrap().expose().to_owned(),
        };
        let client = plane.server.connect_as(&login, target.database.as_str()).await.unwrap();
        client.execute("SELECT tenantry.attach($1, $2)", &[&tenant.id.as_uuid(), &1_i64]).await.unwrap();
        client.execute("INSERT INTO orders VALUES (1)", &[]).await.unwrap();

        let (_, operation) =
            tenants::delete(&plane.control, &plane.caller, &TenantRef::Id(tenant.id), AT_ONCE, None).await.unwrap();
        let operation = operations::wait(&plane.control, &plane.caller, operation.id, PATIENCE).await.unwrap();
        assert_eq!(operation.state, OperationState::Succeeded, "{operation:?}");
        assert!(client.query("SELECT 1", &[]).await.is_err(), "the tenant's session has ended");
    }
    assert_eq!(plane.homes_left().await, Vec::<String>::new());
    plane.end().await;
}

#[tokio::test]
async fn a_rollout_brings_every_tenant_to_the_set_and_names_the_file_that_fails() {
    let plane = Plane::start().await;
    plane.register().await;
    plane.promote(&[FIRST]).await;
    let acme = plane.create("acme", Isolation::Schema).await;
    let beta = plane.create("beta", Isolation::Database).await;
    plane.promote(&[FIRST, ("V2__total.sql", "ALTER TABLE orders ADD total numeric;")]).await;
    for tenant in [acme.id, beta.id] {
        let tenant = tenants::show(&plane.control, &plane.caller, &TenantRef::Id(tenant)).await.unwrap();
        assert_eq!(tenant.schema_version.0, 2);
    }

    let broken = [
        FIRST,
        ("V2__total.sql", "ALTER TABLE orders ADD total numeric;"),
        ("V3__oops.sql", "SELECT 1;\nSELECT nope;"),
    ];
    let files: Vec<_> = broken.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
    let (detail, _) = migration_sets::push(&plane.control, &plane.caller, "product", &files).await.unwrap();
    let waves = Some(vec![Wave { select: WaveSelection::All, bake_seconds: 0, error_budget: ErrorBudget::default() }]);
    let wish = rollouts::CreateRollout { waves, concurrency: Some(2), ..rollouts::CreateRollout::new(detail.set.id) };
    let rollout = rollouts::create(&plane.control, &plane.caller, wish).await.unwrap();
    let rollout = rollouts::wait(&plane.control, &plane.caller, rollout.id, PATIENCE).await.unwrap();
    assert_eq!((rollout.state, rollout.counts.failed), (RolloutState::Failed, 2));
    let targets =
        rollouts::targets(&plane.control, &plane.caller, rollout.id, &[], &PageRequest::default()).await.unwrap();
    for target in targets.items {
        let error = target.error.unwrap();
        assert_eq!((error["file"].as_str(), error["line"].as_u64()), (Some("V3__oops.sql"), Some(2)), "{error}");
    }
    plane.end().await;
}

#[tokio::test]
async fn what_cannot_be_made_leaves_no_tenant() {
    let plane = Plane::start().await;
    let no_cluster = tenants::create(&plane.control, &plane.caller, wish("acme", Isolation::Schema), None).await;
    assert!(matches!(no_cluster, Err(ControlError::NoCapacity { .. })), "{no_cluster:?}");
    plane.register().await;
    let no_server = tenants::create(&plane.control, &plane.caller, wish("acme", Isolation::Cluster), None).await;
    assert!(matches!(no_server, Err(ControlError::NoCapacity { .. })), "{no_server:?}");
    let elsewhere = CreateTenant { region: Some("mars-1".parse().unwrap()), ..wish("acme", Isolation::Schema) };
    let elsewhere = tenants::create(&plane.control, &plane.caller, elsewhere, None).await;
    assert!(matches!(elsewhere, Err(ControlError::InvalidRequest { pointer: Some("/region"), .. })), "{elsewhere:?}");
    let away = Server::own().await;
    plane.register_at(&away, "away", "us-1").await;
    for isolation in [Isolation::Schema, Isolation::Database, Isolation::Cluster] {
        let pinned = CreateTenant {
            region: Some("eu-1".parse().unwrap()),
            cluster: Some(ClusterRef::Name("away".parse().unwrap())),
            ..wish("acme", isolation)
        };
        let pinned = tenants::create(&plane.control, &plane.caller, pinned, None).await;
        assert!(matches!(pinned, Err(ControlError::ResidencyViolation { .. })), "{isolation}: {pinned:?}");
    }
    let page = PageRequest::default();
    let tenants = tenants::list(&plane.control, &plane.caller, &TenantFilter::default(), &page).await.unwrap();
    let operations = operations::list(&plane.control, &plane.caller, &OperationFilter::default(), &page).await.unwrap();
    assert!(tenants.items.is_empty() && operations.items.is_empty());

    let acme = CreateTenant { region: Some("eu-1".parse().unwrap()), ..wish("acme", Isolation::Schema) };
    tenants::create(&plane.control, &plane.caller, acme.clone(), None).await.unwrap();
    let taken = tenants::create(&plane.control, &plane.caller, acme, None).await;
    assert!(matches!(taken, Err(ControlError::SlugTaken { .. })), "{taken:?}");
    plane.end().await;
}

#[tokio::test]
async fn a_provision_that_fails_is_walked_back_and_can_be_retried() {
    let plane = Plane::start().await;
    plane.register().await;
    // Passes the rules, fails on the server, and only in a home of its own: templates are built from it too.
    plane.promote(&[FIRST]).await;
    let admin = plane.server.connect("postgres").await;
    let acme = plane.create("acme", Isolation::Database).await;
    drop(acme);
    // A role name that is in the way makes the next provision of this kind fail for good.
    let template = plane.server.databases_like("t_").await.pop().unwrap();
    admin.batch_execute(&format!("ALTER DATABASE {template} RENAME TO gone")).await.unwrap();
    let (tenant, operation) =
        tenants::create(&plane.control, &plane.caller, wish("beta", Isolation::Database), None).await.unwrap();
    let operation = operations::wait(&plane.control, &plane.caller, operation.id, PATIENCE).await.unwrap();
    assert_eq!(operation.state, OperationState::Failed, "{operation:?}");
    let failed = tenants::show(&plane.control, &plane.caller, &TenantRef::Id(tenant.id)).await.unwrap();
    assert_eq!(failed.state.status(), TenantStatus::Failed);
    assert_eq!(plane.server.databases_like("h_").await.len(), 1, "only the first tenant's database is there");

    admin.batch_execute(&format!("ALTER DATABASE gone RENAME TO {template}")).await.unwrap();
    operations::retry(&plane.control, &plane.caller, operation.id, None).await.unwrap();
    let operation = operations::wait(&plane.control, &plane.caller, operation.id, PATIENCE).await.unwrap();
    assert_eq!(operation.state, OperationState::Succeeded, "{operation:?}");

    // The provision took several claims; the deletion's lease must count as later than all of them.
    let (_, operation) =
        tenants::delete(&plane.control, &plane.caller, &TenantRef::Id(tenant.id), AT_ONCE, None).await.unwrap();
    let operation = operations::wait(&plane.control, &plane.caller, operation.id, PATIENCE).await.unwrap();
    assert_eq!(operation.state, OperationState::Succeeded, "{operation:?}");
    plane.end().await;
}

#[tokio::test]
async fn a_cluster_never_becomes_another_server() {
    let plane = Plane::start().await;
    plane.register().await;
    let other = Server::own().await;
    let name = ClusterRef::Name("one".parse().unwrap());
    let there = Endpoint::new("127.0.0.1", other.address().port()).unwrap();
    let moved = ClusterChange {
        endpoint: Some(there),
        admin_password: Some(Secret::new(other.cluster().password().to_owned())),
        ..ClusterChange::default()
    };
    let moved = clusters::update(&plane.control, &plane.caller, &name, moved, None).await;
    assert!(matches!(moved, Err(ControlError::InvalidRequest { pointer: Some("/host"), .. })), "{moved:?}");

    let remote = Endpoint::new("db.example.com", 5432).unwrap();
    let in_the_clear = ClusterChange { endpoint: Some(remote), ..ClusterChange::default() };
    let in_the_clear = clusters::update(&plane.control, &plane.caller, &name, in_the_clear, None).await;
    assert!(
        matches!(in_the_clear, Err(ControlError::InvalidRequest { pointer: Some("/tls_mode"), .. })),
        "{in_the_clear:?}"
    );

    let renamed = ClusterChange { name: Some("two".parse().unwrap()), ..ClusterChange::default() };
    let renamed = clusters::update(&plane.control, &plane.caller, &name, renamed, None).await.unwrap();
    assert_eq!(renamed.name.as_str(), "two");
    plane.end().await;
}

#[tokio::test]
async fn a_caller_bound_to_a_tenant_sees_no_other() {
    let plane = Plane::start().await;
    plane.register().await;
    let acme = plane.create("acme", Isolation::Schema).await;
    let beta = plane.create("beta", Isolation::Schema).await;
    let bound = Caller {
        token: None,
        name: "acme's own".to_owned(),
        scopes: ScopeSet::new([Scope::Admin]),
        tenant: Some(acme.id),
        request_id: RequestId::new(Uuid::now_v7()),
    };
    assert!(tenants::show(&plane.control, &bound, &TenantRef::Id(acme.id)).await.is_ok());
    let other = tenants::show(&plane.control, &bound, &TenantRef::Id(beta.id)).await;
    assert!(matches!(other, Err(ControlError::NotFound { .. })), "{other:?}");
    let all = tenants::list(&plane.control, &bound, &TenantFilter::default(), &PageRequest::default()).await.unwrap();
    assert_eq!(all.items.iter().map(|tenant| tenant.id).collect::<Vec<_>>(), [acme.id]);
    let deleted = tenants::delete(&plane.control, &bound, &TenantRef::Id(acme.id), AT_ONCE, None).await;
    assert!(matches!(deleted, Err(ControlError::Forbidden { .. })), "{deleted:?}");
    plane.end().await;
}
