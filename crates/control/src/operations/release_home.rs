//! Taking down whatever was recorded for a tenant or for a home, by the resource rows. Shared by deletion, by walking back
//! and by the warm pool.

use std::collections::BTreeSet;

use tenantry_domain::{ClusterId, HomeId, TenantId};
use tenantry_fleet::ClusterTarget;
use tenantry_store::{AdoptionState, ClusterRef, HomeRecord, Resource, ResourceKind, StoreError};

use super::cluster_target::target_of;
use crate::engine::{StepError, Work};

/// Shuts the tenant's login roles out of every home that was recorded for it and ends their sessions.
pub(crate) async fn shut_out(work: &Work<'_>, tenant: TenantId) -> Result<(), StepError> {
    let resources = work.control.store().resources_of_tenant(tenant).await?;
    for home in homes_of(&resources) {
        let record = work.control.store().home(home).await?;
        if let Some(target) = reach(work, record.home.cluster).await? {
            let fence = work.fence(home);
            work.control.fleet().disable_logins(&target, &fence, &record.home, record.pool_member).await?;
        }
    }
    Ok(())
}

/// Drops every object that was recorded for the tenant and is not dropped yet: databases and schemas first, then roles,
/// then a server of its own. Each stage commits its rows as it goes, so an interruption resumes where it stopped.
pub(crate) async fn release(work: &Work<'_>, tenant: TenantId) -> Result<(), StepError> {
    let resources = work.control.store().resources_of_tenant(tenant).await?;
    release_recorded(work, &resources).await?;
    let_go(work, tenant).await
}

/// The same for one home that no tenant has.
pub(crate) async fn release_home(work: &Work<'_>, home: HomeId) -> Result<(), StepError> {
    let resources = work.control.store().resources_of_home(home).await?;
    release_recorded(work, &resources).await
}

async fn release_recorded(work: &Work<'_>, resources: &[Resource]) -> Result<(), StepError> {
    let store = work.control.store();
    let own_clusters: Vec<&Resource> = resources.iter().filter(|it| it.kind == ResourceKind::Cluster).collect();
    for home in homes_of(resources) {
        let record = store.home(home).await?;
        let of_home: Vec<&Resource> = resources.iter().filter(|it| it.home == Some(home)).collect();
        let goes_with_its_cluster = own_clusters.iter().any(|it| it.cluster == record.home.cluster);
        refuse_undecided(work, &record).await?;
        if !goes_with_its_cluster {
            drop_objects(work, &record, &of_home).await?;
        }
        let dropped: Vec<_> = of_home.iter().map(|it| it.id).collect();
        let tx = store.begin().await?;
        tx.guard(work.lease).await?;
        tx.resource_dropped(&dropped).await?;
        tx.home_released(home).await?;
        tx.commit().await?;
    }
    for resource in own_clusters {
        release_cluster(work, resource).await?;
    }
    Ok(())
}

/// Dropping a home's roles drops what they own. While an adoption is open, that is somebody else's.
async fn refuse_undecided(work: &Work<'_>, record: &HomeRecord) -> Result<(), StepError> {
    let Some(tenant) = record.tenant.filter(|_| record.home.is_adopted()) else { return Ok(()) };
    match work.control.store().adoption(tenant).await? {
        Some(adoption) if adoption.state == AdoptionState::Open => Err(StepError::Failed {
            reason: "the tenant's adoption is not decided; confirm it or cancel it first".to_owned(),
        }),
        _ => Ok(()),
    }
}

async fn drop_objects(work: &Work<'_>, record: &HomeRecord, resources: &[&Resource]) -> Result<(), StepError> {
    let Some(target) = reach(work, record.home.cluster).await? else { return Ok(()) };
    let fleet = work.control.fleet();
    let home = &record.home;
    fleet.disable_logins(&target, &work.fence(home.id), home, record.pool_member).await?;
    let has = |kind| resources.iter().any(|it| it.kind == kind);
    if has(ResourceKind::Schema) {
        fleet.drop_schema(&target, home).await?;
    }
    if has(ResourceKind::Database) {
        fleet.drop_database(&target, &home.database).await?;
    }
    if has(ResourceKind::Role) {
        fleet.drop_roles(&target, &work.fence(home.id), home).await?;
    }
    Ok(())
}

/// Takes a server of the tenant's own down, then its row in the catalog.
async fn release_cluster(work: &Work<'_>, resource: &Resource) -> Result<(), StepError> {
    // Its row, which says who started it, is written after its start: without one, whoever starts clusters is asked.
    let known = match work.control.store().cluster(&ClusterRef::Id(resource.cluster)).await {
        Ok(cluster) => Some(cluster.provider),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut starters = work.control.starters();
    starters.retain(|provider| known.is_none_or(|kind| provider.kind() == kind));
    if starters.is_empty() {
        return Err(StepError::Failed {
            reason: format!(
                "cluster {} was started by another program; only one with the same provider can take it down",
                resource.cluster
            ),
        });
    }
    for provider in starters {
        provider.release(resource.cluster).await?;
    }
    let tx = work.control.store().begin().await?;
    tx.guard(work.lease).await?;
    tx.resource_dropped(&[resource.id]).await?;
    match tx.delete_cluster(resource.cluster).await {
        // Its row is written after its start: there is none if the start failed or was refused.
        Ok(()) | Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    tx.commit().await?;
    Ok(())
}

/// A registered cluster that was claimed, but where no home was recorded yet, is free again.
async fn let_go(work: &Work<'_>, tenant: TenantId) -> Result<(), StepError> {
    let tx = work.control.store().begin().await?;
    tx.guard(work.lease).await?;
    tx.release_clusters_of(tenant).await?;
    tx.commit().await?;
    Ok(())
}

fn homes_of(resources: &[Resource]) -> BTreeSet<HomeId> {
    resources.iter().filter_map(|resource| resource.home).collect()
}

/// The cluster, unless its row is gone and with it everything that was there.
async fn reach(work: &Work<'_>, cluster: ClusterId) -> Result<Option<ClusterTarget>, StepError> {
    match work.control.store().cluster_access(cluster).await {
        Ok(access) => Ok(Some(target_of(access))),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
