//! The keys that seal: master keys, given from outside, and the data keys that they wrap.
//!
//! Everything asked of master keys passes through [`Keyring::wrap`] and [`Keyring::unwrap`]. Both are asynchronous and
//! take many keys at once, and nothing else here sees a master key: a key management service fits behind them.
//!
//! Ciphers are AES-256-GCM with a random 96-bit nonce. What a key or a secret belongs to is authenticated along with it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Nonce, Payload};
use futures::future::BoxFuture;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use tenantry_domain::{HomeId, Secret, SecretId};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::StoreError;

/// No version: the newest key wraps.
const NEWEST: i32 = 0;

/// The master keys by version. One of them wraps new data keys, all of them unwrap.
pub struct Keyring {
    masters: BTreeMap<i32, Master>,
    wrapping: AtomicI32,
}

struct Master {
    cipher: Aes256Gcm,
    fingerprint: [u8; 32],
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keyring").field("versions", &self.masters.keys()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads `version:key` pairs, joined by commas or one a line; a key is 64 hexadecimal digits. The highest version
    /// wraps, until the catalog says which one does.
    pub fn parse(text: &Secret) -> Result<Self, StoreError> {
        let invalid =
            |reason: &str| StoreError::Invalid { reason: format!("the master keys cannot be read: {reason}") };
        let mut masters = BTreeMap::new();
        for pair in text.expose().split([',', '\n']).map(str::trim).filter(|pair| !pair.is_empty()) {
            let (version, key) = pair.split_once(':').ok_or_else(|| invalid("write each as version:key"))?;
            let version: i32 = version.parse().map_err(|_| invalid("a version is a positive whole number"))?;
            let mut bytes = Zeroizing::new([0_u8; 32]);
            hex::decode_to_slice(key, &mut *bytes).map_err(|_| invalid("a key is 64 hexadecimal digits"))?;
            let master = Master { cipher: cipher(&bytes)?, fingerprint: fingerprint(version, &bytes) };
            if version < 1 || masters.insert(version, master).is_some() {
                return Err(invalid("versions are positive and differ from each other"));
            }
        }
        if masters.is_empty() {
            Err(invalid("there is none"))
        } else {
            Ok(Self { masters, wrapping: AtomicI32::new(NEWEST) })
        }
    }

    /// A new random key of version 1, in the form that [`parse`](Self::parse) reads.
    pub fn generate() -> Result<Secret, StoreError> {
        Self::generate_version(1)
    }

    /// A new random key of a version, in the form that [`parse`](Self::parse) reads.
    pub fn generate_version(version: i32) -> Result<Secret, StoreError> {
        let key = DataKey::random()?;
        let digits = Zeroizing::new(hex::encode(*key.0));
        Ok(Secret::new(format!("{version}:{}", *digits)))
    }

    /// The versions that are here, ascending.
    pub fn versions(&self) -> Vec<i32> {
        self.masters.keys().copied().collect()
    }

    /// The version that wraps new data keys.
    pub fn wrapping(&self) -> i32 {
        match self.wrapping.load(Ordering::Relaxed) {
            NEWEST => self.masters.keys().next_back().copied().unwrap_or(NEWEST),
            version => version,
        }
    }

    /// From now on this version wraps. One that is not here is refused: nothing could be sealed any more.
    pub(crate) fn wrap_with(&self, version: i32) -> Result<(), StoreError> {
        self.master(version)?;
        self.wrapping.store(version, Ordering::Relaxed);
        Ok(())
    }

    /// Tells whether another key stands under the same version elsewhere. A key has 256 random bits: its hash tells
    /// nothing about it.
    pub(crate) fn fingerprint(&self, version: i32) -> Option<[u8; 32]> {
        self.masters.get(&version).map(|master| master.fingerprint)
    }

    /// Wraps data keys with the version that wraps, in their order.
    pub(crate) fn wrap<'a>(&'a self, keys: &'a [OwnedKey]) -> BoxFuture<'a, Result<Vec<Wrapped>, StoreError>> {
        Box::pin(async move {
            let version = self.wrapping();
            let master = self.master(version)?;
            let wrap = |key: &OwnedKey| {
                let (nonce, ciphertext) = encrypt(&master.cipher, key.key.0.as_slice(), &key.place.associated())?;
                Ok(Wrapped { version, nonce, ciphertext })
            };
            keys.iter().map(wrap).collect()
        })
    }

