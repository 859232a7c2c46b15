//! Reading certificate authorities.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::TlsError;

/// The authorities of a PEM text, each of which must be valid; none where it holds none.
pub fn roots_from(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|source| TlsError::because("tls_ca is not PEM", source))?;
        roots.add(certificate).map_err(|source| TlsError::because("tls_ca holds a bad certificate", source))?;
    }
    Ok(roots)
}

/// The authorities of the system. Reads many files: keep the result, and do not ask on a thread that serves others. One that
/// is broken is no reason to trust none.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
