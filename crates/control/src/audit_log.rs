//! The audit log as auditors see it.

use tenantry_domain::{Access, Scope};
use tenantry_store::{AuditFilter, AuditRecord, Page, PageRequest};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// A page of entries, newest first. A caller that is bound to a tenant sees that tenant's entries.
pub async fn list(
    control: &Control,
    caller: &Caller,
    filter: &AuditFilter,
    page: &PageRequest,
) -> Result<Page<AuditRecord>, ControlError> {
    caller.require(Scope::Audit(Access::Read))?;
    let mut filter = filter.clone();
    if let Some(own) = caller.tenant {
        filter.tenant = Some(own);
    }
    Ok(control.store().audit_log(&filter, page).await?)
}
