//! The use-cases of Tenantry and the engine that carries them out.
//!
//! Here live: what an admin, a CI job or a router may ask for (one file per resource), the pure placement planner, the
//! operation engine with its kinds of work, the reconcilers, the rollout runner, and the interface that brings clusters into being.
//!
//! Never here: an HTTP door (webhooks are sent from here), SQL (the catalog's is in `store`, the clusters' in `fleet`), knowledge of who starts the program.
//!
//! Start reading at [`control`] (what everything hangs on), then [`tenants`] (a request) and
//! `operations/provision_tenant.rs` (the work that follows from it).

pub mod adoption;
pub mod audit_log;
mod backoff;
pub mod bulk;
pub mod caller;
pub mod candidates;
pub mod clusters;
pub mod config;
pub mod control;
pub mod credentials;
pub mod doctor;
pub mod drift;
mod engine;
pub mod error;
pub mod explain;
pub mod health;
pub mod idempotency;
pub mod migration_sets;
pub mod operations;
pub mod orphans;
pub mod placement;
pub mod placements;
pub mod plans;
mod presence;
pub mod provider;
pub mod query;
pub mod reconcilers;
pub mod records;
pub mod region_groups;
mod replica;
pub mod rollouts;
pub mod routers;
pub mod routes;
pub mod secrets;
pub mod seeds;
pub mod signals;
pub mod tenants;
mod token_use;
pub mod tokens;
mod warm_pool;
pub mod webhooks;

pub use caller::Caller;
pub use config::{ControlConfig, WarmPoolConfig};
pub use control::Control;
#[cfg(feature = "failpoints")]
pub use engine::failpoints::KindSteps;
pub use error::ControlError;

/// The version of this build. One with failpoints says so: it is for tests alone.
pub const VERSION: &str = if cfg!(feature = "failpoints") {
    concat!(env!("CARGO_PKG_VERSION"), " with failpoints")
} else {
    env!("CARGO_PKG_VERSION")
};
