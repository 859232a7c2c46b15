//! What sets of files make: looked up, or made once and kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenantry_domain::MigrationSetId;
use tenantry_fleet::{ApplyOptions, ClusterTarget, SCHEMA_FORMAT, SchemaObject};
use tenantry_migration_set::MigrationSet;
use tenantry_store::{NewReference, SCRATCH_KEPT};
use tokio::sync::OnceCell;
use tracing::{Instrument, info, warn};

use crate::control::{Control, new_id};
use crate::error::ControlError;

/// How long one look waits for a reference in the making. That goes on, and later looks find it.
const PATIENCE: Duration = Duration::from_secs(12);

/// Of which files, on which major version of the server.
type Key = (MigrationSetId, i32);
/// A fingerprint, or why there is none: asked for once, however many tenants are held against it.
type Asked = Arc<OnceCell<Result<String, String>>>;

/// The references that one round of looks needs.
#[derive(Default)]
pub(crate) struct References {
    asked: Mutex<HashMap<Key, Asked>>,
}

impl References {
    /// The fingerprint of what the files make on this major version, made on this cluster where nobody has made it yet.
    pub(super) async fn fingerprint(
        &self,
        control: &Control,
        target: &ClusterTarget,
        files: &Arc<MigrationSet>,
        server_major: i32,
    ) -> Result<String, String> {
        let key = (files.id().clone(), server_major);
        // Nothing panics while it holds the lock.
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        asked.get_or_init(|| find_or_make(control, target, files, server_major)).await.clone()
    }
}

/// The objects behind a reference that was found.
pub(super) async fn objects(
    control: &Control,
    files: &MigrationSet,
    server_major: i32,
) -> Result<Vec<SchemaObject>, ControlError> {
    let known = control.store().drift_reference_objects(files.id(), server_major, SCHEMA_FORMAT).await?;
    let known =
        known.ok_or_else(|| ControlError::NotFound { what: "reference for schemas", name: files.id().to_string() })?;
    serde_json::from_value(known).map_err(ControlError::internal)
}

async fn find_or_make(
    control: &Control,
    target: &ClusterTarget,
    files: &Arc<MigrationSet>,
    server_major: i32,
) -> Result<String, String> {
    let known = control.store().drift_reference(files.id(), server_major, SCHEMA_FORMAT).await;
    if let Some(known) = known.map_err(|error| error.to_string())? {
        return Ok(known);
    }
    let version = files.latest_version();
    let making = make(control.clone(), target.clone(), Arc::clone(files), server_major);
    // A task of its own: whoever gives up waiting for it does not stop it halfway.
    let making = tokio::spawn(making.in_current_span());
    match tokio::time::timeout(PATIENCE, making).await {
        Ok(Ok(Ok(fingerprint))) => Ok(fingerprint),
        Ok(Ok(Err(error))) => Err(format!("what the migrations make up to version {version} cannot be told: {error}")),
        Ok(Err(_)) => Err("making the reference was broken off; look again".to_owned()),
        Err(_) => Err(format!("what the migrations make up to version {version} is being found out; look again later")),
    }
}

/// One at a time in each replica. The database is recorded before it exists, dropped as soon as it has served, and dropped
/// once more by upkeep in case that was in vain.
async fn make(
    control: Control,
    target: ClusterTarget,
    files: Arc<MigrationSet>,
    server_major: i32,
) -> Result<String, ControlError> {
    let _turn = control.reference_turn().await;
    if let Some(known) = control.store().drift_reference(files.id(), server_major, SCHEMA_FORMAT).await? {
        return Ok(known);
    }
    let id = new_id();
    let tx = control.store().begin().await?;
    let scratch = tx.plan_scratch(target.id, id).await?;
    tx.commit().await?;
    let options = ApplyOptions { deadline: SCRATCH_KEPT / 2, ..ApplyOptions::default() };
    let made = control.fleet().make_reference(&target, &scratch, &files, &options).await;
    if let Err(error) = control.fleet().drop_database(&target, &scratch).await {
        warn!(%error, database = %scratch, "the database of a reference could not be dropped; upkeep tries again");
    }
    let tx = control.store().begin().await?;
    tx.retire_scratch(id).await?;
    tx.commit().await?;
    let made = made?;
    let reference = NewReference {
        digest: files.id().clone(),
        server_major: made.server_major,
        format: SCHEMA_FORMAT,
        version: files.latest_version(),
        fingerprint: made.fingerprint.clone(),
        objects: serde_json::to_value(&made.objects).map_err(ControlError::internal)?,
    };
    control.store().keep_drift_reference(&reference).await?;
    info!(version = %reference.version, server_major, "a reference for schemas is made");
    Ok(made.fingerprint)
}
