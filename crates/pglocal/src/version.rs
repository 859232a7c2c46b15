//! The version of a PostgreSQL server, as its binary reports it.

use std::fmt;

/// The oldest major version that Tenantry works with.
pub const OLDEST_SUPPORTED: u32 = 15;

/// A PostgreSQL version: `15.4` is major 15, minor 4; pre-releases such as `19beta1` count as minor 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The number that decides whether a data directory can be opened.
    pub major: u32,
    /// The bug-fix release within the major version.
    pub minor: u32,
}

impl Version {
    /// Reads what `postgres --version` prints, for example `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`.
    /// `None` when the text holds no version.
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let mut numbers = word.split('.');
        let major = leading_number(numbers.next()?)?;
        let minor = numbers.next().and_then(leading_number).unwrap_or(0);
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_read_as_distributions_print_them() {
        for (text, major, minor) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15, 18),
            ("postgres (PostgreSQL) 17.0", 17, 0),
            ("postgres (PostgreSQL) 19beta1", 19, 0),
            ("postgres (PostgreSQL) 18devel", 18, 0),
        ] {
            assert_eq!(Version::parse(text), Some(Version { major, minor }), "{text}");
        }
    }

    #[test]
    fn text_without_a_number_is_no_version() {
        assert_eq!(Version::parse("command not found"), None);
        assert_eq!(Version::parse(""), None);
    }
}
