//! Sealing secrets, and their rows.
//!
//! AES-256-GCM with a random 96-bit nonce per secret. Id and purpose are authenticated along with the text, so a row
//! copied over another does not open. Keys have versions: the newest seals, older ones still open.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Nonce, Payload};
use deadpool_postgres::ClientWrapper;
use rand::TryRng;
use rand::rngs::SysRng;
use tenantry_domain::{Secret, SecretId};
use tokio_postgres::Row;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::StoreError;
use crate::row::{execute, get};

/// The master keys by version.
pub struct Keyring {
    ciphers: BTreeMap<i32, Aes256Gcm>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keyring").field("versions", &self.ciphers.keys()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads `version:key` pairs joined by commas; a key is 64 hexadecimal digits. The highest version seals.
    pub fn parse(text: &Secret) -> Result<Self, StoreError> {
        let invalid =
            |reason: &str| StoreError::Invalid { reason: format!("the master keys cannot be read: {reason}") };
        let mut ciphers = BTreeMap::new();
        for pair in text.expose().split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (version, key) = pair.split_once(':').ok_or_else(|| invalid("write each as version:key"))?;
            let version: i32 = version.parse().map_err(|_| invalid("a version is a positive whole number"))?;
            let mut bytes = Zeroizing::new([0_u8; 32]);
            hex::decode_to_slice(key, &mut *bytes).map_err(|_| invalid("a key is 64 hexadecimal digits"))?;
            let cipher = Aes256Gcm::new_from_slice(&*bytes).map_err(StoreError::internal_text)?;
            if version < 1 || ciphers.insert(version, cipher).is_some() {
                return Err(invalid("versions are positive and differ from each other"));
            }
        }
        if ciphers.is_empty() { Err(invalid("there is none")) } else { Ok(Self { ciphers }) }
    }

    /// A new random key of version 1, in the form that [`parse`](Self::parse) reads.
    pub fn generate() -> Result<Secret, StoreError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        SysRng.try_fill_bytes(&mut *bytes).map_err(StoreError::internal)?;
        Ok(Secret::new(format!("1:{}", hex::encode(*bytes))))
    }

    fn seal(&self, id: SecretId, purpose: &str, secret: &Secret) -> Result<Sealed, StoreError> {
        let Some((version, cipher)) = self.ciphers.last_key_value() else {
            return Err(StoreError::internal("the keyring is empty"));
        };
        let mut nonce = [0_u8; 12];
        SysRng.try_fill_bytes(&mut nonce).map_err(StoreError::internal)?;
        let aad = associated(id, purpose);
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &aad };
        let ciphertext =
            cipher.encrypt(&Nonce::<Aes256Gcm>::from(nonce), payload).map_err(StoreError::internal_text)?;
        Ok(Sealed { key_version: *version, nonce, ciphertext })
    }

    fn open(&self, id: SecretId, purpose: &str, sealed: &Sealed) -> Result<Secret, StoreError> {
        let cipher = self.ciphers.get(&sealed.key_version).ok_or_else(|| StoreError::Invalid {
            reason: format!(
                "a secret is sealed with master key version {}, which is not configured; add it",
                sealed.key_version
            ),
        })?;
        let aad = associated(id, purpose);
        let payload = Payload { msg: sealed.ciphertext.as_slice(), aad: &aad };
        let text =
            cipher.decrypt(&Nonce::<Aes256Gcm>::from(sealed.nonce), payload).map_err(|_| StoreError::Invalid {
                reason: "a secret does not open: the master key is not the one that sealed it, or the row was changed"
                    .to_owned(),
            })?;
        String::from_utf8(text).map(Secret::new).map_err(|_| StoreError::internal("a secret is no text"))
    }
}

impl StoreError {
    /// For errors that do not implement the standard trait.
    fn internal_text(error: impl fmt::Display) -> Self {
        Self::internal(error.to_string())
    }
}

struct Sealed {
    key_version: i32,
    nonce: [u8; 12],
    ciphertext: Vec<u8>,
}

fn associated(id: SecretId, purpose: &str) -> Vec<u8> {
    let mut bytes = id.as_uuid().as_bytes().to_vec();
    bytes.extend_from_slice(purpose.as_bytes());
    bytes
}

