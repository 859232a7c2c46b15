//! How a connection to a cluster is protected, for each mode.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tenantry_domain::TlsMode;
use tenantry_tls::{TlsError, Trust};
use tokio::sync::OnceCell;

use crate::error::RouterError;

/// The system's authorities, read once by the first who needs them.
pub(crate) type SystemRoots = OnceCell<Arc<RootCertStore>>;

/// The TLS settings of a mode; `None` for plain text.
pub(crate) async fn client_config(
    mode: TlsMode,
    authority: Option<&str>,
    system: &SystemRoots,
) -> Result<Option<ClientConfig>, RouterError> {
    let trust = match mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Require => Trust::Anyone,
        TlsMode::VerifyCa => Trust::Authority(roots(authority, system).await?),
        TlsMode::VerifyFull => Trust::AuthorityAndName(roots(authority, system).await?),
    };
    Ok(Some(tenantry_tls::client_config(trust)?))
}

async fn roots(authority: Option<&str>, system: &SystemRoots) -> Result<Arc<RootCertStore>, RouterError> {
    match authority {
        Some(pem) => Ok(Arc::new(tenantry_tls::roots_from(pem)?)),
        None => system.get_or_try_init(system_roots).await.map(Arc::clone),
    }
}

async fn system_roots() -> Result<Arc<RootCertStore>, RouterError> {
    let loaded = tokio::task::spawn_blocking(tenantry_tls::system_roots).await;
    let loaded =
        loaded.map_err(|source| RouterError::refused("the system's certificate authorities cannot be read", source))?;
    Ok(Arc::new(loaded))
}

impl From<TlsError> for RouterError {
    fn from(TlsError { reason, source }: TlsError) -> Self {
        Self::Refused { reason: reason.to_owned(), source }
    }
}
