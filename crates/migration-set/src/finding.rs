//! What is wrong with a file, where, and what to do about it.

use crate::statement::Position;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How much of a file's name a finding repeats; file systems allow no more.
const FILE_NAME_CHARACTERS_MAX: usize = 255;

/// Why a file is refused. The names (`kebab-case` in JSON and output) are stable: scripts may match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rule {
    /// A `.sql` file that is not named `V<version>__<name>.sql` or `U<version>__<name>.sql`.
    FileName,
    /// Two files with one version.
    DuplicateVersion,
    /// No statement in the file.
    EmptyFile,
    /// Not UTF-8, a NUL character, or a byte order mark.
    Encoding,
    /// A header that is misplaced, repeated or has an unknown value.
    Header,
    /// A string, comment or quoted name that never ends.
    Unterminated,
    /// `BEGIN`, `COMMIT`, `SAVEPOINT` and their like, also in a `DO` body.
    TransactionControl,
    /// `SET ROLE`, `RESET ROLE`, `SET SESSION AUTHORIZATION`, `DISCARD ALL`.
    RoleSwitch,
    /// A session setting that Tenantry itself relies on, above all `search_path`.
    SessionSetting,
    /// A statement on databases, roles, tablespaces or the server's configuration.
    ClusterStatement,
    /// A psql command such as `\i` or `\connect`.
    PsqlCommand,
    /// `COPY` with data from the client, a program or a file of the server.
    Copy,
    /// A statement that PostgreSQL cannot run in a transaction, in a file that runs in one.
    NeedsNoTransaction,
    /// A file that tenants have applied was changed or is missing. Found where the fleet is known, not in the folder.
    AppliedFile,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::FileName => "file-name",
            Self::DuplicateVersion => "duplicate-version",
            Self::EmptyFile => "empty-file",
            Self::Encoding => "encoding",
            Self::Header => "header",
            Self::Unterminated => "unterminated",
            Self::TransactionControl => "transaction-control",
            Self::RoleSwitch => "role-switch",
            Self::SessionSetting => "session-setting",
            Self::ClusterStatement => "cluster-statement",
            Self::PsqlCommand => "psql-command",
            Self::Copy => "copy",
            Self::NeedsNoTransaction => "needs-no-transaction",
            Self::AppliedFile => "applied-file",
        })
    }
}

/// One reason for which a set is refused. Prints as `file:line:column: message [rule]`.
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
    /// What is wrong and what to do, in a sentence or two.
    pub message: String,
}

impl Finding {
    pub(crate) fn new(file: &str, position: Position, rule: Rule, message: impl Into<String>) -> Self {
        // The name may be a stranger's: it is printed on terminals and must neither steer nor fill them.
        let file = file.chars().filter(|character| !character.is_control()).take(FILE_NAME_CHARACTERS_MAX).collect();
        Self { file, line: position.line, column: position.column, rule, message: message.into() }
    }

    /// A finding about the file as a whole.
    pub(crate) fn whole_file(file: &str, rule: Rule, message: impl Into<String>) -> Self {
        Self::new(file, Position { line: 1, column: 1 }, rule, message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, rule, message } = self;
        write!(formatter, "{file}:{line}:{column}: {message} [{rule}]")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{Finding, Rule};

    #[test]
    fn a_rule_has_one_name_in_json_and_in_print() {
        for rule in [Rule::FileName, Rule::TransactionControl, Rule::NeedsNoTransaction, Rule::AppliedFile] {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.to_string());
        }
    }

    #[test]
    fn a_file_name_cannot_steer_the_terminal() {
        let finding = Finding::whole_file("\u{1b}[2J\n.sql", Rule::FileName, "wrong");
        assert_eq!(finding.to_string(), "[2J.sql:1:1: wrong [file-name]");
    }

    #[test]
    fn a_finding_survives_the_way_over_http() {
        let finding = Finding::whole_file("V1__a.sql", Rule::EmptyFile, "nothing");
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), finding);
    }
}
