//! Ceilings that a plan gives and a tenant's overrides change.

use serde::{Deserialize, Serialize};

/// Each absent value means "no ceiling of ours".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Connections that the tenant may hold on its cluster, over all routers (`CONNECTION LIMIT` of its login roles).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Connections that one router keeps for the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<u32>,
    /// Requests that one router lets through in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// `statement_timeout` of a session in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_timeout_ms: Option<u32>,
    /// `idle_in_transaction_session_timeout` of a session in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_in_transaction_timeout_ms: Option<u32>,
    /// Whether the tenant may create temporary tables; absent means no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_tables: Option<bool>,
}

impl Limits {
    /// These limits with every value that `overrides` gives in its place.
    #[must_use]
    pub fn overridden_by(self, overrides: Self) -> Self {
        Self {
            connections: overrides.connections.or(self.connections),
            pool_size: overrides.pool_size.or(self.pool_size),
            requests_per_second: overrides.requests_per_second.or(self.requests_per_second),
            statement_timeout_ms: overrides.statement_timeout_ms.or(self.statement_timeout_ms),
            idle_in_transaction_timeout_ms: overrides
                .idle_in_transaction_timeout_ms
                .or(self.idle_in_transaction_timeout_ms),
            temporary_tables: overrides.temporary_tables.or(self.temporary_tables),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_replaces_only_what_it_names() {
        let plan = Limits { connections: Some(10), pool_size: Some(4), ..Limits::default() };
        let effective = plan.overridden_by(Limits { connections: Some(50), ..Limits::default() });
        assert_eq!(effective.connections, Some(50));
        assert_eq!(effective.pool_size, Some(4));
    }
}
