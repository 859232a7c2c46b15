//! Routers: who they are and what they have applied.

use tenantry_domain::Scope;
use tenantry_store::{Page, PageRequest, RouterRecord, RouterReport};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// Takes down what a router says of itself.
pub async fn report(control: &Control, caller: &Caller, report: &RouterReport) -> Result<(), ControlError> {
    caller.require(Scope::RoutesRead)?;
    Ok(control.store().report_router(report).await?)
}

/// A page of routers, by name.
pub async fn list(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Page<RouterRecord>, ControlError> {
    caller.require_fleet_wide(Scope::RoutesRead)?;
    Ok(control.store().routers(page).await?)
}
