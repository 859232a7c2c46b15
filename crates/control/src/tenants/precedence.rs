//! Which of a tenant's operations goes first, decided by what is wanted of the tenant now.

use serde_json::json;
use tenantry_domain::{OperationId, OperationKind, Tenant, TenantId};
use tenantry_store::{NewOperation, Operation, TenantRef, Tx};

use crate::engine::Kind;
use crate::error::ControlError;

/// A tenant and its unfinished operations, which nobody else changes until the end of the transaction.
pub(super) struct Locked {
    pub(super) tenant: Tenant,
    open: Vec<Operation>,
}

impl Locked {
    /// Locks operations before their tenant, as workers do. `None` where an operation came in between: begin anew.
    pub(super) async fn take(tx: &Tx, id: TenantId) -> Result<Option<Self>, ControlError> {
        let open = tx.lock_open_operations(id).await?;
        let tenant = tx.lock_tenant(&TenantRef::Id(id)).await?;
        let now = tx.open_operations(id).await?;
        let is_same = now.len() == open.len() && open.iter().all(|operation| now.contains(&operation.id));
        Ok(is_same.then_some(Self { tenant, open }))
    }

    /// The unfinished operation of a kind.
    pub(super) fn open(&self, kind: OperationKind) -> Option<&Operation> {
        self.open.iter().find(|operation| operation.kind == kind)
    }

    /// The unfinished operation that is neither a suspension nor a resumption and is not held.
    pub(super) fn other_at_work(&self) -> Option<&Operation> {
        self.open.iter().find(|operation| operation.held_by.is_none() && !replaces_each_other(operation.kind))
    }

    /// Any unfinished operation that is neither a suspension nor a resumption.
    pub(super) fn other(&self) -> Option<&Operation> {
        self.open.iter().find(|operation| !replaces_each_other(operation.kind))
    }

    /// Ends suspensions and resumptions whose aim the new operation replaces.
    pub(super) async fn supersede(&self, tx: &Tx, by: OperationId) -> Result<(), ControlError> {
        for operation in self.open.iter().filter(|operation| replaces_each_other(operation.kind)) {
            tx.supersede(operation.id, by).await?;
        }
        Ok(())
    }

    /// Holds everything else until the new operation is done.
    pub(super) async fn hold_others(&self, tx: &Tx, by: OperationId) -> Result<(), ControlError> {
        for operation in self.open.iter().filter(|operation| !replaces_each_other(operation.kind)) {
            tx.hold(operation.id, by).await?;
        }
        Ok(())
    }
}

const fn replaces_each_other(kind: OperationKind) -> bool {
    matches!(kind, OperationKind::Suspend | OperationKind::Resume)
}

/// An operation of a kind on a tenant whose progress is an empty object.
pub(super) fn operation_on<K: Kind>(kind: OperationKind, id: OperationId, tenant: &Tenant) -> NewOperation {
    NewOperation {
        id,
        kind,
        tenant: Some(tenant.id),
        cluster: tenant.state.placement().map(|placement| placement.home.cluster),
        input: json!({}),
        progress: json!({}),
        idempotency_key: None,
        code_version: K::CODE_VERSION,
    }
}
