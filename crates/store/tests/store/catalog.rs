//! A catalog for one test, and what most tests need in it.

use serde_json::{Value, json};
use std::time::Duration;
use tenantry_domain::{
    Affinity, ClusterId, ClusterLimits, ClusterLocale, ClusterName, DatabaseName, DisplayName, Endpoint, Generation,
    Home, HomeId, HomeNames, Isolation, Labels, LoginSlot, OperationId, OperationKind, Overrides, PlanName,
    ProviderKind, Region, ResourceId, RouteState, SchemaName, SchemaVersion, Secret, Slug, Tenancy, TenantId, TlsMode,
};
use tenantry_store::{
    HomeSecrets, Keyring, NewCluster, NewHome, NewOperation, NewResource, NewTenant, ResourceKind, Store, StoreConfig,
    StoreError, Tx,
};
use tenantry_testkit::{Namespace, Server};
use uuid::Uuid;

/// The key that every test catalog is sealed with.
pub(crate) const KEY: &str = "1:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

/// A migrated catalog that nobody else uses.
pub(crate) struct Catalog {
    pub(crate) store: Store,
    pub(crate) database: String,
    pub(crate) server: &'static Server,
    _namespace: Namespace<'static>,
}

/// A tenant on its way: recorded, with a home and a claimed-by-nobody operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) tenant: TenantId,
    pub(crate) home: HomeId,
    pub(crate) operation: OperationId,
}

impl Catalog {
    pub(crate) async fn new() -> Self {
        let server = Server::shared().await;
        let template = server
            .template("catalog", async |config| {
                let database = config.get_dbname().unwrap().to_owned();
                let store = connect(server.url(&database)).await.unwrap();
                store.migrate().await.unwrap();
            })
            .await;
        let namespace = Namespace::on(server);
        let database = namespace.database_from("catalog", &template).await;
        let store = connect(server.url(&database)).await.unwrap();
        Self { store, database, server, _namespace: namespace }
    }

    /// The superuser's own way in.
    pub(crate) async fn superuser(&self) -> tokio_postgres::Client {
        self.server.connect(&self.database).await
    }

    pub(crate) async fn begin(&self) -> Tx {
        self.store.begin().await.unwrap()
    }

    pub(crate) async fn cluster(&self, name: &str, tenancy: Tenancy) -> ClusterId {
        let cluster = new_cluster(name, tenancy);
        let mut tx = self.begin().await;
        tx.insert_cluster(&cluster).await.unwrap();
        tx.commit().await.unwrap();
        cluster.id
    }

    /// Records a tenant with a database home.
    pub(crate) async fn plan_tenant(&self, slug: &str, cluster: ClusterId) -> Planned {
        let mut tx = self.begin().await;
        let planned = plan_tenant(&mut tx, slug, cluster).await.unwrap();
        tx.commit().await.unwrap();
        planned
    }

    /// A tenant that is served.
    pub(crate) async fn active_tenant(&self, slug: &str, cluster: ClusterId) -> Planned {
        let planned = self.plan_tenant(slug, cluster).await;
        let mut tx = self.begin().await;
        activate(&mut tx, planned, SchemaVersion(0)).await;
        tx.commit().await.unwrap();
        self.finish(planned.operation).await;
        planned
    }