/// Seals secrets, each for its purpose, into new rows.
pub(crate) async fn insert_secrets<const N: usize>(
    client: &ClientWrapper,
    keyring: &Keyring,
    secrets: [(&str, &Secret); N],
) -> Result<[Uuid; N], StoreError> {
    let ids = [(); N].map(|()| Uuid::now_v7());
    let purposes = secrets.map(|(purpose, _)| purpose);
    let (mut versions, mut nonces, mut ciphertexts) = (Vec::new(), Vec::new(), Vec::new());
    for (id, (purpose, secret)) in ids.into_iter().zip(secrets) {
        let sealed = keyring.seal(SecretId::new(id), purpose, secret)?;
        versions.push(sealed.key_version);
        nonces.push(sealed.nonce.to_vec());
        ciphertexts.push(sealed.ciphertext);
    }
    execute(
        client,
        "INSERT INTO secret (id, purpose, key_version, nonce, ciphertext)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::bytea[], $5::bytea[])",
        &[&ids.as_slice(), &purposes.as_slice(), &versions, &nonces, &ciphertexts],
    )
    .await?;
    Ok(ids)
}

/// The columns of a secret that is joined under `alias`, named so that [`open_secret`] finds them.
pub(crate) fn columns(alias: &str) -> String {
    format!(
        "{alias}.id AS {alias}_id, {alias}.purpose AS {alias}_purpose, {alias}.key_version AS {alias}_key_version, \
         {alias}.nonce AS {alias}_nonce, {alias}.ciphertext AS {alias}_ciphertext"
    )
}

/// Opens a secret that was selected with [`columns`]; `None` where the join found none.
pub(crate) fn open_secret(keyring: &Keyring, row: &Row, alias: &str) -> Result<Option<Secret>, StoreError> {
    let Some(id) = get::<Option<Uuid>>(row, &format!("{alias}_id"))? else { return Ok(None) };
    let purpose: &str = get(row, &format!("{alias}_purpose"))?;
    let sealed = Sealed {
        key_version: get(row, &format!("{alias}_key_version"))?,
        nonce: get::<&[u8]>(row, &format!("{alias}_nonce"))?.try_into().map_err(StoreError::internal)?,
        ciphertext: get(row, &format!("{alias}_ciphertext"))?,
    };
    keyring.open(SecretId::new(id), purpose, &sealed).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(text: &str) -> Keyring {
        Keyring::parse(&Secret::new(text.to_owned())).expect("keyring")
    }

    fn id(number: u128) -> SecretId {
        SecretId::new(Uuid::from_u128(number))
    }

    #[test]
    fn a_sealed_secret_opens_in_its_own_place_only() {
        let text = Keyring::generate().expect("key");
        let keyring = Keyring::parse(&text).expect("keyring");
        let sealed = keyring.seal(id(1), "login", &Secret::new("hunter2".into())).expect("sealed");
        assert_eq!(keyring.open(id(1), "login", &sealed).expect("opens").expose(), "hunter2");
        assert!(keyring.open(id(2), "login", &sealed).is_err());
        assert!(keyring.open(id(1), "migrator", &sealed).is_err());
        let other = Keyring::parse(&Keyring::generate().expect("key")).expect("keyring");
        assert!(other.open(id(1), "login", &sealed).is_err());
    }

    #[test]
    fn the_newest_key_seals_and_older_ones_still_open() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let old = keyring(&format!("1:{one}"));
        let sealed = old.seal(id(1), "x", &Secret::new("s".into())).expect("sealed");
        let both = keyring(&format!("1:{one},2:{two}"));
        assert_eq!(both.open(id(1), "x", &sealed).expect("opens").expose(), "s");
        assert_eq!(both.seal(id(1), "x", &Secret::new("s".into())).expect("sealed").key_version, 2);
        assert!(keyring(&format!("2:{two}")).open(id(1), "x", &sealed).is_err());
    }

    #[test]
    fn strange_keys_are_refused_without_being_shown() {
        for bad in ["", "x", "1:zz", "0:11", "1:abcd", &format!("1:{0},1:{0}", "1".repeat(64))] {
            let error = Keyring::parse(&Secret::new(bad.into())).expect_err(bad);
            assert!(bad.len() < 4 || !error.to_string().contains(bad));
        }
    }
}
