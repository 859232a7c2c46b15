//! The doctor: whether the catalog agrees with itself, its audit log is whole, and clusters agree with the catalog. Changes
//! nothing.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;
use tenantry_domain::{Access, HomeId, OrphanVerdict, RoleName, RouteState, Scope, TenantStatus};
use tenantry_fleet::{ClusterTarget, ObservedRole, Stamp};
use tenantry_store::{AuditMark, BreachKind, ChainBreach, ClusterRef, HomeAtRest, PAGE_MAX, PageRequest};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;
use crate::orphans;

/// Homes that are connected to side by side.
const AT_ONCE: usize = 4;
/// Entries of the audit log that take about as long as one home.
const ENTRIES_EACH: usize = 100;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// About what.
    pub subject: String,
    /// What is wrong, and what to do where that can be said.
    pub message: String,
}

/// What a round of checks found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many things were looked at.
    pub checked: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Where the next round goes on; absent when all is looked at.
    pub next: Option<String>,
}

/// One round over the catalog: with the first, whether it agrees with itself, and nothing is stuck, parked or failing;
/// with those after it, whether the chains of the audit log are whole, a hundred entries for each of the page's limit.
pub async fn catalog(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Report, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    let Some(cursor) = &page.cursor else {
        let (checked, findings) = control.store().examine().await?;
        let finding =
            |it: tenantry_store::CatalogFinding| Finding { check: it.check, subject: it.subject, message: it.message };
        let next = Some(AuditMark::default().to_string());
        return Ok(Report { checked, findings: findings.into_iter().map(finding).collect(), next });
    };
    let entries_max = page.limit.clamp(1, PAGE_MAX) as usize * ENTRIES_EACH;
    let round = control.store().verify_audit(&cursor.parse()?, entries_max).await?;
    Ok(Report {
        checked: round.entries,
        findings: round.breaches.iter().map(broken_chain).collect(),
        next: round.next.map(|mark| mark.to_string()),
    })
}

fn broken_chain(breach: &ChainBreach) -> Finding {
    let wrong = match breach.kind {
        BreachKind::Entry(entry) => {
            format!("its entry {entry} was changed, or the one before that is gone")
        }
        BreachKind::Missing(1) => "one entry is gone from its end".to_owned(),
        BreachKind::Missing(entries) => format!("{entries} entries are gone from its end"),
        BreachKind::Head => "it does not end as its head says".to_owned(),
    };
    Finding {
        check: "audit_log",
        subject: format!("audit-log/{}", breach.chain),
        message: format!(
            "the chain is broken: {wrong}; whoever owns the catalog can do that; compare with an export that was kept"
        ),
    }
}

/// One round over a cluster: with the first, whether what is there is what the catalog says, each object; with each, the
/// stamps and logins of a page of homes that nobody works on. A cluster that cannot be reached is a finding.
pub async fn cluster(
    control: &Control,
    caller: &Caller,
    cluster: &ClusterRef,
    page: &PageRequest,
) -> Result<Report, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    let cluster = control.store().cluster(cluster).await?;
    let target = cluster_target(control, cluster.id).await?;
    let subject = format!("cluster/{}", cluster.name);
    if let Err(error) = control.fleet().ping(&target).await {
        let finding = Finding { check: "reachable", subject, message: error.to_string() };
        return Ok(Report { checked: 1, findings: vec![finding], next: None });
    }
    let mut report = Report { checked: 1, ..Report::default() };
    if page.cursor.is_none() {
        report.checked += control.store().catalog_inventory(cluster.id).await?.made.len() as u64;
        // What another catalog owns is no disagreement; `orphan list` shows it.
        let standing = orphans::look(control, cluster.id).await?;
        let standing = standing.into_iter().filter(|finding| finding.verdict != OrphanVerdict::Foreign);
        report.findings.extend(standing.map(|finding| Finding {
            check: if finding.verdict == OrphanVerdict::Ours { "orphans" } else { "missing" },
            subject: format!("{subject}/{}/{}", finding.kind, finding.name),
            message: finding.reason,
        }));
    }
    let homes = control.store().homes_at_rest(cluster.id, page).await?;
    report.checked += homes.items.len() as u64;
    let first = examine_homes(control, &target, &homes.items).await?;
    if !first.is_empty() {
        // Work may have begun meanwhile: only what is still so, on homes that still rest, counts.
        let again = control.store().homes_at_rest(cluster.id, page).await?;
        let second = examine_homes(control, &target, &again.items).await?;
        report.findings.extend(first.intersection(&second).cloned());
    }
    report.next = homes.next;
    Ok(report)
}

async fn examine_homes(
    control: &Control,
    target: &ClusterTarget,
    homes: &[HomeAtRest],
) -> Result<HashSet<Finding>, ControlError> {
    if homes.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<HomeId> = homes.iter().map(|home| home.home.id).collect();
    let roles = control.fleet().logins(target, &ids).await?;
    let roles: HashMap<RoleName, bool> =
        roles.into_iter().map(|ObservedRole { name, can_log_in }| (name, can_log_in)).collect();
    let mut findings: HashSet<Finding> = homes.iter().filter_map(|home| examine_logins(home, &roles)).collect();
    let stamps = homes.iter().cloned().map(|home| examine_stamp(control, target, home)).collect::<Vec<_>>();
    let stamps: Vec<Option<Finding>> = futures::stream::iter(stamps).buffer_unordered(AT_ONCE).collect().await;
    findings.extend(stamps.into_iter().flatten());
    Ok(findings)
}

/// An active tenant's login in use and its reader may log in; of a suspended one, nobody may.
fn examine_logins(home: &HomeAtRest, roles: &HashMap<RoleName, bool>) -> Option<Finding> {
    let names = home.home.names();
    let can_log_in = |role: &RoleName| roles.get(role).copied().unwrap_or_default();
    let wrong = if home.status == TenantStatus::Active {
        [names.login(home.login), &names.read_only].into_iter().find(|role| !can_log_in(role))
    } else {
        [&names.login_a, &names.login_b, &names.read_only].into_iter().find(|role| can_log_in(role))
    }?;
    let may = if home.status == TenantStatus::Active { "may not" } else { "may" };
    let message = format!("the tenant is {}, but its role {wrong} {may} log in", home.status);
    Some(Finding { check: "logins", subject: format!("tenant/{}", home.slug), message })
}

async fn examine_stamp(control: &Control, target: &ClusterTarget, home: HomeAtRest) -> Option<Finding> {
    let state = if home.status == TenantStatus::Active { RouteState::Active } else { RouteState::Suspended };
    let wanted = Stamp { tenant: home.tenant, generation: home.generation, state };
    let message = match control.fleet().read_stamp(target, &home.home).await {
        Ok(Some(stamp)) if stamp == wanted => return None,
        Ok(Some(stamp)) => format!(
            "its home is stamped tenant {}, generation {}, {}; the catalog says {}, {}, {}",
            stamp.tenant, stamp.generation, stamp.state, wanted.tenant, wanted.generation, wanted.state
        ),
        Ok(None) => "its home has no stamp, so no router is let in".to_owned(),
        Err(error) => format!("its stamp cannot be read: {error}"),
    };
    Some(Finding { check: "stamps", subject: format!("tenant/{}", home.slug), message })
}
