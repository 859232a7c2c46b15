//! A whole system within the process.

mod builder;
mod catalog;
mod clusters;
mod end;
mod replicas;

use std::time::Duration;

use tenantry_api::route::ResolveBy;
use tenantry_api::{
    Client, ClientConfig, Cluster, CreateRollout, DeleteTenant, MigrationSet, Operation, Rollout, Route, Tenant,
    TenantRef,
};
use tenantry_domain::{OperationId, OperationState, RolloutId, Scope, ScopeSet, Secret};
use tenantry_store::Store;
use tenantry_testkit::{Namespace, Server, eventually};
use tokio_postgres::Config;

use crate::files::{self, Files};
use crate::replica::Replica;
use crate::session::HomeSession;
use crate::tenant::MakeTenant;
use crate::wire::Wire;

pub use builder::WorldBuilder;
pub use catalog::RuntimeRole;
pub(crate) use clusters::Managed;

/// A control plane with its catalog, a shared cluster named `main` in the region `local`, and a client with a token for
/// everything. Several worlds share one PostgreSQL server; their names come from ids, so they never meet.
///
/// [`World::end`] is part of every journey: it fails where work or objects are left.
pub struct World<'s> {
    catalog: Namespace<'s>,
    homes: Namespace<'s>,
    catalog_url: Secret,
    keys: Secret,
    store: Store,
    token: Secret,
    client: Client,
    replicas: Vec<Replica>,
    clusters: Vec<Managed>,
}

impl World<'static> {
    /// A world on the server that the tests of this process share, managed by a superuser, with [`files::notes`] as the
    /// migration set that new tenants start with.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A world with a choice.
    pub fn builder() -> WorldBuilder<'static> {
        WorldBuilder::default()
    }
}

impl World<'_> {
    /// A client with a token for everything.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// That token.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Where the first replica's door is.
    pub fn url(&self) -> String {
        self.client.url().as_str().trim_end_matches('/').to_owned()
    }

    /// Raw requests to the first replica.
    pub fn wire(&self) -> Wire {
        Wire::new(&self.url(), &self.token)
    }

    /// The catalog, past the control plane.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The catalog's URL and the keys that seal its secrets, for a control plane in a process of its own.
    pub fn catalog(&self) -> (&Secret, &Secret) {
        (&self.catalog_url, &self.keys)
    }

    /// The server behind the cluster `main`.
    pub fn server(&self) -> &Server {
        self.homes.server()
    }

    /// A token with some scopes, bound to one tenant or to none.
    pub async fn token_with(&self, scopes: &[Scope], tenant: Option<&Tenant>) -> Secret {
        let create = tenantry_api::CreateToken {
            name: tenantry_domain::DisplayName::parse("a narrow one").expect("a name"),
            scopes: ScopeSet::new(scopes.iter().copied()),
            tenant: tenant.map(|tenant| tenant.id.into()),
            expires_at: None,
        };
        self.client.create_token(&create).await.expect("a token").secret.into_secret()
    }

    /// A tenant about to be made.
    pub fn tenant(&self, slug: &str) -> MakeTenant {
        MakeTenant::new(self.client.clone(), slug)
    }

    /// A tenant as it is now.
    pub async fn show(&self, tenant: &Tenant) -> Tenant {
        self.client.show_tenant(&TenantRef::Id(tenant.id)).await.expect("a tenant").value
    }

    /// Waits until an operation is finished or parked.
    pub async fn settled(&self, operation: OperationId) -> Operation {
        let operation = self.client.wait_for_operation(operation, Duration::from_mins(1)).await.expect("an operation");
        let is_settled = operation.state.is_finished() || operation.state == OperationState::Parked;
        assert!(is_settled, "an operation does not end: {operation:?}");
        operation
    }

    /// Deletes a tenant without grace and waits until it is gone.
    pub async fn delete(&self, tenant: &Tenant) {
        let begun = self.client.delete_tenant(&tenant.id.into(), &DeleteTenant::at_once()).await;
        let operation = begun.unwrap_or_else(|error| panic!("{}: {error}", tenant.slug)).operation;
        let ended = self.settled(operation.id).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{}: {ended:?}", tenant.slug);
    }

    /// Registers a migration set.
    pub async fn push(&self, name: &str, files: &Files) -> MigrationSet {
        match self.client.push_migration_set(&files::push(name, files)).await {
            Ok(set) => set,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// Starts a rollout over everybody at once; failures stop nobody else.
    pub async fn begin_rollout(&self, set: &MigrationSet) -> Rollout {
        let create = CreateRollout::at_once(set.id.clone());
        self.client.create_rollout(&create).await.expect("a rollout")
    }

    /// Waits until a rollout is finished or paused.
    pub async fn rolled_out(&self, rollout: RolloutId) -> Rollout {
        let mut seen = None;
        eventually("the rollout ends", async || {
            let now = self.client.show_rollout(rollout).await.expect("a rollout");
            let is_settled = now.state.is_finished() || now.state == tenantry_domain::RolloutState::Paused;
            seen = Some(now);
            is_settled
        })
        .await;
        seen.expect("a rollout")
    }

    /// A tenant's route with its passwords.
    pub async fn route(&self, tenant: &Tenant) -> Route {
        self.client.resolve_route(ResolveBy::Id(tenant.id)).await.expect("a route")
    }

    /// How the tenant's own login reaches its home.
    pub async fn login(&self, tenant: &Tenant) -> Config {
        let route = self.route(tenant).await;
        let cluster = self.cluster_of(tenant).await;
        let credential = route.credential.expect("a credential");
        let mut config = Config::new();
        config
            .host(&cluster.host)
            .port(cluster.port)
            .dbname(route.database.expect("a database").as_str())
            .user(credential.role.as_str())
            .password(credential.password.expect("a password").as_secret().expose());
        config
    }

    /// The cluster that a tenant is on.
    pub async fn cluster_of(&self, tenant: &Tenant) -> Cluster {
        let cluster = tenant.cluster.expect("a tenant that is placed");
        self.client.show_cluster(&cluster.into()).await.expect("a cluster").value
    }

    /// Connects as the tenant's own login and attaches, as a router does.
    pub async fn connect(&self, tenant: &Tenant) -> HomeSession {
        let session = HomeSession::log_in(&self.login(tenant).await).await;
        let session = session.unwrap_or_else(|error| panic!("{}: {error:?}", tenant.slug));
        session.run(&format!("SELECT tenantry.attach('{}', {})", tenant.id, tenant.generation)).await;
        session
    }
}

pub(crate) fn client(url: &str, token: &Secret) -> Client {
    let config = ClientConfig::new(url, Some(token.clone())).expect("a URL");
    Client::new(config).expect("a client")
}
