//! Slugs and hosts, found by a fingerprint alone.
//!
//! Ninety-six bits of a hash under a random key stand for a name; the name itself is not compared, which saves the two
//! memory accesses that it is away. Whoever does not know the key cannot look for names that collide (SipHash: Aumasson
//! and Bernstein, 2012), and by chance one among a million names is taken for another once in 2^76 lookups.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    Slug,
    Host,
}

/// Makes fingerprints.
pub(crate) struct Fingerprints {
    key: [u8; 16],
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self { key: rand::random() }
    }
}

impl Fingerprints {
    /// The fingerprint of a name; the upper 96 bits count.
    #[inline]
    pub(crate) fn of(&self, kind: NameKind, name: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        // No name has this byte, so no slug is a host.
        if kind == NameKind::Host {
            hasher.write(&[0xff]);
        }
        hasher.write(name.as_bytes());
        hasher.finish128().as_u128()
    }
}
