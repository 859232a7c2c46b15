//! Routers for a service's own tests: one database that the test has, any number of tenants in it, no control plane.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tenantry_router::testing::TestTenants;
//!
//! let router = TestTenants::in_database("postgres://postgres:postgres@127.0.0.1:5432/service_test")
//!     .tenant("acme")
//!     .tenant_in("zenith", "zenith")
//!     .base_domain("example.com")
//!     .build()
//!     .await?;
//! let client = router.tenant("acme").await?.client().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything above the database is as in production: pools, cleaning, limits, the extractor, the errors. Below it is not:
//! all tenants log in with the role of the connection string, so nothing but the search path keeps one from another's
//! data, and a read-only handle can write unless [`TestTenants::read_only_login`] says with what to log in.

use tenantry_api::FeedCluster;
use tenantry_domain::{
    ClusterId, Credential, DatabaseName, FeedVersion, Generation, Limits, RoleName, Route, RouteState, RouteTarget,
    SchemaName, SchemaVersion, Secret, Slug, TenantId, TlsMode,
};
use tokio::sync::OnceCell;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use crate::builder::RouterBuilder;
use crate::connect::client_config;
use crate::error::RouterError;
use crate::router::Router;

/// What is made in the database, in one transaction, each time a router is built: a schema `tenantry` with the function
/// `attach`, which every connection of a router calls first, and with a table of the tenants that it lets in. It needs
/// the right to create schemas there, and is repeatable, by several tests at once too. A database in which Tenantry keeps
/// real homes is refused.
pub const SETUP: &str = "
SELECT pg_catalog.pg_advisory_xact_lock(7171, 1);
DO $block$ BEGIN
    IF pg_catalog.to_regclass('tenantry.stamp') IS NOT NULL THEN
        RAISE EXCEPTION 'this database holds homes of Tenantry; tests use one of their own';
    END IF;
END $block$;
CREATE SCHEMA IF NOT EXISTS tenantry;
CREATE TABLE IF NOT EXISTS tenantry.test_tenant (
    tenant uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    slug text NOT NULL UNIQUE,
    schema_name name
);
CREATE OR REPLACE FUNCTION tenantry.attach(wanted_tenant uuid, wanted_generation bigint) RETURNS void
LANGUAGE plpgsql AS $function$
DECLARE
    found tenantry.test_tenant;
BEGIN
    SELECT * INTO found FROM tenantry.test_tenant WHERE tenant = wanted_tenant;
    IF found.tenant IS NULL OR wanted_generation <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'TN001', MESSAGE = 'this is not the placement that the route names';
    END IF;
    IF found.schema_name IS NOT NULL THEN
        PERFORM pg_catalog.set_config('search_path', pg_catalog.quote_ident(found.schema_name), false);
    END IF;
END $function$;
CREATE OR REPLACE FUNCTION tenantry.add_test_tenant(new_slug text, new_schema text) RETURNS uuid
LANGUAGE plpgsql AS $function$
DECLARE
    added uuid;
BEGIN
    IF new_schema IS NOT NULL THEN
        EXECUTE pg_catalog.format('CREATE SCHEMA IF NOT EXISTS %I', new_schema);
    END IF;
    INSERT INTO tenantry.test_tenant (slug, schema_name) VALUES (new_slug, new_schema)
    ON CONFLICT (slug) DO UPDATE SET schema_name = EXCLUDED.schema_name RETURNING tenant INTO added;
    RETURN added;
END $function$;
GRANT USAGE ON SCHEMA tenantry TO PUBLIC;
GRANT SELECT ON tenantry.test_tenant TO PUBLIC;
";

/// Tenants that live in a database of a test. [`TestTenants::build`] makes the router that knows them.
#[derive(Debug, Clone)]
pub struct TestTenants {
    url: Secret,
    tenants: Vec<TestTenant>,
    read_only: Option<(String, Secret)>,
    limits: Limits,
    schema_version: i64,
    base_domain: Option<String>,
}

#[derive(Debug, Clone)]
struct TestTenant {
    slug: String,
    schema: Option<String>,
    state: RouteState,
}

impl TestTenants {
    /// In the database of a connection string, `postgres://…` or `host=… dbname=…`; of several hosts the first counts.
    /// Without TLS, or with `sslmode=require`.
    pub fn in_database(url: impl Into<String>) -> Self {
        Self {
            url: Secret::new(url.into()),
            tenants: Vec::new(),
            read_only: None,
            limits: Limits::default(),
            schema_version: 0,
            base_domain: None,
        }
    }

    /// A tenant that sees the database as it is, with the search path that it has.
    #[must_use]
    pub fn tenant(self, slug: impl Into<String>) -> Self {
        self.and(slug.into(), None, RouteState::Active)
    }

    /// A tenant that sees one schema, which is created where it is missing.
    #[must_use]
    pub fn tenant_in(self, slug: impl Into<String>, schema: impl Into<String>) -> Self {
        self.and(slug.into(), Some(schema.into()), RouteState::Active)
    }

    /// A tenant in another state, to see what the service answers for it.
    #[must_use]
    pub fn tenant_that_is(self, state: RouteState, slug: impl Into<String>) -> Self {
        self.and(slug.into(), None, state)
    }

