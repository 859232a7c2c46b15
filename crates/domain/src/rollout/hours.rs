//! The hours within which a rollout begins tenants.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan as _;
use jiff::civil::{DateTime, Time, Weekday};
use serde::{Deserialize, Serialize};

use crate::name::InvalidName;

const RULE: &str = "write it as [DAYS ]HH:MM-HH:MM[ ZONE], such as 22:00-05:00, sat,sun 08:00-20:00 or \
                    mon-fri 01:30-04:00 Europe/Berlin";
const DAY: u16 = 24 * 60;
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Hours of the day, on some days of the week, on the clocks of a time zone. Hours that pass midnight belong to the day on
/// which they begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    /// Monday first.
    days: [bool; 7],
    /// Minutes since midnight.
    from: u16,
    /// The same; below `from` where midnight lies between.
    to: u16,
    zone: String,
}

impl Hours {
    /// The time zone's name; whether there is one of that name is for whoever knows the time to find out.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Whether they have begun and not ended at a moment on the zone's clocks.
    pub fn contain(&self, at: DateTime) -> bool {
        let minute = u16::try_from(i32::from(at.hour()) * 60 + i32::from(at.minute())).unwrap_or(0);
        let (today, yesterday) = (self.is_on(at.weekday()), self.is_on(at.weekday().previous()));
        if self.from < self.to {
            today && (self.from..self.to).contains(&minute)
        } else {
            today && minute >= self.from || yesterday && minute < self.to
        }
    }

    /// When they begin next, after a moment on the zone's clocks; `None` only at the end of the calendar.
    pub fn next_after(&self, at: DateTime) -> Option<DateTime> {
        let begin = Time::midnight().checked_add(i64::from(self.from).minutes()).ok()?;
        (0..=7_i64).find_map(|days| {
            let day = at.date().checked_add(days.days()).ok()?;
            let begins = day.to_datetime(begin);
            (self.is_on(day.weekday()) && begins > at).then_some(begins)
        })
    }

    fn is_on(&self, day: Weekday) -> bool {
        DAYS.iter().zip(self.days).any(|((_, known), on)| on && *known == day)
    }
}

impl FromStr for Hours {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refused = || InvalidName::new("span of hours", RULE, text);
        let words: Vec<&str> = text.split(' ').collect();
        let (days, hours, zone) = match words.as_slice() {
            [hours] => (None, *hours, None),
            [first, second] if first.contains(':') => (None, *first, Some(*second)),
            [days, hours] => (Some(*days), *hours, None),
            [days, hours, zone] => (Some(*days), *hours, Some(*zone)),
            _ => return Err(refused()),
        };
        let (from, to) = hours.split_once('-').ok_or_else(refused)?;
        let (from, to) = (minutes(from).ok_or_else(refused)?, minutes(to).ok_or_else(refused)?);
        if from == to || from == DAY || to == 0 {
            return Err(refused());
        }
        let days = days.map_or(Some([true; 7]), days_of).ok_or_else(refused)?;
        let zone = zone.unwrap_or("UTC");
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte);
        if zone.is_empty() || zone.len() > 64 || !zone.bytes().all(is_name) {
            return Err(refused());
        }
        Ok(Self { days, from, to, zone: zone.to_owned() })
    }
}

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |digits: &str| {
        (digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse::<u16>().ok())?
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

/// `mon`, `sat,sun` or `mon-fri`; a range may pass Sunday.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|(known, _)| *known == name);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        let length = (last + 7 - first) % 7;
        (first..=first + length).for_each(|day| days[day % 7] = true);
    }
    Some(days)
}

impl fmt::Display for Hours {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let named = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|((name, _), _)| *name);
            write!(formatter, "{} ", named.collect::<Vec<_>>().join(","))?;
        }
        let (from, to) = (self.from, self.to);
        write!(formatter, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)?;
        if self.zone == "UTC" { Ok(()) } else { write!(formatter, " {}", self.zone) }
    }
}

impl TryFrom<String> for Hours {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    fn at(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    #[test]
    fn the_text_is_read_and_written_alike() {
        for text in ["22:00-05:00", "sat,sun 08:00-24:00", "mon,tue 00:00-00:30 Europe/Berlin", "01:00-02:00 Etc/GMT+5"]
        {
            assert_eq!(hours(text).to_string(), text);
        }
        assert_eq!(hours("fri-mon 01:00-02:00").to_string(), "mon,fri,sat,sun 01:00-02:00");
        assert_eq!(hours("01:00-02:00 UTC").to_string(), "01:00-02:00");
        for text in [
            "",
            "22-05",
            "22:00",
            "22:00-22:00",
            "24:00-05:00",
            "22:00-00:00",
            "1:00-2:00",
            "22:60-23:00",
            "24:01-02:00",
            "someday 01:00-02:00",
            "mon 01:00-02:00 Europe/Berlin now",
            "01:00-02:00 a;b",
            "mon- 01:00-02:00",
        ] {
            assert!(text.parse::<Hours>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn hours_within_a_day_end_before_midnight() {
        // 2026-11-28 is a Saturday.
        let night = hours("sat,sun 01:00-05:00");
        assert!(night.contain(at("2026-11-28T01:00")) && night.contain(at("2026-11-29T04:59:59")));
        assert!(!night.contain(at("2026-11-28T05:00")) && !night.contain(at("2026-11-30T02:00")));
        assert_eq!(night.next_after(at("2026-11-28T00:59")), Some(at("2026-11-28T01:00")));
        assert_eq!(night.next_after(at("2026-11-28T01:00")), Some(at("2026-11-29T01:00")));
        assert_eq!(night.next_after(at("2026-11-29T02:00")), Some(at("2026-12-05T01:00")));
        assert!(hours("00:00-24:00").contain(at("2026-11-28T23:59")));
    }

    #[test]
    fn hours_that_pass_midnight_belong_to_the_day_on_which_they_begin() {
        let night = hours("fri 22:00-05:00");
        assert!(night.contain(at("2026-11-27T22:00")) && night.contain(at("2026-11-28T04:59")));
        assert!(!night.contain(at("2026-11-28T05:00")) && !night.contain(at("2026-11-28T23:00")));
        assert!(!night.contain(at("2026-11-27T04:00")), "that would be Thursday's");
        assert_eq!(night.next_after(at("2026-11-27T22:00")), Some(at("2026-12-04T22:00")));
    }
}
