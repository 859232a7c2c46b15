//! The HTTP client of the contract: one method per endpoint, in one file per resource.
//!
//! A token leaves over TLS or to this machine only. Every call has a connect and an overall timeout, retries a bounded
//! number of times with jitter, and repeats a POST under the same `Idempotency-Key`, so that a lost answer never makes
//! a second tenant.
//!
//! Start reading at [`Client`], then [`ClientError`].

mod adoption;
mod audit_log;
mod bulk;
mod cluster_replicas;
mod clusters;
mod config;
mod drift;
mod error;
mod fleet_query;
mod health;
mod json_lines;
mod lines;
mod migration_sets;
mod operations;
mod orphans;
mod placement;
mod plans;
mod region_groups;
mod request;
mod rollout_plans;
mod rollouts;
mod routers;
mod routes;
mod secrets;
mod seeds;
mod tenant_hosts;
mod tenants;
mod tokens;
mod unpacking;
mod webhooks;

use std::sync::Arc;

pub use audit_log::AuditStream;
pub use bulk::BulkStream;
pub use config::ClientConfig;
pub use error::ClientError;
pub use json_lines::JsonLines;
pub use request::Tagged;
pub use routes::FeedStream;

/// A client of one control plane. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    config: Arc<ClientConfig>,
}

impl Client {
    /// Builds the client; nothing is sent yet. Fails where the token would travel in the clear, or where the
    /// certificate authority is not readable.
    ///
    /// rustls keeps its cryptography process-wide; where the program has not chosen one, ring is installed.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        config.check()?;
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Failing means that another thread was first, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(config.user_agent.clone())
            .connect_timeout(config.connect_timeout)
            // A redirect would carry the token to a place that nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true);
        if config.is_local() {
            builder = builder.no_proxy();
        }
        if let Some(pem) = &config.ca {
            let refuse = |source| ClientError::refused("the certificate authority is not readable PEM", source);
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(refuse)?;
            builder = builder.tls_certs_only(certificates);
        }
        let http =
            builder.build().map_err(|source| ClientError::refused("the HTTP client cannot be set up", source))?;
        Ok(Self { http, config: Arc::new(config) })
    }

    /// Where the control plane is.
    pub fn url(&self) -> &url::Url {
        &self.config.url
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("url", &self.config.url.as_str()).finish_non_exhaustive()
    }
}
