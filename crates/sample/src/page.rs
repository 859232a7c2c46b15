//! Pages of a list: how large, and where the next one starts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// 300 years from 1970, either way: every departure lies within, and so does what PostgreSQL can hold.
const DEPARTURE_MICROSECONDS_MAX: u64 = 300 * 366 * 86_400 * 1_000_000;

/// One page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Cuts rows of which one more than a page was read.
    pub(crate) fn cut(mut items: Vec<T>, size: PageSize, cursor_of: impl Fn(&T) -> Cursor) -> Self {
        let more = items.len() > usize::from(size.0);
        items.truncate(size.0.into());
        let next = items.last().filter(|_| more).map(cursor_of);
        Self { items, next }
    }
}

/// How many rows a page has: 1 to 200, 50 where nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub struct PageSize(u16);

impl PageSize {
    pub(crate) fn rows(self) -> i64 {
        self.0.into()
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<u16> for PageSize {
    type Error = &'static str;

    fn try_from(size: u16) -> Result<Self, &'static str> {
        if (1..=200).contains(&size) { Ok(Self(size)) } else { Err("a page has 1 to 200 rows") }
    }
}

/// The last row of the page before, by the order of the list. Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cursor {
    pub(crate) departure: Timestamp,
    pub(crate) id: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.departure.as_microsecond(), self.id)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "this is no place in the list: take `next` of the page before";
        let (departure, id) = text.split_once('.').ok_or(wrong)?;
        let microseconds: i64 = departure.parse().map_err(|_| wrong)?;
        if microseconds.unsigned_abs() > DEPARTURE_MICROSECONDS_MAX {
            return Err(wrong);
        }
        Ok(Self {
            departure: Timestamp::from_microsecond(microseconds).map_err(|_| wrong)?,
            id: id.parse().map_err(|_| wrong)?,
        })
    }
}

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Page, PageSize};
    use jiff::Timestamp;

    #[test]
    fn a_cursor_comes_back_from_its_text() {
        for departure in [Timestamp::UNIX_EPOCH, Timestamp::constant(-5, 0), Timestamp::constant(1_357_035_300, 0)] {
            let cursor = Cursor { departure, id: 7 };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", ".", "1", "a.1", "1.a", "99999999999999999999.1", "-200000000000000000.1"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_page_with_more_behind_it_has_a_next_one() {
        let size = PageSize::try_from(2).unwrap_or_default();
        let cursor_of = |id: &i64| Cursor { departure: Timestamp::UNIX_EPOCH, id: *id };
        assert_eq!(Page::cut(vec![1, 2], size, cursor_of).next, None);
        let cut = Page::cut(vec![1, 2, 3], size, cursor_of);
        assert_eq!((cut.items, cut.next.map(|next| next.id)), (vec![1, 2], Some(2)));
    }
}
