//! Routes: what a router needs to reach a placement.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::home::{DatabaseName, Generation, RoleName, SchemaName};
use crate::id::{ClusterId, TenantId};
use crate::limits::Limits;
use crate::migration::SchemaVersion;
use crate::name::HostName;
use crate::secret::Secret;
use crate::slug::Slug;

/// A place in the order of all route changes. Rises with every committed change; zero is before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeedVersion(pub i64);

impl fmt::Display for FeedVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
use crate::word::words;

words! {
    /// Whether a tenant can be reached.
    RouteState, "route state", "use provisioning, active, suspended or moving", {
        /// Its home is being made.
        Provisioning => "provisioning",
        /// Reachable.
        Active => "active",
        /// Shut out on purpose.
        Suspended => "suspended",
        /// Between two homes: hold on.
        Moving => "moving",
    }
}

words! {
    /// How connections of a tenant are pooled.
    Pooling, "pooling", "use own or shared", {
        /// A login role of its own: a boundary.
        Own => "own",
        /// One pool for the schema tenants of a database, role set at checkout: no boundary against hostile SQL.
        Shared => "shared",
    }
}

/// A login role and its password. The password is absent for readers that may not see secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The role that logs in.
    pub role: RoleName,
    /// Its password.
    pub password: Option<Secret>,
}

/// A login that several tenants of a database share, and what it becomes for one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedAccess {
    /// The role that logs in. By itself it may do nothing but become the roles of those tenants.
    pub credential: Credential,
    /// The tenant's role for reading and writing.
    pub app: RoleName,
}

/// Where a reachable tenant lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTarget {
    /// The cluster.
    pub cluster: ClusterId,
    /// The database.
    pub database: DatabaseName,
    /// Where its objects are.
    pub schema: SchemaName,
    /// For reading and writing.
    pub credential: Credential,
    /// For reading only.
    pub read_only_credential: Credential,
    /// Where the tenant's connections may be pooled with those of others.
    pub shared: Option<SharedAccess>,
}

/// What a router needs to reach one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The change that made it what it is.
    pub version: FeedVersion,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its slug.
    pub slug: Slug,
    /// Its hosts, besides `slug.<base domain>`.
    pub hosts: Vec<HostName>,
    /// Whether it can be reached.
    pub state: RouteState,
    /// Of the placement.
    pub generation: Generation,
    /// Absent until the first placement is published.
    pub target: Option<RouteTarget>,
    /// Effective limits.
    pub limits: Limits,
    /// The version of its schema.
    pub schema_version: SchemaVersion,
}

impl Route {
    /// How connections are pooled.
    pub fn pooling(&self) -> Pooling {
        match &self.target {
            Some(RouteTarget { shared: Some(_), .. }) => Pooling::Shared,
            _ => Pooling::Own,
        }
    }
}
