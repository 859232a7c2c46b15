//! What new homes are filled with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{InvalidName, SeedName};

/// The digest of a seed: 64 hexadecimal digits (SHA-256 of its name and text). Equal content has equal identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SeedId(String);

impl SeedId {
    /// Checks the form.
    ///
    /// # Errors
    ///
    /// When the text is not 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("seed id", "use the 64 hexadecimal digits of its digest", text))
        }
    }

    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SeedId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for SeedId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SeedId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<SeedId> for String {
    fn from(id: SeedId) -> Self {
        id.0
    }
}

/// A seed by its digest, or by its name, which stands for the newest of that name. No text is both: names are shorter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SeedRef {
    /// Exactly this one.
    Id(SeedId),
    /// The newest of this name that is not retired.
    Name(SeedName),
}

impl fmt::Display for SeedRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(formatter),
            Self::Name(name) => name.fmt(formatter),
        }
    }
}

impl FromStr for SeedRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        SeedId::parse(text).map(Self::Id).or_else(|_| SeedName::parse(text).map(Self::Name))
    }
}

impl TryFrom<String> for SeedRef {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<SeedRef> for String {
    fn from(seed: SeedRef) -> Self {
        seed.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_no_name_and_a_name_no_digest() {
        let digest = "0a".repeat(32);
        assert!(matches!(digest.parse(), Ok(SeedRef::Id(_))));
        assert!(matches!("demo-data".parse(), Ok(SeedRef::Name(_))));
        assert!("Demo Data".parse::<SeedRef>().is_err());
        assert!(SeedName::parse(&digest).is_err());
    }
}
