//! Brings tenants along that came back behind the promoted set, outside any rollout.
//!
//! A rollout looks at who is there until it ends. A tenant in the grace of its deletion is not; restored later, it would
//! stay behind until the next one. The restoration does not wait for this, and does not fail with it: the tenant is served
//! with what it has, as it would be while a rollout is on its way to it.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use tenantry_store::{ClaimedTarget, Straggler};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::target;
use crate::control::Control;
use crate::error::ControlError;
use crate::migration_sets;

/// Looks so often for somebody who is behind.
const POLL: Duration = Duration::from_secs(2);
/// How many are brought along at the same time by one replica.
const CONCURRENCY: usize = 4;

/// Works until told to stop. Whoever is in hand then is let go, and is taken up again when the lease ends.
pub(crate) async fn run(control: &Control, stop: &CancellationToken) {
    let working = async {
        loop {
            if let Err(error) = pass(control).await {
                warn!(%error, "tenants that are behind could not be brought along; trying again");
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        () = working => {}
        () = stop.cancelled() => {}
    }
}

/// Takes up everybody who is due. One that takes long holds up nobody.
async fn pass(control: &Control) -> Result<(), ControlError> {
    let (store, config) = (control.store(), control.config());
    store.forget_stragglers().await?;
    let mut working = FuturesUnordered::new();
    let mut renew = tokio::time::interval(config.lease / 3);
    loop {
        let room = CONCURRENCY - working.len();
        if room > 0 {
            match store.claim_stragglers(config.replica, config.lease, room).await {
                Ok(claimed) => working.extend(claimed.into_iter().map(|target| bring_along(control, target))),
                Err(error) if working.is_empty() => return Err(error.into()),
                // Those in hand go on meanwhile.
                Err(error) => warn!(%error, "nobody else who is behind could be claimed; trying again"),
            }
        }
        if working.is_empty() {
            return Ok(());
        }
        tokio::select! {
            Some(()) = working.next() => {}
            _ = renew.tick() => {
                if let Err(error) = store.renew_stragglers(config.replica, config.lease).await {
                    warn!(%error, "leases on those who are behind could not be renewed; trying again");
                }
            }
        }
    }
}

async fn bring_along(control: &Control, target: ClaimedTarget) {
    if let Err(error) = migrate(control, &target).await {
        warn!(tenant_id = %target.tenant, %error, "a tenant that is behind was not brought along; trying again");
    }
}

async fn migrate(control: &Control, target: &ClaimedTarget) -> Result<(), ControlError> {
    let Some(promoted) = control.store().promoted().await? else { return Ok(()) };
    let set = migration_sets::load(control, &promoted.id).await?;
    let result = target::migrate(control, &set, target, None).await;
    control.store().finish_straggler(control.config().replica, &promoted.id, &result).await?;
    if let Some(error) = &result.error {
        warn!(tenant_id = %target.tenant, %error, "a tenant that is behind cannot be brought along");
    } else {
        info!(tenant_id = %target.tenant, state = %result.state, "a tenant that was behind was brought along");
    }
    Ok(())
}

/// How a tenant is behind, in a sentence.
pub(crate) fn sentence(straggler: &Straggler) -> String {
    let Straggler { version, promoted_version, attempts, error, due_at } = straggler;
    let behind =
        format!("it came back at version {version}, behind the promoted set, which ends at {promoted_version}");
    match error.as_ref().map(|error| error.get("message").and_then(Value::as_str).unwrap_or("it is not known why")) {
        None => format!("{behind}; it is being brought there"),
        Some(reason) => {
            format!("{behind}; attempt {attempts} to bring it there failed: {reason}; the next one is due at {due_at}")
        }
    }
}
