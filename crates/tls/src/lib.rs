//! How connections to PostgreSQL are protected: whom a client believes, as settings for rustls.
//!
//! Here live the checks of certificates, and the reading of authorities. Never here: sockets, and the decision which servers
//! may be spoken to in the clear.
//!
//! Start reading at [`Trust`] and [`client_config`].

mod any_certificate;
mod any_name;
mod error;
mod roots;

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, RootCertStore};

use crate::any_certificate::AnyCertificate;
use crate::any_name::AnyName;
pub use crate::error::TlsError;
pub use crate::roots::{roots_from, system_roots};

/// Whom a client believes.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Whoever answers. As libpq's `require` does, it keeps out listeners and no impostors.
    Anyone,
    /// Who has a certificate by one of these authorities, for whatever name: `verify_ca`.
    Authority(Arc<RootCertStore>),
    /// Who has one for the very name that is connected to: `verify_full`.
    AuthorityAndName(Arc<RootCertStore>),
}

/// The settings of a client without a certificate of its own. Fails where there is no authority to believe.
pub fn client_config(trust: Trust) -> Result<ClientConfig, TlsError> {
    // The provider is named, so that connecting does not depend on one that the program installed.
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => Arc::new(AnyCertificate(Arc::clone(&provider))),
        Trust::Authority(roots) => Arc::new(AnyName(web_pki(roots, &provider)?)),
        Trust::AuthorityAndName(roots) => web_pki(roots, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::because("TLS cannot be set up", source))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn web_pki(roots: Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    if roots.is_empty() {
        return Err(TlsError::new("no certificate authority is known; give the cluster's tls_ca as PEM"));
    }
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|source| TlsError::because("the cluster's tls_ca cannot be used", source))
}

#[cfg(test)]
mod tests;
