//! Verifying a token: signature, issuer, audience and time, and then whom it names.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key::TokenKey;
use crate::extract::answer::TenantRejection;

/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The claim that names the tenant unless another is set.
const CLAIM: &str = "tenant";
/// How far clocks may be apart unless set.
const LEEWAY: Duration = Duration::from_secs(30);

/// Why a token is not believed. Says nothing that helps to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("a bearer token is needed")]
    Missing,
    /// It is no signed token, is longer than 8 KiB, or demands what is not known here.
    #[error("the token is malformed")]
    Malformed,
    /// No key is configured for its algorithm and `kid`.
    #[error("the token is signed with a key that is not trusted")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// `exp` is past, or missing.
    #[error("the token has expired, or says no time when it does")]
    Expired,
    /// `nbf` is ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iss` is another.
    #[error("the token's issuer is not trusted")]
    Issuer,
    /// `aud` names others only.
    #[error("the token is for another audience")]
    Audience,
}

/// Verifies tokens (JWT, RFC 7519): a signature by one of the keys with the algorithm of that key, the issuer, the
/// audience, `exp`, which must be there, and `nbf`, which may. Cheap to clone.
///
/// ```
/// use tenantry_router::{Secret, TenantSources, TokenAlgorithm, TokenKey, TokenVerifier};
///
/// # fn sources(secret: Secret, pem: &str) -> Result<TenantSources, tenantry_router::RouterError> {
/// let verifier = TokenVerifier::new("https://login.example.com", ["flights"])
///     .key(TokenKey::from_pem(TokenAlgorithm::EdDsa, pem)?.with_id("2026"))
///     .key(TokenKey::hs256(&secret)?)
///     .claim("airline");
/// let sources = TenantSources::new().sub_domain().token(verifier);
/// # Ok(sources)
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    rules: Arc<Rules>,
}

#[derive(Debug, Clone)]
struct Rules {
    issuer: String,
    audiences: Vec<String>,
    claim: String,
    leeway: Duration,
    keys: Vec<TokenKey>,
}

/// What a token says of itself. `crit` names extensions without which it must not be understood, and we know none.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl TokenVerifier {
    /// For tokens of one issuer to one of these audiences. Without a key it believes nothing.
    pub fn new(issuer: impl Into<String>, audiences: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let rules = Rules {
            issuer: issuer.into(),
            audiences: audiences.into_iter().map(Into::into).collect(),
            claim: CLAIM.to_owned(),
            leeway: LEEWAY,
            keys: Vec::new(),
        };
        Self { rules: Arc::new(rules) }
    }

    /// Trusts one more key.
    #[must_use]
    pub fn key(mut self, key: TokenKey) -> Self {
        Arc::make_mut(&mut self.rules).keys.push(key);
        self
    }

    /// The claim with the tenant's id or slug, `tenant` unless set: a name, or, where it begins with `/`, a JSON pointer
    /// such as `/app_metadata/tenant`.
    #[must_use]
    pub fn claim(mut self, claim: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.rules).claim = claim.into();
        self
    }

    /// How far the issuer's clock may be from ours, 30 s unless set.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        Arc::make_mut(&mut self.rules).leeway = leeway;
        self
    }

    /// Believes a token or says why not, and answers with whom it names.
    pub(super) fn tenant_of(&self, token: &str, now: SystemTime) -> Result<String, TenantRejection> {
        let claims = self.rules.verify(token, now)?;
        let named = if self.rules.claim.starts_with('/') {
            claims.pointer(&self.rules.claim)
        } else {
            claims.get(&self.rules.claim)
        };
        match named.and_then(Value::as_str) {
            Some(tenant) if !tenant.is_empty() => Ok(tenant.to_owned()),
            _ => Err(TenantRejection::TenantlessToken),
        }
    }
}

impl Rules {
    fn verify(&self, token: &str, now: SystemTime) -> Result<Value, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let signature = decode(signature)?;
        let mut keys = self.keys.iter().filter(|key| key.is_for(&header.alg, header.kid.as_deref())).peekable();
        if keys.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        if !keys.any(|key| key.verifies(message.as_bytes(), &signature)) {
            return Err(TokenError::Signature);
        }
        let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)?;
        self.check(&claims, now)?;
        Ok(claims)
    }

    fn check(&self, claims: &Value, now: SystemTime) -> Result<(), TokenError> {
        if claims["iss"].as_str() != Some(&self.issuer) {
            return Err(TokenError::Issuer);
        }
        let is_ours =
            |audience: &Value| audience.as_str().is_some_and(|text| self.audiences.iter().any(|our| our == text));
        let is_for_us = match &claims["aud"] {
            Value::Array(audiences) => audiences.iter().any(is_ours),
            audience => is_ours(audience),
        };
        if !is_for_us {
            return Err(TokenError::Audience);
        }
        // A clock before 1970 believes no token that bears `nbf`, and that is as well.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let leeway = self.leeway.as_secs_f64();
        // Fractions are allowed. What is no time at all expires at once.
        if !claims["exp"].as_f64().is_some_and(|expires| now < expires + leeway) {
            return Err(TokenError::Expired);
        }
        match &claims["nbf"] {
            Value::Null => Ok(()),
            begins if begins.as_f64().is_some_and(|begins| begins <= now + leeway) => Ok(()),
            _ => Err(TokenError::NotYetValid),
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_judged_by_the_clock_as_it_is_now_wherever_that_was_set() {
        let rules = TokenVerifier::new("issuer", ["flights"]).leeway(Duration::from_secs(30)).rules;
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let claims = json!({ "iss": "issuer", "aud": "flights", "nbf": 1_000_000, "exp": 1_000_600 });
        let judged = |now| rules.check(&claims, now);
        assert!(judged(at(1_000_300)).is_ok());
        // Set ahead, set back, and right again: nothing is remembered.
        assert!(matches!(judged(at(4_000_000_000)), Err(TokenError::Expired)));
        assert!(matches!(judged(at(500_000)), Err(TokenError::NotYetValid)));
        assert!(judged(at(1_000_300)).is_ok());
        assert!(judged(at(999_970)).is_ok() && judged(at(1_000_629)).is_ok(), "the clocks differ a little");
        let before_1970 = UNIX_EPOCH - Duration::from_hours(1);
        assert!(matches!(judged(before_1970), Err(TokenError::NotYetValid)));
    }
}
