//! Carries rollouts out: claims targets, migrates a bounded number at the same time, writes results in batches.
//!
//! Every replica runs one of these. Targets are claimed with a lease each, so several replicas share one rollout, and
//! those of a replica that died are taken up again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tenantry_domain::TargetState;
use tenantry_migration_set::MigrationSet;
use tenantry_store::{ClaimedTarget, RolloutRecord, TargetResult};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span, warn};

use super::{progress, target};
use crate::control::Control;
use crate::error::ControlError;
use crate::migration_sets;

/// Looks at least this often for a rollout, in case news was lost.
const POLL: Duration = Duration::from_secs(5);
/// While a rollout has nothing to claim but is not at its end (other replicas, tenants being born).
const IDLE: Duration = Duration::from_millis(200);
/// How long targets that run may take to finish after the stop. Those cut off are taken up when their lease ends.
const DRAIN: Duration = Duration::from_secs(10);
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

/// Migrates targets until the rollout is finished, paused or aborted. Trouble with the catalog is waited out here: what
/// runs goes on meanwhile, and its results are kept until they can be written.
async fn carry_out(control: &Control, rollout: &RolloutRecord, stop: &CancellationToken) -> Result<(), ControlError> {
    let set = migration_sets::load(control, &rollout.migration_set).await?;
    let config = control.config();
    let mut running = FuturesUnordered::new();
    let mut results: Vec<TargetResult> = Vec::new();
    let concurrency = usize::try_from(rollout.limits.concurrency).unwrap_or(1).max(1);
    let mut flush = tokio::time::interval(FLUSH);
    let mut renew = tokio::time::interval(config.lease / 3);
    let mut out_of_time = std::pin::pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    });
    loop {
        let room = concurrency.saturating_sub(running.len());
        if room > 0 && !stop.is_cancelled() {
            match control.store().claim_targets(rollout.id, config.replica, config.lease, room).await {
                Ok(claimed) => running.extend(claimed.into_iter().map(|target| begin(control, &set, target))),
                Err(error) => warn!(%error, "no targets could be claimed; trying again"),
            }
        }
        if running.is_empty() {
            progress::write(control, rollout.id, &mut results).await?;
            if stop.is_cancelled() || progress::settle(control, rollout.id).await? {
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
        let written = tokio::select! {
            Some(result) = running.next() => {
                results.push(result);
                Ok(())
            }
            () = &mut out_of_time => return progress::write(control, rollout.id, &mut results).await,
            _ = flush.tick() => progress::write(control, rollout.id, &mut results).await,
            _ = renew.tick() => {
                let renewed = control.store().renew_targets(rollout.id, config.replica, config.lease).await;
                renewed.map(drop).map_err(ControlError::from)
            }
        };
        let written =
            if results.len() >= BATCH { progress::write(control, rollout.id, &mut results).await } else { written };
        if let Err(error) = written {
            warn!(%error, "the catalog does not take results; trying again");
        }
    }
}

/// A target as a task of its own: it goes on while the runner waits for the catalog. One that panics has failed; it does
/// not take the runner along.
async fn begin(control: &Control, set: &Arc<MigrationSet>, target: ClaimedTarget) -> TargetResult {
    let (tenant, home) = (target.tenant, target.home);
    let (control, set) = (control.clone(), Arc::clone(set));
    let work = async move { target::migrate(&control, &set, &target).await };
    let task = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
    task.await.unwrap_or_else(|_| TargetResult {
        tenant,
        home,
        state: TargetState::Failed,
        to_version: None,
        attempts: 1,
        error: Some(json!({ "message": "something failed inside; the log has the details" })),
        duration: Duration::ZERO,
    })
}
