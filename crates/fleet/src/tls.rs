//! How connections to clusters are protected.

use std::sync::Arc;

use rustls::RootCertStore;
use tenantry_domain::{Endpoint, TlsMode};
use tenantry_tls::{TlsError, Trust};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::FleetError;

/// Ready to connect with.
#[derive(Clone)]
pub(crate) enum Tls {
    /// Plain text, on this machine only.
    Off,
    /// Encrypted.
    On(MakeRustlsConnect),
}

impl Tls {
    /// Reads certificates where the mode asks for them; keep the result, it is not cheap.
    pub(crate) fn build(endpoint: &Endpoint, mode: TlsMode, authority: Option<&str>) -> Result<Self, FleetError> {
        if endpoint.host().starts_with('/') {
            return Ok(Self::Off);
        }
        let trust = match mode {
            TlsMode::Disable if endpoint.is_local() => return Ok(Self::Off),
            TlsMode::Disable => {
                return Err(FleetError::refused(format!(
                    "tls mode `disable` is for this machine only and {endpoint} is not; use require, verify_ca or verify_full"
                )));
            }
            TlsMode::Require => Trust::Anyone,
            TlsMode::VerifyCa => Trust::Authority(roots(authority)?),
            TlsMode::VerifyFull => Trust::AuthorityAndName(roots(authority)?),
        };
        Ok(Self::On(MakeRustlsConnect::new(tenantry_tls::client_config(trust)?)))
    }
}

fn roots(authority: Option<&str>) -> Result<Arc<RootCertStore>, FleetError> {
    let roots = authority.map_or_else(|| Ok(tenantry_tls::system_roots()), tenantry_tls::roots_from);
    Ok(Arc::new(roots?))
}

impl From<TlsError> for FleetError {
    fn from(TlsError { reason, source }: TlsError) -> Self {
        Self::Refused { reason: reason.to_owned(), source }
    }
}
