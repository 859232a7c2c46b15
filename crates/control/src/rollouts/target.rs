//! One tenant of a rollout.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tenantry_domain::{SchemaVersion, TargetState};
use tenantry_fleet::{ApplyOptions, FleetError, MigrationFailure};
use tenantry_migration_set::MigrationSet;
use tenantry_store::{ClaimedTarget, StoreError, TargetResult};
use tracing::warn;

use crate::backoff::backoff;
use crate::control::Control;
use crate::migration_sets::failure_json;
use crate::operations::cluster_target::target_of;

/// Attempts at one tenant before it counts as failed: with a lock that is waited for two seconds each time, three quarters
/// of a minute.
const ATTEMPTS_MAX: u32 = 10;
/// Wait after the first attempt; doubles with each, up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Brings one tenant to the set. Trouble that may pass is waited out; what remains is the target's result.
pub(crate) async fn migrate(control: &Control, set: &MigrationSet, target: &ClaimedTarget) -> TargetResult {
    let began = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (state, to_version, error) = match attempt(control, set, target).await {
            Ok(applied) => (if applied.1 { TargetState::Applied } else { TargetState::Already }, applied.0, None),
            Err(Trouble::Passing(reason)) if attempts < ATTEMPTS_MAX => {
                warn!(tenant_id = %target.tenant, attempts, reason, "migrating a tenant did not get done; trying again");
                tokio::time::sleep(backoff(BACKOFF, BACKOFF_MAX, attempts)).await;
                continue;
            }
            Err(Trouble::Passing(reason)) => (TargetState::Failed, None, Some(json!({ "message": reason }))),
            Err(Trouble::Gone) => (TargetState::Skipped, None, None),
            Err(Trouble::Lasting(error)) => (TargetState::Failed, None, Some(error)),
            Err(Trouble::Migration(failure)) => {
                (TargetState::Failed, Some(reached(set, target, failure.version)), Some(failure_json(&failure)))
            }
        };
        return TargetResult {
            tenant: target.tenant,
            home: target.home,
            state,
            to_version,
            attempts,
            error,
            duration: began.elapsed(),
        };
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
) -> Result<(Option<SchemaVersion>, bool), Trouble> {
    let (home, access) = tokio::try_join!(control.store().home(target.home), async {
        control.store().cluster_access(target.cluster).await
    },)
    .map_err(|error| match error {
        StoreError::NotFound { .. } => Trouble::Gone,
        other => Trouble::Passing(other.to_string()),
    })?;
    let cluster = target_of(access);
    let options = ApplyOptions::default();
    match control.fleet().apply(&cluster, &home.home, &home.secrets.migrator, set, &options).await {
        Ok(applied) => Ok((Some(applied.to), applied.count > 0)),
        Err(FleetError::Migration(failure)) => Err(Trouble::Migration(failure)),
        Err(error) if error.is_retryable() => Err(Trouble::Passing(error.to_string())),
        Err(error) => {
            // The home may be gone because its tenant is being deleted right now.
            match control.store().is_live(target.tenant).await {
                Ok(false) => Err(Trouble::Gone),
                Ok(true) | Err(_) => Err(Trouble::Lasting(json!({ "message": error.to_string() }))),
            }
        }
    }
}

/// The version at which a home stands whose migration failed: files run in order, and those before it stay.
fn reached(set: &MigrationSet, target: &ClaimedTarget, failed: i64) -> SchemaVersion {
    let before = set.migrations().iter().map(|migration| migration.version).filter(|version| *version < failed).max();
    target.from_version.max(SchemaVersion(before.unwrap_or_default()))
}
