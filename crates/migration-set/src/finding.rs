//! What is wrong with a file, where, and what to do about it.

use crate::rule::Rule;
use crate::statement::Position;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How much of a file's name a finding repeats; file systems allow no more.
const FILE_NAME_CHARACTERS_MAX: usize = 255;

/// What becomes of a set with a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is shown, and the set goes on.
    Warning,
    /// The set is refused.
    #[default]
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Something that is wrong with a set. Prints as `file:line:column: severity: message [rule]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file's name, as given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The character within the line, from 1.
    pub column: u32,
    /// Which rule was broken.
    pub rule: Rule,
    /// Whether the set is refused for it.
    #[serde(default)]
    pub severity: Severity,
    /// What is wrong and what to do, in a sentence or two.
    pub message: String,
}

impl Finding {
    pub(crate) fn new(file: &str, position: Position, rule: Rule, message: impl Into<String>) -> Self {
        // The name may be a stranger's: it is printed on terminals and must neither steer nor fill them.
        let file = file.chars().filter(|character| !character.is_control()).take(FILE_NAME_CHARACTERS_MAX).collect();
        Self {
            file,
            line: position.line,
            column: position.column,
            rule,
            severity: Severity::Error,
            message: message.into(),
        }
    }

    /// The same finding, with another say.
    pub(crate) fn with_severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    /// A finding about the file as a whole.
    pub(crate) fn whole_file(file: &str, rule: Rule, message: impl Into<String>) -> Self {
        Self::new(file, Position { line: 1, column: 1 }, rule, message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, rule, severity, message } = self;
        write!(formatter, "{file}:{line}:{column}: {severity}: {message} [{rule}]")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{Finding, Rule};

    #[test]
    fn a_file_name_cannot_steer_the_terminal() {
        let finding = Finding::whole_file("\u{1b}[2J\n.sql", Rule::FileName, "wrong");
        assert_eq!(finding.to_string(), "[2J.sql:1:1: error: wrong [file-name]");
    }

    #[test]
    fn a_finding_survives_the_way_over_http() {
        let finding = Finding::whole_file("V1__a.sql", Rule::EmptyFile, "nothing");
        let json = serde_json::to_string(&finding).unwrap();
        assert!(json.contains(r#""severity":"error""#), "{json}");
        assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), finding);
    }
}
