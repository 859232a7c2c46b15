//! Where connections go, and as what.

use std::sync::Arc;

use tenantry_domain::RouteTarget;

use super::connector::Tls;
use crate::table::{ReplicaEntry, ServerEntry};

/// Where the connections of a pool go, and as what.
pub(crate) struct Place<'a> {
    pub(crate) target: &'a RouteTarget,
    pub(crate) server: &'a Arc<ServerEntry>,
    /// Where the server is a replica.
    pub(crate) replica: Option<&'a Arc<ReplicaEntry>>,
    pub(crate) tls: &'a Tls,
}
