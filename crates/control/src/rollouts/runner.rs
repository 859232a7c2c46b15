//! Carries rollouts out: claims targets, migrates a bounded number at the same time, writes results in batches.
//!
//! Every replica runs one of these. Targets are claimed with a lease each, so several replicas share one rollout, and
//! those of a replica that died are taken up again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use serde_json::json;
use tenantry_domain::{TargetState, TenantId};
use tenantry_migration_set::MigrationSet;
use tenantry_store::{ClaimedTarget, RolloutRecord, StoreError, TargetResult};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span, warn};

use super::progress::{self, Settled};
use super::queue;
use super::reserve::Reserve;
use super::target::{self, Place, Places};
use crate::control::Control;
use crate::error::ControlError;
use crate::migration_sets;

/// Looks at least this often for a rollout, in case news was lost.
const POLL: Duration = Duration::from_secs(5);
/// The first pause while a rollout has nothing to claim but is not at its end (bake times, other replicas, targets that
/// have stepped aside, tenants being born); doubles up to [`IDLE_MAX`] while nothing happens.
const IDLE: Duration = Duration::from_millis(100);
const IDLE_MAX: Duration = Duration::from_secs(2);
/// How long targets that run may take to finish after the stop. Those cut off are taken up when their lease ends.
const DRAIN: Duration = Duration::from_secs(10);
/// The longest that a free place waits to be filled; doubles up to [`REFILL_MAX`] while nobody is left to fill it.
const REFILL: Duration = Duration::from_millis(10);
const REFILL_MAX: Duration = Duration::from_secs(1);
/// The longest that a result waits to be written.
const FLUSH: Duration = Duration::from_millis(150);
/// Results that are written together.
const BATCH: usize = 64;

/// Works on rollouts until told to stop.
pub(crate) async fn run(control: &Control, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let worked = match control.store().open_rollout().await {
            Ok(Some(rollout)) => {
                let span = info_span!("rollout", rollout_id = %rollout.id);
                // On the heap: it is large, and there is one.
                match Box::pin(carry_out(control, &rollout, stop).instrument(span)).await {
                    Ok(()) => true,
                    Err(error) => {
                        warn!(%error, rollout_id = %rollout.id, "a rollout did not get on; trying again");
                        false
                    }
                }
            }
            Ok(None) => queue::begin_next(control).await.unwrap_or_else(|error| {
                warn!(%error, "no rollout that waits could begin; trying again");
                false
            }),
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
    // Places are filled some at a time, and results written in larger batches: an exchange with the catalog costs as much
    // as a small migration.
    let some = concurrency.div_ceil(2);
    let mut places = Places::default();
    let mut reserve = Reserve::new();
    let may_begin = || !stop.is_cancelled() && queue::opens_at(rollout, Timestamp::now()).is_none();
    let mut oldest = Instant::now();
    let mut refill = REFILL;
    let mut renew = tokio::time::interval(config.lease / 3);
    let mut idle = IDLE;
    let mut out_of_time = std::pin::pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    });
    loop {
        if is_due(&results, oldest)
            && let Err(error) = progress::write(control, rollout.id, &mut results).await
        {
            warn!(%error, "the catalog does not take results; trying again");
            tokio::time::sleep(IDLE).await;
        }
        reserve.settle(control, rollout.id, may_begin()).await;
        let room = concurrency.saturating_sub(running.len());
        if room > 0 && !may_begin() {
            refill = REFILL_MAX;
        } else if room > 0 && reserve.is_empty() {
            match claim(control, rollout, room, &results, &mut places, &mut reserve).await {
                Ok(claimed) if claimed.is_empty() => refill = (refill * 2).min(REFILL_MAX),
                Ok(claimed) => {
                    running.extend(claimed.into_iter().map(|(target, place)| begin(control, &set, target, place)));
                    (idle, refill) = (IDLE, REFILL);
                }
                Err(error) => {
                    warn!(%error, "no targets could be claimed; trying again");
                    tokio::time::sleep(IDLE).await;
                }
            }
        }
        let next = std::iter::from_fn(|| reserve.take()).take(concurrency.saturating_sub(running.len()));
        running.extend(next.map(|(target, place)| begin(control, &set, target, place)));
        // Not before all is given back.
        if running.is_empty() && !reserve.is_empty() && !stop.is_cancelled() {
            continue;
        }
        if running.is_empty() {
            progress::write(control, rollout.id, &mut results).await?;
            if stop.is_cancelled() {
                return Ok(());
            }
            match progress::settle(control, rollout.id).await? {
                Settled::Over => return Ok(()),
                Settled::GoesOn => continue,
                Settled::Waits => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = control.signals().rollouts_woken() => idle = IDLE,
                () = tokio::time::sleep(idle) => idle = (idle * 2).min(IDLE_MAX),
            }
            continue;
        }
        // Until there is room for some, or for one for long enough, or a result is to be written. One slow tenant does not
        // hold the others' results.
        loop {
            tokio::select! {
                Some(result) = running.next() => {
                    if results.is_empty() {
                        oldest = Instant::now();
                    }
                    reserve.note(&result);
                    results.push(result);
                    if may_begin() && let Some((target, place)) = reserve.take() {
                        running.push(begin(control, &set, target, place));
                    }
                    if concurrency - running.len() >= some || is_due(&results, oldest) {
                        break;
                    }
                }
                () = stop.cancelled(), if !reserve.is_empty() => break,
                () = tokio::time::sleep_until(reserve.ends().into()), if !reserve.is_empty() => break,
                () = control.signals().rollouts_woken(), if !reserve.is_empty() => {
                    if reserve.is_wanted_back(control, rollout.id).await {
                        break;
                    }
                }
                () = &mut out_of_time => return progress::write(control, rollout.id, &mut results).await,
                () = tokio::time::sleep(refill), if running.len() < concurrency => break,
                () = tokio::time::sleep_until((oldest + FLUSH).into()), if !results.is_empty() => break,
                _ = renew.tick() => {
                    if let Err(error) = control.store().renew_targets(rollout.id, config.replica, config.lease).await {
                        warn!(%error, "leases on targets could not be renewed; trying again");
                    }
                }
            }
        }
    }
}

