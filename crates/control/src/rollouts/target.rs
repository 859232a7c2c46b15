//! One tenant of a rollout.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tenantry_domain::{ClusterId, HomeId, SchemaVersion, TargetState};
use tenantry_fleet::{ApplyOptions, ClusterTarget, FleetError, MigrationFailure};
use tenantry_migration_set::MigrationSet;
use tenantry_store::{ClaimedTarget, HomeRecord, StoreError, TargetResult};
use tracing::warn;

use crate::backoff::backoff;
use crate::control::Control;
use crate::migration_sets::failure_json;
use crate::operations::cluster_target::target_of;

/// Attempts at one tenant before it counts as failed: with a lock that is waited for two seconds each time, three quarters
/// of a minute. Between them it steps aside, and others are migrated.
const ATTEMPTS_MAX: u32 = 10;
/// Wait after the first attempt; doubles with each, up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long what is known of a cluster counts without another look.
const CLUSTER_KNOWN: Duration = Duration::from_secs(2);

/// What it takes to reach a home.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    home: HomeRecord,
    cluster: ClusterTarget,
}

/// Looks places up, of several targets at a time.
#[derive(Debug, Default)]
pub(crate) struct Places {
    clusters: HashMap<ClusterId, (Instant, ClusterTarget)>,
}

impl Places {
    /// The places of targets, by home. One that is missing is looked up by its target alone, which tells why.
    pub(crate) async fn of(&mut self, control: &Control, targets: &[ClaimedTarget]) -> HashMap<HomeId, Place> {
        self.clusters.retain(|_, (looked_up, _)| looked_up.elapsed() < CLUSTER_KNOWN);
        for target in targets {
            if !self.clusters.contains_key(&target.cluster)
                && let Ok(access) = control.store().cluster_access(target.cluster).await
            {
                self.clusters.insert(target.cluster, (Instant::now(), target_of(access)));
            }
        }
        let ids: Vec<HomeId> = targets.iter().map(|target| target.home).collect();
        let homes = control.store().homes(&ids).await.unwrap_or_default();
        let place = |home: HomeRecord| {
            let (_, cluster) = self.clusters.get(&home.home.cluster)?;
            Some((home.home.id, Place { home, cluster: cluster.clone() }))
        };
        homes.into_iter().filter_map(place).collect()
    }
}

/// Tries once to bring a tenant to the set. Where the trouble may pass, the target is to be taken up again later; how
/// often it was before is in the target.
pub(crate) async fn migrate(
    control: &Control,
    set: &MigrationSet,
    target: &ClaimedTarget,
    place: Option<Place>,
) -> TargetResult {
    let began = Instant::now();
    let attempts = target.deferrals + 1;
    let mut retry_in = None;
    let (state, to_version, error) = match attempt(control, set, target, place).await {
        Ok(applied) => (if applied.1 { TargetState::Applied } else { TargetState::Already }, applied.0, None),
        Err(Trouble::Passing(reason)) if attempts < ATTEMPTS_MAX => {
            warn!(tenant_id = %target.tenant, attempts, reason, "migrating a tenant did not get done; trying again");
            retry_in = Some(backoff(BACKOFF, BACKOFF_MAX, attempts));
            (TargetState::Pending, None, Some(json!({ "message": reason })))
        }
        Err(Trouble::Passing(reason)) => (TargetState::Failed, None, Some(json!({ "message": reason }))),
        Err(Trouble::Gone) => (TargetState::Skipped, None, None),
        Err(Trouble::Lasting(error)) => (TargetState::Failed, None, Some(error)),
        Err(Trouble::Migration(failure)) => {
            (TargetState::Failed, Some(reached(set, target, failure.version)), Some(failure_json(&failure)))
        }
    };
    let is_whole = matches!(state, TargetState::Applied | TargetState::Already);
    TargetResult {
        tenant: target.tenant,
        home: target.home,
        state,
        retry_in,
        to_version,
        repeatables: Some(set.repeatables_digest()).filter(|digest| is_whole && !digest.is_empty()),
        attempts: 1,
        error,
        duration: began.elapsed(),
    }
}

enum Trouble {
    /// It may work later.
    Passing(String),
    /// It will not work until a person changes something.
    Lasting(Value),
    /// The same for a file of the set.
    Migration(Box<MigrationFailure>),
    /// The tenant is being deleted or has moved.
    Gone,
}

async fn attempt(
    control: &Control,
    set: &MigrationSet,
    target: &ClaimedTarget,
    place: Option<Place>,
) -> Result<(Option<SchemaVersion>, bool), Trouble> {
    let Place { home, cluster } = match place {
        Some(place) => place,
        None => look_up(control, target).await?,
    };
    let (fleet, options) = (control.fleet(), ApplyOptions::default());
    let (password, believed) = (&home.secrets.migrator, target.from_version);
    match fleet.apply_from(&cluster, &home.home, password, set, believed, &options).await {
        Ok(applied) => Ok((Some(applied.to), applied.count > 0)),
        Err(FleetError::Migration(failure)) => Err(Trouble::Migration(failure)),
        Err(error) if error.is_retryable() => Err(Trouble::Passing(error.to_string())),
        // The home itself has said so: it is no matter of a tenant that goes away.
        Err(FleetError::Diverged { reason }) => Err(Trouble::Lasting(json!({ "message": reason, "diverged": true }))),
        Err(error) => {
            // The home may be gone because its tenant is being deleted right now.
            match control.store().is_live(target.tenant).await {
                Ok(false) => Err(Trouble::Gone),
                Ok(true) | Err(_) => Err(Trouble::Lasting(json!({ "message": error.to_string() }))),
            }
        }
    }
}

async fn look_up(control: &Control, target: &ClaimedTarget) -> Result<Place, Trouble> {
    let looked = tokio::try_join!(control.store().home(target.home), control.store().cluster_access(target.cluster));
    match looked {
        Ok((home, access)) => Ok(Place { home, cluster: target_of(access) }),
        Err(StoreError::NotFound { .. }) => Err(Trouble::Gone),
        Err(other) => Err(Trouble::Passing(other.to_string())),
    }
}

/// The version at which a home stands whose migration failed: files run in order, and those before it stay. Repeatable
/// ones come after all that have a version.
fn reached(set: &MigrationSet, target: &ClaimedTarget, failed: i64) -> SchemaVersion {
    if failed == 0 {
        return target.from_version.max(set.latest_version());
    }
    let before = set.migrations().iter().map(|migration| migration.version).filter(|version| *version < failed).max();
    target.from_version.max(SchemaVersion(before.unwrap_or_default()))
}
