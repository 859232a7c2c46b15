//! Tenants below tenants. The catalog itself refuses circles and too many levels, also when two changes race; what is
//! checked here says it better.

use tenantry_domain::{DEPTH_MAX, TenantId, check_line};
use tenantry_store::{TenantRef, Tx};

use super::unknown;
use crate::error::ControlError;

/// Whether a tenant (absent: one that is about to be made) may be put below `parent`; returns the parent's id.
pub(crate) async fn check_parent(
    tx: &Tx,
    tenant: Option<TenantId>,
    parent: &TenantRef,
) -> Result<TenantId, ControlError> {
    let parent = tx.tenant(parent).await.map_err(|error| unknown(error, "/parent", "tenant", &parent.to_string()))?;
    if !parent.state.status().may_take_in_children() {
        return Err(ControlError::invalid(
            "/parent",
            format!("tenant `{}` is {}; nobody is put below it as long as it is", parent.slug, parent.state.status()),
        ));
    }
    let (mut line, mut above) = (vec![parent.id], parent.parent);
    while let Some(next) = above
        && line.len() < DEPTH_MAX
    {
        line.push(next);
        above = tx.tenant(&TenantRef::Id(next)).await?.parent;
    }
    // How much hangs on the tenant is left to the catalog, which looks at that under its lock.
    check_line(tenant, 1, &line)
        .map(|()| parent.id)
        .map_err(|error| ControlError::invalid("/parent", format!("tenant `{}`: {error}", parent.slug)))
}
