//! Routes as routers and services see them.
//!
//! The feed is in the folder: `feed` reads changes for everybody, `form` keeps what was read, `follower` tells it.
//! `leases` does the same for what routers may hold of clusters' connections.

mod feed;
mod follower;
mod form;
mod leases;
mod packing;
mod ring;
mod snapshot;

use tenantry_domain::{FeedVersion, HostName, Route, Scope, Slug, TenantId};
use tenantry_store::{ClusterRoute, GrantedLease, RouteChange, RouteRef};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

pub use feed::{Feed, Follow, HEARTBEAT};
pub use packing::Packing;

/// How a service names the tenant whose route it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveBy {
    /// By id.
    Id(TenantId),
    /// By slug.
    Slug(Slug),
    /// By host.
    Host(HostName),
}

/// A route as one caller may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The route.
    pub route: Route,
    /// Where its cluster is; absent as long as the route has no target.
    pub cluster: Option<ClusterRoute>,
    /// Whether passwords are in it, where it has any.
    pub has_secrets: bool,
}

/// The route of one tenant, whatever its state; with passwords for a caller that may see them.
pub async fn resolve(control: &Control, caller: &Caller, by: &ResolveBy) -> Result<Resolved, ControlError> {
    caller.require(Scope::RoutesRead)?;
    let has_secrets = caller.scopes.allows(Scope::RoutesSecrets);
    let (by, name) = match by {
        ResolveBy::Id(id) => (RouteRef::Id(*id), id.to_string()),
        ResolveBy::Slug(slug) => (RouteRef::Slug(slug.clone()), slug.to_string()),
        ResolveBy::Host(host) => (RouteRef::Host(host.clone()), host.to_string()),
    };
    let route = control.store().resolve(&by, has_secrets).await?;
    if !caller.sees(route.tenant) {
        return Err(ControlError::NotFound { what: "route", name });
    }
    let cluster = match &route.target {
        Some(target) => Some(control.store().cluster_route(target.cluster).await?),
        None => None,
    };
    Ok(Resolved { route, cluster, has_secrets })
}

/// One item of the feed.
#[derive(Debug, Clone)]
pub enum FeedItem {
    /// Everything that a router knew is void; what follows up to the end is all there is as of this version.
    SnapshotBegin {
        /// The version.
        version: FeedVersion,
        /// How many routes follow, but for those that come and go meanwhile.
        routes: u64,
    },
    /// A route, a cluster, or a removal.
    Change(RouteChange),
    /// The snapshot is complete.
    SnapshotEnd(FeedVersion),
    /// What the router that follows may hold of a cluster's connections.
    Lease(GrantedLease),
    /// Everything up to this version has been told.
    Heartbeat(FeedVersion),
}

/// Appends an item as one line, with its end. The door knows how it looks.
pub type WriteItem = fn(&mut Vec<u8>, FeedItem);
