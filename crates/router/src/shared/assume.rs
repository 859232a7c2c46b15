//! Becoming a tenant, on a connection of the login that tenants share.

use std::fmt::Write;

use tenantry_domain::{Limits, RoleName};

use crate::quote::{ident, literal};
use crate::tenant::Access;

/// The batch that makes a connection a tenant's, in one round trip and as a whole or not at all. It ends with a row that
/// says who it is now.
///
/// `SET ROLE` applies nothing of what is set for the role, so that follows; after the check of the placement, which is not
/// to fail because of it. `transaction_timeout` came with PostgreSQL 17.
pub(super) fn assume_statements(role: &RoleName, attach: &str, limits: &Limits, access: Access) -> String {
    let mut text = format!("SET ROLE {}; {attach}; ", ident(role.as_str()));
    for (setting, milliseconds) in [
        ("statement_timeout", limits.statement_timeout_ms),
        ("idle_in_transaction_session_timeout", limits.idle_in_transaction_timeout_ms),
        ("transaction_timeout", limits.transaction_timeout_ms),
    ] {
        let Some(milliseconds) = milliseconds else { continue };
        let set = format!("pg_catalog.set_config('{setting}', '{milliseconds}', false)");
        let _ = match setting {
            "transaction_timeout" => write!(
                text,
                "SELECT CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 170000 \
                 THEN {set} END; "
            ),
            _ => write!(text, "SELECT {set}; "),
        };
    }
    if access == Access::ReadOnly {
        text.push_str("SET default_transaction_read_only = on; ");
    }
    let _ = write!(text, "SELECT current_user = {}", literal(role.as_str()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_that_there_are_are_set() {
        let role = RoleName::parse("h_\"x").expect("a role");
        let none = assume_statements(&role, "SELECT attach()", &Limits::default(), Access::ReadWrite);
        assert_eq!(none, "SET ROLE \"h_\"\"x\"; SELECT attach(); SELECT current_user = 'h_\"x'");
        let limits = Limits { statement_timeout_ms: Some(7), transaction_timeout_ms: Some(9), ..Limits::default() };
        let all = assume_statements(&role, "SELECT attach()", &limits, Access::ReadOnly);
        for part in ["'statement_timeout', '7'", "170000 THEN", "'transaction_timeout', '9'", "read_only = on"] {
            assert!(all.contains(part), "{part} in {all}");
        }
        assert!(!all.contains("idle_in_transaction"));
    }
}
