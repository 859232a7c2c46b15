//! One tenant explained.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tenantry_domain::{
    ClusterId, ClusterName, DatabaseName, FeedVersion, Generation, HomeId, SchemaName, SchemaVersion,
};
use utoipa::ToSchema;

use crate::operation::{Operation, OperationEvent};
use crate::plan::EffectivePlan;
use crate::route::Route;
use crate::tenant::Tenant;

/// A tenant with everything around it: what is intended, what its cluster shows, and where the two differ.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What the catalog says of it.
    pub tenant: Tenant,
    /// Where intention and observation differ, a sentence each; empty where all is as it should be.
    pub differences: Vec<String>,
    /// What holds for it.
    pub plan: EffectivePlan,
    /// What routers are told, without passwords; null where it has none.
    pub route: Option<Route>,
    /// Where it lives or is being put, and why there.
    pub placement: Option<ExplainedPlacement>,
    /// How it was taken over; null where its home was made for it.
    pub adoption: Option<ExplainedAdoption>,
    /// What its cluster shows.
    pub observed: ObservedTenant,
    /// What was recorded for it on clusters and is not gone.
    pub resources: Vec<ExplainedResource>,
    /// Its five newest operations.
    pub operations: Vec<ExplainedOperation>,
    /// The newest version of the feed.
    #[schema(value_type = i64)]
    pub feed_version: FeedVersion,
    /// How far each router is.
    pub routers: Vec<RouterStanding>,
}

/// A home and how it came to be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedPlacement {
    /// The home's id; physical names derive from it.
    #[schema(value_type = Uuid)]
    pub home: HomeId,
    /// Its cluster.
    #[schema(value_type = Uuid)]
    pub cluster: ClusterId,
    /// That cluster's name.
    #[schema(value_type = String)]
    pub cluster_name: ClusterName,
    /// Its database there.
    #[schema(value_type = String)]
    pub database: DatabaseName,
    /// Its schema in that.
    #[schema(value_type = String)]
    pub schema: SchemaName,
    /// Why it is there.
    pub reason: String,
}

/// A database or schema that was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedAdoption {
    /// `open`, `confirmed` or `cancelled`. An open one can be put back.
    pub state: String,
    /// Asked for at.
    pub created_at: Timestamp,
    /// Confirmed or cancelled at.
    pub decided_at: Option<Timestamp>,
}

/// What the cluster shows of the tenant's home; null is what could not be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObservedTenant {
    /// Whether its database exists.
    pub database: Option<bool>,
    /// Whether its schema exists.
    pub schema: Option<bool>,
    /// Those of its roles that exist.
    pub roles: Option<Vec<String>>,
    /// The generation on the home's stamp.
    #[schema(value_type = Option<i64>)]
    pub stamped_generation: Option<Generation>,
    /// The state on the home's stamp.
    pub stamped_state: Option<String>,
    /// The version that the home's own history tells.
    #[schema(value_type = Option<i64>)]
    pub schema_version: Option<SchemaVersion>,
    /// Sessions of its login roles now.
    pub sessions: Option<u32>,
    /// Bytes on disk.
    pub size_bytes: Option<u64>,
    /// What could not be seen, a sentence each.
    pub unseen: Vec<String>,
}

/// A physical object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedResource {
    /// `role`, `database`, `schema` or `cluster`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// For schemas: the database.
    pub parent: Option<String>,
    /// The cluster.
    #[schema(value_type = Uuid)]
    pub cluster: ClusterId,
    /// `planned` or `created`.
    pub state: String,
}

/// An operation with its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedOperation {
    /// The work.
    pub operation: Operation,
    /// What happened, the oldest first; at most 50 entries.
    pub timeline: Vec<OperationEvent>,
}

/// How far a router is, compared with the tenant's route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouterStanding {
    /// Its name.
    pub router: String,
    /// The last feed version that it applied.
    #[schema(value_type = i64)]
    pub applied_version: FeedVersion,
    /// Whether that covers the tenant's present route.
    pub has_route: bool,
    /// When it last reported.
    pub reported_at: Timestamp,
}
