//! Tenants below tenants. The catalog itself refuses circles and too many levels, also when two changes race; what is
//! checked here says it better.

use tenantry_domain::{DEPTH_MAX, TenantId};
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
    let mut depth = 2;
    let (mut at, mut above) = (parent.id, parent.parent);
    loop {
        if Some(at) == tenant {
            return Err(ControlError::invalid(
                "/parent",
                format!("tenant `{}` is the tenant itself or below it; choose another", parent.slug),
            ));
        }
        if depth > DEPTH_MAX {
            return Err(ControlError::invalid("/parent", format!("tenants are nested at most {DEPTH_MAX} deep")));
        }
        let Some(next) = above else { return Ok(parent.id) };
        depth += 1;
        (at, above) = (next, tx.tenant(&TenantRef::Id(next)).await?.parent);
    }
}
