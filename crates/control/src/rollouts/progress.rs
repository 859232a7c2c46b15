//! How a rollout goes on: what its results lead to, and when the next wave begins.

use jiff::Timestamp;
use tenantry_domain::{RolloutId, RolloutState, RolloutStop, TargetState, WaveTally};
use tenantry_store::{RolloutCounts, RolloutRecord, StoreError, TargetResult, Tx};
use tracing::{error, info};

use crate::control::Control;
use crate::error::ControlError;
use crate::reconcilers::templates;
use crate::warm_pool;

/// Writes results, and stops the rollout where too much has failed. They are gone from the list once written.
pub(super) async fn write(
    control: &Control,
    id: RolloutId,
    results: &mut Vec<TargetResult>,
) -> Result<(), ControlError> {
    if results.is_empty() {
        return Ok(());
    }
    let mut tx = control.store().begin().await?;
    let plan = tx.lock_rollout_plan(id).await?;
    let taken = tx.finish_targets(id, control.config().replica, results).await?;
    let mut streak = plan.streak.clone();
    let mut has_failed = false;
    let finished = |result: &&TargetResult| taken.contains(&result.tenant) && result.state != TargetState::Pending;
    for result in results.iter().filter(finished) {
        has_failed |= result.state == TargetState::Failed;
        streak.follow(sqlstate(result));
    }
    let mut stop = plan.stop.clone();
    if has_failed && stop.is_none() {
        let waves = tx.lock_rollout(id).await?.wave_counts;
        let tallies: Vec<WaveTally> = waves.iter().map(RolloutCounts::tally).collect();
        stop = RolloutStop::due(&plan.waves, plan.error_budget, plan.breaker, &tallies, &streak);
        if let Some(stop) = &stop {
            error!(reason = %stop, "the rollout begins no more tenants");
        }
    }
    if streak != plan.streak || stop != plan.stop {
        tx.note_failures(id, &streak, stop.as_ref()).await?;
    }
    tx.commit().await?;
    results.clear();
    Ok(())
}

/// What PostgreSQL called the failure.
fn sqlstate(result: &TargetResult) -> Option<&str> {
    result.error.as_ref()?.get("sqlstate")?.as_str()
}

/// What comes next where nothing runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// There may be something to claim now.
    GoesOn,
    /// For a time, other replicas, or what has stepped aside.
    Waits,
    /// There is nothing left to do for this replica.
    Over,
}

/// Decides what comes next where nothing runs here.
pub(super) async fn settle(control: &Control, id: RolloutId) -> Result<Settled, ControlError> {
    let tx = control.store().begin().await?;
    let rollout = match tx.lock_rollout(id).await {
        Ok(rollout) => rollout,
        Err(StoreError::NotFound { .. }) => return Ok(Settled::Over),
        Err(error) => return Err(error.into()),
    };
    if !matches!(rollout.state, RolloutState::Queued | RolloutState::Running) {
        return Ok(Settled::Over);
    }
    if rollout.stop.is_some() {
        // Those that other replicas have begun are finished.
        return if tx.has_targets_in_hand(id).await? {
            Ok(Settled::Waits)
        } else {
            end(tx, id, RolloutState::Failed).await
        };
    }
    if is_wave_open(&rollout) {
        return Ok(Settled::Waits);
    }
    if let Some(next) = next_wave(&rollout) {
        return go_on(tx, &rollout, next).await;
    }
    // Locks the promoted set against provisions that begin now, so that "nobody is below" stays true at the commit.
    let rest = tx.rest_of_rollout(id).await?;
    if rest.is_open {
        tx.commit().await?;
        return Ok(Settled::Waits);
    }
    if rest.has_failed {
        return end(tx, id, RolloutState::Failed).await;
    }
    tx.promote_set_of_rollout(id).await?;
    end(tx, id, RolloutState::Succeeded).await
}

/// Whether somebody in the wave under way, or an earlier one, is not finished.
fn is_wave_open(rollout: &RolloutRecord) -> bool {
    let begun = usize::try_from(rollout.wave).map_or(usize::MAX, |wave| wave.saturating_add(1));
    rollout.wave_counts.iter().take(begun).any(|counts| counts.pending + counts.running > 0)
}

/// The next wave that has anybody in it, or the last. `None` in the last.
fn next_wave(rollout: &RolloutRecord) -> Option<u32> {
    let last = u32::try_from(rollout.waves.last()).ok()?;
    let waves = rollout.wave_counts.iter().zip(0_u32..);
    let with_tenants = waves.filter(|(counts, _)| counts.pending > 0).map(|(_, number)| number);
    with_tenants.chain([last]).find(|number| *number > rollout.wave)
}

/// Begins the next wave once the bake time of the one before is over. Where that one was the last canary, the set is
/// promoted: new tenants begin with it.
async fn go_on(tx: Tx, rollout: &RolloutRecord, next: u32) -> Result<Settled, ControlError> {
    let under_way = usize::try_from(rollout.wave).unwrap_or(usize::MAX);
    let bakes = rollout.waves.as_slice().get(under_way).is_some_and(|wave| wave.bake_seconds > 0);
    // A wave that took nobody has nothing to show.
    let has_shown = rollout.wave_counts.get(under_way).is_some_and(|counts| counts.applied + counts.failed > 0);
    if bakes && has_shown {
        match rollout.bakes_until() {
            None => {
                info!(wave = rollout.wave + 1, "the wave is through; it bakes before the next one begins");
                tx.bake(rollout.id).await?;
                tx.commit().await?;
                return Ok(Settled::Waits);
            }
            Some(until) if Timestamp::now() < until => return Ok(Settled::Waits),
            Some(_) => {}
        }
    }
    tx.begin_wave(rollout.id, next).await?;
    if usize::try_from(next) == Ok(rollout.waves.last()) {
        tx.promote_set_of_rollout(rollout.id).await?;
        wake_upkeep(&tx).await?;
    }
    tx.commit().await?;
    info!(wave = next + 1, "the next wave begins");
    Ok(Settled::GoesOn)
}

async fn end(tx: Tx, id: RolloutId, state: RolloutState) -> Result<Settled, ControlError> {
    tx.change_rollout(id, state).await?;
    wake_upkeep(&tx).await?;
    tx.commit().await?;
    info!(%state, "the rollout has ended");
    Ok(Settled::Over)
}

/// New tenants may start with another set now.
async fn wake_upkeep(tx: &Tx) -> Result<(), ControlError> {
    tx.poke_reconciler(warm_pool::NAME).await?;
    tx.poke_reconciler(templates::NAME).await?;
    Ok(())
}
