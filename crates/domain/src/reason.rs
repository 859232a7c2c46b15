//! Why a person decided so.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::InvalidName;

/// A person's reason: 1 to 500 characters, not only spaces, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(String);

impl Reason {
    /// Characters at most.
    const LENGTH_MAX: usize = 500;

    /// Takes the text as it is, or says what a reason may be.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let is_said = !text.trim().is_empty() && text.chars().count() <= Self::LENGTH_MAX;
        if is_said && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("reason", "use 1 to 500 characters and no control characters", text))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reason {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}

impl FromStr for Reason {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something_and_is_bounded() {
        assert_eq!(
            Reason::parse("the server is gone").map(|it| it.as_str().to_owned()),
            Ok("the server is gone".into())
        );
        for bad in ["", "   ", "two\nlines", &"x".repeat(501)] {
            assert!(Reason::parse(bad).is_err(), "{bad}");
        }
    }
}