/// Whether results are to be written now. A failure may stop the rollout, so it waits for nothing.
fn is_due(results: &[TargetResult], oldest: Instant) -> bool {
    let has_failed = results.iter().any(|result| result.state == TargetState::Failed);
    has_failed || results.len() >= BATCH || !results.is_empty() && oldest.elapsed() >= FLUSH
}

/// Claims targets for the places that are free, and says how to reach them. What comes along beyond that is reserved.
async fn claim(
    control: &Control,
    rollout: &RolloutRecord,
    room: usize,
    results: &[TargetResult],
    places: &mut Places,
    reserve: &mut Reserve,
) -> Result<Vec<(ClaimedTarget, Option<Place>)>, StoreError> {
    let (store, config) = (control.store(), control.config());
    let done: Vec<TenantId> = results.iter().map(|result| result.tenant).collect();
    let ahead = reserve.wanted(rollout.limits.concurrency);
    let claimed = store.claim_targets(rollout.id, config.replica, config.lease, room, ahead, &done).await?;
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = places.of(control, &claimed).await;
    let with_place = |target: ClaimedTarget| {
        let place = found.remove(&target.home);
        (target, place)
    };
    let mut claimed: Vec<_> = claimed.into_iter().map(with_place).collect();
    reserve.keep(claimed.split_off(room.min(claimed.len())));
    Ok(claimed)
}

/// A target as a task of its own: it goes on while the runner waits for the catalog. One that panics has failed; it does
/// not take the runner along.
async fn begin(
    control: &Control,
    set: &Arc<MigrationSet>,
    target: ClaimedTarget,
    place: Option<Place>,
) -> TargetResult {
    let (tenant, home) = (target.tenant, target.home);
    let (control, set) = (control.clone(), Arc::clone(set));
    let work = async move { target::migrate(&control, &set, &target, place).await };
    let task = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
    task.await.unwrap_or_else(|_| TargetResult {
        tenant,
        home,
        state: TargetState::Failed,
        retry_in: None,
        to_version: None,
        repeatables: None,
        attempts: 1,
        error: Some(json!({ "message": "something failed inside; the log has the details" })),
        duration: Duration::ZERO,
    })
}
