//! Hosts: DNS names of a tenant's own, besides its sub-domain. An admin says whose they are; nobody verifies it.

use tenantry_domain::{Access, EventKind, HostName, Scope, Tenant};
use tenantry_store::{HostRecord, NewEvent, Page, PageRequest, TenantRef, Tx};

use super::{audit, summary, visible};
use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// Most hosts of one tenant: every router holds them all, and every change of the route sends them.
pub const HOSTS_MAX: u32 = 100;

/// A page of a tenant's hosts, by name.
pub async fn list(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    page: &PageRequest,
) -> Result<Page<HostRecord>, ControlError> {
    caller.require(Scope::Tenants(Access::Read))?;
    let tenant = visible(caller, tenant, control.store().tenant(tenant).await?)?;
    Ok(control.store().hosts(tenant.id, page).await?)
}

/// Gives the tenant a host that nobody has. Not for callers that are bound to a tenant: they could take the name of
/// another's, since nothing proves whose it is.
pub async fn add(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    host: &HostName,
) -> Result<HostRecord, ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    let mut tx = control.store().begin().await?;
    let before = changeable(&tx, caller, tenant).await?;
    if let Some((holder, slug)) = tx.host_holder(host).await? {
        let reason = if holder == before.id {
            format!("tenant `{slug}` has the host `{host}` already")
        } else {
            format!(
                "the host `{host}` is tenant `{slug}`'s; take it away first with `tenantry tenant host remove {slug} \
                 {host}` (a tenant keeps its hosts until it is deleted for good)"
            )
        };
        return Err(ControlError::Conflict { reason });
    }
    if tx.count_hosts(before.id).await? >= HOSTS_MAX {
        return Err(ControlError::LimitExceeded {
            reason: format!("tenant `{}` has {HOSTS_MAX} hosts, the most that one may have", before.slug),
        });
    }
    let record = tx.add_host(before.id, host).await?;
    finish(tx, caller, "tenant.add_host", &before).await?;
    Ok(record)
}

/// Takes a host away from the tenant; somebody else may have it from then on.
pub async fn remove(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    host: &HostName,
) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    let mut tx = control.store().begin().await?;
    let before = changeable(&tx, caller, tenant).await?;
    tx.remove_host(before.id, host).await?;
    finish(tx, caller, "tenant.remove_host", &before).await
}

/// The tenant, which nobody else changes meanwhile, if it may be changed.
async fn changeable(tx: &Tx, caller: &Caller, tenant: &TenantRef) -> Result<Tenant, ControlError> {
    let tenant = visible(caller, tenant, tx.lock_tenant(tenant).await?)?;
    let status = tenant.state.status();
    if !status.may_change() {
        return Err(ControlError::InvalidState {
            reason: format!("tenant `{}` is {status}, and its hosts stay as they are", tenant.slug),
        });
    }
    Ok(tenant)
}

async fn finish(mut tx: Tx, caller: &Caller, action: &str, before: &Tenant) -> Result<(), ControlError> {
    let after = tx.tenant(&TenantRef::Id(before.id)).await?;
    audit(&mut tx, caller, action, before.id, None, Some(summary(before)), Some(summary(&after))).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantUpdated, before.id)).await?;
    tx.commit().await?;
    Ok(())
}
