//! Carries rollouts out: claims targets, migrates a bounded number at the same time, writes results in batches.
//!
//! Every replica runs one of these. Targets are claimed with a lease each, so several replicas share one rollout, and
//! those of a replica that died are taken up again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tenantry_domain::RolloutState;
use tenantry_migration_set::MigrationSet;
use tenantry_store::{RolloutEnd, RolloutRecord, StoreError, TargetResult};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use super::target;
use crate::control::Control;
use crate::error::ControlError;
use crate::migration_sets;

/// Looks at least this often for a rollout, in case news was lost.
const POLL: Duration = Duration::from_secs(5);
/// While a rollout has nothing to claim but is not at its end (other replicas, tenants being born).
const IDLE: Duration = Duration::from_millis(200);
/// How long a claimed target is ours without being finished. Longer than any attempt: `ApplyOptions` ends those first.
const LEASE: Duration = Duration::from_hours(2);
/// Results that are written together.
const BATCH: usize = 64;
/// The longest that a result waits to be written.
const FLUSH: Duration = Duration::from_millis(50);

/// Works on rollouts until told to stop.
pub(crate) async fn run(control: &Control, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let worked = match control.store().open_rollout().await {
            Ok(Some(rollout)) => {
                let span = info_span!("rollout", rollout_id = %rollout.id);
                match carry_out(control, &rollout, stop).instrument(span).await {
                    Ok(()) => true,
                    Err(error) => {
                        warn!(%error, rollout_id = %rollout.id, "a rollout did not get on; trying again");
                        false
                    }
                }
            }
            Ok(None) => false,
            Err(error) => {
                warn!(%error, "could not look for rollouts; trying again");
                false
            }
        };
        if !worked {
            tokio::select! {
                () = stop.cancelled() => {}
                () = control.signals().rollouts_woken() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

/// Migrates targets until the rollout is finished, paused or aborted.
async fn carry_out(control: &Control, rollout: &RolloutRecord, stop: &CancellationToken) -> Result<(), ControlError> {
    let set = migration_sets::load(control, &rollout.migration_set).await?;
    let mut running = FuturesUnordered::new();
    let mut results: Vec<TargetResult> = Vec::new();
    let concurrency = usize::try_from(rollout.concurrency).unwrap_or(1).max(1);
    let mut flush = tokio::time::interval(FLUSH);
    loop {
        let room = concurrency.saturating_sub(running.len());
        if room > 0 && !stop.is_cancelled() {
            let owner = control.config().replica;
            let claimed = control.store().claim_targets(rollout.id, owner, LEASE, room).await?;
            for target in claimed {
                let (control, set): (Control, Arc<MigrationSet>) = (control.clone(), Arc::clone(&set));
                running.push(async move { target::migrate(&control, &set, &target).await });
            }
        }
        if running.is_empty() {
            write(control, rollout, &mut results).await?;
            if stop.is_cancelled() || settle(control, rollout).await? {
                return Ok(());
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = control.signals().rollouts_woken() => {}
                () = tokio::time::sleep(IDLE) => {}
            }
            continue;
        }
        // Everything that finished by now is written together; one slow tenant does not hold the others' results.
        tokio::select! {
            Some(result) = running.next() => results.push(result),
            _ = flush.tick() => write(control, rollout, &mut results).await?,
        }
        if results.len() >= BATCH {
            write(control, rollout, &mut results).await?;
        }
    }
}

async fn write(
    control: &Control,
    rollout: &RolloutRecord,
    results: &mut Vec<TargetResult>,
) -> Result<(), ControlError> {
    if results.is_empty() {
        return Ok(());
    }
    control.store().finish_targets(rollout.id, control.config().replica, results).await?;
    results.clear();
    Ok(())
}

/// Whether there is nothing left to do here: decides the rollout's end when it has come.
async fn settle(control: &Control, rollout: &RolloutRecord) -> Result<bool, ControlError> {
    let tx = control.store().begin().await?;
    let current = match tx.lock_rollout(rollout.id).await {
        Ok(current) => current,
        Err(StoreError::NotFound { .. }) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    if !matches!(current.state, RolloutState::Queued | RolloutState::Running) {
        return Ok(true);
    }
    // Locks the promoted set against provisions that begin now, so that "nobody is below" stays true at the commit.
    match tx.end_rollout(rollout.id).await? {
        RolloutEnd::Open => {
            tx.commit().await?;
            Ok(false)
        }
        RolloutEnd::Ended(state) => {
            tx.commit().await?;
            info!(state = %state, "the rollout has ended");
            Ok(true)
        }
    }
}
