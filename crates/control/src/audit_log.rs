//! The audit log as auditors see it.

use std::collections::VecDeque;

use futures::Stream;
use futures::stream::try_unfold;
use tenantry_domain::{Access, Scope, TenantId};
use tenantry_store::{AuditChain, AuditExport, AuditFilter, AuditRecord, LinkedRecord, Page, PageRequest};

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

/// A page of chains: how long each is and what it ends with. Whoever keeps it elsewhere can tell later whether entries
/// were cut off the end.
pub async fn chains(
    control: &Control,
    caller: &Caller,
    tenant: Option<TenantId>,
    page: &PageRequest,
) -> Result<Page<AuditChain>, ControlError> {
    caller.require(Scope::Audit(Access::Read))?;
    Ok(control.store().audit_chains(caller.tenant.or(tenant), page).await?)
}

/// Every entry that is wanted and was committed when this was called, oldest first, each with the hash of the one before
/// it in its chain. Read a thousand at a time, as fast as they are taken.
pub async fn export(
    control: &Control,
    caller: &Caller,
    export: AuditExport,
) -> Result<impl Stream<Item = Result<LinkedRecord, ControlError>> + Send + use<>, ControlError> {
    caller.require(Scope::Audit(Access::Read))?;
    let export = AuditExport { tenant: caller.tenant.or(export.tenant), ..export };
    let store = control.store().clone();
    let upto = store.last_audit_entry().await?;
    let start = (store, export, VecDeque::<LinkedRecord>::new(), 0_i64);
    Ok(try_unfold(start, move |(store, export, mut ready, mut after)| async move {
        if ready.is_empty() {
            ready = store.export_audit(&export, after, upto).await?.into();
            after = ready.back().map_or(after, |last| last.record.id);
        }
        Ok(ready.pop_front().map(|record| (record, (store, export, ready, after))))
    }))
}
