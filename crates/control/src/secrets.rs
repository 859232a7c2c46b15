//! What seals the secrets in the catalog, and moving it from one master key to the next.

use serde_json::json;
use tenantry_domain::Scope;
use tenantry_store::{MasterKeyRecord, ReplicaRecord};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::reconcilers::master_keys::NAME as MASTER_KEYS;

/// How secrets are sealed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsStatus {
    /// Every master key that is known, ascending by version.
    pub master_keys: Vec<MasterKeyRecord>,
    /// Replicas that are alive.
    pub replicas: Vec<ReplicaRecord>,
}

impl SecretsStatus {
    /// The version that wraps.
    pub fn current(&self) -> Option<i32> {
        self.master_keys.iter().find(|key| key.is_current).map(|key| key.version)
    }

    /// Data keys and secrets that another master key than the current one holds.
    pub fn pending(&self) -> u32 {
        let rest = self.master_keys.iter().map(|key| {
            // What a master key seals itself is to be moved in any case.
            key.direct_secrets + if key.is_current { 0 } else { key.data_keys }
        });
        rest.sum()
    }
}

/// How secrets are sealed now.
pub async fn status(control: &Control, caller: &Caller) -> Result<SecretsStatus, ControlError> {
    caller.require_fleet_wide(Scope::Admin)?;
    look(control).await
}

/// Makes the newest master key of this replica the one that wraps; everything that older ones hold is moved in the
/// background. Refused while a live replica lacks the key, because it could not open what is sealed from then on. With the
/// newest key in use already nothing changes, but moving goes on at once.
pub async fn rotate_master_key(control: &Control, caller: &Caller) -> Result<SecretsStatus, ControlError> {
    caller.require_fleet_wide(Scope::Admin)?;
    let store = control.store();
    let newest = store.master_key_versions().last().copied().unwrap_or_default();
    let tx = store.begin().await?;
    let current = tx.lock_current_master_key().await?.unwrap_or_default();
    if newest < current {
        return Err(ControlError::Unavailable {
            reason: format!(
                "this replica lacks master key version {current}, which wraps already; restart it with the key"
            ),
            retry_after: std::time::Duration::from_secs(10),
            source: None,
        });
    }
    if newest > current {
        let without: Vec<String> = store
            .live_replicas()
            .await?
            .into_iter()
            .filter(|replica| !replica.master_key_versions.contains(&newest))
            .map(|replica| replica.id.to_string())
            .collect();
        if !without.is_empty() {
            return Err(ControlError::InvalidState {
                reason: format!(
                    "{} of the replicas that were alive within the last minute lack master key version {newest} ({}); \
                     add it to their configuration, restart them, and repeat this",
                    without.len(),
                    without.join(", ")
                ),
            });
        }
        tx.set_current_master_key(newest).await?;
        let mut entry = caller.does("master_key.rotate", format!("master_key/{newest}"));
        entry.before = Some(json!({ "version": current }));
        entry.after = Some(json!({ "version": newest }));
        tx.audit(&entry).await?;
    }
    tx.poke_reconciler(MASTER_KEYS).await?;
    tx.commit().await?;
    store.report_replica(control.config().replica).await?;
    look(control).await
}

async fn look(control: &Control) -> Result<SecretsStatus, ControlError> {
    let store = control.store();
    let (master_keys, replicas) = tokio::try_join!(store.master_keys(), store.live_replicas())?;
    Ok(SecretsStatus { master_keys, replicas })
}
