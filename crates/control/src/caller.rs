//! Who asks, and whether they may.

use tenantry_domain::{RequestId, Scope, ScopeSet, TenantId, TokenId};
use tenantry_store::AuditEntry;

use crate::error::ControlError;

/// The one on whose behalf a use-case runs.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token that was shown; absent for the program itself (`dev`, `token create`).
    pub token: Option<TokenId>,
    /// Its name for people.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The only tenant that it may see, if it is bound to one.
    pub tenant: Option<TenantId>,
    /// The request that this is part of.
    pub request_id: RequestId,
}

impl Caller {
    /// The program itself, which may do everything.
    pub fn system(name: &str, request_id: RequestId) -> Self {
        Self { token: None, name: name.to_owned(), scopes: ScopeSet::new([Scope::Admin]), tenant: None, request_id }
    }

    /// Refuses unless a scope of the caller includes the required one.
    pub fn require(&self, required: Scope) -> Result<(), ControlError> {
        if self.scopes.allows(required) { Ok(()) } else { Err(ControlError::Forbidden { scope: required.to_string() }) }
    }

    /// Refuses callers that are bound to one tenant: fleet-wide things are not theirs.
    pub fn require_fleet_wide(&self, required: Scope) -> Result<(), ControlError> {
        self.require(required)?;
        if self.tenant.is_some() {
            return Err(ControlError::Forbidden { scope: format!("{required}, not bound to one tenant") });
        }
        Ok(())
    }

    /// As the audit log names the caller: names of tokens are not unique, their ids are.
    pub(crate) fn actor(&self) -> String {
        self.token.map_or_else(|| self.name.clone(), |token| format!("{}/{token}", self.name))
    }

    /// An audit entry for what the caller does to the target; the rest is for the use-case to fill in.
    pub(crate) fn does(&self, action: &str, target: String) -> AuditEntry {
        AuditEntry {
            actor: self.actor(),
            action: action.to_owned(),
            target,
            tenant: None,
            request_id: Some(self.request_id),
            operation: None,
            before: None,
            after: None,
        }
    }

    /// Whether the caller may know of the tenant at all. Others are told "not found", never "forbidden".
    pub fn sees(&self, tenant: TenantId) -> bool {
        self.tenant.is_none_or(|own| own == tenant)
    }
}