    /// Unwraps data keys, in their order. One that does not open does not keep the others from it.
    pub(crate) fn unwrap<'a>(
        &'a self,
        wrapped: &'a [(KeyPlace, Wrapped)],
    ) -> BoxFuture<'a, Vec<Result<DataKey, StoreError>>> {
        Box::pin(async move { wrapped.iter().map(|(place, wrapped)| self.unwrap_one(place, wrapped)).collect() })
    }

    fn unwrap_one(&self, place: &KeyPlace, wrapped: &Wrapped) -> Result<DataKey, StoreError> {
        let master = self.master(wrapped.version)?;
        let bytes = decrypt(&master.cipher, &wrapped.nonce, &wrapped.ciphertext, &place.associated());
        let bytes = Zeroizing::new(bytes.ok_or_else(|| does_not_open("a data key", "master key"))?);
        let mut key = Zeroizing::new([0_u8; 32]);
        if bytes.len() != key.len() {
            return Err(StoreError::internal("a data key has an impossible length"));
        }
        key.copy_from_slice(&bytes);
        Ok(DataKey(key))
    }

    /// Opens what a master key sealed itself, before there were data keys.
    pub(crate) fn open_directly(
        &self,
        version: i32,
        place: SecretPlace<'_>,
        sealed: &Sealed,
    ) -> Result<Secret, StoreError> {
        let mut associated = place.id.as_uuid().as_bytes().to_vec();
        associated.extend_from_slice(place.purpose.as_bytes());
        let opened = decrypt(&self.master(version)?.cipher, &sealed.nonce, &sealed.ciphertext, &associated);
        text(opened.ok_or_else(|| does_not_open("a secret", "master key"))?)
    }

    fn master(&self, version: i32) -> Result<&Master, StoreError> {
        self.masters.get(&version).ok_or_else(|| StoreError::Invalid {
            reason: format!("something is sealed with master key version {version}, which is not configured; add it"),
        })
    }
}

/// A key that seals secrets.
pub(crate) struct DataKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DataKey(…)")
    }
}

impl DataKey {
    pub(crate) fn random() -> Result<Self, StoreError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        SysRng.try_fill_bytes(&mut *bytes).map_err(StoreError::internal)?;
        Ok(Self(bytes))
    }

    /// Seals a secret for its place.
    pub(crate) fn seal(&self, place: SecretPlace<'_>, secret: &Secret) -> Result<Sealed, StoreError> {
        let (nonce, ciphertext) = encrypt(&cipher(&self.0)?, secret.expose().as_bytes(), &place.associated())?;
        Ok(Sealed { nonce, ciphertext })
    }

    /// Opens a secret in its place.
    pub(crate) fn open(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<Secret, StoreError> {
        let opened = decrypt(&cipher(&self.0)?, &sealed.nonce, &sealed.ciphertext, &place.associated());
        text(opened.ok_or_else(|| does_not_open("a secret", "data key"))?)
    }
}

/// A data key and where it belongs.
#[derive(Debug)]
pub(crate) struct OwnedKey {
    pub(crate) place: KeyPlace,
    pub(crate) key: DataKey,
}

/// Where a data key belongs: its row, and the home or the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyPlace {
    pub(crate) id: Uuid,
    pub(crate) owner: KeyOwner,
}

/// Whose a data key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyOwner {
    /// What concerns no single tenant: clusters, webhooks.
    Platform,
    /// A home's, and so of the tenant that lives there.
    Home(HomeId),
}

impl KeyOwner {
    pub(crate) fn of(home: Option<Uuid>) -> Self {
        home.map_or(Self::Platform, |home| Self::Home(HomeId::new(home)))
    }

    pub(crate) fn home(self) -> Option<Uuid> {
        match self {
            Self::Platform => None,
            Self::Home(home) => Some(home.as_uuid()),
        }
    }

    /// No home has the nil id.
    fn bytes(self) -> [u8; 16] {
        self.home().unwrap_or(Uuid::nil()).into_bytes()
    }
}

impl KeyPlace {
    fn associated(&self) -> Vec<u8> {
        [b"tenantry data key 1".as_slice(), self.id.as_bytes(), &self.owner.bytes()].concat()
    }
}

/// Where a secret belongs: its row, its purpose and the key's owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretPlace<'a> {
    pub(crate) id: SecretId,
    pub(crate) purpose: &'a str,
    pub(crate) owner: KeyOwner,
}

impl SecretPlace<'_> {
    fn associated(&self) -> Vec<u8> {
        let id = self.id.as_uuid();
        // Only the last part has no fixed length.
        [b"tenantry secret 1".as_slice(), id.as_bytes(), &self.owner.bytes(), self.purpose.as_bytes()].concat()
    }
}

/// A sealed secret.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) nonce: [u8; 12],
    pub(crate) ciphertext: Vec<u8>,
}

/// A wrapped data key, and the version of the master key that unwraps it.
#[derive(Debug)]
pub(crate) struct Wrapped {
    pub(crate) version: i32,
    pub(crate) nonce: [u8; 12],
    pub(crate) ciphertext: Vec<u8>,
}

fn cipher(key: &[u8; 32]) -> Result<Aes256Gcm, StoreError> {
    Aes256Gcm::new_from_slice(key).map_err(|error| StoreError::internal(error.to_string()))
}

fn fingerprint(version: i32, key: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update("tenantry master key ")
        .chain_update(version.to_be_bytes())
        .chain_update(key)
        .finalize()
        .into()
}

fn encrypt(cipher: &Aes256Gcm, message: &[u8], associated: &[u8]) -> Result<([u8; 12], Vec<u8>), StoreError> {
    let mut nonce = [0_u8; 12];
    SysRng.try_fill_bytes(&mut nonce).map_err(StoreError::internal)?;
    let ciphertext = cipher
        .encrypt(&Nonce::<Aes256Gcm>::from(nonce), Payload { msg: message, aad: associated })
        .map_err(|error| StoreError::internal(error.to_string()))?;
    Ok((nonce, ciphertext))
}

