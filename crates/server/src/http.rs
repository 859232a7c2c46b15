//! Requests in, answers out.

mod routes;
mod state;

mod problem;

mod auth;
mod convert;
mod etag;
mod extract;
mod idempotency;
mod limits;
mod observe;
mod open_tokens;
mod query;
mod region_groups;
mod request_id;
mod security_headers;
mod streams;
mod unread_body;
mod wait;

mod adoption;
mod audit_log;
mod bulk;
mod bulk_rows;
mod cluster_replicas;
mod clusters;
mod explain;
mod migration_sets;
mod operations;
mod orphans;
mod placement;
mod plans;
mod rollout_plans;
mod rollouts;
mod route_resolve;
mod routers;
mod routes_feed;
mod secrets;
mod seeds;
mod tenant_health;
mod tenant_hosts;
mod tenant_lifecycle;
mod tenants;
mod tokens;
mod webhooks;

mod docs;
mod doctor;
mod drift;
mod health;
mod metrics;
mod openapi;

pub(crate) use metrics::describe as describe_metrics;
pub use openapi::openapi_document;
pub(crate) use routes::router;
pub(crate) use state::Shared;
