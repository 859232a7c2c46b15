//! The rules by their names, and what each of them is for.

use crate::finding::Severity;
use crate::squawk::SquawkRule;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What can be wrong with a file. The names (`kebab-case` in JSON and output, those of squawk behind `squawk/`) are
/// stable: scripts may match on them.
///
/// A *fixed* rule guards what runs around a file, or the folder as such: it always refuses and cannot be ignored. All
/// others are *advice*: they have a [`Level`] that a [`LintPolicy`](crate::LintPolicy) may change, and a file may
/// ignore them with `-- lint-ignore`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A `.sql` file that is not named `V<version>__<name>.sql`, `U<version>__<name>.sql` or `R__<name>.sql`.
    FileName,
    /// Two files with one version, or two repeatable ones with one name.
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
    /// A file without one that undoes it, where a tenant is to go back. Found when that is asked for.
    NoWayBack,
    /// A `-- lint-ignore` without a reason, without effect, or of a rule that is unknown or cannot be ignored.
    LintIgnore,
    /// Advice, a warning: a `-- lint-ignore` that silences nothing.
    UnusedIgnore,
    /// Advice, a warning: a name with a schema. Tenants of isolation `schema` have no `public` of their own.
    QualifiedName,
    /// Advice, a warning: a function without `SET search_path` that an index, check, generated column or materialised
    /// view calls. PostgreSQL evaluates those with another search path when it restores, reindexes or refreshes.
    FunctionSearchPath,
    /// Advice, an error: `CREATE EXTENSION` without `IF NOT EXISTS`, which fails where the control plane has installed it.
    ExtensionIfNotExists,
    /// Advice, an error: `CREATE EXTENSION` of one that the control plane does not install beforehand.
    ExtensionNotAllowed,
    /// Advice, a warning: `CREATE EXTENSION … SCHEMA`, which has no effect: extensions are in the schema `extensions`.
    ExtensionSchema,
    /// Advice, an error: `CREATE SCHEMA` and its like, which a home's owner may not do.
    SchemaStatement,
    /// Advice, an error: a role's name, in `OWNER TO`, a grant or a policy.
    RoleName,
    /// Advice, an error: what takes a superuser or rights on the whole database.
    NeedsSuperuser,
    /// Advice, a warning: a question to PostgreSQL's own tables that finds neighbours' objects too, where tenants share a
    /// database.
    UnscopedLookup,
    /// Advice, a warning: a repeatable file that fails when it runs again, for what it creates is there.
    NotRepeatable,
    /// Advice, a warning: a statement that the linter cannot read, and so does not judge.
    Syntax,
    /// Advice of squawk.
    Squawk(SquawkRule),
}

/// What is done about advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing: the rule does not look.
    Off,
    /// It is shown, and the set goes on.
    Warning,
    /// The set is refused.
    Error,
}

impl Level {
    /// How a finding weighs; `None` for none.
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Off => None,
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
        }
    }
}

impl Rule {
    /// Those that are named here rather than by squawk.
    const OWN: [Self; 28] = [
        Self::FileName,
        Self::DuplicateVersion,
        Self::EmptyFile,
        Self::Encoding,
        Self::Header,
        Self::Unterminated,
        Self::TransactionControl,
        Self::RoleSwitch,
        Self::SessionSetting,
        Self::ClusterStatement,
        Self::PsqlCommand,
        Self::Copy,
        Self::NeedsNoTransaction,
        Self::AppliedFile,
        Self::NoWayBack,
        Self::LintIgnore,
        Self::UnusedIgnore,
        Self::QualifiedName,
        Self::FunctionSearchPath,
        Self::ExtensionIfNotExists,
        Self::ExtensionNotAllowed,
        Self::ExtensionSchema,
        Self::SchemaStatement,
        Self::RoleName,
        Self::NeedsSuperuser,
        Self::UnscopedLookup,
        Self::NotRepeatable,
        Self::Syntax,
    ];

