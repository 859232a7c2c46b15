//! What a file's name says: `[UV]<version>__<name>.sql`, the same with `.down.sql`, or `R__<name>.sql`.

use crate::migration::MigrationKind;

/// The parts of a good name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) kind: MigrationKind,
    /// 0 for a repeatable one.
    pub(crate) version: i64,
    pub(crate) name: String,
    /// Whether it undoes the file that is named like it without `.down`.
    pub(crate) is_down: bool,
}

impl FileName {
    /// Reads a name; the error says what is wrong with it and what to do. The name part is ASCII although refinery takes
    /// any letter: file systems spell accented letters in two ways, and the checksum would differ with them.
    pub(crate) fn parse(file: &str) -> Result<Self, String> {
        let kinds = [MigrationKind::Versioned, MigrationKind::Unversioned, MigrationKind::Repeatable];
        let (kind, rest) = kinds
            .into_iter()
            .find_map(|kind| Some((kind, file.strip_prefix(kind.prefix())?)))
            .ok_or_else(|| malformed("it starts with none of V, U and R"))?;
        let stem = rest.strip_suffix(".sql").ok_or_else(|| malformed("it does not end in .sql, in lower case"))?;
        let (stem, is_down) = stem.strip_suffix(".down").map_or((stem, false), |stem| (stem, true));
        if is_down && kind == MigrationKind::Repeatable {
            return Err(malformed("nothing undoes a repeatable file"));
        }
        let (digits, name) =
            stem.split_once("__").ok_or_else(|| malformed("there are no two underscores after the version"))?;
        let version = if kind == MigrationKind::Repeatable { repeatable(digits) } else { version(digits) }?;
        let is_name_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name_part) {
            return Err(malformed("the name may hold ASCII letters, digits and underscores only"));
        }
        Ok(Self { kind, version, name: name.to_owned(), is_down })
    }
}

fn version(digits: &str) -> Result<i64, String> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("the version is not a whole number"));
    }
    let version: i64 = digits.parse().map_err(|_| malformed("the version does not fit into 64 bits"))?;
    if version == 0 {
        return Err(malformed("versions start at 1, for 0 stands for a home without any migration"));
    }
    Ok(version)
}

fn repeatable(digits: &str) -> Result<i64, String> {
    if digits.is_empty() { Ok(0) } else { Err(malformed("a repeatable file has no version")) }
}

fn malformed(reason: &str) -> String {
    format!(
        "the file name is wrong: {reason}; name it V<version>__<name>.sql, U<version>__<name>.sql or R__<name>.sql (what undoes \
         the first two: .down.sql), or move it away"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::FileName;
    use crate::migration::MigrationKind;

    #[test]
    fn versions_and_time_stamps_are_read() {
        let stamp = FileName::parse("V20261121050759__add_gates.sql").unwrap();
        assert_eq!((stamp.version, stamp.name.as_str()), (20_261_121_050_759, "add_gates"));
        let unversioned = FileName::parse("U007___x.sql").unwrap();
        assert_eq!(unversioned.kind, MigrationKind::Unversioned);
        assert_eq!((unversioned.version, unversioned.name.as_str()), (7, "_x"));
        let down = FileName::parse("V7__a.down.sql").unwrap();
        assert_eq!((down.version, down.name.as_str(), down.is_down), (7, "a", true));
        let repeatable = FileName::parse("R__views.sql").unwrap();
        assert_eq!((repeatable.kind, repeatable.version), (MigrationKind::Repeatable, 0));
    }

    #[test]
    fn a_name_that_refinery_would_silently_leave_out_or_misread_is_refused() {
        for file in [
            "1__a.sql",
            "v1__a.sql",
            "V1_a.sql",
            "V__a.sql",
            "V1.5__a.sql",
            "V-1__a.sql",
            "V0__a.sql",
            "V9223372036854775808__a.sql",
            "V1__.sql",
            "V1__a b.sql",
            "V1__a.b.sql",
            "V1__é.sql",
            "V1__a.SQL",
            "|1__a.sql",
            "R1__a.sql",
            "R__a.down.sql",
            "V1__a.down.down.sql",
            "R_a.sql",
            "",
        ] {
            assert!(FileName::parse(file).is_err(), "{file}");
        }
    }
}
