//! Values in query strings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::IntoParams;

/// A number outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use {least} to {most}")]
pub struct OutOfBounds {
    pub(crate) least: u64,
    pub(crate) most: u64,
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident($inner:ty), $least:literal..=$most:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name($inner);

        impl $name {
            /// Checks the bounds.
            pub fn new(number: u64) -> Result<Self, OutOfBounds> {
                match <$inner>::try_from(number) {
                    Ok(number) if ($least..=$most).contains(&number) => Ok(Self(number)),
                    _ => Err(OutOfBounds { least: $least, most: $most }),
                }
            }

            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = OutOfBounds;

            fn try_from(number: u64) -> Result<Self, OutOfBounds> {
                Self::new(number)
            }
        }

        impl From<$name> for u64 {
            fn from(number: $name) -> u64 {
                number.0.into()
            }
        }
    };
}
pub(crate) use bounded;

bounded! {
    /// How many items a page holds at most: 1 to 500.
    PageLimit(u16), 1..=500
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(100)
    }
}

bounded! {
    /// How long a call waits for its operation: 0 to 60 seconds.
    WaitSeconds(u8), 0..=60
}

impl WaitSeconds {
    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

bounded! {
    /// For how long a deletion can be taken back: 0 to 31 536 000 seconds (a year).
    GraceSeconds(u32), 0..=31_536_000
}

impl GraceSeconds {
    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

/// For calls that start long work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Holds the answer until the work is finished or parked, for so many seconds at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u8>, maximum = 60)]
    pub wait: Option<WaitSeconds>,
}

/// For calls that can say what they would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DryRunQuery {
    /// Checks and answers what it would come to, and changes nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[param(value_type = Option<bool>)]
    pub dry_run: bool,
}

/// Several values in one parameter, separated by commas: `status=active,suspended`. Empty text is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommaSeparated<T>(pub Vec<T>);

impl<T> Default for CommaSeparated<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> CommaSeparated<T> {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: fmt::Display> Serialize for CommaSeparated<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.iter().map(T::to_string).collect::<Vec<_>>().join(","))
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for CommaSeparated<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let values = text.split(',').filter(|value| !value.is_empty());
        values.map(str::parse).collect::<Result<_, _>>().map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::TenantStatus;

    use super::*;

    #[test]
    fn commas_separate_values_and_a_wrong_one_is_named() {
        let read = |text: &str| serde_json::from_value::<CommaSeparated<TenantStatus>>(text.into());
        let statuses = read("active,suspended").expect("valid");
        assert_eq!(statuses.0, [TenantStatus::Active, TenantStatus::Suspended]);
        assert!(read("").expect("valid").is_empty());
        assert!(read("active,asleep").expect_err("no status").to_string().contains("asleep"));
    }

    #[test]
    fn bounds_are_kept() {
        assert!(WaitSeconds::new(60).is_ok());
        assert_eq!(WaitSeconds::new(61).expect_err("too long").to_string(), "use 0 to 60");
        assert!(PageLimit::new(0).is_err());
        assert!(PageLimit::new(70_000).is_err());
    }
}
