//! Routers: who they are, whether they are there, and what they have applied.

pub(crate) mod presence;
pub(crate) mod reports;

use tenantry_domain::Scope;
use tenantry_store::{Page, PageRequest, RouterRecord, RouterReport};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// Most clusters that one report names.
const DEMANDS_MAX: usize = 1_000;

/// Takes down what a router says of itself. Not from somebody who is bound to one tenant: what one router asks for is
/// taken from the others.
pub async fn report(control: &Control, caller: &Caller, report: RouterReport) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::RoutesRead)?;
    if report.demands.len() > DEMANDS_MAX {
        return Err(ControlError::invalid("/clusters", format!("a report names more than {DEMANDS_MAX} clusters")));
    }
    control.reports().add(control, report).await
}

/// A page of routers, by name; of those alone that follow the feed of any replica, or of none, where that is said.
pub async fn list(
    control: &Control,
    caller: &Caller,
    connected: Option<bool>,
    page: &PageRequest,
) -> Result<Page<RouterRecord>, ControlError> {
    caller.require_fleet_wide(Scope::RoutesRead)?;
    Ok(control.store().routers(connected, page).await?)
}
