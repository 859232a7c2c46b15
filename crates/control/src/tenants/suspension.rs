//! Suspending tenants and letting them in again, by themselves or with all that is below them.

use jiff::Timestamp;
use tenantry_domain::{
    Access, EventKind, Note, OperationId, OperationKind, OperationState, RequestId, RouteState, Scope, Suspension,
    SuspensionReason, Tenant, TenantId, TenantState, TenantStatus,
};
use tenantry_store::{NewEvent, Operation, TenantRef, Tx};

use super::deletion::{ATTEMPTS, busy, invalid_state};
use super::precedence::{Locked, operation_on};
use super::{audit, summary, visible};
use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;
use crate::operations::resume_tenant::ResumeTenant;
use crate::operations::suspend_tenant::SuspendTenant;

/// The most tenants below the named one that one call suspends or resumes.
const MEMBERS_MAX: i64 = 500;

/// The wish to shut a tenant out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspend {
    /// Why; one of those that people give.
    pub reason: SuspensionReason,
    /// More about it.
    pub note: Option<Note>,
    /// When it ends by itself; absent means never.
    pub until: Option<Timestamp>,
    /// Whether everything below it is suspended too.
    pub subtree: bool,
}

/// The wish to let a tenant in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Whether those below it that were suspended together with it are resumed too.
    pub subtree: bool,
}

impl Suspend {
    /// Refuses a reason that nobody gives, and an end that has passed.
    pub(crate) fn check(&self) -> Result<(), ControlError> {
        if !self.reason.is_for_people() {
            return Err(ControlError::invalid(
                "/reason",
                format!("`{}` follows from something else and is not given; use admin or payment", self.reason),
            ));
        }
        if self.until.is_some_and(|until| until <= Timestamp::now()) {
            return Err(ControlError::invalid("/until", "that time has passed; name one to come, or none"));
        }
        Ok(())
    }
}

/// What a call has begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The tenant that was named.
    pub tenant: Tenant,
    /// The work on it.
    pub operation: Operation,
    /// Those below it with the work on each.
    pub below: Vec<(Tenant, Operation)>,
}

/// Shuts a tenant out at once: when this returns, its routes are withdrawn, and whatever else was at work on it has lost
/// its lease. The operation then makes it true inside PostgreSQL.
pub async fn suspend(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    wish: Suspend,
) -> Result<Begun, ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    wish.check()?;
    let id = visible(caller, tenant, control.store().tenant(tenant).await?)?.id;
    let begun = attempt_suspension(control, caller, id, &wish, Standing::Changed).await?;
    shown(control, begun).await
}

/// As [`suspend`], but a suspension that stands is left as it is: `None` where the tenant is shut out already.
pub(crate) async fn suspend_unless_suspended(
    control: &Control,
    caller: &Caller,
    tenant: TenantId,
    wish: &Suspend,
) -> Result<Option<Begun>, ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    wish.check()?;
    let begun = attempt_suspension(control, caller, tenant, wish, Standing::Kept).await?;
    if begun.is_empty() { Ok(None) } else { shown(control, begun).await.map(Some) }
}

/// Lets a suspended tenant in again. It counts as suspended until its home is open.
pub async fn resume(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    wish: Resume,
) -> Result<Begun, ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    let id = visible(caller, tenant, control.store().tenant(tenant).await?)?.id;
    let begun = attempt_resumption(control, caller, id, wish).await?;
    shown(control, begun).await
}

/// A suspension's time is up. One whose trial ended meanwhile stays suspended for that.
pub(crate) async fn end_suspension(control: &Control, tenant: TenantId) -> Result<(), ControlError> {
    match attempt_resumption(control, &upkeep(), tenant, Resume { subtree: true }).await {
        Err(ControlError::InvalidState { .. }) => end_trial(control, tenant).await,
        other => other.map(drop),
    }
}

/// A trial is over.
pub(crate) async fn end_trial(control: &Control, tenant: TenantId) -> Result<(), ControlError> {
    let wish = Suspend { reason: SuspensionReason::TrialEnded, note: None, until: None, subtree: false };
    match attempt_suspension(control, &upkeep(), tenant, &wish, Standing::Changed).await {
        // Somebody was faster.
        Err(ControlError::InvalidState { .. } | ControlError::NotFound { .. }) => Ok(()),
        other => other.map(drop),
    }
}

fn upkeep() -> Caller {
    Caller::system("tenantry", RequestId::new(new_id()))
}

/// Tenants with the work on them, the named one first.
type Works = Vec<(TenantId, OperationId)>;

/// What becomes of a suspension that stands when another is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Reason, note and end become the new ones.
    Changed,
    /// It is left as it is.
    Kept,
}

