//! The only SQL that manages clusters and homes.
//!
//! Here live: registering a cluster, the fence, roles, databases, templates, schemas, grants, the stamp, and bringing a
//! home to a migration set. Every `ensure_*` leaves the same when it runs twice; every `drop_*` is content when there is
//! nothing left. Names derive from ids that are never reused, so "already exists" means "we were here before".
//!
//! Never here: the catalog, decisions about where or when, retries (callers see [`FleetError::is_retryable`] and decide),
//! and code of tenants run with the admin's rights. An admin session has `search_path = pg_catalog`, and nothing that a
//! tenant owns is evaluated in it.
//!
//! Start reading at [`Fleet`] and [`ClusterTarget`], then [`Fleet::ensure_home`].

mod activity;
mod adopt;
mod checks;
mod claim;
mod config;
mod database;
mod drift;
mod drop_database;
mod error;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod fence;
mod fleet;
mod health;
mod home;
mod interior;
mod inventory;
mod migrate;
mod observe;
mod password;
mod pool_drift;
mod query;
mod quote;
mod register;
mod replica;
mod role_drift;
mod roles;
mod rotation;
mod schema;
mod session;
mod shared_database;
mod shared_pool;
mod sizes;
mod sqlstate;
mod stamp;
mod target;
mod template;
mod tls;
mod verify;
mod version;

pub use activity::{Stop, TenantSession};
pub use adopt::{Belongings, Found, Survey, SurveyedHistory, SurveyedOwner};
pub use checks::tls_check;
pub use config::FleetConfig;
pub use drift::{
    AppliedRepeatable, EMPTY_SCHEMA, FoundSchema, ObjectDifference, ReferenceSchema, SCHEMA_FORMAT, SchemaObject,
    schema_differences, schema_divergence,
};
pub use error::{FleetError, MigrationFailure};
pub use fence::Fence;
pub use fleet::Fleet;
pub use home::HomeSpec;
pub use inventory::{ObservedObject, ObservedRole};
pub use migrate::{Applied, AppliedMigration, ApplyOptions, DryRun, SeedFile, TakenLock, TrialOutcome, TriedFile};
pub use observe::{ObservedBackend, ObservedDatabase, ObservedHome};
pub use password::{login_verifier, random_password};
pub use pool_drift::{IntendedPool, PoolReport};
pub use query::{Reading, ReadingError, ReadingFailure, Rows};
pub use register::Inspection;
pub use replica::ReplicaSighting;
pub use role_drift::{IntendedRoles, PoolAccess, RoleReport};
pub use roles::RoleSecrets;
pub use rotation::{Handover, Leaving};
pub use shared_database::shared_database_roles;
pub use sqlstate::{NOT_ACTIVE, WRONG_PLACEMENT};
pub use stamp::Stamp;
pub use target::ClusterTarget;
pub use template::template_roles;
pub use verify::RouteCheck;
