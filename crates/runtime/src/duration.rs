//! Durations in configuration: a number and a unit, such as `250ms`, `30s`, `5m`, `12h` or `7d`.
//!
//! For fields: `#[serde(with = "tenantry_runtime::duration")]`.

use std::time::Duration;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serializer};

/// In milliseconds. `ms` comes first, because text that ends in `ms` also ends in `s`.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no duration; write a whole number and a unit: ms, s, m, h or d")]
pub struct InvalidDuration {
    /// What was given.
    pub text: String,
}

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let refuse = || InvalidDuration { text: text.chars().take(40).collect() };
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number.trim_end(), *factor)))
        .ok_or_else(refuse)?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let milliseconds = number.parse::<u64>().ok().filter(|_| is_number).and_then(|number| number.checked_mul(factor));
    milliseconds.map(Duration::from_millis).ok_or_else(refuse)
}

/// Writes a duration in the largest unit that leaves a whole number; what is below a millisecond is cut off.
pub fn format(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let divides = |factor: u64| milliseconds > 0 && milliseconds.is_multiple_of(u128::from(factor));
    let (unit, factor) = UNITS.into_iter().rev().find(|(_, factor)| divides(*factor)).unwrap_or(UNITS[0]);
    format!("{}{unit}", milliseconds / u128::from(factor))
}

/// For `#[serde(with = …)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// For `#[serde(with = …)]`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, milliseconds) in [("250ms", 250), ("30s", 30_000), ("5 m", 300_000), ("12h", 43_200_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "30", "s", "-1s", "+1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d", "1 0s"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_is_written_so_that_it_reads_back() {
        for text in ["0ms", "1ms", "1500ms", "90s", "1m", "36h", "2d"] {
            let duration = parse(text).expect("valid");
            assert_eq!(parse(&format(duration)), Ok(duration), "{text}");
        }
        assert_eq!(format(Duration::from_mins(2)), "2m");
        assert_eq!(format(Duration::from_millis(1500)), "1500ms");
    }
}
