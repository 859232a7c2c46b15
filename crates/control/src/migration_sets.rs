//! Migration sets: registered once, immutable, found by their digest.

use std::sync::Arc;

use serde_json::{Value, json};
use tenantry_domain::{Access, MigrationSetId, Scope};
use tenantry_fleet::MigrationFailure;
use tenantry_migration_set::{FINDINGS_MAX, Finding, MigrationSet, MigrationSetError, Rule, Severity};
use tenantry_store::{AuditEntry, MigrationSetRecord, NewRepeatables, Page, PageRequest, StoredMigration};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// A set with its migrations, as it is shown.
#[derive(Debug, Clone)]
pub struct MigrationSetDetail {
    /// The set.
    pub set: MigrationSetRecord,
    /// Its migrations with a version, in order.
    pub migrations: Vec<StoredMigration>,
    /// Its repeatable ones, by name.
    pub repeatables: Vec<StoredMigration>,
}

/// Registers a set of files (name, content), or finds the same set again. The answer says whether it is new.
///
/// Refused with every finding when a file breaks a rule, and when a version that the promoted set has would change or
/// go missing: tenants have applied it. Repeatable files may change and go.
pub async fn push(
    control: &Control,
    caller: &Caller,
    name: &str,
    files: &[(String, String)],
) -> Result<(MigrationSetDetail, bool), ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Write))?;
    let set = MigrationSet::from_files(name, files).map_err(|error| refused(name, &error))?;
    let stored: Vec<StoredMigration> = set.migrations().iter().map(to_stored).collect();
    let repeatables: Vec<StoredMigration> = set.repeatables().iter().map(to_stored).collect();
    let new_repeatables = NewRepeatables { files: &repeatables, digest: &set.repeatables_digest() };
    let tx = control.store().begin().await?;
    if let Some(promoted) = tx.promoted().await?
        && promoted.id != *set.id()
    {
        check_history(&promoted, &tx.migrations_of(&promoted.id).await?, &set)?;
    }
    let is_new = tx.insert_migration_set(set.id(), set.name(), &stored, new_repeatables).await?;
    if is_new {
        tx.audit(&AuditEntry {
            after: Some(json!({
                "name": set.name(), "latest_version": set.latest_version(), "files": stored.len() + repeatables.len(),
            })),
            ..caller.does("migration_set.push", format!("migration_set/{}", set.id()))
        })
        .await?;
    }
    tx.commit().await?;
    let set = control.store().migration_set(set.id()).await?;
    Ok((MigrationSetDetail { set, migrations: stored, repeatables }, is_new))
}

/// A page of sets, newest first.
pub async fn list(
    control: &Control,
    caller: &Caller,
    page: &PageRequest,
) -> Result<Page<MigrationSetRecord>, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    Ok(control.store().migration_sets(page).await?)
}

/// One set with its migrations.
pub async fn show(control: &Control, caller: &Caller, id: &MigrationSetId) -> Result<MigrationSetDetail, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    let store = control.store();
    let (set, migrations, repeatables) =
        tokio::try_join!(store.migration_set(id), store.migrations_of(id), store.repeatables_of(id))?;
    Ok(MigrationSetDetail { set, migrations, repeatables })
}

/// The set as the fleet applies it. Parsed once and kept: sets never change.
pub(crate) async fn load(control: &Control, id: &MigrationSetId) -> Result<Arc<MigrationSet>, ControlError> {
    if let Some(set) = control.cached_set(id) {
        return Ok(set);
    }
    let store = control.store();
    let (record, migrations, repeatables) =
        tokio::try_join!(store.migration_set(id), store.migrations_of(id), store.repeatables_of(id))?;
    let files: Vec<(String, &str)> = migrations
        .iter()
        .chain(&repeatables)
        .map(|migration| (migration.file_name(), migration.sql.as_str()))
        .chain(migrations.iter().filter_map(StoredMigration::down_file))
        .collect();
    let set = MigrationSet::from_files(&record.name, &files).map_err(ControlError::internal)?;
    let set = Arc::new(set);
    control.cache_set(Arc::clone(&set));
    Ok(set)
}

fn refused(name: &str, error: &MigrationSetError) -> ControlError {
    let findings = error.findings().to_vec();
    if findings.is_empty() {
        ControlError::InvalidRequest { reason: error.to_string(), pointer: Some("/files") }
    } else {
        ControlError::MigrationRefused { name: name.to_owned(), findings }
    }
}

/// What the promoted set has, the new one must have unchanged. Every file that is not so is told.
fn check_history(
    promoted: &MigrationSetRecord,
    applied: &[StoredMigration],
    set: &MigrationSet,
) -> Result<(), ControlError> {
    let broken = |old: &StoredMigration| {
        let file = old.file_name();
        let (file, message) = match set.migration(old.version) {
            None => (file, "tenants have applied this file, and it is missing; put it back".to_owned()),
            Some(new) if new.checksum != old.checksum => (
                new.file_name(),
                format!(
                    "it differs from the {file} that tenants have applied (set {}); undo the edit and write a new version",
                    promoted.id
                ),
            ),
            Some(_) => return None,
        };
        Some(Finding { file, line: 1, column: 1, rule: Rule::AppliedFile, severity: Severity::Error, message })
    };
    let findings: Vec<Finding> = applied.iter().filter_map(broken).take(FINDINGS_MAX).collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(ControlError::MigrationRefused { name: set.name().to_owned(), findings })
    }
}

fn to_stored(migration: &tenantry_migration_set::Migration) -> StoredMigration {
    StoredMigration {
        version: migration.version,
        name: migration.name.clone(),
        kind: migration.kind.prefix(),
        checksum: migration.checksum,
        transactional: migration.transactional,
        phase: migration.phase.map(|phase| phase.to_string()),
        sql: migration.sql.clone(),
        down: migration.down.as_ref().map(|down| down.sql.clone()),
    }
}

/// A failed migration as operations and rollout targets keep it.
pub fn failure_json(failure: &MigrationFailure) -> Value {
    json!({
        "message": failure.message,
        "version": (failure.version > 0).then_some(failure.version),
        "file": failure.file,
        "line": failure.line,
        "column": failure.column,
        "sqlstate": failure.sqlstate,
        "detail": failure.detail,
        "hint": failure.hint,
        "context": failure.context,
    })
}
