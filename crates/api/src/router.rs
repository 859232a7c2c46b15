//! Routers: who follows the feed, and how far they are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{ClusterId, FeedVersion, LeaseSerial};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::query::PageLimit;

/// What a router tells about itself, every few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterReport {
    /// The last feed version that it applied.
    #[schema(value_type = i64)]
    pub applied_version: FeedVersion,
    /// Routes in its table.
    pub routes: u64,
    /// Tenants for which it keeps a pool.
    pub pools: u64,
    /// What it holds and needs on each cluster that it uses.
    #[serde(default)]
    pub clusters: Vec<ClusterDemand>,
}

/// What a router holds and needs on one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterDemand {
    /// The cluster.
    #[schema(value_type = Uuid)]
    pub cluster: ClusterId,
    /// Connections that are open.
    pub open: u32,
    /// Of those, connections that nobody uses.
    pub idle: u32,
    /// Callers that wait for one, those left out whose tenant may open none now for its `connections_per_second`.
    pub waiting: u32,
    /// The `serial` of the lease that it keeps to; null where it knows of none, or still holds more than that allows.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub acknowledged: Option<LeaseSerial>,
}

/// Which routers to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListRouters {
    /// Those alone that follow the feed now, or do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// Most items in the page, 1 to 500; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<PageLimit>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What a router may hold on one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouterLease {
    /// The cluster.
    #[schema(value_type = Uuid)]
    pub cluster: ClusterId,
    /// Most connections, as it was last told; null where it was told of none.
    pub connections: Option<u32>,
    /// Connections that it may hold until it acknowledges that.
    pub held: u32,
    /// Connections that it would use.
    pub wanted: u32,
}

/// One router as last reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Router {
    /// Its name.
    pub router: String,
    /// The last feed version that it applied.
    #[schema(value_type = i64)]
    pub applied_version: FeedVersion,
    /// How many versions it is behind.
    pub lag: i64,
    /// Since when it follows the feed, of whichever replica; null where it does not.
    pub connected_since: Option<Timestamp>,
    /// The replica of the control plane whose feed it follows.
    pub replica: Option<Uuid>,
    /// What it may hold of the connections of each cluster that it uses.
    pub leases: Vec<RouterLease>,
    /// When it last reported; before its first report, when it connected.
    pub reported_at: Timestamp,
    /// What it said.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}
