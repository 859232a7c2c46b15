//! Why a replica cannot be started, or ended by itself.

use tenantry_control::ControlError;
use tenantry_runtime::RuntimeError;
use tenantry_server::ServerError;
use tenantry_store::StoreError;

use crate::config::ConfigError;

/// Why a replica cannot be started, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// A setting is wrong or missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Telemetry could not be set up.
    #[error(transparent)]
    Telemetry(#[from] RuntimeError),
    /// The catalog could not be reached or brought up to date.
    #[error(transparent)]
    Catalog(#[from] StoreError),
    /// The control plane could not be assembled.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The door could not be opened or kept open.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The system does not let signals be watched.
    #[error("signals cannot be watched")]
    Signals(#[source] std::io::Error),
    /// The catalog is behind, and nobody wants it migrated.
    #[error("the catalog lacks {}; start without --no-migrate to apply them", .pending.join(", "))]
    Outdated {
        /// What it lacks.
        pending: Vec<String>,
    },
    /// The login could change the audit log, which is not wanted.
    #[error(
        "the role `{role}` owns the catalog, and `catalog.require_runtime_role` is set; log in as a role that \
         `tenantry catalog migrate --runtime-role` was told of"
    )]
    OwnerRole {
        /// Which role.
        role: String,
    },
    /// The login may not change the catalog's schema, and the catalog is behind.
    #[error("the catalog lacks {}; run `tenantry catalog migrate` as its owner", .pending.join(", "))]
    OutdatedForRuntimeRole {
        /// What it lacks.
        pending: Vec<String>,
    },
    /// The check found something; it is printed.
    #[error("`serve` would not work as configured: {troubles} found; mend what is marked")]
    Troubles {
        /// How many: "1 trouble".
        troubles: String,
    },
}
