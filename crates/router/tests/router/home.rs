//! A tenant's home, made by hand as the fleet would make it.

use std::time::Duration;

use tenantry_api::FeedCluster;
use tenantry_domain::{
    ClusterId, Credential, DatabaseName, FeedVersion, Generation, Limits, RoleName, Route, RouteState, RouteTarget,
    SchemaName, SchemaVersion, Secret, Slug, TenantId, TlsMode,
};
use tenantry_router::{Router, RouterConfig};
use tenantry_testkit::{Login, Namespace, Server};
use tokio_postgres::Client;
use uuid::Uuid;

/// A server of this machine, as the feed tells of it.
pub(crate) fn plain_cluster(cluster: ClusterId, server: &Server) -> FeedCluster {
    let address = server.address();
    FeedCluster {
        version: FeedVersion(1),
        cluster,
        host: address.ip().to_string(),
        port: address.port(),
        tls_mode: TlsMode::Disable,
        tls_ca: None,
        replicas: Vec::new(),
        unleased_connections: None,
    }
}

/// One tenant with a database, two login roles and a stamp.
pub(crate) struct Home<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) slug: Slug,
    pub(crate) cluster: ClusterId,
    pub(crate) pool_size: u32,
    pub(crate) database: String,
    pub(crate) login: Login,
    pub(crate) read_only: Login,
    pub(crate) names: Namespace<'a>,
}

const STAMP: &str = "
    CREATE SCHEMA tenantry;
    CREATE TABLE tenantry.stamp (tenant uuid NOT NULL, generation bigint NOT NULL, state text NOT NULL);
    CREATE FUNCTION tenantry.attach(wanted uuid, wanted_generation bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE found tenantry.stamp;
    BEGIN
        SELECT * INTO found FROM tenantry.stamp WHERE tenant = wanted;
        IF found.generation IS DISTINCT FROM wanted_generation THEN
            RAISE EXCEPTION 'a stale or foreign placement' USING ERRCODE = 'TN001';
        ELSIF found.state <> 'active' THEN
            RAISE EXCEPTION 'a closed placement' USING ERRCODE = 'TN002';
        END IF;
        PERFORM pg_catalog.set_config('search_path', 'public', false);
    END $$;
    GRANT USAGE ON SCHEMA tenantry TO PUBLIC;
    CREATE TABLE public.flights (id bigint PRIMARY KEY, status text NOT NULL);";

impl<'a> Home<'a> {
    /// A home in generation 1 on a server.
    pub(crate) async fn on(server: &'a Server, slug: &str) -> Self {
        let names = Namespace::on(server);
        let (login, read_only) = (names.login("a", "").await, names.login("ro", "").await);
        let database = names.database("home").await;
        let home = Self {
            tenant: TenantId::new(Uuid::now_v7()),
            slug: Slug::parse(slug).expect("a slug"),
            cluster: ClusterId::new(Uuid::now_v7()),
            pool_size: 1,
            database,
            login,
            read_only,
            names,
        };
        let (a, ro) = (&home.login.name, &home.read_only.name);
        let grants = format!(
            "INSERT INTO tenantry.stamp VALUES ('{}', 1, 'active');
             GRANT ALL ON public.flights TO {a}; GRANT SELECT ON public.flights TO {ro};
             GRANT TEMP ON DATABASE {} TO {a}; GRANT CREATE ON SCHEMA public TO {a};",
            home.tenant, home.database
        );
        let admin = home.admin().await;
        admin.batch_execute(STAMP).await.expect("the stamp");
        admin.batch_execute(&grants).await.expect("the grants");
        home
    }

    /// Takes the right to create objects from the tenant, as its homes have it: nothing there changes behind the router's
    /// back then.
    pub(crate) async fn make_plain(&self) {
        let sql = format!("REVOKE CREATE ON SCHEMA public FROM {}", self.login.name);
        self.admin().await.batch_execute(&sql).await.expect("revoked");
    }

    /// The superuser's way in.
    pub(crate) async fn admin(&self) -> Client {
        self.names.server().connect(&self.database).await
    }

    pub(crate) fn route(&self) -> Route {
        let credential = |login: &Login| Credential {
            role: RoleName::parse(&login.name).expect("a role"),
            password: Some(Secret::new(login.password.clone())),
        };
        Route {
            version: FeedVersion(2),
            tenant: self.tenant,
            slug: self.slug.clone(),
            hosts: Vec::new(),
            state: RouteState::Active,
            generation: Generation(1),
            target: Some(RouteTarget {
                cluster: self.cluster,
                database: DatabaseName::parse(&self.database).expect("a database"),
                schema: SchemaName::public(),
                credential: credential(&self.login),
                read_only_credential: credential(&self.read_only),
                shared: None,
            }),
            limits: Limits { pool_size: Some(self.pool_size), ..Limits::default() },
            schema_version: SchemaVersion(1),
        }
    }

    pub(crate) fn feed_cluster(&self) -> FeedCluster {
        plain_cluster(self.cluster, self.names.server())
    }

    /// A router that knows this home alone.
    pub(crate) async fn router(&self) -> Router {
        self.router_with(self.route(), patient()).await
    }

    pub(crate) async fn router_with(&self, route: Route, config: RouterConfig) -> Router {
        let builder = Router::builder().fixed(vec![route], vec![self.feed_cluster()]).config(config);
        builder.build().await.expect("a router")
    }

    /// How many sessions the tenant's roles have now.
    pub(crate) async fn sessions(&self) -> i64 {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 OR usename = $2";
        let row = self.admin().await.query_one(query, &[&self.login.name, &self.read_only.name]).await;
        row.expect("a count").get(0)
    }
}

/// A router that does not wait long.
pub(crate) fn impatient() -> RouterConfig {
    RouterConfig {
        wait_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_secs(5),
        pause_budget: Duration::from_millis(300),
        ..RouterConfig::default()
    }
}

/// A router that keeps its connections and goes on waiting on a machine that is busy with other things.
pub(crate) fn patient() -> RouterConfig {
    let minute = Duration::from_mins(1);
    RouterConfig { wait_timeout: minute, connect_timeout: minute, abandoned_after: minute, ..RouterConfig::default() }
}
