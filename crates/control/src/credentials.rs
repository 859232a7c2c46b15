//! A tenant's passwords as admins see them: never, but they can have them changed.

use jiff::Timestamp;
use serde_json::json;
use tenantry_domain::{Access, OperationId, OperationKind, Scope, Tenant, TenantState};
use tenantry_store::{AuditEntry, NewOperation, NextSecrets, Operation, TenantRef};

use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::engine::Kind;
use crate::error::ControlError;
use crate::operations::rotate_credentials::{RotateCredentials, RotationProgress};
use crate::tenants::{check_match, visible};

/// Begins to give the tenant's login roles other passwords. Clients of routers see no error meanwhile.
pub async fn rotate(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    if_match: Option<Timestamp>,
) -> Result<(Tenant, Operation), ControlError> {
    caller.require(Scope::Tenants(Access::Write))?;
    let tx = control.store().begin().await?;
    let tenant = visible(caller, tenant, tx.lock_tenant(tenant).await?)?;
    check_match(&tenant, if_match)?;
    let TenantState::Active { home } = &tenant.state else {
        return Err(ControlError::InvalidState {
            reason: format!(
                "tenant `{}` is {}; only the credentials of an active tenant are rotated",
                tenant.slug,
                tenant.state.status()
            ),
        });
    };
    // Which slot is in use changes by a rotation only, and the operation below is the only one.
    let record = control.store().home(home.home.id).await?;
    let operation = OperationId::new(new_id());
    let progress = RotationProgress::new(home.home.id, record.login);
    tx.insert_operation(&NewOperation {
        id: operation,
        kind: OperationKind::RotateCredentials,
        tenant: Some(tenant.id),
        cluster: Some(home.home.cluster),
        input: json!({}),
        progress: serde_json::to_value(progress).map_err(ControlError::internal)?,
        idempotency_key: None,
        code_version: RotateCredentials::CODE_VERSION,
    })
    .await?;
    let next = NextSecrets { login: tenantry_fleet::random_password(), read_only: tenantry_fleet::random_password() };
    tx.begin_rotation(home.home.id, &next).await?;
    let target = format!("tenant/{}", tenant.id);
    let names = home.home.names();
    let role = |slot| Some(json!({ "role": names.login(slot) }));
    let entry = AuditEntry {
        tenant: Some(tenant.id),
        operation: Some(operation),
        before: role(record.login),
        after: role(record.login.other()),
        ..caller.does("tenant.rotate_credentials", target)
    };
    tx.audit(&entry).await?;
    tx.commit().await?;
    control.signals().wake_operations();
    let operation = control.store().operation(operation).await?;
    Ok((tenant, operation))
}
