//! Deleting tenants, taking a deletion back, and forgetting the deleted.

use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{
    Access, EventKind, GRACE_MAX, LifecycleError, OperationId, OperationKind, Scope, Tenant, TenantState, TenantStatus,
};
use tenantry_store::{NewEvent, Operation, TenantRef};

use super::precedence::{Locked, operation_on};
use super::{audit, check_match, summary, visible};
use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;
use crate::operations::delete_tenant::DeleteTenant;

/// How often a request begins anew because operations came and went meanwhile.
pub(super) const ATTEMPTS: usize = 8;

/// Shuts the tenant out, and takes its home down once `grace` is over; absent means the configured one, zero at once.
/// Asked again, the sooner end counts.
pub async fn delete(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    grace: Option<Duration>,
    if_match: Option<Timestamp>,
) -> Result<(Tenant, Operation), ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    let grace = grace.unwrap_or(control.config().delete_grace);
    if grace > GRACE_MAX {
        let most = GRACE_MAX.as_secs();
        return Err(ControlError::invalid("?grace", format!("the grace period is at most {most} seconds (a year)")));
    }
    let id = visible(caller, tenant, control.store().tenant(tenant).await?)?.id;
    for _ in 0..ATTEMPTS {
        let mut tx = control.store().begin().await?;
        let Some(locked) = Locked::take(&tx, id).await? else { continue };
        let before = &locked.tenant;
        check_match(before, if_match)?;
        let operation = OperationId::new(new_id());
        let after =
            before.state.delete(operation, grace, Timestamp::now()).map_err(|error| invalid_state(before, error))?;
        let TenantState::Deleting { operation, .. } = after else {
            return Err(invalid_state(before, after.refusal()));
        };
        if let TenantState::Deleting { .. } = before.state {
            if locked.open(OperationKind::Delete).is_some_and(|deletion| deletion.cancel_requested) {
                return Err(ControlError::InvalidState {
                    reason: format!("tenant `{}` is being restored; wait for that, then delete it", before.slug),
                });
            }
            if after == before.state {
                drop(tx);
                return shown(control, id, operation).await;
            }
            tx.set_tenant_state(id, &after).await?;
            tx.hasten(operation).await?;
        } else {
            if tx.has_live_children(id).await? {
                return Err(ControlError::InvalidState {
                    reason: format!("tenant `{}` has tenants below it; delete them first", before.slug),
                });
            }
            if let Some(other) = locked.other() {
                return Err(ControlError::Conflict {
                    reason: format!(
                        "operation {} (`{}`, {}) on tenant `{}` is unfinished; wait for it, cancel it or abandon it",
                        other.id, other.kind, other.state, before.slug
                    ),
                });
            }
            locked.supersede(&tx, operation).await?;
            tx.set_tenant_state(id, &after).await?;
            tx.insert_operation(&operation_on::<DeleteTenant>(OperationKind::Delete, operation, before)).await?;
            tx.emit(&NewEvent::of_tenant(EventKind::TenantDeleting, id).by(operation)).await?;
            tx.remove_route(id).await?;
        }
        let now = tx.tenant(&TenantRef::Id(id)).await?;
        audit(&mut tx, caller, "tenant.delete", id, Some(operation), Some(summary(before)), Some(summary(&now)))
            .await?;
        tx.commit().await?;
        control.signals().wake_operations();
        return shown(control, id, operation).await;
    }
    Err(busy())
}

/// Takes a deletion back: the tenant becomes what it was before, active or suspended.
pub async fn restore(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
) -> Result<(Tenant, Operation), ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    let id = visible(caller, tenant, control.store().tenant(tenant).await?)?.id;
    for _ in 0..ATTEMPTS {
        let mut tx = control.store().begin().await?;
        let Some(locked) = Locked::take(&tx, id).await? else { continue };
        let before = &locked.tenant;
        let restored = before.state.restore().map_err(|error| match error {
            LifecycleError::Deleted => ControlError::InvalidState {
                reason: format!("tenant `{}` is deleted, and its data with it; nothing can be restored", before.slug),
            },
            error => invalid_state(before, error),
        })?;
        let Some(deletion) = locked.open(OperationKind::Delete) else {
            return Err(ControlError::InvalidState {
                reason: format!("the deletion of tenant `{}` has ended; show it to see what it is", before.slug),
            });
        };
        if !deletion.cancel_requested {
            tx.request_cancel(deletion.id).await?;
            let after = Tenant { state: restored, ..before.clone() };
            let (before, after) = (Some(summary(before)), Some(summary(&after)));
            audit(&mut tx, caller, "tenant.restore", id, Some(deletion.id), before, after).await?;
            tx.commit().await?;
            control.signals().wake_operations();
        }
        return shown(control, id, deletion.id).await;
    }
    Err(busy())
}

/// Removes a deleted tenant's tombstone: its slug is free again, its operations are forgotten, the audit log stays.
pub async fn purge(control: &Control, caller: &Caller, tenant: &TenantRef) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    let mut tx = control.store().begin().await?;
    let before = visible(caller, tenant, tx.lock_tenant(tenant).await?)?;
    if before.state.status() != TenantStatus::Deleted {
        return Err(ControlError::InvalidState {
            reason: format!(
                "tenant `{}` is {}; only a deleted tenant can be purged",
                before.slug,
                before.state.status()
            ),
        });
    }
    audit(&mut tx, caller, "tenant.purge", before.id, None, Some(summary(&before)), None).await?;
    tx.purge_tenant(before.id).await?;
    tx.commit().await?;
    Ok(())
}

/// What a rule of the tenant's life says, as an answer to the caller.
pub(super) fn invalid_state(tenant: &Tenant, error: LifecycleError) -> ControlError {
    ControlError::InvalidState { reason: format!("tenant `{}` {error}", tenant.slug) }
}

pub(super) fn busy() -> ControlError {
    ControlError::Unavailable {
        reason: "operations on the tenant come and go at this moment".to_owned(),
        retry_after: Duration::from_secs(1),
        source: None,
    }
}

async fn shown(
    control: &Control,
    tenant: tenantry_domain::TenantId,
    operation: OperationId,
) -> Result<(Tenant, Operation), ControlError> {
    let store = control.store();
    let (tenant, operation) = tokio::try_join!(async { store.tenant(&TenantRef::Id(tenant)).await }, async {
        store.operation(operation).await
    })?;
    Ok((tenant, operation))
}