async fn attempt_suspension(
    control: &Control,
    caller: &Caller,
    id: TenantId,
    wish: &Suspend,
    standing: Standing,
) -> Result<Works, ControlError> {
    for _ in 0..ATTEMPTS {
        let below = if wish.subtree { members(control, id, Members::Below).await? } else { Vec::new() };
        let mut tx = control.store().begin().await?;
        let Some(locked) = lock_all(&tx, id, &below).await? else { continue };
        // The parent's row is locked now, so nobody new comes below it; look whether somebody came before.
        if wish.subtree && tx.tenants_below(id, MEMBERS_MAX).await? != below {
            continue;
        }
        let mut works = Works::new();
        for locked in locked {
            let tenant = &locked.tenant;
            let is_root = tenant.id == id;
            if is_root && standing == Standing::Kept && is_shut_out(&locked) {
                return Ok(Works::new());
            }
            let stands = tenant.state.status();
            if !is_root && matches!(stands, TenantStatus::Provisioning | TenantStatus::Moving) {
                return Err(ControlError::InvalidState {
                    reason: format!(
                        "tenant `{}` below it is {stands}; wait for that, or leave the subtree out",
                        tenant.slug
                    ),
                });
            }
            // Those that are suspended for themselves, on their way out, gone or failed are not served.
            if !is_root && stands != TenantStatus::Active {
                continue;
            }
            let suspension = Suspension {
                reason: if is_root { wish.reason } else { SuspensionReason::Parent },
                note: wish.note.clone().filter(|_| is_root),
                by: caller.name.clone(),
                since: Timestamp::now(),
                until: wish.until.filter(|_| is_root),
                with: (!is_root).then_some(id),
            };
            works.push((tenant.id, shut_out(&mut tx, caller, &locked, suspension).await?));
        }
        tx.commit().await?;
        control.signals().wake_operations();
        return Ok(works);
    }
    Err(busy())
}

/// Whether the tenant is suspended and stays so without anybody's help.
fn is_shut_out(locked: &Locked) -> bool {
    let is_parked = |operation: &Operation| operation.state == OperationState::Parked;
    locked.tenant.state.status() == TenantStatus::Suspended
        && locked.open(OperationKind::Resume).is_none()
        && !locked.open(OperationKind::Suspend).is_some_and(is_parked)
}

/// Suspends one tenant within the caller's transaction.
async fn shut_out(
    tx: &mut Tx,
    caller: &Caller,
    locked: &Locked,
    suspension: Suspension,
) -> Result<OperationId, ControlError> {
    let tenant = &locked.tenant;
    let state = tenant.state.suspend(suspension).map_err(|error| invalid_state(tenant, error))?;
    let known = at_it(tx, locked, &state).await?;
    let operation = known.unwrap_or_else(|| OperationId::new(new_id()));
    if known.is_none() {
        locked.supersede(tx, operation).await?;
        locked.hold_others(tx, operation).await?;
        tx.insert_operation(&operation_on::<SuspendTenant>(OperationKind::Suspend, operation, tenant)).await?;
    }
    if state != tenant.state {
        tx.set_tenant_state(tenant.id, &state).await?;
    }
    let home = state.placement().map(|placement| placement.home.id);
    if tenant.state.status() != TenantStatus::Suspended {
        tx.publish_route(tenant.id, RouteState::Suspended, tenant.generation, home).await?;
        tx.emit(&NewEvent::of_tenant(EventKind::TenantSuspended, tenant.id).by(operation)).await?;
    }
    let now = tx.tenant(&TenantRef::Id(tenant.id)).await?;
    let (before, after) = (Some(summary(tenant)), Some(summary(&now)));
    audit(tx, caller, "tenant.suspend", tenant.id, Some(operation), before, after).await?;
    Ok(operation)
}

/// The operation that shuts a suspended tenant out or has done so since it was suspended. One that is parked is taken
/// up again.
async fn at_it(tx: &Tx, locked: &Locked, state: &TenantState) -> Result<Option<OperationId>, ControlError> {
    if locked.tenant.state.status() != TenantStatus::Suspended {
        return Ok(None);
    }
    if let Some(open) = locked.open(OperationKind::Suspend) {
        return taken_up(tx, open).await.map(Some);
    }
    if locked.open(OperationKind::Resume).is_some() {
        return Ok(None);
    }
    let since = state.suspension().map_or(Timestamp::MAX, |suspension| suspension.since);
    let latest = tx.latest_operation(locked.tenant.id, OperationKind::Suspend).await?;
    let has_done_it = latest.filter(|operation| {
        operation.state == OperationState::Succeeded && operation.finished_at.is_some_and(|finished| finished >= since)
    });
    Ok(has_done_it.map(|operation| operation.id))
}

