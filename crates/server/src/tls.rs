//! TLS from PEM files, with ring.

use std::path::Path;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsConfig;
use crate::error::ServerError;

/// Reads certificate and key. TLS 1.2 and 1.3; HTTP/2 is offered first.
pub(crate) fn load(config: &TlsConfig) -> Result<RustlsConfig, ServerError> {
    let certificates = certificates(&config.certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(&config.key).map_err(|source| unusable(&config.key, "a private key", source))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(ServerError::Tls)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(tls)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let expected = "the server's certificate first";
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|source| unusable(file, expected, source))?;
    if certificates.is_empty() {
        return Err(unusable(file, expected, rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn unusable(file: &Path, expected: &'static str, source: rustls::pki_types::pem::Error) -> ServerError {
    ServerError::Pem { file: file.to_owned(), expected, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a folder") }
        }

        fn write(&self, name: &str, content: &str) -> std::path::PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path
        }
    }

    #[test]
    fn a_certificate_and_its_key_make_a_server() {
        let files = Files::new();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = files.write("cert.pem", &made.cert.pem());
        let key = files.write("key.pem", &made.signing_key.serialize_pem());
        assert!(load(&TlsConfig { certificate: certificate.clone(), key }).is_ok());

        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let foreign = files.write("other.pem", &other.signing_key.serialize_pem());
        assert!(matches!(load(&TlsConfig { certificate, key: foreign }), Err(ServerError::Tls(_))));
    }

    #[test]
    fn a_file_that_is_missing_or_empty_is_named() {
        let files = Files::new();
        let empty = files.write("empty.pem", "");
        for certificate in [empty, files.folder.path().join("missing.pem")] {
            let config = TlsConfig { certificate: certificate.clone(), key: certificate.clone() };
            let refused = load(&config).err().map(|error| error.to_string()).expect("unusable");
            assert!(refused.contains(&certificate.display().to_string()), "{refused}");
        }
    }
}
