//! Local clock times as stations report them.

use serde::{Deserialize, Deserializer};
use std::fmt;

/// A time of day without date or zone, from 00:00 to 24:00. The sources write it as a number: `517` is 05:17.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockTime(u16);

impl ClockTime {
    /// From the sources' number; `None` when it is no time of day.
    pub fn from_number(number: u16) -> Option<Self> {
        (number <= 2400 && number % 100 < 60).then_some(Self(number))
    }

    /// The minute within the hour.
    pub fn minute(self) -> u16 {
        self.0 % 100
    }
}

/// Prints as `05:17`, which PostgreSQL reads as a `time`.
impl fmt::Display for ClockTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.0 / 100, self.minute())
    }
}

impl<'de> Deserialize<'de> for ClockTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u16::deserialize(deserializer)?;
        Self::from_number(number).ok_or_else(|| serde::de::Error::custom(format!("{number} is no time of day")))
    }
}

#[cfg(test)]
mod tests {
    use super::ClockTime;

    #[test]
    fn midnight_at_the_end_of_the_day_is_a_time() {
        let printed = |number| ClockTime::from_number(number).map(|time| time.to_string());
        assert_eq!(printed(2400).as_deref(), Some("24:00"));
        assert_eq!(printed(2401), None);
        assert_eq!(printed(60), None);
        assert_eq!(printed(1).as_deref(), Some("00:01"));
    }
}
