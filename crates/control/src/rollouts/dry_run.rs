//! Trying a set on a few tenants before the fleet gets it. Everything is undone.

mod sample;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tenantry_domain::{Access, ClusterId, Home, HomeId, MigrationSetId, Scope, Slug, TenantId, Waves};
use tenantry_fleet::{DryRun, TrialOutcome};
use tenantry_migration_set::MigrationSet;
use tenantry_store::{AuditEntry, ProspectiveHome, StoreError};
use tracing::warn;

use super::set_to_reach;
use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::migration_sets;
use crate::operations::cluster_target::{cluster_target, target_of};

/// Most tenants that one dry run tries the set on.
pub const SAMPLE_MAX: usize = 20;
/// The longest that it may take for one tenant.
pub const TIME_LIMIT_MAX: Duration = Duration::from_mins(10);
/// Of so many tenants, drawn from those that lack the set, the sizes are measured.
const MEASURED_MAX: usize = 500;
/// For waiting on one lock, as in a rollout.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The wish to try a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRunWish {
    /// The set, pushed before.
    pub migration_set: MigrationSetId,
    /// On how many tenants.
    pub tenants: usize,
    /// The longest that it may take for each.
    pub time_limit: Duration,
}

/// Whom the set is tried on, one after the other.
#[derive(Debug)]
pub struct DryRunSample {
    /// How many tenants lack the set.
    pub pending: u64,
    /// The chosen ones, from the smallest to the largest.
    pub tenants: Vec<SampledTenant>,
    left: VecDeque<(SampledTenant, Home)>,
    set: Arc<MigrationSet>,
    time_limit: Duration,
}

/// A tenant that the set is tried on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledTenant {
    /// Which.
    pub tenant: TenantId,
    /// As people call it, for those who may see tenants.
    pub slug: Option<Slug>,
    /// The space that its home takes, where that could be measured.
    pub bytes: Option<u64>,
}

/// What came of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantTrial {
    /// Which.
    pub tenant: SampledTenant,
    /// What each file did, or why nothing could be tried.
    pub result: Result<DryRun, String>,
    /// How long it took.
    pub duration: Duration,
}

impl TenantTrial {
    /// Whether something did not work.
    pub fn has_failed(&self) -> bool {
        self.result
            .as_ref()
            .map_or(true, |run| run.files.iter().any(|file| matches!(file.outcome, TrialOutcome::Failed(_))))
    }
}

/// Chooses tenants of different sizes among those that lack the set.
pub async fn dry_run(control: &Control, caller: &Caller, wish: DryRunWish) -> Result<DryRunSample, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Write))?;
    if !(1..=SAMPLE_MAX).contains(&wish.tenants) {
        return Err(ControlError::invalid("/tenants", format!("use 1 to {SAMPLE_MAX}")));
    }
    if wish.time_limit.is_zero() || wish.time_limit > TIME_LIMIT_MAX {
        return Err(ControlError::invalid("/timeout_seconds", format!("use 1 to {}", TIME_LIMIT_MAX.as_secs())));
    }
    let tx = control.store().begin().await?;
    let set = set_to_reach(&tx, &wish.migration_set).await?;
    let prospect = tx.rollout_prospect(&set.id, &Waves::standard(), false).await?;
    tx.commit().await?;
    let drawn: Vec<TenantId> = prospect.tenants.iter().take(MEASURED_MAX).map(|target| target.tenant).collect();
    let chosen = sample::of_different_sizes(measured(control, &drawn).await?, wish.tenants);
    let ids: Vec<TenantId> = chosen.iter().map(|(home, _)| home.tenant).collect();
    let tx = control.store().begin().await?;
    tx.audit(&AuditEntry {
        after: Some(json!({ "tenants": ids, "timeout_seconds": wish.time_limit.as_secs() })),
        ..caller.does("rollout.dry_run", format!("migration_set/{}", set.id))
    })
    .await?;
    tx.commit().await?;
    let may_see = caller.scopes.allows(Scope::Tenants(Access::Read));
    let left: VecDeque<(SampledTenant, Home)> = chosen
        .into_iter()
        .map(|(it, bytes)| (SampledTenant { tenant: it.tenant, slug: may_see.then_some(it.slug), bytes }, it.home))
        .collect();
    Ok(DryRunSample {
        pending: u64::try_from(prospect.tenants.len()).unwrap_or(u64::MAX),
        tenants: left.iter().map(|(tenant, _)| tenant.clone()).collect(),
        left,
        set: migration_sets::load(control, &set.id).await?,
        time_limit: wish.time_limit,
    })
}

impl DryRunSample {
    /// Tries the set on the next tenant. One at a time: each holds locks while it is tried. Dropped in the middle, the
    /// statement that runs is cancelled.
    pub async fn try_next(&mut self, control: &Control) -> Option<TenantTrial> {
        let (tenant, home) = self.left.pop_front()?;
        let began = Instant::now();
        let result = attempt(control, &self.set, &home, self.time_limit).await;
        Some(TenantTrial { tenant, result, duration: began.elapsed() })
    }
}

async fn attempt(control: &Control, set: &MigrationSet, home: &Home, limit: Duration) -> Result<DryRun, String> {
    let store = control.store();
    let access = tokio::try_join!(store.home(home.id), store.cluster_access(home.cluster));
    let (record, access) = access.map_err(|error| match error {
        StoreError::NotFound { .. } => "the tenant has moved, or is being deleted".to_owned(),
        other => other.to_string(),
    })?;
    let (target, password) = (target_of(access), &record.secrets.migrator);
    let tried = control.fleet().dry_run(&target, &record.home, password, set, LOCK_TIMEOUT, limit).await;
    tried.map_err(|error| error.to_string())
}

/// The homes of some tenants with the space that they take, where their clusters tell.
async fn measured(
    control: &Control,
    tenants: &[TenantId],
) -> Result<Vec<(ProspectiveHome, Option<u64>)>, ControlError> {
    let homes = control.store().prospective_homes(tenants).await?;
    let mut by_cluster: BTreeMap<ClusterId, Vec<Home>> = BTreeMap::new();
    for home in &homes {
        by_cluster.entry(home.home.cluster).or_default().push(home.home.clone());
    }
    let measuring = by_cluster.into_iter().map(async |(cluster, homes)| {
        let sizes = async {
            let target = cluster_target(control, cluster).await?;
            Ok::<_, ControlError>(control.fleet().home_sizes(&target, &homes).await?)
        };
        sizes.await.unwrap_or_else(|error| {
            warn!(%error, cluster_id = %cluster, "the homes of a cluster could not be measured");
            Vec::new()
        })
    });
    let sizes: BTreeMap<HomeId, u64> = join_all(measuring).await.into_iter().flatten().collect();
    Ok(homes
        .into_iter()
        .map(|home| {
            let size = sizes.get(&home.home.id).copied();
            (home, size)
        })
        .collect())
}
