//! Orphans: what the catalog and the clusters disagree on, who may see it, and how what is ours goes.

pub(crate) mod compare;

use std::collections::{BTreeMap, HashSet};

use serde_json::json;
use tenantry_domain::orphan::stem;
use tenantry_domain::{Access, ClusterId, OrphanId, OrphanKind, OrphanVerdict, Scope};
use tenantry_fleet::{ClusterTarget, ObservedObject};
use tenantry_store::{AuditEntry, OrphanFilter, OrphanFinding, OrphanRecord, Page, PageRequest};

use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;
use compare::compare;

/// The name of the reconciler that looks for them.
pub(crate) const RECONCILER: &str = "orphans";
/// Findings of one kind and verdict that are kept of one cluster; a server full of another catalog's homes is no news.
const KEPT_MAX: usize = 500;

/// A page of them, the newest first.
pub async fn list(
    control: &Control,
    caller: &Caller,
    filter: &OrphanFilter,
    page: &PageRequest,
) -> Result<Page<OrphanRecord>, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    Ok(control.store().orphans(filter, page).await?)
}

/// One of them.
pub async fn show(control: &Control, caller: &Caller, id: OrphanId) -> Result<OrphanRecord, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    Ok(control.store().orphan(id).await?)
}

/// Asks for a look at every cluster at once, by whichever replica takes it.
pub async fn scan(control: &Control, caller: &Caller) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let tx = control.store().begin().await?;
    tx.audit(&caller.does("orphan.scan", "orphans".to_owned())).await?;
    tx.poke_reconciler(RECONCILER).await?;
    tx.commit().await?;
    Ok(())
}

/// Removes one that is ours before its delay is over. Content when it is gone already.
pub async fn remove(control: &Control, caller: &Caller, id: OrphanId) -> Result<OrphanRecord, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let orphan = control.store().orphan(id).await?;
    if orphan.finding.verdict != OrphanVerdict::Ours {
        let reason = format!(
            "the {} `{}` is {}, not provably ours; look at it, and remove or restore it by hand",
            orphan.finding.kind, orphan.finding.name, orphan.finding.verdict
        );
        return Err(ControlError::InvalidState { reason });
    }
    if orphan.gone_at.is_none() {
        take_down(control, caller, orphan.cluster, std::slice::from_ref(&orphan)).await?;
    }
    Ok(control.store().orphan(id).await?)
}

/// Looks at one cluster, twice where anything is found.
pub(crate) async fn look(control: &Control, cluster: ClusterId) -> Result<Vec<OrphanFinding>, ControlError> {
    let target = cluster_target(control, cluster).await?;
    let first = look_once(control, &target).await?;
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let second = look_once(control, &target).await?;
    let mut findings: Vec<OrphanFinding> = first.intersection(&second).cloned().collect();
    findings.sort_by(|left, right| key(left).cmp(&key(right)));
    Ok(findings)
}

async fn look_once(control: &Control, target: &ClusterTarget) -> Result<HashSet<OrphanFinding>, ControlError> {
    let catalog = control.store().catalog_inventory(target.id).await?;
    let seen = control.fleet().inventory(target, &catalog.shared).await?;
    Ok(compare(&catalog, &seen))
}

fn key(finding: &OrphanFinding) -> (&'static str, &'static str, &str, &str) {
    (finding.verdict.as_str(), finding.kind.as_str(), &finding.parent, &finding.name)
}

/// Looks at one cluster and takes down what was found. Returns how many that were.
pub(crate) async fn look_and_record(control: &Control, cluster: ClusterId) -> Result<usize, ControlError> {
    let mut kept: BTreeMap<_, usize> = BTreeMap::new();
    let mut findings = look(control, cluster).await?;
    findings.retain(|finding| {
        let count = kept.entry((finding.verdict.as_str(), finding.kind.as_str())).or_default();
        *count += 1;
        *count <= KEPT_MAX
    });
    let findings: Vec<_> = findings.into_iter().map(|finding| (OrphanId::new(new_id()), finding)).collect();
    let tx = control.store().begin().await?;
    tx.record_orphans(cluster, &findings, control.config().orphan_delay).await?;
    tx.commit().await?;
    Ok(findings.len())
}

/// Removes those of one cluster, name by name, each audited. The catalog is asked once more whether they are ours: a name
/// that is gone never comes back.
pub(crate) async fn take_down(
    control: &Control,
    caller: &Caller,
    cluster: ClusterId,
    orphans: &[OrphanRecord],
) -> Result<(), ControlError> {
    let target = cluster_target(control, cluster).await?;
    let mut by_name: BTreeMap<String, Vec<&OrphanRecord>> = BTreeMap::new();
    for orphan in orphans {
        if let Some(name) = name_of(&orphan.finding) {
            by_name.entry(name).or_default().push(orphan);
        }
    }
    let catalog = control.store().catalog_inventory(cluster).await?;
    let mut failure = None;
    for (name, orphans) in by_name {
        if catalog.standings.get(&name) != Some(&tenantry_store::Standing::Bygone) {
            continue;
        }
        let ids: Vec<OrphanId> = orphans.iter().map(|orphan| orphan.id).collect();
        let objects: Vec<ObservedObject> = orphans.iter().map(|orphan| observed(&orphan.finding)).collect();
        let epoch = control.store().later_epoch().await?;
        match control.fleet().remove_late(&target, &name, &objects, epoch).await {
            Ok(()) => {
                let tx = control.store().begin().await?;
                let removed: Vec<_> =
                    objects.iter().map(|object| json!({ "kind": object.kind, "name": object.name })).collect();
                let entry = AuditEntry {
                    before: Some(json!({ "cluster": cluster, "objects": removed })),
                    ..caller.does("orphan.remove", format!("orphan/{name}"))
                };
                tx.audit(&entry).await?;
                tx.orphans_removed(&ids).await?;
                tx.commit().await?;
                tracing::info!(cluster_id = %cluster, name, objects = objects.len(), "an orphan is removed");
            }
            Err(error) => {
                tracing::warn!(%error, cluster_id = %cluster, name, "an orphan could not be removed; trying again");
                let tx = control.store().begin().await?;
                tx.orphans_kept(&ids, &error.to_string()).await?;
                tx.commit().await?;
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// The home, shared database or template that it belongs to.
fn name_of(finding: &OrphanFinding) -> Option<String> {
    match finding.kind {
        OrphanKind::Directory => None,
        OrphanKind::Backend => Some(format!("h_{}", finding.name.rsplit('/').next()?.replace('-', ""))),
        OrphanKind::Database | OrphanKind::Role | OrphanKind::Schema | OrphanKind::Slot => {
            stem(&finding.name).map(str::to_owned)
        }
    }
}

fn observed(finding: &OrphanFinding) -> ObservedObject {
    ObservedObject {
        kind: finding.kind,
        name: finding.name.clone(),
        parent: finding.parent.clone(),
        is_half_dropped: false,
    }
}
