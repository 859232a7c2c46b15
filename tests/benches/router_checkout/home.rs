//! One tenant's home on a private server, and both ways into it.

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod, Runtime};
use tenantry_api::FeedCluster;
use tenantry_domain::{
    ClusterId, Credential, DatabaseName, FeedVersion, Generation, Limits, Pooling, RoleName, Route, RouteState,
    RouteTarget, SchemaName, SchemaVersion, Secret, Slug, TenantId, TlsMode,
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

pub(crate) struct Home {
    server: Server,
    login: Login,
    database: String,
}

impl Home {
    pub(crate) async fn start() -> Self {
        let server = Server::own().await;
        let names = Namespace::on(&server);
        let (login, database) = (names.login("a", "").await, names.database("home").await);
        // The whole server goes with the benchmark.
        std::mem::forget(names);
        server.connect(&database).await.batch_execute(HOME).await.expect("a home");
        Self { server, login, database }
    }

    /// The router's one tenant, with a pool of so many connections.
    pub(crate) async fn tenant(&self, pool_size: u32) -> Tenant {
        let credential = || Credential {
            role: RoleName::parse(&self.login.name).expect("a role"),
            password: Some(Secret::new(self.login.password.clone())),
        };
        let cluster = ClusterId::new(Uuid::now_v7());
        let route = Route {
            version: FeedVersion(1),
            tenant: TenantId::new(Uuid::now_v7()),
            slug: Slug::parse("acme").expect("a slug"),
            hosts: Vec::new(),
            state: RouteState::Active,
            generation: Generation(1),
            target: Some(RouteTarget {
                cluster,
                database: DatabaseName::parse(&self.database).expect("a database"),
                schema: SchemaName::public(),
                credential: credential(),
                read_only_credential: credential(),
            }),
            limits: Limits { pool_size: Some(pool_size), ..Limits::default() },
            pooling: Pooling::Own,
            schema_version: SchemaVersion(1),
        };
        let address = self.server.address();
        let endpoint = FeedCluster {
            version: FeedVersion(1),
            cluster,
            host: address.ip().to_string(),
            port: address.port(),
            tls_mode: TlsMode::Disable,
            tls_ca: None,
            replicas: Vec::new(),
        };
        let router = Router::builder().fixed(vec![route], vec![endpoint]).build().await.expect("a router");
        router.tenant("acme").await.expect("known")
    }

    /// A pool as its documentation has it, with the recycling that resets nothing.
    pub(crate) fn deadpool(&self, pool_size: usize) -> deadpool_postgres::Pool {
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