fn decrypt(cipher: &Aes256Gcm, nonce: &[u8; 12], ciphertext: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
    cipher.decrypt(&Nonce::<Aes256Gcm>::from(*nonce), Payload { msg: ciphertext, aad: associated }).ok()
}

fn text(bytes: Vec<u8>) -> Result<Secret, StoreError> {
    String::from_utf8(bytes).map(Secret::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        StoreError::internal("a secret is no text")
    })
}

fn does_not_open(what: &str, key: &str) -> StoreError {
    StoreError::Invalid {
        reason: format!("{what} does not open: the {key} is not the one that sealed it, or the row was changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(text: &str) -> Keyring {
        Keyring::parse(&Secret::new(text.to_owned())).expect("keyring")
    }

    fn owned(id: u128, owner: KeyOwner) -> OwnedKey {
        OwnedKey { place: KeyPlace { id: Uuid::from_u128(id), owner }, key: DataKey::random().expect("a key") }
    }

    fn home(id: u128) -> KeyOwner {
        KeyOwner::Home(HomeId::new(Uuid::from_u128(id)))
    }

    fn place(id: u128, purpose: &str, owner: KeyOwner) -> SecretPlace<'_> {
        SecretPlace { id: SecretId::new(Uuid::from_u128(id)), purpose, owner }
    }

    #[test]
    fn a_sealed_secret_opens_in_its_own_place_only() {
        let key = DataKey::random().expect("a key");
        let sealed = key.seal(place(1, "login", home(7)), &Secret::new("hunter2".into())).expect("sealed");
        assert_eq!(key.open(place(1, "login", home(7)), &sealed).expect("opens").expose(), "hunter2");
        for other in [
            place(2, "login", home(7)),
            place(1, "migrator", home(7)),
            place(1, "login", home(8)),
            place(1, "login", KeyOwner::Platform),
        ] {
            assert!(key.open(other, &sealed).is_err(), "{other:?}");
        }
        assert!(DataKey::random().expect("a key").open(place(1, "login", home(7)), &sealed).is_err());
    }

    #[tokio::test]
    async fn a_wrapped_key_opens_for_its_owner_only_and_by_its_version_only() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let old = keyring(&format!("1:{one}"));
        let keys = [owned(1, home(7)), owned(2, KeyOwner::Platform)];
        let mut wrapped = old.wrap(&keys).await.expect("wrapped");
        let second = (keys[1].place, wrapped.pop().expect("two"));
        let first = (keys[0].place, wrapped.pop().expect("one"));
        let both = keyring(&format!("1:{one}\n2:{two}\n"));
        let again = [first, second];
        for (key, unwrapped) in keys.iter().zip(both.unwrap(&again).await) {
            assert_eq!(*unwrapped.expect("opens").0, *key.key.0);
        }
        let [first, second] = again;
        let elsewhere = [(second.0, first.1), (KeyPlace { owner: home(8), ..first.0 }, second.1)];
        assert!(both.unwrap(&elsewhere).await.iter().all(Result::is_err));
        assert!(keyring(&format!("2:{two}")).unwrap(&elsewhere).await.iter().all(Result::is_err));
    }

    #[test]
    fn the_newest_key_wraps_until_another_one_is_named() {
        let keys = keyring(&format!("1:{},3:{}", "1".repeat(64), "3".repeat(64)));
        assert_eq!((keys.wrapping(), keys.versions()), (3, vec![1, 3]));
        keys.wrap_with(1).expect("it is there");
        assert_eq!(keys.wrapping(), 1);
        assert!(keys.wrap_with(2).is_err());
        assert_eq!(keys.wrapping(), 1, "a version that is not here does not wrap");
    }

    #[test]
    fn another_key_under_the_same_version_has_another_fingerprint() {
        let fingerprint = |text: &str| keyring(text).fingerprint(1).expect("a key");
        let (one, two) = (format!("1:{}", "1".repeat(64)), format!("1:{}", "2".repeat(64)));
        assert_eq!(fingerprint(&one), fingerprint(&one));
        assert_ne!(fingerprint(&one), fingerprint(&two));
    }

    #[test]
    fn strange_keys_are_refused_without_being_shown() {
        for bad in ["", "x", "1:zz", "0:11", "1:abcd", &format!("1:{0},1:{0}", "1".repeat(64))] {
            let error = Keyring::parse(&Secret::new(bad.into())).expect_err(bad);
            assert!(bad.len() < 4 || !error.to_string().contains(bad));
        }
    }

    #[test]
    fn no_key_prints_itself() {
        let digits = "5a".repeat(32);
        let shown = format!("{:?} {:?}", keyring(&format!("1:{digits}")), owned(1, KeyOwner::Platform));
        assert!(!shown.contains("5a5a") && !shown.contains("90, 90"), "{shown}");
        assert!(shown.contains("DataKey(…)"), "{shown}");
    }
}
