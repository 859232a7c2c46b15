//! Days as clients name them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;

/// A day in UTC, written `2013-01-31`, of the years 1900 to 2199: what both jiff and PostgreSQL can count on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Date")]
pub struct Day {
    start: Timestamp,
    end: Timestamp,
}

impl Day {
    /// The day's first instant.
    pub fn start(self) -> Timestamp {
        self.start
    }

    /// The next day's first instant.
    pub fn end(self) -> Timestamp {
        self.end
    }
}

impl TryFrom<Date> for Day {
    type Error = &'static str;

    fn try_from(date: Date) -> Result<Self, &'static str> {
        let wrong = "a day lies between 1900-01-01 and 2199-12-31";
        if !(1900..=2199).contains(&date.year()) {
            return Err(wrong);
        }
        let start_of = |date: Date| date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
        let next = date.checked_add(1.day()).map_err(|_| wrong)?;
        Ok(Self { start: start_of(date).map_err(|_| wrong)?, end: start_of(next).map_err(|_| wrong)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::Day;
    use jiff::civil::date;

    #[test]
    fn a_day_ends_where_the_next_begins() {
        let day = Day::try_from(date(2013, 1, 31)).unwrap();
        assert_eq!(day.start(), "2013-01-31T00:00:00Z".parse().unwrap());
        assert_eq!(day.end(), Day::try_from(date(2013, 2, 1)).unwrap().start());
        assert!(Day::try_from(date(1899, 12, 31)).is_err());
        assert!(Day::try_from(date(9999, 12, 31)).is_err());
    }
}
