//! Upkeep: loops that look at what is, compare it with what should be, and do or enqueue what is missing.
//!
//! A reconciler takes no input, so a lost poke costs time and nothing else. At most one replica at a time makes a pass of
//! each, under a lease in the catalog; a pass is bounded in time and in how much it does, and the next one goes on.

mod cluster_health;
mod connection_leases;
mod drift;
mod idempotency_keys;
mod lifecycle;
pub(crate) mod master_keys;
mod orphans;
mod plan_changes;
pub(crate) mod pool_roles;
mod pooling;
mod reaper;
mod removed_routes;
mod role_changes;
mod role_drift;
pub(crate) mod roles;
pub(crate) mod templates;
mod warm_pool;
mod webhook_upkeep;

use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use serde_json::Value;
use tenantry_store::ReconcilerTurn;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::control::Control;
use crate::error::ControlError;

/// The longest that one pass may take; its lease holds a little longer.
const PASS_MAX: Duration = Duration::from_mins(2);
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// The pause after a pass that failed, unless the period is shorter.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The shortest wait between two looks at whether a pass is due.
const LOOK_MIN: Duration = Duration::from_millis(50);

/// One kind of upkeep.
pub(crate) struct Reconciler {
    /// Its name in the catalog, in pokes and in metrics.
    pub(crate) name: &'static str,
    /// From the end of one pass to the beginning of the next.
    pub(crate) period: Duration,
    /// One pass; returns a short report.
    pub(crate) reconcile: for<'a> fn(&'a Control) -> BoxFuture<'a, Result<Value, ControlError>>,
}

/// Tells tenants that the limits of their plan changed.
pub const PLAN_CHANGES: &str = "plan_changes";
/// Sets roles right whose intended state changed.
pub const ROLE_CHANGES: &str = "role_changes";

/// All of them.
const RECONCILERS: &[Reconciler] = &[
    cluster_health::RECONCILER,
    connection_leases::RECONCILER,
    drift::RECONCILER,
    idempotency_keys::RECONCILER,
    lifecycle::RECONCILER,
    master_keys::RECONCILER,
    orphans::RECONCILER,
    plan_changes::RECONCILER,
    reaper::RECONCILER,
    removed_routes::RECONCILER,
    role_changes::RECONCILER,
    role_drift::RECONCILER,
    templates::RECONCILER,
    warm_pool::RECONCILER,
    webhook_upkeep::RECONCILER,
];

/// The names of all reconcilers.
pub fn names() -> impl Iterator<Item = &'static str> {
    RECONCILERS.iter().map(|reconciler| reconciler.name)
}

/// Asks for a pass of the reconciler at once, by whichever replica takes it first.
pub async fn poke(control: &Control, name: &str) -> Result<(), ControlError> {
    let tx = control.store().begin().await?;
    tx.poke_reconciler(name).await?;
    tx.commit().await?;
    Ok(())
}

/// Makes passes of all of them until told to stop.
pub(crate) async fn run(control: &Control, stop: &CancellationToken) {
    join_all(RECONCILERS.iter().map(|reconciler| {
        drive(control, reconciler, stop).instrument(info_span!("reconciler", reconciler = reconciler.name))
    }))
    .await;
}

async fn drive(control: &Control, reconciler: &Reconciler, stop: &CancellationToken) {
    let (store, owner, name) = (control.store(), control.config().replica, reconciler.name);
    while !stop.is_cancelled() {
        let wait = match store.take_reconciler(name, owner, PASS_MAX + LEASE_MARGIN).await {
            Ok(ReconcilerTurn::Taken) => {
                tokio::select! {
                    () = make_pass(control, reconciler) => {}
                    () = stop.cancelled() => {
                        if let Err(error) = store.release_reconciler(name, owner).await {
                            warn!(%error, "could not give a pass back; its lease will run out");
                        }
                        return;
                    }
                }
                continue;
            }
            Ok(ReconcilerTurn::NotBefore(at)) => {
                Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
            }
            Err(error) => {
                warn!(%error, "could not look whether upkeep is due; trying again");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = control.signals().reconciler_woken(name) => {}
            () = tokio::time::sleep(wait.clamp(LOOK_MIN, reconciler.period.max(LOOK_MIN))) => {}
        }
    }
}

async fn make_pass(control: &Control, reconciler: &Reconciler) {
    let began = tokio::time::Instant::now();
    let made = match tokio::time::timeout(PASS_MAX, (reconciler.reconcile)(control)).await {
        Ok(made) => made.map_err(|error| error.to_string()),
        Err(_) => Err(format!("a pass took longer than {} s", PASS_MAX.as_secs())),
    };
    metrics::histogram!("tenantry_reconciler_seconds", "reconciler" => reconciler.name)
        .record(began.elapsed().as_secs_f64());
    match &made {
        Ok(report) => debug!(%report, "upkeep done"),
        Err(error) => {
            metrics::counter!("tenantry_reconciler_failures_total", "reconciler" => reconciler.name).increment(1);
            warn!(error, "upkeep did not get done; trying again");
        }
    }
    let pause = if made.is_ok() { reconciler.period } else { reconciler.period.min(AFTER_FAILURE) };
    let outcome = made.as_ref().map_err(String::as_str);
    let (store, owner) = (control.store(), control.config().replica);
    if let Err(error) = store.finish_reconciler(reconciler.name, owner, pause, outcome).await {
        warn!(%error, "could not record the end of a pass; its lease will run out");
    }
}
