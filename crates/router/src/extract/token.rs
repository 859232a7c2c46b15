//! Bearer tokens (JWT): whom they name, once they are verified.

mod config;
mod der;
mod key;
mod verifier;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use std::time::SystemTime;

pub use config::{TokenConfig, TokenKeyConfig};
pub use key::{TokenAlgorithm, TokenKey};
pub use verifier::{TokenError, TokenVerifier};

use super::answer::TenantRejection;
use super::header;

/// The token of a request as a source.
#[derive(Debug, Clone)]
pub(super) struct TokenSource {
    pub(super) verifier: TokenVerifier,
    pub(super) is_required: bool,
}

impl TokenSource {
    /// What the request's token says of its tenant; `None` where there is none and none is needed. A scheme other than
    /// `Bearer` is another's business.
    pub(super) fn claim_in(&self, headers: &HeaderMap) -> Result<Option<String>, TenantRejection> {
        let bearer = header::only_value(headers, &AUTHORIZATION)
            .map_err(|_| TokenError::Malformed)?
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match bearer {
            Some((_, token)) => self.verifier.tenant_of(token.trim(), SystemTime::now()).map(Some),
            None if self.is_required => Err(TokenError::Missing.into()),
            None => Ok(None),
        }
    }
}

impl TokenError {
    /// `WWW-Authenticate`, as RFC 6750 wants it.
    pub(super) fn challenge(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Missing => "Bearer",
            _ => r#"Bearer error="invalid_token""#,
        })
    }
}
