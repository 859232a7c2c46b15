//! Journeys through whole systems, over HTTP, as admins, routers and tenants make them.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod adoption;
mod audit;
mod audit_coverage;
mod bad_input;
mod bulk;
mod command_line;
mod connection_leases;
mod crashes;
mod credentials;
mod deletions;
mod downs;
mod drift;
mod explanations;
mod feed;
mod fleet_of_clusters;
mod hosts;
mod isolation;
mod life_of_a_tenant;
mod operations;
mod orphans;
mod placement;
mod plans;
mod query;
mod repeatables;
mod replicas;
mod resolve;
mod rollout_fleet;
mod rollout_plans;
mod rollout_queue;
mod rollout_reserve;
mod rollout_waves;
mod rollouts;
mod routes;
mod secrets;
mod secrets_nowhere;
mod seeds;
mod shared_pooling;
mod suspensions;
mod warm_pool;
mod webhooks;
