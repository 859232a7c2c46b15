//! A route as it is resolved, for services that follow no feed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::feed::FeedCluster;
use crate::route::Route;

/// A route with everything that is needed to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolvedRoute {
    /// The route.
    #[serde(flatten)]
    pub route: Route,
    /// Where its cluster is; null as long as the route names none.
    pub endpoint: Option<FeedCluster>,
}
