//! The store against a real catalog: one server per test process, one clone of a migrated catalog per test.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod audit_log;
mod catalog;
mod clusters;
mod connection;
mod connection_leases;
mod drift;
mod idempotency;
mod lists;
mod migrations;
mod operations;
mod placement;
mod reconcilers;
mod rollout_claims;
mod rollout_queue;
mod rollout_waves;
mod rollouts;
mod routes;
mod secrets;
mod shared_pools;
mod tenants;
mod tokens;
