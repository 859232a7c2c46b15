//! Choices for a world.

use std::net::SocketAddr;

use tenantry_api::{Cluster, RegisterCluster};
use tenantry_control::{ControlConfig, WarmPoolConfig};
use tenantry_domain::{ClusterLimits, DisplayName, Scope, ScopeSet, Tenancy};
use tenantry_testkit::{Namespace, Server};

use super::replicas::{replica_config, server_config};
use super::{Managed, World, catalog, client, clusters};
use crate::admin::{Admin, AdminLogin};
use crate::files::{self, Files};
use crate::replica::Replica;

/// Choices for a [`World`]; each has a default.
pub struct WorldBuilder<'s> {
    catalog_on: Option<&'s Server>,
    homes_on: Option<&'s Server>,
    homes_at: Option<SocketAddr>,
    admin: Admin,
    migrations: Option<Files>,
    dedicated: usize,
    replicas: usize,
    catalog_connections: usize,
    limits: Option<ClusterLimits>,
    warm_pool: WarmPoolConfig,
    configure: Box<dyn Fn(&mut ControlConfig) + Send>,
}

impl Default for WorldBuilder<'_> {
    fn default() -> Self {
        Self {
            catalog_on: None,
            homes_on: None,
            homes_at: None,
            admin: Admin::default(),
            migrations: Some(files::notes()),
            dedicated: 0,
            replicas: 1,
            // Dozens of worlds share a server.
            catalog_connections: 8,
            limits: None,
            warm_pool: WarmPoolConfig::OFF,
            configure: Box::new(|_| ()),
        }
    }
}

impl<'s> WorldBuilder<'s> {
    /// The role that manages every cluster.
    #[must_use]
    pub fn admin(self, admin: Admin) -> Self {
        Self { admin, ..self }
    }

    /// Pushes these files, and promotes them.
    #[must_use]
    pub fn migrations(self, files: Files) -> Self {
        Self { migrations: Some(files), ..self }
    }

    /// Tenants start empty.
    #[must_use]
    pub fn without_migrations(self) -> Self {
        Self { migrations: None, ..self }
    }

    /// So many empty servers for one tenant each, named `own-0`, `own-1`, ….
    #[must_use]
    pub fn dedicated(self, dedicated: usize) -> Self {
        Self { dedicated, ..self }
    }

    /// So many replicas of the control plane.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// So many connections to the catalog for all replicas within this process; eight unless given.
    #[must_use]
    pub fn catalog_connections(self, catalog_connections: usize) -> Self {
        Self { catalog_connections, ..self }
    }

    /// How much the cluster `main` takes.
    #[must_use]
    pub fn limits(self, limits: ClusterLimits) -> Self {
        Self { limits: Some(limits), ..self }
    }

    /// Settings of every replica.
    #[must_use]
    pub fn configure(self, configure: impl Fn(&mut ControlConfig) + Send + 'static) -> Self {
        Self { configure: Box::new(configure), ..self }
    }

    /// Keeps so many homes ready on each shared cluster; by default none are.
    #[must_use]
    pub fn warm_pool(self, size_min: u32, size_max: u32) -> Self {
        Self { warm_pool: WarmPoolConfig { size_min, size_max, refill_concurrency: 4 }, ..self }
    }

    /// The server behind the cluster `main`, for a test that breaks it.
    #[must_use]
    pub fn homes_on<'t>(self, server: &'t Server) -> WorldBuilder<'t>
    where
        's: 't,
    {
        WorldBuilder { homes_on: Some(server), ..self }
    }

    /// The address by which the control plane and tenants reach the cluster `main`, such as that of a socket that breaks.
    #[must_use]
    pub fn homes_at(self, address: SocketAddr) -> Self {
        Self { homes_at: Some(address), ..self }
    }

    /// The server that holds the catalog, for a test that breaks it.
    #[must_use]
    pub fn catalog_on<'t>(self, server: &'t Server) -> WorldBuilder<'t>
    where
        's: 't,
    {
        WorldBuilder { catalog_on: Some(server), ..self }
    }

    /// Starts it.
    pub async fn start(self) -> World<'s> {
        let catalog_on = match self.catalog_on {
            Some(server) => server,
            None => Server::shared().await,
        };
        let homes_on = match self.homes_on {
            Some(server) => server,
            None => Server::shared().await,
        };
        let (catalog, homes) = (Namespace::on(catalog_on), Namespace::on(homes_on));
        let (store, catalog_url) = catalog::make(&catalog, self.catalog_connections).await;
        let name = DisplayName::parse("everything").expect("a name");
        let scopes = ScopeSet::new([Scope::Admin]);
        let first = tenantry_control::tokens::create_first(&store, name, scopes, None).await;
        let (_, token) = first.expect("a first token");
        let mut replicas = Vec::new();
        for _ in 0..self.replicas.max(1) {
            let mut config = replica_config(std::ptr::eq(catalog_on, homes_on));
            config.warm_pool = self.warm_pool;
            (self.configure)(&mut config);
            replicas.push(Replica::start(store.clone(), config, server_config()).await);
        }
        let client = client(&replicas[0].url(), &token);
        let admin = AdminLogin::make(homes_on, &homes, self.admin).await;
        let address = self.homes_at.unwrap_or(homes_on.address());
        let mut main = clusters::register("main", Tenancy::Shared, address, &admin);
        main.limits = self.limits;
        let cluster: Cluster = client.register_cluster(&main).await.unwrap_or_else(|error| panic!("{error}"));
        let keys = catalog::keys();
        let clusters = vec![Managed { cluster, admin, own: None }];
        let mut world = World { catalog, homes, catalog_url, keys, store, token, client, replicas, clusters };
        for number in 0..self.dedicated {
            let for_one = |wish: &mut RegisterCluster| wish.tenancy = Tenancy::Dedicated;
            world.add_cluster(&format!("own-{number}"), self.admin, for_one).await;
        }
        if let Some(files) = self.migrations {
            let set = world.push("first", &files).await;
            let rollout = world.begin_rollout(&set).await;
            let rollout = world.rolled_out(rollout.id).await;
            assert_eq!(rollout.state, tenantry_domain::RolloutState::Succeeded, "{rollout:?}");
        }
        world
    }
}
