//! Homes in one database, made by hand as the fleet would make them.

use tenantry_api::FeedCluster;
use tenantry_domain::{
    ClusterId, Credential, DatabaseName, FeedVersion, Generation, Limits, RoleName, Route, RouteState, RouteTarget,
    SchemaName, SchemaVersion, Secret, SharedAccess, Slug, TenantId,
};
use tenantry_router::{Connection, Router, RouterConfig, Tenant};
use tenantry_testkit::{Login, Namespace, Server, eventually};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::home::plain_cluster;

/// A database with homes of several tenants, and a login that may become their roles and nothing else.
pub(super) struct SharedHomes<'a> {
    pub(super) names: Namespace<'a>,
    pub(super) database: String,
    pub(super) pool: Login,
    pub(super) cluster: ClusterId,
    pub(super) tenants: Vec<SharedHome>,
}

/// One of them, in a schema of its own.
pub(super) struct SharedHome {
    pub(super) tenant: TenantId,
    pub(super) slug: Slug,
    pub(super) schema: String,
    pub(super) app: String,
    pub(super) read_only: String,
    pub(super) limits: Limits,
}

const STAMP: &str = "
    CREATE SCHEMA tenantry;
    CREATE TABLE tenantry.stamp (tenant uuid NOT NULL, generation bigint NOT NULL, state text NOT NULL,
        schema_name name NOT NULL, roles name[] NOT NULL);
    ALTER TABLE tenantry.stamp ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own_row ON tenantry.stamp FOR SELECT USING (current_user = ANY (roles));
    CREATE FUNCTION tenantry.attach(wanted uuid, wanted_generation bigint) RETURNS void
    LANGUAGE plpgsql AS $$
    DECLARE own tenantry.stamp;
    BEGIN
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);
        SELECT * INTO own FROM tenantry.stamp WHERE current_user = ANY (roles);
        IF own.tenant IS DISTINCT FROM wanted OR own.generation IS DISTINCT FROM wanted_generation THEN
            RAISE EXCEPTION 'a stale or foreign placement' USING ERRCODE = 'TN001';
        ELSIF own.state <> 'active' THEN
            RAISE EXCEPTION 'a closed placement' USING ERRCODE = 'TN002';
        END IF;
        PERFORM pg_catalog.set_config('search_path', quote_ident(own.schema_name), false);
    END $$;
    REVOKE ALL ON FUNCTION tenantry.attach FROM PUBLIC;
    REVOKE ALL ON SCHEMA public FROM PUBLIC;";

impl<'a> SharedHomes<'a> {
    /// Homes of `acme` and `zenith`.
    pub(super) async fn two(server: &'a Server) -> Self {
        Self::of(server, &["acme", "zenith"]).await
    }

    pub(super) async fn of(server: &'a Server, slugs: &[&str]) -> Self {
        let names = Namespace::on(server);
        let pool = names.login("pool", "NOINHERIT").await;
        let database = names.database("homes").await;
        let mut homes = Self { names, database, pool, cluster: ClusterId::new(Uuid::now_v7()), tenants: Vec::new() };
        let admin = homes.admin().await;
        admin.batch_execute(STAMP).await.expect("the stamp");
        for slug in slugs {
            let home = SharedHome {
                tenant: TenantId::new(Uuid::now_v7()),
                slug: Slug::parse(slug).expect("a slug"),
                schema: homes.names.name(slug),
                app: homes.names.name(&format!("{slug}_app")),
                read_only: homes.names.name(&format!("{slug}_ro")),
                limits: Limits { pool_size: Some(4), ..Limits::default() },
            };
            let SharedHome { tenant, schema, app, read_only, .. } = &home;
            let (pool, database) = (&homes.pool.name, &homes.database);
            let sql = format!(
                "CREATE ROLE {app} NOLOGIN; CREATE ROLE {read_only} NOLOGIN;
                 GRANT {app}, {read_only} TO {pool};
                 CREATE SCHEMA {schema};
                 CREATE TABLE {schema}.flights (id bigint PRIMARY KEY, status text NOT NULL);
                 CREATE SEQUENCE {schema}.tickets;
                 GRANT USAGE ON SCHEMA {schema}, tenantry TO {app}, {read_only};
                 GRANT CREATE ON SCHEMA {schema} TO {app};
                 GRANT ALL ON {schema}.flights, {schema}.tickets TO {app};
                 GRANT SELECT ON {schema}.flights TO {read_only};
                 GRANT SELECT ON tenantry.stamp TO {app}, {read_only};
                 GRANT EXECUTE ON FUNCTION tenantry.attach TO {app}, {read_only};
                 GRANT TEMP ON DATABASE {database} TO {app};
                 INSERT INTO tenantry.stamp VALUES
                     ('{tenant}', 1, 'active', '{schema}', ARRAY['{app}', '{read_only}']::name[]);"
            );
            admin.batch_execute(&sql).await.expect("a home");
            homes.tenants.push(home);
        }
        homes
    }

    /// The superuser's way in.
    pub(super) async fn admin(&self) -> Client {
        self.names.server().connect(&self.database).await
    }

    pub(super) async fn run(&self, sql: &str) {
        self.admin().await.batch_execute(sql).await.expect("run by the superuser");
    }

    pub(super) fn route(&self, number: usize) -> Route {
        let home = &self.tenants[number];
        let role = |name: &str| RoleName::parse(name).expect("a role");
        // Nobody logs in with these here.
        let own = |name: &str| Credential { role: role(name), password: None };
        Route {
            version: FeedVersion(2),
            tenant: home.tenant,
            slug: home.slug.clone(),
            hosts: Vec::new(),
            state: RouteState::Active,
            generation: Generation(1),
            target: Some(RouteTarget {
                cluster: self.cluster,
                database: DatabaseName::parse(&self.database).expect("a database"),
                schema: SchemaName::parse(&home.schema).expect("a schema"),
                credential: own(&home.app),
                read_only_credential: own(&home.read_only),
                shared: Some(SharedAccess {
                    credential: Credential {
                        role: role(&self.pool.name),
                        password: Some(Secret::new(self.pool.password.clone())),
                    },
                    app: role(&home.app),
                }),
            }),
            limits: home.limits,
            schema_version: SchemaVersion(1),
        }
    }

    pub(super) fn routes(&self) -> Vec<Route> {
        (0..self.tenants.len()).map(|number| self.route(number)).collect()
    }

    pub(super) fn feed_cluster(&self) -> FeedCluster {
        plain_cluster(self.cluster, self.names.server())
    }

    pub(super) async fn router(&self, config: RouterConfig) -> Router {
        let builder = Router::builder().fixed(self.routes(), vec![self.feed_cluster()]).config(config);
        builder.build().await.expect("a router")
    }

    /// The sessions of the shared login.
    pub(super) async fn sessions(&self) -> i64 {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        self.admin().await.query_one(query, &[&self.pool.name]).await.expect("a count").get(0)
    }

    pub(super) async fn have_sessions(&self, number: i64) {
        eventually("there are so many sessions", async || self.sessions().await == number).await;
    }

    /// Ends every session of the shared login, as a fence does.
    pub(super) async fn end_sessions(&self) {
        let query = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = $1";
        self.admin().await.query(query, &[&self.pool.name]).await.expect("ended");
    }
}

pub(super) async fn backend(client: &Connection) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a backend").get(0)
}

pub(super) async fn answer(client: &Connection, probe: &str) -> String {
    client.query_one(probe, &[]).await.expect(probe).get(0)
}

pub(super) async fn tenant(router: &Router, slug: &str) -> Tenant {
    router.tenant(slug).await.expect("found")
}
