//! Rollouts that wait: for others, for their time, for their hours.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tenantry_domain::{Hours, RolloutState, RolloutStop};
use tenantry_store::{RolloutRecord, StoreError, Tx};
use tracing::{info, warn};

use crate::control::Control;
use crate::error::ControlError;

/// Most rollouts that wait at the same time.
const WAITING_MAX: u32 = 100;

/// Leaves a rollout that was just recorded to wait its turn.
pub(super) async fn enqueue(tx: &Tx) -> Result<(), ControlError> {
    if tx.count_waiting_rollouts().await? > WAITING_MAX {
        return Err(ControlError::LimitExceeded {
            reason: format!("{WAITING_MAX} rollouts wait already; abort some, or let some begin"),
        });
    }
    Ok(())
}

/// Begins the rollout whose turn it is, if there is one. One beyond whose set the fleet went meanwhile ends instead.
pub(super) async fn begin_next(control: &Control) -> Result<bool, ControlError> {
    let tx = control.store().begin().await?;
    let Some(rollout) = tx.next_rollout().await? else { return Ok(false) };
    if let Some(promoted) = tx.promoted().await?
        && promoted.latest_version > rollout.target_version
    {
        let stop = RolloutStop::Overtaken { version: promoted.latest_version };
        warn!(rollout_id = %rollout.id, reason = %stop, "a rollout that waited ends");
        tx.note_failures(rollout.id, &tenantry_domain::FailureStreak::default(), Some(&stop)).await?;
        tx.change_rollout(rollout.id, RolloutState::Failed).await?;
        tx.commit().await?;
        return Ok(true);
    }
    match tx.start_rollout(rollout.id).await {
        Ok(()) => {}
        // Another one began in the same moment.
        Err(StoreError::Conflict { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    tx.commit().await?;
    info!(rollout_id = %rollout.id, "a rollout that waited begins");
    Ok(true)
}

/// Finds out whether hours can be told on the clocks that they are written for.
pub(super) fn check(hours: &Hours) -> Result<(), ControlError> {
    zone(hours).map(drop).map_err(|error| {
        ControlError::invalid("/hours", format!("the time zone `{}` is not known here: {error}", hours.zone()))
    })
}

/// When the hours of a rollout begin next, if they are over at this moment.
pub fn opens_at(rollout: &RolloutRecord, now: Timestamp) -> Option<Timestamp> {
    let hours = rollout.hours.as_ref()?;
    let next = zone(hours).and_then(|zone| {
        let here = zone.to_datetime(now);
        if hours.contain(here) {
            return Ok(None);
        }
        let next = hours.next_after(here).map(|next| zone.to_timestamp(next)).transpose()?;
        Ok(Some(next.unwrap_or(Timestamp::MAX)))
    });
    // The zone was there when the rollout was made. Without it nobody knows the time, so nothing begins.
    next.unwrap_or_else(|error| {
        warn!(%error, zone = hours.zone(), "the hours of a rollout cannot be told");
        Some(Timestamp::MAX)
    })
}

fn zone(hours: &Hours) -> Result<TimeZone, jiff::Error> {
    match hours.zone() {
        "UTC" => Ok(TimeZone::UTC),
        name => TimeZone::get(name),
    }
}
