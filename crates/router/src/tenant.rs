//! A tenant that was found, and what to do with it.

use std::fmt;
use std::sync::Arc;

use tenantry_domain::{Credential, Generation, Limits, Route, RouteTarget, SchemaVersion, Slug, TenantId};

use crate::connection::Connection;
use crate::error::RouterError;
use crate::router::Router;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Read: the login role has no other privilege.
    ReadOnly,
}

impl Access {
    pub(crate) const fn credential(self, target: &RouteTarget) -> &Credential {
        match self {
            Self::ReadWrite => &target.credential,
            Self::ReadOnly => &target.read_only_credential,
        }
    }
}

/// One tenant as the router knows it. It may be kept: each checkout looks at the route anew, so it follows the tenant
/// wherever it goes.
#[derive(Clone)]
pub struct Tenant {
    router: Router,
    route: Arc<Route>,
    access: Access,
}

impl Tenant {
    pub(crate) fn new(router: Router, route: Arc<Route>) -> Self {
        Self { router, route, access: Access::ReadWrite }
    }

    /// Its id.
    pub fn id(&self) -> TenantId {
        self.route.tenant
    }

    /// Its slug, as it was when the tenant was looked up.
    pub fn slug(&self) -> &Slug {
        &self.route.slug
    }

    /// The version of its schema, as it was when the tenant was looked up.
    pub fn schema_version(&self) -> SchemaVersion {
        self.route.schema_version
    }

    /// The generation of its placement, as it was when the tenant was looked up.
    pub fn generation(&self) -> Generation {
        self.route.generation
    }

    /// Its effective limits, as they were when the tenant was looked up.
    pub fn limits(&self) -> &Limits {
        &self.route.limits
    }

    /// What its connections may do.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The same tenant, for reading only: connections come from a pool of their own and log in with a role that can do
    /// nothing else.
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self { access: Access::ReadOnly, ..self.clone() }
    }

    /// Borrows a connection. Waits while the tenant moves and while its connections are in use, within the configured
    /// limits.
    pub async fn client(&self) -> Result<Connection, RouterError> {
        self.router.checkout(self.route.tenant, self.access).await
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tenant")
            .field("id", &self.id())
            .field("slug", self.slug())
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