    /// Lets a worker end every operation that is due, until it has ended this one.
    pub(crate) async fn finish(&self, operation: OperationId) {
        while !self.store.operation(operation).await.unwrap().state.is_finished() {
            let claimed =
                self.store.claim_operation(Uuid::now_v7(), Duration::from_mins(1)).await.unwrap().expect("one is due");
            let tx = self.begin().await;
            tx.set_state(&claimed.lease, tenantry_domain::OperationState::Succeeded, None).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
}

pub(crate) async fn connect(url: String) -> Result<Store, StoreError> {
    let keyring = Keyring::parse(&Secret::new(KEY.to_owned()))?;
    Store::connect(&StoreConfig { pool_size: 20, ..StoreConfig::new(Secret::new(url)) }, keyring).await
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

pub(crate) fn new_cluster(name: &str, tenancy: Tenancy) -> NewCluster {
    let id = ClusterId::new(Uuid::now_v7());
    NewCluster {
        id,
        name: ClusterName::parse(name).unwrap(),
        region: Region::parse("eu-central-1").unwrap(),
        tenancy,
        provider: ProviderKind::Registered,
        endpoint: Endpoint::new("db.example.com", 5432).unwrap(),
        tls_mode: TlsMode::VerifyFull,
        tls_ca: None,
        admin_user: "admin".to_owned(),
        admin_password: secret("the admin's password"),
        admin_database: DatabaseName::parse("postgres").unwrap(),
        system_identifier: id.simple(),
        server_version: 150_018,
        locale: ClusterLocale {
            encoding: "UTF8".to_owned(),
            collate: "C.UTF-8".to_owned(),
            ctype: "C.UTF-8".to_owned(),
            provider: "libc".to_owned(),
            provider_locale: None,
        },
        limits: ClusterLimits::default(),
        findings: Vec::new(),
        claimed_by: None,
    }
}

pub(crate) fn new_tenant(slug: &str, operation: OperationId) -> NewTenant {
    NewTenant {
        id: TenantId::new(Uuid::now_v7()),
        slug: Slug::parse(slug).unwrap(),
        name: DisplayName::parse(slug).unwrap(),
        plan: PlanName::parse("team").unwrap(),
        region: Region::parse("eu-central-1").unwrap(),
        isolation: Isolation::Database,
        parent: None,
        labels: Labels::default(),
        overrides: Overrides::default(),
        affinity: Affinity::default(),
        trial_ends_at: None,
        operation,
    }
}

pub(crate) fn new_operation(tenant: Option<TenantId>) -> NewOperation {
    NewOperation {
        id: OperationId::new(Uuid::now_v7()),
        kind: OperationKind::Provision,
        tenant,
        cluster: None,
        input: json!({}),
        progress: Value::Null,
        idempotency_key: None,
        code_version: 1,
    }
}

pub(crate) fn new_home(cluster: ClusterId, operation: OperationId) -> NewHome {
    let id = HomeId::new(Uuid::now_v7());
    let home = Home {
        id,
        cluster,
        isolation: Isolation::Database,
        database: DatabaseName::of_home(id),
        schema: SchemaName::public(),
    };
    let mut resources = vec![new_resource(cluster, ResourceKind::Database, home.database.as_str())];
    for role in HomeNames::of(id).all() {
        resources.push(new_resource(cluster, ResourceKind::Role, role.as_str()));
    }
    NewHome {
        home,
        login: LoginSlot::A,
        secrets: HomeSecrets {
            login: secret("login password"),
            read_only: secret("read-only password"),
            migrator: secret("migrator password"),
        },
        shared_database: None,
        migration_set: None,
        connections: 30,
        resources,
        tenant: None,
        operation,
    }
}

pub(crate) fn new_resource(cluster: ClusterId, kind: ResourceKind, name: &str) -> NewResource {
    NewResource { id: ResourceId::new(Uuid::now_v7()), cluster, kind, name: name.to_owned(), parent: None }
}

pub(crate) async fn plan_tenant(tx: &mut Tx, slug: &str, cluster: ClusterId) -> Result<Planned, StoreError> {
    let operation = OperationId::new(Uuid::now_v7());
    let tenant = new_tenant(slug, operation);
    tx.insert_tenant(&tenant).await?;
    tx.insert_operation(&NewOperation { id: operation, ..new_operation(Some(tenant.id)) }).await?;
    let home = NewHome { tenant: Some(tenant.id), ..new_home(cluster, operation) };
    tx.insert_home(&home).await?;
    tx.publish_route(tenant.id, RouteState::Provisioning, Generation::default(), None).await?;
    Ok(Planned { tenant: tenant.id, home: home.home.id, operation })
}

pub(crate) async fn activate(tx: &mut Tx, planned: Planned, version: SchemaVersion) {
    tx.resources_of_home_created(planned.home).await.unwrap();
    tx.home_ready(planned.home, version).await.unwrap();
    tx.open_placement(planned.tenant, planned.home, Generation::FIRST).await.unwrap();
    tx.set_tenant_active(planned.tenant, Generation::FIRST, version).await.unwrap();
    tx.publish_route(planned.tenant, RouteState::Active, Generation::FIRST, Some(planned.home)).await.unwrap();
}
