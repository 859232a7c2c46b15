//! Taking one tenant back to an earlier version of its schema.

use serde_json::json;
use tenantry_domain::{Access, MigrationSetId, OperationId, OperationKind, SchemaVersion, Scope, Tenant, TenantState};
use tenantry_migration_set::{Finding, MigrationSet, Rule, Severity};
use tenantry_store::{NewOperation, Operation, TenantRef};

use super::{audit, summary, visible};
use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::engine::Kind;
use crate::error::ControlError;
use crate::migration_sets;
use crate::operations::migrate_down::{DownProgress, MigrateDown};

/// The wish to go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoBack {
    /// Where to; 0 for before the first migration.
    pub version: SchemaVersion,
    /// By whose down files; the promoted set's unless given.
    pub migration_set: Option<MigrationSetId>,
}

/// Begins to undo what the tenant's schema has above a version. It stays behind the fleet until the next rollout.
///
/// Refused where the set has no down file for one of the versions, while a rollout is under way, paused or not, which
/// would bring the tenant along again, and for a tenant that is neither active nor suspended.
pub async fn migrate_down(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    wish: GoBack,
) -> Result<(Tenant, Operation), ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Write))?;
    let set = match wish.migration_set {
        Some(id) => id,
        None => control.store().promoted().await?.map(|set| set.id).ok_or_else(|| ControlError::InvalidState {
            reason: "no set is promoted; name the one by whose down files it goes back".to_owned(),
        })?,
    };
    let set = migration_sets::load(control, &set).await?;
    if wish.version.0 != 0 && set.migration(wish.version.0).is_none() {
        return Err(ControlError::invalid(
            "/version",
            format!("the set has no version {}; use one of its own", wish.version),
        ));
    }
    let mut tx = control.store().begin().await?;
    let tenant = visible(caller, tenant, tx.lock_tenant(tenant).await?)?;
    let (TenantState::Active { home } | TenantState::Suspended { home, .. }) = &tenant.state else {
        return Err(ControlError::InvalidState {
            reason: format!(
                "tenant `{}` is {}; only one that is active or suspended goes back",
                tenant.slug,
                tenant.state.status()
            ),
        });
    };
    if let Some(rollout) = tx.rollout_under_way().await? {
        return Err(ControlError::InvalidState {
            reason: format!(
                "rollout {rollout} is under way and would bring the tenant along again; wait for it, or abort it"
            ),
        });
    }
    check(&set, wish.version, tenant.schema_version)?;
    let operation = OperationId::new(new_id());
    let progress = DownProgress { home: home.home.id, set: set.id().clone(), version: wish.version, reached: None };
    tx.insert_operation(&NewOperation {
        id: operation,
        kind: OperationKind::MigrateDown,
        tenant: Some(tenant.id),
        cluster: Some(home.home.cluster),
        input: json!({ "migration_set": set.id(), "version": wish.version }),
        progress: serde_json::to_value(progress).map_err(ControlError::internal)?,
        idempotency_key: None,
        code_version: MigrateDown::CODE_VERSION,
    })
    .await?;
    let after = json!({ "schema_version": wish.version, "migration_set": set.id() });
    audit(&mut tx, caller, "tenant.migrate_down", tenant.id, Some(operation), Some(summary(&tenant)), Some(after))
        .await?;
    tx.commit().await?;
    control.signals().wake_operations();
    let operation = control.store().operation(operation).await?;
    Ok((tenant, operation))
}

/// Every version that is to be undone needs a file for it. What the home itself has is looked at when it is done.
fn check(set: &MigrationSet, version: SchemaVersion, from: SchemaVersion) -> Result<(), ControlError> {
    if from < version {
        return Err(ControlError::InvalidState {
            reason: format!("the tenant is at version {from}, below {version}; a rollout brings it forward"),
        });
    }
    let between = set.migrations().iter().filter(|one| one.version > version.0 && one.version <= from.0);
    let findings: Vec<Finding> = between
        .filter(|one| one.down.is_none())
        .map(|one| Finding {
            file: one.file_name(),
            line: 1,
            column: 1,
            rule: Rule::NoWayBack,
            severity: Severity::Error,
            message: format!("nothing undoes it: write {one}.down.sql, and push the set again"),
        })
        .collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(ControlError::MigrationRefused { name: set.name().to_owned(), findings })
    }
}
