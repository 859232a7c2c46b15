//! What a rollout would do now, frozen: who is reached in which wave, and by which files.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};
use tenantry_domain::{Access, RolloutPlanDigest, SchemaVersion, Scope, Slug, TenantId, Wave};
use tenantry_store::{MigrationSetRecord, NewRollout, RolloutLimits, RolloutProspect, StoredMigration};

use super::{CreateRollout, intended};
use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// Tenants of each wave that are named.
const NAMED: usize = 10;

/// What a rollout would do.
#[derive(Debug, Clone)]
pub struct RolloutPlan {
    /// Over everything that it would do. A rollout that is begun with it does this, or is refused.
    pub digest: RolloutPlanDigest,
    /// The set that the fleet would be brought to.
    pub set: MigrationSetRecord,
    /// Its waves in order, empty ones included.
    pub waves: Vec<PlannedWave>,
    /// How hard it would work.
    pub limits: RolloutLimits,
    /// How many failures it would bear, over all waves.
    pub error_budget: tenantry_domain::ErrorBudget,
    /// After how many targets in a row with the same SQLSTATE it would stop.
    pub breaker: Option<u32>,
    /// Whether every tenant's own history would be asked, whatever the catalog knows.
    pub verify: bool,
    /// How many tenants are there already.
    pub already: u64,
    /// The versions that tenants start from, by rising version.
    pub starts: Vec<PlannedStart>,
    /// The files that some tenant lacks, in order.
    pub migrations: Vec<StoredMigration>,
    /// The set's repeatable files by name. Each home says by itself which of them it lacks as they are.
    pub repeatables: Vec<StoredMigration>,
}

/// A wave to be.
#[derive(Debug, Clone)]
pub struct PlannedWave {
    /// As it was asked for.
    pub wave: Wave,
    /// How many tenants it would take.
    pub tenants: u64,
    /// The first of them.
    pub first: Vec<PlannedTenant>,
}

/// A tenant that would be migrated.
#[derive(Debug, Clone)]
pub struct PlannedTenant {
    /// Which.
    pub tenant: TenantId,
    /// As people call it, for those who may see tenants.
    pub slug: Option<Slug>,
}

/// Tenants that have the same version.
#[derive(Debug, Clone, Copy)]
pub struct PlannedStart {
    /// Which.
    pub from_version: SchemaVersion,
    /// How many.
    pub tenants: u64,
}

/// What a rollout would do now. Nothing is done or kept.
pub async fn plan(control: &Control, caller: &Caller, wish: CreateRollout) -> Result<RolloutPlan, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    let tx = control.store().begin().await?;
    let (rollout, set) = intended(control, &tx, wish).await?;
    let prospect = tx.rollout_prospect(&set.id, &rollout.waves, rollout.verify).await?;
    let migrations = tx.migrations_of(&set.id).await?;
    tx.commit().await?;

    let mut starts: BTreeMap<SchemaVersion, u64> = BTreeMap::new();
    for target in &prospect.tenants {
        *starts.entry(target.from_version).or_default() += 1;
    }
    let lowest = starts.keys().next().copied();
    let mut repeatables = control.store().repeatables_of(&set.id).await?;
    if prospect.tenants.is_empty() {
        repeatables.clear();
    }
    let is_lacked = |file: &StoredMigration| lowest.is_some_and(|lowest| SchemaVersion(file.version) > lowest);
    Ok(RolloutPlan {
        digest: digest(&rollout, &prospect),
        waves: waves(control, caller, &rollout, &prospect).await?,
        limits: rollout.limits,
        error_budget: rollout.error_budget,
        breaker: rollout.breaker,
        verify: rollout.verify,
        already: prospect.already,
        starts: starts.into_iter().map(|(from_version, tenants)| PlannedStart { from_version, tenants }).collect(),
        migrations: migrations.into_iter().filter(is_lacked).collect(),
        repeatables,
        set,
    })
}

/// Refuses a rollout that would do something else than was planned.
pub(super) fn check(
    planned: &RolloutPlanDigest,
    rollout: &NewRollout,
    prospect: &RolloutProspect,
) -> Result<(), ControlError> {
    if digest(rollout, prospect) == *planned {
        return Ok(());
    }
    Err(ControlError::Conflict {
        reason: format!(
            "this is not the plan any more: the fleet or what was asked for is another, and a rollout would now reach {} \
             tenants; make a new plan and look at it",
            prospect.tenants.len()
        ),
    })
}

/// Over the set, the waves, the limits, and each tenant to be migrated with its version and wave. Tenants that are there
/// already change nothing, so they come and go without a new plan.
fn digest(rollout: &NewRollout, prospect: &RolloutProspect) -> RolloutPlanDigest {
    let what = json!({
        "migration_set": rollout.migration_set, "waves": rollout.waves, "limits": rollout.limits,
        "error_budget": rollout.error_budget, "breaker": rollout.breaker, "verify": rollout.verify,
    });
    let mut hash = Sha256::new().chain_update(what.to_string());
    for target in &prospect.tenants {
        hash.update(target.tenant.as_uuid().as_bytes());
        hash.update(target.from_version.0.to_be_bytes());
        hash.update(u64::try_from(target.wave).unwrap_or(u64::MAX).to_be_bytes());
    }
    RolloutPlanDigest::from_digest(hash.finalize().into())
}

async fn waves(
    control: &Control,
    caller: &Caller,
    rollout: &NewRollout,
    prospect: &RolloutProspect,
) -> Result<Vec<PlannedWave>, ControlError> {
    let mut waves: Vec<PlannedWave> = rollout
        .waves
        .as_slice()
        .iter()
        .map(|wave| PlannedWave { wave: wave.clone(), tenants: 0, first: vec![] })
        .collect();
    for target in &prospect.tenants {
        if let Some(wave) = waves.get_mut(target.wave) {
            wave.tenants += 1;
            if wave.first.len() < NAMED {
                wave.first.push(PlannedTenant { tenant: target.tenant, slug: None });
            }
        }
    }
    // A token that may migrate need not be one that may see tenants: the ids stand alone then.
    if caller.scopes.allows(Scope::Tenants(Access::Read)) {
        let named: Vec<TenantId> = waves.iter().flat_map(|wave| &wave.first).map(|named| named.tenant).collect();
        let homes = control.store().prospective_homes(&named).await?;
        let slugs: BTreeMap<TenantId, Slug> = homes.into_iter().map(|home| (home.tenant, home.slug)).collect();
        for named in waves.iter_mut().flat_map(|wave| &mut wave.first) {
            named.slug = slugs.get(&named.tenant).cloned();
        }
    }
    Ok(waves)
}
