//! Tokens as a configuration file has them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tenantry_api::SecretText;
use tenantry_domain::Secret;

use super::{TokenAlgorithm, TokenKey, TokenVerifier};
use crate::error::RouterError;

/// Longer ones would keep expired tokens alive.
const LEEWAY_S_MAX: u64 = 300;

/// Which tokens are believed, and which of their claims names the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// What `iss` must be.
    pub issuer: String,
    /// One of these must be in `aud`; one at least.
    pub audiences: Vec<String>,
    /// The claim with the tenant's id or slug, `tenant` unless set: see [`TokenVerifier::claim`].
    #[serde(default)]
    pub claim: Option<String>,
    /// How far the issuer's clock may be from ours, in seconds: 30 unless set, 300 at most.
    #[serde(default)]
    pub leeway_s: Option<u64>,
    /// Whether a request without a token is refused; true unless set.
    #[serde(default = "required")]
    pub required: bool,
    /// The keys that are trusted; one at least.
    pub keys: Vec<TokenKeyConfig>,
}

/// One trusted key: a secret for HS256, a public key in PEM for the others, in the configuration or in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyConfig {
    /// `HS256`, `RS256`, `ES256` or `EdDSA`.
    pub algorithm: TokenAlgorithm,
    /// The `kid` of its tokens: see [`TokenKey::with_id`].
    #[serde(default)]
    pub id: Option<String>,
    /// The secret.
    #[serde(default)]
    pub secret: Option<SecretText>,
    /// A file with the secret; the end of its last line is no part of it.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The public key.
    #[serde(default)]
    pub pem: Option<String>,
    /// A file with the public key.
    #[serde(default)]
    pub pem_file: Option<PathBuf>,
}

fn required() -> bool {
    true
}

impl TokenConfig {
    pub(crate) fn build(self) -> Result<TokenVerifier, RouterError> {
        if self.audiences.is_empty() || self.keys.is_empty() {
            return Err(refused("tokens need one audience and one key at least, or none is believed"));
        }
        let mut verifier = TokenVerifier::new(self.issuer, self.audiences);
        if let Some(claim) = self.claim {
            verifier = verifier.claim(claim);
        }
        if let Some(seconds) = self.leeway_s {
            if seconds > LEEWAY_S_MAX {
                return Err(refused("`leeway_s` is 300 at most; set the clocks instead"));
            }
            verifier = verifier.leeway(Duration::from_secs(seconds));
        }
        self.keys.into_iter().try_fold(verifier, |verifier, key| Ok(verifier.key(key.build()?)))
    }
}

impl TokenKeyConfig {
    fn build(self) -> Result<TokenKey, RouterError> {
        let key = match (self.algorithm, self.secret, self.secret_file, self.pem, self.pem_file) {
            (TokenAlgorithm::Hs256, Some(secret), None, None, None) => TokenKey::hs256(secret.as_secret()),
            (TokenAlgorithm::Hs256, None, Some(file), None, None) => {
                let text = Secret::new(read(&file)?);
                TokenKey::hs256(&Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
            }
            (TokenAlgorithm::Hs256, ..) => Err(refused("a key for HS256 has either `secret` or `secret_file`")),
            (algorithm, None, None, Some(pem), None) => TokenKey::from_pem(algorithm, &pem),
            (algorithm, None, None, None, Some(file)) => TokenKey::from_pem(algorithm, &read(&file)?),
            _ => Err(refused("a key for RS256, ES256 or EdDSA has either `pem` or `pem_file`")),
        }?;
        Ok(match self.id {
            Some(id) => key.with_id(id),
            None => key,
        })
    }
}

fn read(file: &PathBuf) -> Result<String, RouterError> {
    fs::read_to_string(file)
        .map_err(|source| RouterError::refused(format!("the key file {} cannot be read", file.display()), source))
}

fn refused(reason: &str) -> RouterError {
    RouterError::Refused { reason: reason.to_owned(), source: None }
}
