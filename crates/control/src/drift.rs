//! Drift: tenants whose schema is not what their migrations make.
//!
//! What a look finds is kept per tenant, so that a list costs no connection. The reconciler looks at everybody in turn; a
//! caller may look now. Start reading at [`check`], then `checker.rs`.

pub(crate) mod checker;
mod reference;
mod selection;

use std::time::Duration;

use futures::{StreamExt, stream};
use tenantry_domain::{Access, Scope};
use tenantry_store::{DriftListFilter, DriftRecord, DriftSubject, Page, PageRequest, TenantRef};
use tokio::time::Instant;
use tracing::warn;

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::WAIT_MAX;
use crate::tenants::visible;
use checker::Checker;

pub use checker::DIFFERENCES_MAX;
pub use selection::DriftSelection;

/// Tenants that one call looks at at most, and names at most.
pub const CHECKED_MAX: u32 = 200;
/// Tenants that one call looks at at the same time.
const AT_ONCE: usize = 8;

/// How often every tenant is looked at, and how fast. All replicas should say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftConfig {
    /// How long ago a tenant was looked at until it is looked at again.
    pub interval: Duration,
    /// Tenants that one pass looks at at most, four passes a minute; zero turns it off.
    pub sample: u32,
}

impl DriftConfig {
    /// Nobody is looked at unless somebody asks.
    pub const OFF: Self = Self { sample: 0, ..Self::SOME };
    /// For fleets of up to twenty thousand tenants.
    pub const SOME: Self = Self { interval: Duration::from_hours(6), sample: 16 };
}

/// Whom to look at now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDrift {
    /// Out of whom.
    pub selection: DriftSelection,
    /// How many in this call, at most [`CHECKED_MAX`].
    pub limit: u32,
    /// The `next` of the call before.
    pub cursor: Option<String>,
}

/// Some tenants that were looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftChecked {
    /// Them, without the objects that differ.
    pub items: Vec<DriftRecord>,
    /// Where the next call goes on; absent at the end.
    pub next: Option<String>,
    /// How many are left then.
    pub left: u64,
}

/// A page of tenants with what the last look at each found, without the objects that differ.
pub async fn list(
    control: &Control,
    caller: &Caller,
    filter: &DriftListFilter,
    page: &PageRequest,
) -> Result<Page<DriftRecord>, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    Ok(control.store().drifts(filter, page).await?)
}

/// What the last look at a tenant found, with the objects that differ: the first [`DIFFERENCES_MAX`] of them.
pub async fn show(control: &Control, caller: &Caller, tenant: &TenantRef) -> Result<DriftRecord, ControlError> {
    caller.require(Scope::Migrations(Access::Read))?;
    let tenant = visible(caller, tenant, control.store().tenant(tenant).await?)?;
    Ok(control.store().drift(tenant.id).await?)
}

/// Looks at tenants now. Begins with no more of them once `patience` (at most one minute) is over; those begun are
/// finished, which takes half a minute at most. What was found is kept.
pub async fn check(
    control: &Control,
    caller: &Caller,
    wish: &CheckDrift,
    patience: Duration,
) -> Result<DriftChecked, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Write))?;
    let deadline = Instant::now() + patience.min(WAIT_MAX);
    let chosen = selection::choose(control, wish).await?;
    let checker = Checker::new(control).await?;
    // The first is looked at however short the patience is, or a caller would never get on.
    let in_time = |(at, _): &(usize, DriftSubject)| std::future::ready(*at == 0 || Instant::now() < deadline);
    let looks = stream::iter(chosen.subjects.clone().into_iter().enumerate()).take_while(in_time);
    let looks = looks.map(|(_, subject)| look_at(&checker, subject));
    let done: Vec<Result<(), ControlError>> = looks.buffered(AT_ONCE).collect().await;
    let tenants: Vec<_> = chosen.subjects.iter().take(done.len()).map(|subject| subject.tenant).collect();
    let mut items = control.store().drifts_of(&tenants).await?;
    for (subject, failure) in
        chosen.subjects.iter().zip(&done).filter_map(|(it, done)| Some((it, done.as_ref().err()?)))
    {
        if let Some(item) = items.iter_mut().find(|item| item.tenant == subject.tenant) {
            item.error = Some(format!("what was found could not be kept: {failure}"));
        }
    }
    let (next, left) = chosen.rest(done.len());
    Ok(DriftChecked { items, next, left })
}

/// Looks at one tenant, and fails only where what came of it cannot be kept.
pub(crate) async fn look_at(checker: &Checker<'_>, subject: DriftSubject) -> Result<(), ControlError> {
    let kept = checker.check(&subject).await;
    if let Err(error) = &kept {
        warn!(tenant_id = %subject.tenant, %error, "what was found of a tenant's schema could not be kept");
    }
    kept
}
