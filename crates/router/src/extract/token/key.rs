//! Keys that tokens are verified with, each for one algorithm.

use std::fmt;

use ring::{hmac, signature};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use tenantry_domain::Secret;

use super::der;
use crate::error::RouterError;

/// RFC 7518: no shorter than what the hash gives.
const SECRET_BYTES_MIN: usize = 32;
/// 2,048 bits.
const RSA_KEY_BYTES_MIN: usize = 256;
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// How tokens are signed. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256 and a shared secret: whoever can verify can sign.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256, 2,048 to 8,192 bits.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl TokenAlgorithm {
    /// Its name in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A key for one algorithm, which tokens of another cannot use. Prints nothing of itself.
#[derive(Clone)]
pub struct TokenKey {
    algorithm: TokenAlgorithm,
    id: Option<String>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(hmac::Key),
    Public(Vec<u8>),
}

impl TokenKey {
    /// A shared secret for HS256: the text's bytes, 32 at least.
    pub fn hs256(secret: &Secret) -> Result<Self, RouterError> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(refused(format!("a secret for HS256 has {SECRET_BYTES_MIN} bytes at least; use a longer one")));
        }
        let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes));
        Ok(Self { algorithm: TokenAlgorithm::Hs256, id: None, material })
    }

    /// A public key for RS256, ES256 or EdDSA, as PEM `BEGIN PUBLIC KEY`, which `openssl pkey -in key.pem -pubout` writes.
    pub fn from_pem(algorithm: TokenAlgorithm, pem: &str) -> Result<Self, RouterError> {
        let envelope = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|source| {
            RouterError::refused("a token key is not readable PEM of the kind `BEGIN PUBLIC KEY`", source)
        })?;
        let found = der::public_key(&envelope).ok_or_else(|| refused("a token key is no public key".to_owned()))?;
        let fits = match algorithm {
            TokenAlgorithm::Hs256 => return Err(refused("HS256 takes a secret, not a public key".to_owned())),
            TokenAlgorithm::Rs256 => found.algorithm == RSA && found.key.len() >= RSA_KEY_BYTES_MIN,
            TokenAlgorithm::Es256 => {
                (found.algorithm, found.curve) == (ELLIPTIC_CURVE, Some(P256))
                    && found.key.len() == 65
                    && found.key.starts_with(&[4])
            }
            TokenAlgorithm::EdDsa => found.algorithm == ED25519 && found.key.len() == 32,
        };
        if !fits {
            return Err(refused(format!("a token key is none for {algorithm}, or too short")));
        }
        Ok(Self { algorithm, id: None, material: Material::Public(found.key.to_vec()) })
    }

    /// For tokens with this `kid` only. A key without an id verifies tokens with any `kid` or none.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Whether it is the one that a token's header asks for.
    pub(super) fn is_for(&self, algorithm: &str, id: Option<&str>) -> bool {
        self.algorithm.as_str() == algorithm && (self.id.is_none() || self.id.as_deref() == id)
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&'static dyn signature::VerificationAlgorithm, _) =
            match (self.algorithm, &self.material) {
                (TokenAlgorithm::Hs256, Material::Secret(key)) => {
                    return hmac::verify(key, message, signature).is_ok();
                }
                (TokenAlgorithm::Rs256, Material::Public(key)) => (&signature::RSA_PKCS1_2048_8192_SHA256, key),
                (TokenAlgorithm::Es256, Material::Public(key)) => (&signature::ECDSA_P256_SHA256_FIXED, key),
                (TokenAlgorithm::EdDsa, Material::Public(key)) => (&signature::ED25519, key),
                // No constructor pairs them so.
                (TokenAlgorithm::Hs256, Material::Public(_)) | (_, Material::Secret(_)) => return false,
            };
        signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn refused(reason: String) -> RouterError {
    RouterError::Refused { reason, source: None }
}
