//! How the control plane itself is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The control plane can serve; and what an operator should look at all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Operations that wait for a person: `tenantry operation list --state parked`.
    pub parked_operations: i64,
}