    fn and(mut self, slug: String, schema: Option<String>, state: RouteState) -> Self {
        self.tenants.push(TestTenant { slug, schema, state });
        self
    }

    /// What read-only handles log in with; as all others unless set.
    #[must_use]
    pub fn read_only_login(self, user: impl Into<String>, password: Secret) -> Self {
        Self { read_only: Some((user.into(), password)), ..self }
    }

    /// The limits of each tenant; none unless set.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The version that each tenant's schema is said to have; 0 unless set.
    #[must_use]
    pub fn schema_version(self, version: i64) -> Self {
        Self { schema_version: version, ..self }
    }

    /// See [`RouterBuilder::base_domain`].
    #[must_use]
    pub fn base_domain(self, domain: impl Into<String>) -> Self {
        Self { base_domain: Some(domain.into()), ..self }
    }

    /// Makes what is needed in the database, and the router.
    pub async fn build(self) -> Result<Router, RouterError> {
        self.prepare().await?.build().await
    }

    /// The same, with the rest of the router still to be set.
    ///
    /// # Errors
    ///
    /// [`RouterError::Refused`] for a connection string or a name that is none, where the database cannot be reached or
    /// does not let the role create schemas, and where Tenantry keeps homes in it.
    pub async fn prepare(self) -> Result<RouterBuilder, RouterError> {
        let database = Database::of(&self.url)?;
        let mut client = database.connect().await?;
        let failed = |source| RouterError::refused("the test database cannot be prepared", source);
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(SETUP).await.map_err(failed)?;
        let credential = credential(&database.user, database.password.clone())?;
        let read_only_credential = match &self.read_only {
            Some((user, password)) => self::credential(user, password.clone())?,
            None => credential.clone(),
        };
        let cluster = ClusterId::new(Uuid::now_v7());
        let mut routes = Vec::with_capacity(self.tenants.len());
        for tenant in &self.tenants {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&tenant.slug, &tenant.schema];
            let added = transaction.query_one("SELECT tenantry.add_test_tenant($1, $2)", &parameters).await;
            let schema = tenant.schema.as_deref().unwrap_or("public");
            routes.push(Route {
                version: FeedVersion(1),
                tenant: TenantId::new(added.map_err(failed)?.get(0)),
                slug: named(Slug::parse(&tenant.slug))?,
                hosts: Vec::new(),
                state: tenant.state,
                generation: Generation(1),
                target: Some(RouteTarget {
                    cluster,
                    database: named(DatabaseName::parse(&database.name))?,
                    schema: named(SchemaName::parse(schema))?,
                    credential: credential.clone(),
                    read_only_credential: read_only_credential.clone(),
                    shared: None,
                }),
                limits: self.limits,
                schema_version: SchemaVersion(self.schema_version),
            });
        }
        transaction.commit().await.map_err(failed)?;
        let builder = Router::builder().fixed(routes, vec![database.feed_cluster(cluster)]);
        Ok(match self.base_domain {
            Some(domain) => builder.base_domain(domain),
            None => builder,
        })
    }
}

fn credential(user: &str, password: Secret) -> Result<Credential, RouterError> {
    Ok(Credential { role: named(RoleName::parse(user))?, password: Some(password) })
}

fn named<T>(name: Result<T, impl std::error::Error + Send + Sync + 'static>) -> Result<T, RouterError> {
    name.map_err(|source| RouterError::refused("a name of the test database or of a tenant is none", source))
}

/// What a connection string says.
struct Database {
    config: Config,
    host: String,
    port: u16,
    name: String,
    user: String,
    password: Secret,
    tls_mode: TlsMode,
}

impl Database {
    fn of(url: &Secret) -> Result<Self, RouterError> {
        let unreadable = |source| RouterError::refused("the test database's connection string is not valid", source);
        let config: Config = url.expose().parse().map_err(unreadable)?;
        let missing = |what: &str| RouterError::Refused {
            reason: format!("the test database's connection string names no {what}"),
            source: None,
        };
        let host = match config.get_hosts().first().ok_or_else(|| missing("host"))? {
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        };
        let user = config.get_user().ok_or_else(|| missing("user"))?.to_owned();
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            name: config.get_dbname().unwrap_or(&user).to_owned(),
            user,
            password: Secret::new(password),
            tls_mode: if config.get_ssl_mode() == SslMode::Require { TlsMode::Require } else { TlsMode::Disable },
            config,
        })
    }

    async fn connect(&self) -> Result<Client, RouterError> {
        let failed = |source| RouterError::refused("the test database cannot be reached", source);
        if let Some(tls) = client_config(self.tls_mode, None, &OnceCell::new()).await? {
            let (client, connection) = self.config.connect(MakeRustlsConnect::new(tls)).await.map_err(failed)?;
            tokio::spawn(connection);
            Ok(client)
        } else {
            let (client, connection) = self.config.connect(NoTls).await.map_err(failed)?;
            tokio::spawn(connection);
            Ok(client)
        }
    }

    fn feed_cluster(&self, cluster: ClusterId) -> FeedCluster {
        FeedCluster {
            version: FeedVersion(1),
            cluster,
            host: self.host.clone(),
            port: self.port,
            tls_mode: self.tls_mode,
            tls_ca: None,
            replicas: Vec::new(),
            unleased_connections: None,
        }
    }
}
