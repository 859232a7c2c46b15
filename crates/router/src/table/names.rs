//! Slugs and hosts, found by a fingerprint alone.
//!
//! Ninety-six bits stand for a name; the name itself is not compared, which saves the memory accesses that it is away. The
//! hash is strongly universal, so two different names have the same fingerprint with a probability of 2^-96, whoever chose
//! them without knowing the keys, which are drawn for each table: among a million names, another one is taken for one of
//! them once in 2^76 lookups. (Multilinear hashing: Daniel Lemire and Owen Kaser, "Strongly Universal String Hashing is
//! Fast", The Computer Journal 57, 2014.)

use tenantry_domain::HostName;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    Slug,
    Host,
}

/// Words of the longest name, and one for its length and kind.
const WORDS: usize = HostName::LENGTH_MAX.div_ceil(8) + 1;

/// Makes fingerprints.
pub(crate) struct Fingerprints {
    /// Two hashes of 64 bits, each with a key of 128 bits for every word and one more.
    keys: [[u128; 2]; WORDS + 1],
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self { keys: std::array::from_fn(|_| [rand::random(), rand::random()]) }
    }
}

impl Fingerprints {
    /// The fingerprint of a name; the upper 96 bits count. `None` for a name that is too long to be any.
    #[inline]
    pub(crate) fn of(&self, kind: NameKind, name: &str) -> Option<u128> {
        let bytes = name.as_bytes();
        if bytes.len() > HostName::LENGTH_MAX {
            return None;
        }
        let [base, first, rest @ ..] = &self.keys;
        let mut sums = *base;
        let mut add = |keys: &[u128; 2], word: u64| {
            for (sum, key) in sums.iter_mut().zip(keys) {
                *sum = sum.wrapping_add(key.wrapping_mul(u128::from(word)));
            }
        };
        // With the length, names of different lengths differ however their last bytes are read.
        add(first, (bytes.len() as u64) << 1 | u64::from(kind == NameKind::Host));
        let mut words = bytes.chunks_exact(8);
        let mut keys = rest.iter();
        for (word, keys) in words.by_ref().zip(keys.by_ref()) {
            add(keys, word.try_into().map_or(0, u64::from_le_bytes));
        }
        if let Some(keys) = keys.next() {
            add(keys, tail(words.remainder()));
        }
        // The upper halves are strongly universal.
        Some((sums[0] >> 64) << 64 | sums[1] >> 64)
    }
}

/// Up to seven bytes as a number, without a loop.
fn tail(bytes: &[u8]) -> u64 {
    let at = |position: usize| u64::from(bytes[position]);
    match bytes.len() {
        0 => 0,
        1..=3 => at(0) | at(bytes.len() / 2) << 8 | at(bytes.len() - 1) << 16,
        length => {
            let half = |from: usize| bytes[from..from + 4].try_into().map_or(0, u32::from_le_bytes);
            u64::from(half(0)) | u64::from(half(length - 4)) << 32
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_names_have_different_fingerprints() {
        let fingerprints = Fingerprints::default();
        let mut seen = HashSet::new();
        for length in 0..=HostName::LENGTH_MAX {
            // One byte different in each place, and nothing but the length.
            for place in 0..=length {
                let name: String = (0..length).map(|position| if position == place { 'b' } else { 'a' }).collect();
                for kind in [NameKind::Slug, NameKind::Host] {
                    let fingerprint = fingerprints.of(kind, &name).expect("short enough");
                    assert!(seen.insert(fingerprint >> 32), "{kind:?} {length} {place}");
                    assert_eq!(fingerprints.of(kind, &name), Some(fingerprint));
                }
            }
        }
        assert_eq!(fingerprints.of(NameKind::Host, &"a".repeat(HostName::LENGTH_MAX + 1)), None);
    }
}
