//! Which type carries out which kind of work: the one list of them all.

/// Evaluates an expression with `$K` standing for the type that carries out an `OperationKind`.
macro_rules! with_kind {
    ($kind:expr, $K:ident => $body:expr) => {
        match $kind {
            ::tenantry_domain::OperationKind::Provision => {
                type $K = $crate::operations::provision_tenant::ProvisionTenant;
                $body
            }
            ::tenantry_domain::OperationKind::Delete => {
                type $K = $crate::operations::delete_tenant::DeleteTenant;
                $body
            }
            ::tenantry_domain::OperationKind::Adopt => {
                type $K = $crate::operations::adopt::Adopt;
                $body
            }
            ::tenantry_domain::OperationKind::AdoptConfirm => {
                type $K = $crate::operations::adopt_confirm::AdoptConfirm;
                $body
            }
            ::tenantry_domain::OperationKind::AdoptCancel => {
                type $K = $crate::operations::adopt_cancel::AdoptCancel;
                $body
            }
            ::tenantry_domain::OperationKind::RotateCredentials => {
                type $K = $crate::operations::rotate_credentials::RotateCredentials;
                $body
            }
            ::tenantry_domain::OperationKind::PrepareHome => {
                type $K = $crate::operations::prepare_home::PrepareHome;
                $body
            }
            ::tenantry_domain::OperationKind::DropHome => {
                type $K = $crate::operations::drop_home::DropHome;
                $body
            }
            ::tenantry_domain::OperationKind::MigrateDown => {
                type $K = $crate::operations::migrate_down::MigrateDown;
                $body
            }
            ::tenantry_domain::OperationKind::Suspend => {
                type $K = $crate::operations::suspend_tenant::SuspendTenant;
                $body
            }
            ::tenantry_domain::OperationKind::Resume => {
                type $K = $crate::operations::resume_tenant::ResumeTenant;
                $body
            }
        }
    };
}
pub(crate) use with_kind;
