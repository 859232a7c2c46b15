//! Why TLS cannot be set up.

use std::error::Error;

/// Why TLS cannot be set up as it was asked for; never worth a second try.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct TlsError {
    /// What is wrong.
    pub reason: &'static str,
    /// What happened, if anything did.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl TlsError {
    pub(crate) const fn new(reason: &'static str) -> Self {
        Self { reason, source: None }
    }

    pub(crate) fn because(reason: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self { reason, source: Some(Box::new(source)) }
    }
}
