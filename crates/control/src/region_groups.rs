//! Region groups as admins see them.

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{Access, GroupRegions, Region, RegionGroup, Scope};
use tenantry_store::{AuditEntry, Page, PageRequest, StoreError, Tx};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// Most tenants that are named where more are meant.
const NAMED_MAX: u32 = 5;

/// A page of groups, by name.
pub async fn list(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Page<RegionGroup>, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    Ok(control.store().region_groups(page).await?)
}

/// One group.
pub async fn show(control: &Control, caller: &Caller, name: &Region) -> Result<RegionGroup, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    Ok(control.store().region_group(name).await?)
}

/// Makes the group, or gives it other members. A region in which a tenant of the group lives cannot leave it. Returns the
/// group, and whether it is new.
pub async fn put(
    control: &Control,
    caller: &Caller,
    name: &Region,
    regions: &GroupRegions,
    if_match: Option<Timestamp>,
) -> Result<(RegionGroup, bool), ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    if regions.as_set().contains(name) {
        return Err(ControlError::invalid("/regions", format!("`{name}` cannot be a member of itself")));
    }
    let names: Vec<&str> = regions.as_set().iter().map(Region::as_str).collect();
    let mut tx = control.store().begin().await?;
    let before = tx.lock_region_group(name).await?;
    match (&before, if_match) {
        (Some(group), Some(expected)) if group.updated_at != expected => return Err(ControlError::PreconditionFailed),
        (None, Some(_)) => return Err(ControlError::PreconditionFailed),
        _ => {}
    }
    if let [group, ..] = &tx.groups_among(&names).await?[..] {
        return Err(ControlError::invalid(
            "/regions",
            format!("`{group}` is a group itself; name the regions that are meant"),
        ));
    }
    if let Some(group) = &before
        && group.regions == *regions
    {
        return Ok((group.clone(), false));
    }
    refuse_shrinking(&tx, name, &names).await?;
    let after = match tx.put_region_group(name, regions).await {
        // Somebody was placed since we looked.
        Err(StoreError::Residency) => return Err(shrinks(name, "tenants")),
        put => put?,
    };
    audit(&mut tx, caller, "region_group.put", name, before.as_ref().map(summary), Some(summary(&after))).await?;
    tx.commit().await?;
    Ok((after, before.is_none()))
}

/// Forgets a group that no tenant names.
pub async fn delete(control: &Control, caller: &Caller, name: &Region) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let mut tx = control.store().begin().await?;
    let before = tx
        .lock_region_group(name)
        .await?
        .ok_or_else(|| ControlError::NotFound { what: "region group", name: name.to_string() })?;
    let tenants = tx.count_tenants_of_region(name).await?;
    if tenants > 0 {
        return Err(ControlError::Conflict {
            reason: format!("{tenants} tenants name the region group `{name}`; delete them first"),
        });
    }
    tx.delete_region_group(name).await?;
    audit(&mut tx, caller, "region_group.delete", name, Some(summary(&before)), None).await?;
    tx.commit().await?;
    Ok(())
}

/// The catalog would refuse as well; here it is said who is in the way.
async fn refuse_shrinking(tx: &Tx, name: &Region, regions: &[&str]) -> Result<(), ControlError> {
    let outside = tx.residents_outside(name, regions, NAMED_MAX).await?;
    if outside.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = outside.iter().map(|it| format!("`{}` in `{}`", it.slug, it.region)).collect();
    Err(shrinks(name, &named.join(", ")))
}

fn shrinks(name: &Region, who: &str) -> ControlError {
    ControlError::ResidencyViolation {
        reason: format!(
            "the group `{name}` cannot lose a region in which tenants of it live ({who}); move or delete them first"
        ),
    }
}

fn summary(group: &RegionGroup) -> Value {
    json!({ "name": group.name, "regions": group.regions })
}

async fn audit(
    tx: &mut Tx,
    caller: &Caller,
    action: &str,
    name: &Region,
    before: Option<Value>,
    after: Option<Value>,
) -> Result<(), ControlError> {
    tx.audit(&AuditEntry { before, after, ..caller.does(action, format!("region_group/{name}")) }).await?;
    Ok(())
}
