//! What the control plane is told at its start.

use std::time::Duration;

use tenantry_domain::{OperationKind, Region};
use uuid::Uuid;

use crate::drift::DriftConfig;
use crate::webhooks::WebhookConfig;

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
    /// How long an operation of a kind may take in place of the kind's own default; zero means without end.
    pub deadlines: Vec<(OperationKind, Duration)>,
    /// How long the credentials before a rotation go on letting in at least: time for a program that was given them right
    /// before, and is no router that says when it has the new ones, to log in.
    pub rotation_overlap: Duration,
    /// Tenants that one rollout migrates at the same time, unless it says otherwise.
    pub rollout_concurrency: u32,
    /// How many homes wait for tenants to come. All replicas should say the same.
    pub warm_pool: WarmPoolConfig,
    /// How long a deletion can be taken back, where the request does not say.
    pub delete_grace: Duration,
    /// The region of a tenant that names none; absent means the only one that has clusters.
    pub default_region: Option<Region>,
    /// Whether tenants may be placed on the server that holds the catalog. Only `dev` and `demo` say yes.
    pub place_on_catalog_server: bool,
    /// How often tenants' schemas are looked at.
    pub drift: DriftConfig,
    /// How webhooks are told of events.
    pub webhooks: WebhookConfig,
    /// How long something on a cluster that is ours and should be gone is reported before it is removed.
    pub orphan_delay: Duration,
    /// How long removed routes are remembered, for routers that were away; whoever was away for longer gets everything
    /// anew. Routers that were silent for as long are forgotten.
    pub removed_routes_kept: Duration,
    /// Where tests break it.
    #[cfg(feature = "failpoints")]
    pub failpoints: tenantry_fleet::failpoints::Failpoints,
}

/// How many homes are kept ready on each shared cluster, so that a tenant with a database of its own finds one made.
///
/// Between `size_min` and `size_max` the number follows how many databases tenants got there in the last quarter of an
/// hour. A `size_max` of zero turns the pool off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmPoolConfig {
    /// Kept on every shared cluster that takes homes, whether tenants come or not.
    pub size_min: u32,
    /// At most so many on one cluster.
    pub size_max: u32,
    /// Made at the same time on one cluster.
    pub refill_concurrency: u32,
}

impl WarmPoolConfig {
    /// No warm homes.
    pub const OFF: Self = Self { size_min: 0, size_max: 0, refill_concurrency: 2 };
    /// For a control plane whose tenants come one by one, at times a few at once.
    pub const SMALL: Self = Self { size_min: 2, size_max: 10, refill_concurrency: 2 };

    /// Whether homes are kept at all.
    pub const fn is_on(&self) -> bool {
        self.size_max > 0
    }
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
            deadlines: Vec::new(),
            rotation_overlap: Duration::from_secs(5),
            rollout_concurrency: 8,
            warm_pool: WarmPoolConfig::OFF,
            delete_grace: Duration::from_hours(7 * 24),
            default_region: None,
            place_on_catalog_server: false,
            orphan_delay: Duration::from_hours(24),
            drift: DriftConfig::OFF,
            removed_routes_kept: Duration::from_hours(7 * 24),
            webhooks: WebhookConfig::default(),
            #[cfg(feature = "failpoints")]
            failpoints: tenantry_fleet::failpoints::Failpoints::from_environment(),
        }
    }
}
