//! The key that seals a snapshot.

use std::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use tenantry_domain::Secret;
use zeroize::Zeroizing;

/// Bytes of a key.
const LENGTH: usize = 32;
/// Padding or none: tools differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The key that seals a router's snapshot: 32 random bytes, kept apart from the file. It prints nothing and is overwritten
/// when it is dropped.
#[derive(Clone)]
pub struct SnapshotKey(Zeroizing<[u8; LENGTH]>);

/// Why a text is no key. It does not show the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSnapshotKey {
    /// It is not base64.
    #[error("the snapshot key is not base64; make one with `openssl rand -base64 32`")]
    Encoding,
    /// It is too short or too long.
    #[error("the snapshot key has {length} bytes; it needs 32, as `openssl rand -base64 32` makes them")]
    Length {
        /// Its bytes.
        length: usize,
    },
    /// All its bytes are the same, so nobody drew them at random.
    #[error("the snapshot key repeats one byte; make one with `openssl rand -base64 32`")]
    Constant,
}

impl SnapshotKey {
    /// Reads a key from base64 (the standard alphabet, with or without padding); white space around it does not count.
    ///
    /// ```
    /// use tenantry_router::{InvalidSnapshotKey, Secret, SnapshotKey};
    ///
    /// let key = Secret::new("7Xk2yQm0cQ1v0o8m3b6nq1w5tq4yX2dJ8s0aG9hLr3E=\n".to_owned());
    /// assert!(SnapshotKey::parse(&key).is_ok());
    /// let short = Secret::new("c2hvcnQ=".to_owned());
    /// assert_eq!(SnapshotKey::parse(&short).unwrap_err(), InvalidSnapshotKey::Length { length: 5 });
    /// ```
    pub fn parse(text: &Secret) -> Result<Self, InvalidSnapshotKey> {
        let bytes = BASE64.decode(text.expose().trim()).map_err(|_| InvalidSnapshotKey::Encoding)?;
        let bytes = Zeroizing::new(bytes);
        let mut key = Zeroizing::new([0; LENGTH]);
        if bytes.len() != LENGTH {
            return Err(InvalidSnapshotKey::Length { length: bytes.len() });
        }
        key.copy_from_slice(&bytes);
        if key.iter().all(|byte| *byte == key[0]) {
            return Err(InvalidSnapshotKey::Constant);
        }
        Ok(Self(key))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for SnapshotKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SnapshotKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_keys_are_refused_without_being_shown() {
        let parse = |text: &str| SnapshotKey::parse(&Secret::new(text.to_owned()));
        let encoded = BASE64.encode([7; 31]);
        assert_eq!(parse("hunter2!").expect_err("no base64"), InvalidSnapshotKey::Encoding);
        assert_eq!(parse(&encoded).expect_err("short"), InvalidSnapshotKey::Length { length: 31 });
        assert_eq!(parse("").expect_err("empty"), InvalidSnapshotKey::Length { length: 0 });
        assert_eq!(parse(&BASE64.encode([0; 32])).expect_err("no key"), InvalidSnapshotKey::Constant);
        let bytes: [u8; 32] = std::array::from_fn(|place| u8::try_from(place).expect("small"));
        let key = parse(BASE64.encode(bytes).trim_end_matches('=')).expect("a key");
        assert_eq!(format!("{key:?}"), "SnapshotKey(…)");
    }
}
