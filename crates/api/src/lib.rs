//! The JSON contract of the control plane: what requests, answers, problems and feed events look like on the wire.
//!
//! Here live the objects of `/v1`, one file per resource, their OpenAPI schemas, and behind the feature `client` an
//! HTTP client for them. Never here: what a request does (`control`), which URL or status it has (`server`), rules of
//! names and states (`domain`). Requests refuse unknown fields and parse into domain types, so a request that exists
//! as a value is well-formed.
//!
//! Start reading at [`tenant`], then [`problem`] (what every failure looks like) and [`feed`] (what routers follow).

pub mod adoption;
pub mod audit_log;
pub mod audit_verification;
pub mod bulk;
#[cfg(feature = "client")]
pub mod client;
pub mod cluster;
pub mod cluster_replica;
pub mod doctor;
pub mod drift;
pub mod explain;
pub mod feed;
pub mod fleet_query;
pub mod health;
pub mod migration_set;
pub mod operation;
pub mod orphan;
pub mod page;
pub mod patch;
pub mod placement;
pub mod plan;
pub mod problem;
pub mod query;
pub mod reference;
pub mod region_group;
pub mod resolved_route;
pub mod rollout;
pub mod rollout_plan;
pub mod route;
pub mod route_line;
pub mod router;
mod schema;
pub mod secret;
pub mod secrets;
pub mod seed;
pub mod tenant;
pub mod tenant_health;
pub mod tenant_host;
pub mod token;
pub mod webhook;

pub use adoption::{AdoptQuery, AdoptTenant, AdoptionFinding, AdoptionReport, AdoptionSeverity};
pub use audit_log::{AuditChain, AuditEntry, AuditLine, ExportAuditLog, ListAuditChains, ListAuditLog};
pub use audit_verification::{AuditBreach, AuditVerification};
pub use bulk::{BulkAction, BulkChange, BulkLine, BulkOutcome, BulkQuery, BulkResult, BulkSummary};
#[cfg(feature = "client")]
pub use client::{Client, ClientConfig, ClientError};
pub use cluster::{
    Cluster, ClusterPreview, DrainMove, DrainPlan, DrainQuery, ListClusters, RegisterCluster, UpdateCluster,
};
pub use cluster_replica::{AddClusterReplica, ClusterReplica};
pub use doctor::{DoctorFinding, DoctorQuery, DoctorReport};
pub use drift::{CheckDrift, CheckLimit, CheckedDrift, Drift, DriftDifference, DriftObjects, ListDrift, SampleSize};
pub use explain::Explanation;
pub use feed::{FeedCluster, FeedEvent, FeedQuery, FeedReplica};
pub use fleet_query::{
    FleetQuery, QueryConcurrency, QueryError, QueryFailed, QueryLine, QueryReached, QueryRow, QueryRowsMax,
    QuerySkipped, QuerySummary, QueryTimeLimit, QueryTimeoutMs, QueryValues,
};
pub use health::Readiness;
pub use migration_set::{Migration, MigrationFile, MigrationSet, PushMigrationSet, Repeatable};
pub use operation::{DecideOperation, ListOperationEvents, ListOperations, Operation, OperationEvent};
pub use orphan::{ListOrphans, Orphan};
pub use page::{ListQuery, Page};
pub use patch::{LabelsPatch, LimitsPatch, OverridesPatch, Patch};
pub use placement::{
    ConsideredCluster, ExplainPlacement, ExplainPlacementQuery, Placement, PlacementCluster, PlacementRefusal,
    ProviderOffer,
};
pub use plan::{CreatePlan, EffectiveFeature, EffectiveLimit, EffectivePlan, EffectiveQuota, Plan, UpdatePlan};
pub use problem::{Code, InvalidBody, Problem, ProblemDetail, parse_body};
pub use query::{CommaSeparated, DryRunQuery, GraceSeconds, PageLimit, WaitQuery, WaitSeconds};
pub use reference::{ClusterRef, TenantRef};
pub use region_group::{PutRegionGroup, RegionGroup};
pub use resolved_route::ResolvedRoute;
pub use rollout::{
    BreakerLength, Concurrency, CreateRollout, CreateWave, ErrorBudget, FleetVersion, FleetVersions, ListTargets,
    Rollout, RolloutCounts, RolloutLimits, RolloutTarget, RolloutWave,
};
pub use rollout_plan::{
    DryRunFile, DryRunLine, DryRunLock, DryRunOutcome, DryRunSample, DryRunSeconds, DryRunSize, DryRunSummary,
    DryRunTenant, PlannedMigration, PlannedRepeatable, PlannedStart, PlannedTenant, PlannedWave, RolloutDryRun,
    RolloutPlan, SampledTenant,
};
pub use route::{ResolveQuery, Route, RouteCredential};
pub use route_line::RouteLine;
pub use router::{ClusterDemand, ListRouters, Router, RouterLease, RouterReport};
pub use secret::SecretText;
pub use secrets::SecretsStatus;
pub use seed::{PushSeed, Seed};
pub use tenant::{
    CreateTenant, CreateTenantAnswer, CreateTenantQuery, DeleteTenant, ListTenants, MigrateDown, ResumeTenant,
    SuspendTenant, Suspension, Tenant, TenantPreview, TenantWithOperation, TenantWithSubtree, UpdateTenant,
};
pub use tenant_health::{HealthCheck, HealthConnections, TenantHealth};
pub use tenant_host::{AddTenantHost, TenantHost};
pub use token::{CreateToken, CreatedToken, Token};
pub use webhook::{
    CreateWebhook, ListDeliveries, RotateWebhookSecret, UpdateWebhook, Webhook, WebhookDelivery, WebhookWithSecret,
};
