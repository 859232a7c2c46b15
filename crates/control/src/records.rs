//! What use-cases take and return that the catalog defines, under one name, so that doors need not know the catalog.

pub use tenantry_migration_set::{Finding, requires_app};
pub use tenantry_store::{
    AuditFilter, AuditRecord, ClusterChange, ClusterFilter, ClusterRef, ClusterRoute, ConnectionDemand, DeliveryRecord,
    DriftFinding, DriftListFilter, DriftRecord, FleetVersion, HostRecord, MasterKeyRecord, MigrationSetRecord,
    Operation, OperationEvent, OperationFilter, OrphanFilter, OrphanRecord, PAGE_MAX, Page, PageRequest, ReplicaRecord,
    ReplicaRoute, Resource, RolloutCounts, RolloutLimits, RolloutRecord, RolloutTarget, RouteChange, RouterLease,
    RouterRecord, RouterReport, SeedRecord, StoredMigration, TenantChange, TenantFilter, TenantRef, TokenRecord,
    WebhookChange, WebhookRecord,
};

pub use tenantry_store::{AuditChain, AuditExport, LinkedRecord};
