//! What the control plane is told at its start.

use std::time::Duration;

use tenantry_domain::Region;
use uuid::Uuid;

/// Settings of one replica.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// This replica's name in leases, new at every start.
    pub replica: Uuid,
    /// Operations that it works on at the same time.
    pub workers: usize,
    /// How long a claim holds without being renewed.
    pub lease: Duration,
    /// Attempts of one step before the operation is walked back (before its pivot) or parked (after it).
    pub attempts_max: u32,
    /// The longest that one attempt of a step may take.
    pub step_timeout: Duration,
    /// Tenants that one rollout migrates at the same time, unless it says otherwise.
    pub rollout_concurrency: u32,
    /// The region of a tenant that names none; absent means the only one that has clusters.
    pub default_region: Option<Region>,
    /// Whether tenants may be placed on the server that holds the catalog. Only `dev` and `demo` say yes.
    pub place_on_catalog_server: bool,
}

impl ControlConfig {
    /// The defaults, for a replica of the given name.
    pub fn new(replica: Uuid) -> Self {
        Self {
            replica,
            workers: 8,
            lease: Duration::from_secs(30),
            attempts_max: 8,
            step_timeout: Duration::from_mins(5),
            rollout_concurrency: 8,
            default_region: None,
            place_on_catalog_server: false,
        }
    }
}