async fn attempt_resumption(
    control: &Control,
    caller: &Caller,
    id: TenantId,
    wish: Resume,
) -> Result<Works, ControlError> {
    for _ in 0..ATTEMPTS {
        let with = if wish.subtree { members(control, id, Members::SuspendedWith).await? } else { Vec::new() };
        let mut tx = control.store().begin().await?;
        let Some(locked) = lock_all(&tx, id, &with).await? else { continue };
        let mut works = Works::new();
        for locked in locked {
            let tenant = &locked.tenant;
            let is_root = tenant.id == id;
            if !is_root && tenant.state.suspension().and_then(|it| it.with) != Some(id) {
                continue;
            }
            match tenant.state.resume(tenant.trial_ends_at, Timestamp::now()) {
                Ok(resumed) => works.push((tenant.id, let_in(&mut tx, caller, &locked, resumed).await?)),
                Err(error) if is_root => return Err(invalid_state(tenant, error)),
                // It would be suspended again at once: from now on that is why it is.
                Err(tenantry_domain::LifecycleError::TrialOver) => {
                    let suspension = Suspension {
                        reason: SuspensionReason::TrialEnded,
                        note: None,
                        by: caller.name.clone(),
                        since: Timestamp::now(),
                        until: None,
                        with: None,
                    };
                    works.push((tenant.id, shut_out(&mut tx, caller, &locked, suspension).await?));
                }
                Err(_) => {}
            }
        }
        tx.commit().await?;
        control.signals().wake_operations();
        return Ok(works);
    }
    Err(busy())
}

/// Begins to let one tenant in, within the caller's transaction. What else is at work on it comes first.
async fn let_in(
    tx: &mut Tx,
    caller: &Caller,
    locked: &Locked,
    resumed: TenantState,
) -> Result<OperationId, ControlError> {
    let tenant = &locked.tenant;
    let id = if let Some(open) = locked.open(OperationKind::Resume) {
        taken_up(tx, open).await?
    } else {
        let id = OperationId::new(new_id());
        let operation = operation_on::<ResumeTenant>(OperationKind::Resume, id, tenant);
        if let Some(other) = locked.other_at_work() {
            tx.insert_held_operation(&operation, other.id).await?;
        } else {
            locked.supersede(tx, id).await?;
            tx.insert_operation(&operation).await?;
        }
        id
    };
    let after = Tenant { state: resumed, ..tenant.clone() };
    let (before, after) = (Some(summary(tenant)), Some(summary(&after)));
    audit(tx, caller, "tenant.resume", tenant.id, Some(id), before, after).await?;
    Ok(id)
}

/// A person who asks again for what is parked wants it tried again.
async fn taken_up(tx: &Tx, operation: &Operation) -> Result<OperationId, ControlError> {
    if operation.state == OperationState::Parked {
        tx.requeue(operation.id, None).await?;
    }
    Ok(operation.id)
}

#[derive(Clone, Copy)]
enum Members {
    Below,
    SuspendedWith,
}

async fn members(control: &Control, id: TenantId, which: Members) -> Result<Vec<TenantId>, ControlError> {
    let members = match which {
        Members::Below => control.store().tenants_below(id, MEMBERS_MAX + 1).await?,
        Members::SuspendedWith => control.store().suspended_with(id, MEMBERS_MAX + 1).await?,
    };
    if i64::try_from(members.len()).is_ok_and(|count| count <= MEMBERS_MAX) {
        return Ok(members);
    }
    Err(ControlError::LimitExceeded {
        reason: format!("there are more than {MEMBERS_MAX} tenants below it; take its subtrees one by one"),
    })
}

/// Locks a tenant and others in the order of their ids, so that two such calls do not wait for each other; the named
/// one comes first in what is returned. `None` where the catalog changed meanwhile: begin anew.
async fn lock_all(tx: &Tx, id: TenantId, others: &[TenantId]) -> Result<Option<Vec<Locked>>, ControlError> {
    let mut ids: Vec<TenantId> = others.iter().copied().filter(|other| *other != id).chain([id]).collect();
    ids.sort_unstable_by_key(|id| id.as_uuid());
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        match Locked::take(tx, id).await? {
            Some(locked) => all.push(locked),
            None => return Ok(None),
        }
    }
    all.sort_by_key(|locked| locked.tenant.id != id);
    Ok(Some(all))
}

async fn shown(control: &Control, works: Works) -> Result<Begun, ControlError> {
    let store = control.store();
    let mut below = Vec::with_capacity(works.len());
    for (tenant, operation) in works {
        let tenant = TenantRef::Id(tenant);
        below.push(tokio::try_join!(store.tenant(&tenant), store.operation(operation))?);
    }
    if below.is_empty() {
        return Err(ControlError::internal(std::io::Error::other("a call on a tenant left it out")));
    }
    let (tenant, operation) = below.remove(0);
    Ok(Begun { tenant, operation, below })
}
