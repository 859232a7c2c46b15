//! Why a cluster was not chosen.

use tenantry_domain::{ClusterState, Isolation, Region};

/// One reason, with its numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another cluster was asked for by name.
    #[error("another cluster was asked for")]
    Pin,
    /// Its data would be elsewhere.
    #[error("it is in region `{region}`, and the data must be in {}", names(allowed))]
    Region {
        /// Where it is.
        region: Region,
        /// Where the data may be.
        allowed: Vec<Region>,
    },
    /// Several tenants may live there, and this one wants a server of its own.
    #[error("it is shared, and isolation `cluster` needs a dedicated one")]
    NotDedicated,
    /// It is kept for one tenant alone.
    #[error("it is dedicated, and isolation `{isolation}` needs a shared one")]
    NotShared {
        /// What was asked for.
        isolation: Isolation,
    },
    /// It takes no new homes.
    #[error("it is {state}; `tenantry cluster uncordon` lets new homes in again")]
    State {
        /// Its state.
        state: ClusterState,
    },
    /// It holds the catalog.
    #[error("it holds the catalog")]
    Catalog,
    /// Another tenant has it to itself.
    #[error("another tenant has it to itself")]
    Claimed,
    /// It takes no writes.
    #[error("it is a standby or in recovery")]
    ReadOnly,
    /// It does not answer.
    #[error("it does not answer ({failures} looks in a row)")]
    Unreachable {
        /// How many looks in a row it did not answer.
        failures: u32,
    },
    /// Its tenants are as many as its limit allows.
    #[error("it has as many tenants as its limit allows ({homes} of {limit})")]
    Tenants {
        /// Homes there.
        homes: u32,
        /// Most of them.
        limit: u32,
    },
    /// Its databases are as many as its limit allows.
    #[error("it has as many databases as its limit allows ({databases} of {limit})")]
    Databases {
        /// Databases there.
        databases: u32,
        /// Most of them.
        limit: u32,
    },
    /// The ceilings of its tenants leave too little for this one's.
    #[error("its tenants may hold {promised} of {limit} connections, and this one wants {wanted}")]
    Connections {
        /// What the ceilings of its tenants add up to.
        promised: u64,
        /// The new tenant's ceiling.
        wanted: u32,
        /// Most of them.
        limit: u32,
    },
    /// The server has fewer connections than the tenant may hold.
    #[error("the tenant may hold {wanted} connections, and the server has {usable} at all; raise its max_connections")]
    Ceiling {
        /// The tenant's ceiling.
        wanted: u32,
        /// What the server does not keep for itself.
        usable: u32,
    },
    /// Its homes take as much of the disk as its limit allows.
    #[error("its homes take {used} of {limit} bytes on disk")]
    Disk {
        /// Bytes, as last measured.
        used: u64,
        /// Most of them.
        limit: u64,
    },
    /// Tenants to keep away from are there.
    #[error("{tenants} of its tenants bear the label {label}={value} too")]
    Apart {
        /// The label's key.
        label: String,
        /// Its value.
        value: String,
        /// How many tenants bear it.
        tenants: u32,
    },
}

impl Refusal {
    /// A word that programs may rely on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Region { .. } => "region",
            Self::NotDedicated | Self::NotShared { .. } => "tenancy",
            Self::State { .. } => "state",
            Self::Catalog => "catalog",
            Self::Claimed => "claimed",
            Self::ReadOnly => "read_only",
            Self::Unreachable { .. } => "unreachable",
            Self::Tenants { .. } => "tenants",
            Self::Databases { .. } => "databases",
            Self::Connections { .. } => "connections",
            Self::Ceiling { .. } => "ceiling",
            Self::Disk { .. } => "disk",
            Self::Apart { .. } => "apart",
        }
    }
}

fn names(regions: &[Region]) -> String {
    let names: Vec<String> = regions.iter().map(|region| format!("`{region}`")).collect();
    names.join(" or ")
}
