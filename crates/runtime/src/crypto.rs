//! The one cryptography of the process.

/// Makes ring the provider of every TLS connection that names none. Call it first in `main`, and in tests; calling it
/// again changes nothing.
pub fn install_crypto() {
    // An error means that a provider is installed already, which is what was asked for.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
