//! Plans as admins see them.

use tenantry_domain::{Access, Plan, PlanName, Scope};
use tenantry_store::{Page, PageRequest};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// A page of plans, by name.
pub async fn list(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Page<Plan>, ControlError> {
    caller.require(Scope::Plans(Access::Read))?;
    Ok(control.store().plans(page).await?)
}

/// One plan.
pub async fn show(control: &Control, caller: &Caller, plan: &PlanName) -> Result<Plan, ControlError> {
    caller.require(Scope::Plans(Access::Read))?;
    Ok(control.store().plan(plan).await?)
}
