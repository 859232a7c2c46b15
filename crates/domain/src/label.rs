//! Labels: small key-value marks on tenants, for selecting and grouping.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::InvalidName;

/// At most 64 labels; keys of 1 to 63 characters of `a-z 0-9 . _ - /`, values up to 255 characters without control
/// characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Most labels that one object bears.
    pub const MAX: usize = 64;

    /// Checks count, keys and values.
    pub fn new(labels: BTreeMap<String, String>) -> Result<Self, InvalidName> {
        if labels.len() > Self::MAX {
            return Err(InvalidName::new("set of labels", "use at most 64 labels", ""));
        }
        for (key, value) in &labels {
            let key_is_valid = (1..=63).contains(&key.len())
                && key.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'/')
                });
            if !key_is_valid {
                return Err(InvalidName::new("label key", "use 1 to 63 of a-z, 0-9 and . _ - /", key));
            }
            if value.chars().count() > 255 || value.chars().any(char::is_control) {
                return Err(InvalidName::new(
                    "label value",
                    "use at most 255 characters and no control characters",
                    value,
                ));
            }
        }
        Ok(Self(labels))
    }

    /// The labels, ordered by key.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = InvalidName;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, InvalidName> {
        Self::new(labels)
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let one = |key: &str, value: &str| Labels::new(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert!(one("team/owner", "Ünïcode is fine").is_ok());
        assert!(one("", "x").is_err());
        assert!(one("Key", "x").is_err());
        assert!(one("k", "line\nbreak").is_err());
        assert!(one("k", &"x".repeat(256)).is_err());
        assert!(Labels::new((0..65).map(|n| (format!("k{n}"), String::new())).collect()).is_err());
    }
}
