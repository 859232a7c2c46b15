//! A tenant that was found, and what to do with it.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::OnceLock;
use std::time::Duration;

use tenantry_domain::{Credential, Generation, Limits, RoleName, RouteTarget, SchemaVersion, TenantId};

use crate::error::RouterError;
use crate::handle::Handle;
use crate::pool::PoolKey;
use crate::pool::connection::Connection;
use crate::replica::ReadFrom;
use crate::table::{Found, Texts};
use crate::versions::SchemaVersions;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Read: the login role has no other privilege.
    ReadOnly,
}

impl Access {
    /// Its name in spans.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read_write",
            Self::ReadOnly => "read_only",
        }
    }

    pub(crate) const fn credential(self, target: &RouteTarget) -> &Credential {
        match self {
            Self::ReadWrite => &target.credential,
            Self::ReadOnly => &target.read_only_credential,
        }
    }

    /// What the router's own connections log in with.
    pub(crate) fn login(self, target: &RouteTarget) -> Login<'_> {
        match &target.shared {
            None => Login { credential: self.credential(target), role: None },
            Some(shared) => {
                let role = match self {
                    Self::ReadWrite => &shared.app,
                    Self::ReadOnly => &target.read_only_credential.role,
                };
                Login { credential: &shared.credential, role: Some(role) }
            }
        }
    }
}

/// What a connection logs in with, and what it becomes then where tenants share that.
#[derive(Clone, Copy)]
pub(crate) struct Login<'t> {
    pub(crate) credential: &'t Credential,
    pub(crate) role: Option<&'t RoleName>,
}

/// One tenant as the router knows it. It may be kept: each checkout looks at the route anew, so it follows the tenant
/// wherever it goes.
#[derive(Clone)]
pub struct Tenant {
    pub(crate) router: Handle,
    pub(crate) found: Found,
    /// Looked up by the first who asks.
    texts: OnceLock<Texts>,
    access: Access,
    read_from: ReadFrom,
    pub(crate) versions: SchemaVersions,
}

impl Tenant {
    #[inline]
    pub(crate) fn new(router: Handle, found: Found) -> Self {
        Self {
            router,
            found,
            texts: OnceLock::new(),
            access: Access::ReadWrite,
            read_from: ReadFrom::Primary,
            versions: SchemaVersions::ANY,
        }
    }

    /// Its id.
    pub fn id(&self) -> TenantId {
        self.found.tenant
    }

    /// Its slug, as it was when this was first asked for; empty for a tenant that is gone.
    pub fn slug(&self) -> &str {
        self.texts.get_or_init(|| self.router.table.texts(&self.found)).slug()
    }

    /// The version of its schema, as it was when the tenant was looked up.
    pub fn schema_version(&self) -> SchemaVersion {
        self.found.schema_version
    }

    /// The generation of its placement, as it was when the tenant was looked up.
    pub fn generation(&self) -> Generation {
        self.found.generation
    }

    /// Its effective limits, as they are now; none for a tenant that is gone.
    pub fn limits(&self) -> Limits {
        self.router.table.limits(&self.found).unwrap_or_default()
    }

    /// What its connections may do.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The same tenant, for reading only: connections come from a pool of their own and log in with a role that can do
    /// nothing else. They go to the cluster itself, see [`Tenant::read_only_from`].
    #[must_use]
    pub fn read_only(&self) -> Self {
        self.read_only_from(ReadFrom::Primary)
    }

    /// The same, from a replica of the tenant's cluster: see [`ReadFrom`] for what a replica is good for and what not.
    /// [`crate::Connection::replica`] says which one it is.
    ///
    /// ```no_run
    /// # async fn example(acme: tenantry_router::Tenant) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tenantry_router::ReadFrom;
    ///
    /// let recent = ReadFrom::PreferReplica { lag_max: Some(Duration::from_secs(2)) };
    /// let client = acme.read_only_from(recent).client().await?;
    /// let flights = client.query("select * from flights", &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn read_only_from(&self, read_from: ReadFrom) -> Self {
        Self { access: Access::ReadOnly, read_from, ..self.clone() }
    }

    /// The same tenant, for a program that needs what a migration brings: as [`Tenant::within`] for `version..`.
    pub async fn at_least(&self, version: i64) -> Result<Self, RouterError> {
        self.within(version..).await
    }

    /// The same tenant, for a program that works with some versions of its schema only, such as `12..` or `12..=14`. Fails
    /// with [`RouterError::SchemaVersion`] where its schema is another now, and so does every later checkout once it is:
    /// no statement meets a schema that it was not written for because a rollout was on its way.
    ///
    /// A connection that is borrowed already is not taken away; expand and contract in migrations of their own
    /// (`-- phase: contract`), so that those in flight find what they need.
    pub async fn within(&self, versions: impl RangeBounds<i64>) -> Result<Self, RouterError> {
        self.within_versions(SchemaVersions::of(versions)).await
    }

    pub(crate) async fn within_versions(&self, versions: SchemaVersions) -> Result<Self, RouterError> {
        let found = self.router.reachable_within(&self.found, versions).await?;
        Ok(Self { found, versions, ..self.clone() })
    }

    /// The same, but waits up to a time limit for a schema that is behind; one that is ahead is an error at once.
    pub async fn await_within(
        &self,
        versions: impl RangeBounds<i64>,
        time_limit: Duration,
    ) -> Result<Self, RouterError> {
        let versions = SchemaVersions::of(versions);
        let found = self.router.await_versions(&self.found, versions, time_limit).await?;
        Ok(Self { found, versions, ..self.clone() })
    }

    /// Borrows a connection. Waits while the tenant moves and while its connections are in use, within the configured
    /// limits.
    pub async fn client(&self) -> Result<Connection, RouterError> {
        if self.read_from != ReadFrom::Primary {
            return self.reader().await;
        }
        let key = PoolKey { tenant: self.found.tenant, access: self.access, replica: None };
        if let Some(connection) = self.router.checkout_now(key, &self.found, self.versions) {
            return Ok(connection);
        }
        // On the heap, so that the common case moves little.
        Box::pin(self.router.checkout(key, &self.found, self.versions)).await
    }

    async fn reader(&self) -> Result<Connection, RouterError> {
        let inner = self.router.inner();
        match inner.read_now(self.read_from, &self.found, self.versions) {
            Some(connection) => Ok(connection),
            None => Box::pin(inner.read(self.read_from, &self.found, self.versions)).await,
        }
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tenant")
            .field("id", &self.id())
            .field("slug", &self.slug())
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
