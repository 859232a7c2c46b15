//! The only SQL on the catalog.
//!
//! Here live: connecting to the catalog and migrating it, one file of queries per table, the sealing of secrets, and the
//! notifications that wake workers and routers. Writes are methods of [`Tx`], so that a use-case decides what commits
//! together; reads are there on [`Store`] and, where a use-case needs them inside its transaction, on [`Tx`].
//!
//! Never here: a rule that is not a constraint, SQL on any cluster, HTTP.
//!
//! Start reading at [`Store`] and [`Tx`], then [`tenants`](Store::tenants) and [`operations`](Store::claim_operation).

mod adoptions;
mod audit_log;
mod audit_verification;
mod bases;
mod cluster_health;
mod cluster_replicas;
mod clusters;
mod connection;
mod connection_leases;
mod cursor;
mod database;
mod doctor;
mod drift;
mod drift_references;
mod error;
mod events;
mod feed_changes;
mod filter;
mod home_roles;
mod homes;
mod hosts;
mod idempotency;
mod keyring;
mod leases;
mod listener;
mod master_keys;
mod migrate;
mod migration_sets;
mod operations;
mod orphans;
mod placement;
mod plans;
mod precedence;
mod provisions;
mod reconcilers;
mod region_groups;
mod removed_routes;
mod resources;
mod rollout_claims;
mod rollout_plans;
mod rollout_queue;
mod rollout_targets;
mod rollout_waves;
mod rollouts;
mod rotations;
mod routers;
mod routes;
mod row;
mod runtime_role;
mod secrets;
mod seeds;
mod shared_pools;
mod store;
mod stragglers;
mod tenant_states;
mod tenants;
mod tokens;
mod transaction;
mod warm_homes;
mod webhook_deliveries;
mod webhooks;

pub use adoptions::{Adoption, AdoptionState, HomeInDatabase};
pub use audit_log::{AuditChain, AuditEntry, AuditExport, AuditFilter, AuditRecord, LinkedRecord};
pub use audit_verification::{AuditMark, AuditRound, BreachKind, ChainBreach};
pub use bases::{BaseState, RetiredTemplate, SCRATCH_KEPT, SharedDatabase, Template};
pub use cluster_health::ClusterLook;
pub use cluster_replicas::{NewClusterReplica, ReplicaLook, ReplicaRoute};
pub use clusters::{ClusterAccess, ClusterChange, ClusterFilter, ClusterRef, NewCluster};
pub use connection_leases::{ConnectionDemand, GrantedLease, ROUTER_SILENT};
pub use cursor::{PAGE_MAX, Page, PageRequest};
pub use doctor::{CatalogFinding, HomeAtRest};
pub use drift::{DriftFinding, DriftListFilter, DriftRecord, DriftSubject};
pub use drift_references::NewReference;
pub use error::StoreError;
pub use events::{NewEvent, WEBHOOKS_WAKE};
pub use home_roles::HomeRoles;
pub use homes::{HomeRecord, HomeSecrets, HomeState, NewHome};
pub use hosts::HostRecord;
pub use idempotency::Idempotent;
pub use keyring::Keyring;
pub use leases::{Claimed, Guarded, Lease};
pub use listener::{Listener, Notice};
pub use master_keys::{MasterKeyRecord, Moved, ReplicaRecord};
pub use migrate::MigrationReport;
pub use migration_sets::{MigrationSetRecord, NewRepeatables, StoredMigration};
pub use operations::{NewOperation, Operation, OperationEvent, OperationFilter};
pub use orphans::{CatalogInventory, MadeObject, OrphanFilter, OrphanFinding, OrphanRecord, Standing};
pub use placement::{PlacementCandidate, Resident};
pub use provisions::ProvisionSite;
pub use reconcilers::{ReconcilerRecord, ReconcilerTurn};
pub use resources::{NewResource, Resource, ResourceKind, ResourceState};
pub use rollout_plans::{ProspectiveHome, ProspectiveTarget, RolloutProspect};
pub use rollout_queue::FleetVersion;
pub use rollout_targets::{ClaimedTarget, RolloutTarget, TargetResult};
pub use rollouts::{NewRollout, RolloutCounts, RolloutLimits, RolloutPlan, RolloutRecord, RolloutRest};
pub use rotations::NextSecrets;
pub use routers::{RouterConnection, RouterLease, RouterRecord, RouterReport};
pub use routes::{Changes, ClusterRoute, FeedClock, RouteChange, RouteRef};
pub use runtime_role::CatalogRole;
pub use seeds::SeedRecord;
pub use store::{Store, StoreConfig};
pub use stragglers::Straggler;
pub use tenants::{NewTenant, TenantChange, TenantFilter, TenantRef};
pub use tokens::{NewToken, TokenRecord};
pub use transaction::Tx;
pub use warm_homes::{ClaimedHome, WarmPool};
pub use webhook_deliveries::{Attempt, AttemptEnd, ClaimRules, ClaimedDelivery, DeliveryRecord};
pub use webhooks::{NewWebhook, WebhookChange, WebhookFigures, WebhookRecord};