    /// Every rule there is: Tenantry's own in their order, then squawk's.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::OWN.into_iter().chain(SquawkRule::all().map(Self::Squawk))
    }

    /// What the rule does unless a policy says otherwise; a fixed one says [`Level::Error`] for good.
    pub fn default_level(self) -> Level {
        match self {
            Self::UnusedIgnore
            | Self::QualifiedName
            | Self::FunctionSearchPath
            | Self::ExtensionSchema
            | Self::UnscopedLookup
            | Self::NotRepeatable
            | Self::Syntax => Level::Warning,
            Self::Squawk(rule) => rule.default_level(),
            _ => Level::Error,
        }
    }

    /// Whether the rule always refuses: no policy changes it and no file ignores it.
    pub fn is_fixed(self) -> bool {
        match self {
            Self::UnusedIgnore
            | Self::QualifiedName
            | Self::FunctionSearchPath
            | Self::ExtensionIfNotExists
            | Self::ExtensionNotAllowed
            | Self::ExtensionSchema
            | Self::SchemaStatement
            | Self::RoleName
            | Self::NeedsSuperuser
            | Self::UnscopedLookup
            | Self::NotRepeatable
            | Self::Syntax
            | Self::Squawk(_) => false,
            Self::FileName
            | Self::DuplicateVersion
            | Self::EmptyFile
            | Self::Encoding
            | Self::Header
            | Self::Unterminated
            | Self::TransactionControl
            | Self::RoleSwitch
            | Self::SessionSetting
            | Self::ClusterStatement
            | Self::PsqlCommand
            | Self::Copy
            | Self::NeedsNoTransaction
            | Self::AppliedFile
            | Self::NoWayBack
            | Self::LintIgnore => true,
        }
    }
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
            Self::NoWayBack => "no-way-back",
            Self::LintIgnore => "lint-ignore",
            Self::UnusedIgnore => "unused-ignore",
            Self::QualifiedName => "qualified-name",
            Self::FunctionSearchPath => "function-search-path",
            Self::ExtensionIfNotExists => "extension-if-not-exists",
            Self::ExtensionNotAllowed => "extension-not-allowed",
            Self::ExtensionSchema => "extension-schema",
            Self::SchemaStatement => "schema-statement",
            Self::RoleName => "role-name",
            Self::NeedsSuperuser => "needs-superuser",
            Self::UnscopedLookup => "unscoped-lookup",
            Self::NotRepeatable => "not-repeatable",
            Self::Syntax => "syntax",
            Self::Squawk(rule) => return rule.fmt(formatter),
        })
    }
}

/// There is no rule of that name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no rule `{name}`: use a name as findings show it in brackets")]
pub struct UnknownRule {
    /// What was taken for a rule, cut to a readable length.
    pub name: String,
}

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(name: &str) -> Result<Self, UnknownRule> {
        let own = Self::OWN.into_iter().find(|rule| rule.to_string() == name);
        own.or_else(|| SquawkRule::parse(name).map(Self::Squawk)).ok_or_else(|| UnknownRule {
            name: name.chars().filter(|character| !character.is_control()).take(80).collect(),
        })
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{Level, Rule};
    use std::collections::HashSet;

    #[test]
    fn a_rule_has_one_name_in_json_in_print_and_on_the_command_line() {
        let mut names = HashSet::new();
        for rule in Rule::all() {
            let name = rule.to_string();
            assert_eq!(serde_json::to_value(rule).unwrap(), name);
            assert_eq!(serde_json::from_value::<Rule>(name.clone().into()).unwrap(), rule);
            assert!(names.insert(name));
        }
        assert!(names.len() > 60, "squawk's rules are missing: {names:?}");
        assert!("no-such".parse::<Rule>().is_err());
        assert!("squawk/no-such".parse::<Rule>().is_err());
        assert!("ban-drop-column".parse::<Rule>().is_err(), "squawk's rules bear their prefix");
    }

    #[test]
    fn a_fixed_rule_refuses() {
        for rule in Rule::all().filter(|rule| rule.is_fixed()) {
            assert_eq!(rule.default_level(), Level::Error, "{rule}");
        }
    }
}
