//! Many tenants at once: each by itself, so that one that is refused holds up no other.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tenantry_domain::{Access, PlanName, Scope, Slug, Tenant, TenantId, TenantStatus};
use tenantry_store::{Operation, PAGE_MAX, PageRequest, TenantChange, TenantFilter, TenantRef};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::tenants::{self, CreateTenant, Resume, Suspend};

/// Tenants that are worked on at the same time for one call.
pub const CONCURRENCY: usize = 8;

/// What to do to each tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give it another plan.
    ChangePlan(PlanName),
    /// Shut it out; one that is shut out already stays as it is.
    Suspend(Suspend),
    /// Let it in again.
    Resume(Resume),
    /// Delete it with all its data, after a grace period; absent means the configured one.
    Delete(Option<Duration>),
}

/// What came of one tenant that was not refused.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Which one.
    pub tenant: TenantId,
    /// The operation that follows, if one does.
    pub operation: Option<Operation>,
    /// Whether it was so already, or an earlier call under the same key has begun it.
    pub is_known: bool,
}

/// Refuses whoever may not change tenants all over the fleet, before the first is touched.
pub fn check(caller: &Caller) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))
}

/// Refuses an action that would be refused for every tenant, before the first is touched.
pub fn check_action(action: &Action) -> Result<(), ControlError> {
    match action {
        Action::Suspend(wish) => wish.check(),
        Action::ChangePlan(_) | Action::Resume(_) | Action::Delete(_) => Ok(()),
    }
}

/// Creates one of many tenants. Under a key, a row that was sent before is found again instead of refused: a call that
/// broke off is repeated as a whole.
pub async fn create(
    control: &Control,
    caller: &Caller,
    wish: CreateTenant,
    key: Option<&str>,
) -> Result<Reached, ControlError> {
    let key = key.map(|key| row_key(caller, key, &wish.slug));
    let slug = wish.slug.clone();
    let (refused, key) = match tenants::create(control, caller, wish, key.clone()).await {
        Ok((tenant, operation)) => {
            return Ok(Reached { tenant: tenant.id, operation: Some(operation), is_known: false });
        }
        Err(error @ (ControlError::SlugTaken { .. } | ControlError::Conflict { .. })) => match key {
            Some(key) => (error, key),
            None => return Err(error),
        },
        Err(error) => return Err(error),
    };
    match control.store().operation_by_idempotency_key(&key).await? {
        Some(operation) if operation.tenant.is_some() => {
            let tenant = control.store().tenant(&TenantRef::Slug(slug)).await?;
            if operation.tenant != Some(tenant.id) {
                return Err(refused);
            }
            Ok(Reached { tenant: tenant.id, operation: Some(operation), is_known: true })
        }
        _ => Err(refused),
    }
}

/// The tenants that a filter finds, oldest first; refused where they are more than `most`.
pub async fn matching(
    control: &Control,
    caller: &Caller,
    filter: &TenantFilter,
    most: usize,
) -> Result<Vec<Tenant>, ControlError> {
    check(caller)?;
    let mut found = Vec::new();
    let mut page = PageRequest { limit: PAGE_MAX, cursor: None };
    loop {
        let tenants = control.store().tenants(filter, &page).await?;
        found.extend(tenants.items);
        if found.len() > most {
            return Err(ControlError::LimitExceeded {
                reason: format!("the filter finds more than {most} tenants; narrow it and call several times"),
            });
        }
        if tenants.next.is_none() {
            return Ok(found);
        }
        page.cursor = tenants.next;
    }
}

/// Does it to one tenant.
pub async fn act(
    control: &Control,
    caller: &Caller,
    action: &Action,
    tenant: &Tenant,
) -> Result<Reached, ControlError> {
    let named = TenantRef::Id(tenant.id);
    let known = Reached { tenant: tenant.id, operation: None, is_known: true };
    let begun = |operation| Reached { operation: Some(operation), is_known: false, ..known.clone() };
    match action {
        Action::ChangePlan(plan) if tenant.plan == *plan => Ok(known),
        Action::ChangePlan(plan) => {
            let change = TenantChange { plan: Some(plan.clone()), ..TenantChange::default() };
            tenants::update(control, caller, &named, change, None).await?;
            Ok(Reached { is_known: false, ..known })
        }
        Action::Suspend(wish) => {
            let work = tenants::suspend_unless_suspended(control, caller, tenant.id, wish).await?;
            Ok(work.map_or(known.clone(), |work| begun(work.operation)))
        }
        Action::Resume(wish) => match tenants::resume(control, caller, &named, *wish).await {
            Ok(work) => Ok(begun(work.operation)),
            // It may have been resumed together with one above it since the filter found it.
            Err(refused @ ControlError::InvalidState { .. }) => {
                let now = control.store().tenant(&named).await?.state.status();
                if now == TenantStatus::Active { Ok(known) } else { Err(refused) }
            }
            Err(error) => Err(error),
        },
        Action::Delete(grace) => {
            let (_, operation) = tenants::delete(control, caller, &named, *grace, None).await?;
            Ok(begun(operation))
        }
    }
}

/// One key for each row of a call: operations know theirs by it.
fn row_key(caller: &Caller, key: &str, slug: &Slug) -> String {
    let token = caller.token.map(|token| token.to_string()).unwrap_or_default();
    let parts = [token.as_str(), key, slug.as_str()];
    let hash = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part).chain_update([0]));
    format!("bulk:{}", hex::encode(hash.finalize()))
}
