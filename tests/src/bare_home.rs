//! A home made by hand on a private server, for benchmarks of the router: no control plane, so nothing else runs.

use std::net::SocketAddr;

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod, Runtime};
use tenantry_api::FeedCluster;
use tenantry_domain::{
    ClusterId, Credential, DatabaseName, FeedVersion, Generation, Limits, RoleName, Route, RouteState, RouteTarget,
    SchemaName, SchemaVersion, Secret, Slug, TenantId, TlsMode,
};
use tenantry_router::{Router, Tenant};
use tenantry_testkit::{Login, Namespace, Server};
use tokio_postgres::{Config, NoTls};
use uuid::Uuid;

/// What a connection of the router calls first, and a table to read from.
const HOME: &str = "
    CREATE SCHEMA tenantry;
    CREATE FUNCTION tenantry.attach(tenant uuid, generation bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
    GRANT USAGE ON SCHEMA tenantry TO PUBLIC;
    CREATE TABLE public.flight (id bigint PRIMARY KEY, status text NOT NULL);
    INSERT INTO public.flight SELECT n, 'landed' FROM generate_series(1, 1000) n;
    GRANT SELECT, INSERT, UPDATE, DELETE ON public.flight TO PUBLIC;";

/// A server with one home on it, in which any number of tenants can be said to live.
#[derive(Debug)]
pub struct BareHome {
    server: Server,
    login: Login,
    database: String,
    cluster: ClusterId,
}

impl BareHome {
    /// Starts the server and makes the home.
    pub async fn start() -> Self {
        let server = Server::own().await;
        let names = Namespace::on(&server);
        let (login, database) = (names.login("a", "").await, names.database("home").await);
        // The whole server goes with the benchmark.
        std::mem::forget(names);
        server.connect(&database).await.batch_execute(HOME).await.expect("a home");
        Self { server, login, database, cluster: ClusterId::new(Uuid::now_v7()) }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The cluster as a router is told of it, by way of an address.
    pub fn cluster_at(&self, address: SocketAddr) -> FeedCluster {
        FeedCluster {
            version: FeedVersion(1),
            cluster: self.cluster,
            host: address.ip().to_string(),
            port: address.port(),
            tls_mode: TlsMode::Disable,
            tls_ca: None,
            replicas: Vec::new(),
            unleased_connections: None,
        }
    }

    /// A tenant's route to the home.
    pub fn route(&self, slug: &str, limits: Limits) -> Route {
        let credential = || Credential {
            role: RoleName::parse(&self.login.name).expect("a role"),
            password: Some(Secret::new(self.login.password.clone())),
        };
        Route {
            version: FeedVersion(1),
            tenant: TenantId::new(Uuid::now_v7()),
            slug: Slug::parse(slug).expect("a slug"),
            hosts: Vec::new(),
            state: RouteState::Active,
            generation: Generation(1),
            target: Some(RouteTarget {
                cluster: self.cluster,
                database: DatabaseName::parse(&self.database).expect("a database"),
                schema: SchemaName::public(),
                credential: credential(),
                read_only_credential: credential(),
                shared: None,
            }),
            limits,
            schema_version: SchemaVersion(1),
        }
    }

    /// A router's one tenant, with a pool of so many connections.
    pub async fn tenant(&self, pool_size: u32) -> Tenant {
        let route = self.route("acme", Limits { pool_size: Some(pool_size), ..Limits::default() });
        let builder = Router::builder().fixed(vec![route], vec![self.cluster_at(self.address())]);
        builder.build().await.expect("a router").tenant("acme").await.expect("known")
    }

    /// A pool as its documentation has it, with the recycling that resets nothing.
    pub fn deadpool(&self, pool_size: usize) -> deadpool_postgres::Pool {
        let address = self.server.address();
        let mut config = Config::new();
        config
            .host(address.ip().to_string())
            .port(address.port())
            .user(&self.login.name)
            .password(&self.login.password)
            .dbname(&self.database);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, NoTls, recycling);
        let builder = deadpool_postgres::Pool::builder(manager).max_size(pool_size).runtime(Runtime::Tokio1);
        builder.build().expect("a pool")
    }
}
