//! The words and rules of Tenantry.
//!
//! Here live the types that every other room speaks (tenant, cluster, home, route, operation, rollout, …), their
//! constructors that refuse what is not one, and the rules that need nothing but their arguments.
//!
//! Never here: I/O, a clock, randomness, async, SQL, HTTP. A rule that depends on time takes `now`; an identifier is
//! made from a `Uuid` that the caller drew.
//!
//! Start reading at [`tenant`], then [`home`] (where a tenant lives) and [`route`] (how it is reached).

pub mod affinity;
pub mod audit;
pub mod cluster;
pub mod cluster_health;
pub mod cluster_replica;
pub mod connection_lease;
pub mod drift;
pub mod event;
pub mod hierarchy;
pub mod home;
pub mod id;
pub mod isolation;
pub mod label;
pub mod lifecycle;
pub mod limits;
pub mod lock_mode;
pub mod migration;
pub mod name;
pub mod operation;
pub mod orphan;
pub mod plan;
pub mod reason;
pub mod region_group;
pub mod rollout;
pub mod route;
pub mod scope;
pub mod secret;
pub mod seed;
pub mod slug;
pub mod suspension;
pub mod tenant;
mod word;

pub use affinity::{Affinity, Apart};
pub use audit::AuditContent;
pub use cluster::{
    Cluster, ClusterLimits, ClusterLocale, ClusterState, ClusterUsage, Endpoint, ProviderKind, Tenancy, TlsMode,
};
pub use cluster_health::{Check, ClusterHealth, ClusterObservation, HealthState, Verdict};
pub use cluster_replica::{ClusterReplica, LagMax, ReplicaHealth, ReplicaState};
pub use connection_lease::{
    LeaseHolder, LeaseSerial, UNLEASED_CONNECTIONS, connections_for_routers, divide_connections,
    router_application_name,
};
pub use drift::{DriftFilter, DriftState};
pub use event::{DeliveryState, EventKind};
pub use hierarchy::{DEPTH_MAX, HierarchyError, check_line};
pub use home::{DatabaseName, Generation, Home, HomeNames, LoginSlot, Placement, RoleName, SchemaName};
pub use id::{
    ClusterId, ClusterReplicaId, DeliveryId, EventId, HomeId, OperationId, OrphanId, RequestId, ResourceId, RolloutId,
    SecretId, TenantId, TokenId, WebhookId,
};
pub use isolation::Isolation;
pub use label::Labels;
pub use lifecycle::{GRACE_MAX, LifecycleError};
pub use limits::{ConnectionShares, LimitOutOfRange, LimitValue, Limits, Overrides};
pub use lock_mode::LockMode;
pub use migration::{MigrationSetId, SchemaVersion};
pub use name::{ClusterName, DisplayName, HostName, InvalidName, PlanName, Region, SeedName};
pub use operation::{OperationKind, OperationState};
pub use orphan::{OrphanKind, OrphanVerdict};
pub use plan::{Effective, EffectivePlan, InvalidTerms, Origin, Plan, Price};
pub use reason::Reason;
pub use region_group::{GroupRegions, RegionGroup};
pub use rollout::{
    ErrorBudget, FailureStreak, Hours, RolloutPlanDigest, RolloutState, RolloutStop, TargetState, Wave, WaveSelection,
    WaveTally, Waves,
};
pub use route::{Credential, FeedVersion, Pooling, Route, RouteState, RouteTarget, SharedAccess};
pub use scope::{Access, Scope, ScopeSet};
pub use secret::Secret;
pub use seed::{SeedId, SeedRef};
pub use slug::Slug;
pub use suspension::{Note, Suspension, SuspensionReason};
pub use tenant::{Grace, Tenant, TenantState, TenantStatus};
