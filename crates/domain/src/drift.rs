//! Drift: a home whose schema is not what its migrations make.

use crate::word::words;
use serde::{Deserialize, Serialize};

words! {
    /// What a look at a tenant's schema came to.
    DriftState, "drift state", "use clean, drifted or diverged", {
        /// It is what its migrations make.
        Clean => "clean",
        /// It has what they do not make, or lacks what they do.
        Drifted => "drifted",
        /// It has other migrations than the fleet, whatever its objects are.
        Diverged => "diverged",
    }
}

impl DriftState {
    /// Whether somebody has to look after it.
    pub const fn is_in_drift(self) -> bool {
        matches!(self, Self::Drifted | Self::Diverged)
    }
}

words! {
    /// Which tenants to list.
    DriftFilter, "filter", "use drifted or all", {
        /// Those that are drifted or diverged.
        Drifted => "drifted",
        /// Everybody who lives in a home, also those that were never looked at.
        All => "all",
    }
}
