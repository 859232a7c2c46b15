//! The HTTP door of the control plane.
//!
//! Here live: the listener (TLS, limits of connections, orderly shutdown), every URL, and the translation between the
//! contract of `api` and the use-cases of `control`, with what only a door knows: tokens in headers, problem documents,
//! idempotency keys, entity tags, streams, OpenAPI.
//!
//! Never here: rules, SQL, decisions about tenants or clusters. A handler reads, calls one use-case, and writes.
//!
//! Start reading at [`Server`], then `http/routes.rs` (every URL on one page) and `http/problem.rs` (which status an
//! error gets).

mod config;
mod connection;
mod error;
mod http;
mod server;
mod tls;

pub use config::{ServerConfig, TlsConfig};
pub use error::ServerError;
pub use http::openapi_document;
pub use server::Server;
