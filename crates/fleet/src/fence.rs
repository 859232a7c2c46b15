//! The fence: who may change a home's roles.
//!
//! Each cluster holds one row per home in its admin database, with the epoch of the lease under which it was last changed.
//! Whoever changes roles raises it in the same transaction, so a worker that lost its lease and wakes up late changes
//! nothing. Rows of dropped homes stay, for the same reason.

use tenantry_domain::HomeId;

/// Under which lease a home is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The home.
    pub home: HomeId,
    /// The lease's epoch; rises with every change of ownership.
    pub epoch: i64,
}
