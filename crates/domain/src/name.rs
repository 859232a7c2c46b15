//! Names that people choose: regions, plans, clusters, hosts, and free display names.
//!
//! Each type has one fallible constructor (`parse`), so a value of the type is a valid name everywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that does not follow the rule of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: {rule}")]
pub struct InvalidName {
    /// What was meant: "slug", "region", ….
    pub kind: &'static str,
    /// The rule that it breaks, as a sentence for a person.
    pub rule: &'static str,
    /// What was given, cut to 80 characters.
    pub text: String,
}

impl InvalidName {
    pub(crate) fn new(kind: &'static str, rule: &'static str, text: &str) -> Self {
        Self { kind, rule, text: text.chars().take(80).collect() }
    }
}

/// Whether the text is a DNS label: 1 to 63 of `a-z`, `0-9` and `-`, no hyphen at either end (RFC 1123).
pub(crate) fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("The rule: ", $rule)]
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                Self::check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// Whether the text is such a name, without a copy of it.
            pub fn check(text: &str) -> Result<(), InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(()) } else { Err(InvalidName::new($kind, $rule, text)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name_type! {
    /// A data region such as `eu-central-1`.
    Region, "region", "use 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end", is_dns_label
}
name_type! {
    /// The name of a plan, unique.
    PlanName, "plan name", "use 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end", is_dns_label
}
name_type! {
    /// The name of a seed. Several may bear it; it stands for the newest.
    SeedName, "seed name", "use 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end", is_dns_label
}
name_type! {
    /// The name of a cluster, unique.
    ClusterName, "cluster name", "use 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end", is_dns_label
}
name_type! {
    /// A DNS host name in lower case, at least two labels, 253 characters at most.
    HostName,
    "host name",
    "use lower-case DNS labels joined by dots, at least two of them, 253 characters at most",
    |text| text.len() <= HostName::LENGTH_MAX && text.contains('.') && text.split('.').all(is_dns_label)
}
name_type! {
    /// A free name for people: 1 to 200 characters, no control characters, no blanks at either end.
    DisplayName,
    "name",
    "use 1 to 200 characters, no control characters, no blanks at either end",
    |text| {
        (1..=200).contains(&text.chars().count()) && text.trim() == text && !text.chars().any(char::is_control)
    }
}

impl HostName {
    /// Bytes of the longest (RFC 1035, without the dot at the end).
    pub const LENGTH_MAX: usize = 253;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_dns_labels() {
        for good in ["eu-central-1", "a", "local", &"x".repeat(63)] {
            assert!(Region::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "EU", "-a", "a-", "a_b", "a.b", "ä", &"x".repeat(64)] {
            assert!(Region::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names_need_a_dot() {
        assert!(HostName::parse("acme.example.com").is_ok());
        for bad in ["acme", "acme.", ".com", "a..b", "A.com"] {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_says_what_was_given_and_the_rule() {
        let error = Region::parse("Nope!").expect_err("invalid");
        assert_eq!(
            error.to_string(),
            "`Nope!` is not a region: use 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end"
        );
    }

    #[test]
    fn deserialising_goes_through_the_constructor() {
        assert!(serde_json::from_str::<Region>("\"eu-1\"").is_ok());
        assert!(serde_json::from_str::<Region>("\"EU 1\"").is_err());
    }
}
