//! What a team has decided about advice, and which files are applied already.

use crate::migration::{Migration, MigrationKind};
use crate::rule::{Level, Rule, UnknownRule};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The extensions that a control plane installs in every database unless configured otherwise, as far as the server
/// offers them. A migration may say `CREATE EXTENSION IF NOT EXISTS` of them.
pub const EXTENSIONS_DEFAULT: [&str; 4] = ["btree_gist", "citext", "pg_trgm", "pgcrypto"];
/// The file in the migrations' folder that holds a policy.
pub const POLICY_FILE: &str = "lint.toml";
/// How large that file may be.
const POLICY_BYTES_MAX: u64 = 64 * 1024;

/// How advice is judged. The default is every rule's own level, the default extensions, and no file known to be applied.
///
/// ```toml
/// # lint.toml, beside the migrations
/// since = 14                        # up to here, files are applied everywhere and not judged any more
/// extensions = ["citext", "hstore"] # what the control plane installs (`extensions` in its configuration)
///
/// [rules]                           # off, warning or error
/// qualified-name = "error"
/// "squawk/prefer-text-field" = "warning"
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LintPolicy {
    levels: HashMap<Rule, Level>,
    extensions: BTreeSet<String>,
    applied_up_to: Option<i64>,
    applied_files: Option<BTreeSet<(i64, u64)>>,
    warnings_denied: bool,
}

impl Default for LintPolicy {
    fn default() -> Self {
        Self {
            levels: HashMap::new(),
            extensions: EXTENSIONS_DEFAULT.into_iter().map(str::to_owned).collect(),
            applied_up_to: None,
            applied_files: None,
            warnings_denied: false,
        }
    }
}

/// Why there is no policy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The rule guards what runs around a migration.
    #[error("the rule {0} always refuses: it guards what Tenantry relies on, and cannot be set to another level")]
    Fixed(Rule),
    /// There is no such rule.
    #[error(transparent)]
    UnknownRule(#[from] UnknownRule),
    /// The file is there and cannot be read.
    #[error("cannot read {}: check that it may be read and is at most {POLICY_BYTES_MAX} bytes of UTF-8", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// The file is no policy.
    #[error("{} is no lint policy: write since, extensions and a table [rules] with off, warning or error", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A rule in the file is unknown or fixed.
    #[error("{} cannot be used", .path.display())]
    Rules {
        /// The file.
        path: PathBuf,
        /// Which rule, and why.
        source: Box<PolicyError>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    since: Option<i64>,
    extensions: Option<BTreeSet<String>>,
    #[serde(default)]
    rules: BTreeMap<String, Level>,
}

impl LintPolicy {
    /// The policy of a folder: its `lint.toml`, or the default where there is none.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, PolicyError> {
        let path = folder.as_ref().join(POLICY_FILE);
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(PolicyError::Io { path, source }),
        };
        let file: PolicyFile = toml::from_str(&text)
            .map_err(|source| PolicyError::Malformed { path: path.clone(), source: Box::new(source) })?;
        let mut policy = Self { applied_up_to: file.since, ..Self::default() };
        if let Some(extensions) = file.extensions {
            policy.extensions = extensions;
        }
        for (name, level) in file.rules {
            let set = name.parse().map_err(PolicyError::from).and_then(|rule| policy.set(rule, level));
            set.map_err(|source| PolicyError::Rules { path: path.clone(), source: Box::new(source) })?;
        }
        Ok(policy)
    }

    /// Gives a rule another level; fails for a fixed one.
    pub fn set(&mut self, rule: Rule, level: Level) -> Result<(), PolicyError> {
        if rule.is_fixed() {
            return Err(PolicyError::Fixed(rule));
        }
        self.levels.insert(rule, level);
        Ok(())
    }

    /// Says that tenants share databases: what blocks those, and would be a warning, is an error unless a level was
    /// given.
    pub fn expect_shared_databases(&mut self) {
        for rule in [Rule::QualifiedName, Rule::UnscopedLookup] {
            self.levels.entry(rule).or_insert(Level::Error);
        }
    }

    /// Makes errors of all that would be warnings.
    pub fn deny_warnings(&mut self) {
        self.warnings_denied = true;
    }

    /// Replaces the extensions that the control plane installs.
    pub fn set_extensions(&mut self, extensions: impl IntoIterator<Item = String>) {
        self.extensions = extensions.into_iter().collect();
    }

    /// Takes every file up to this version for applied everywhere: it is not judged any more, and the tables of all
    /// later files are empty. 0 says that no tenant has applied anything.
    pub fn set_applied_up_to(&mut self, version: i64) {
        self.applied_up_to = Some(version);
    }

    /// Takes the files of these versions and checksums for applied, besides those up to a version. Repeatable ones have
    /// version 0.
    pub fn set_applied_files(&mut self, files: impl IntoIterator<Item = (i64, u64)>) {
        self.applied_files = Some(files.into_iter().collect());
    }

    /// What a rule does.
    pub fn level(&self, rule: Rule) -> Level {
        if rule.is_fixed() {
            return Level::Error;
        }
        match self.levels.get(&rule).copied().unwrap_or_else(|| rule.default_level()) {
            Level::Warning if self.warnings_denied => Level::Error,
            level => level,
        }
    }

    pub(crate) fn allows_extension(&self, name: &str) -> bool {
        self.extensions.contains(name)
    }

    pub(crate) fn extensions(&self) -> impl Iterator<Item = &str> {
        self.extensions.iter().map(String::as_str)
    }

    /// Whether tenants have applied the file, so that advice on it comes too late.
    pub(crate) fn is_applied(&self, migration: &Migration) -> bool {
        // What has no version runs again, so it is judged again, until somebody has exactly this.
        let has_version = migration.kind != MigrationKind::Repeatable;
        self.applied_up_to.is_some_and(|version| has_version && migration.version <= version)
            || self.applied_files.as_ref().is_some_and(|files| files.contains(&(migration.version, migration.checksum)))
    }

    /// Whether anything is known of what is applied. Only then is a table of an earlier file known to be empty.
    pub(crate) fn knows_what_is_applied(&self) -> bool {
        self.applied_up_to.is_some() || self.applied_files.is_some()
    }
}

fn read_bounded(path: &Path) -> Result<String, std::io::Error> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = fs::File::open(path)?.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > POLICY_BYTES_MAX {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, "the file is too large"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{LintPolicy, PolicyError};
    use crate::rule::{Level, Rule};

    fn read(text: &str) -> Result<LintPolicy, PolicyError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lint.toml"), text).unwrap();
        LintPolicy::read(folder.path())
    }

    #[test]
    fn a_folder_without_a_policy_has_the_default() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(LintPolicy::read(folder.path()).unwrap(), LintPolicy::default());
    }

    #[test]
    fn a_file_sets_levels_extensions_and_what_is_applied() {
        let policy = read(
            "since = 14\nextensions = ['hstore']\n[rules]\nqualified-name = 'error'\n'squawk/ban-drop-column' = 'off'\n",
        )
        .unwrap();
        assert_eq!(policy.level(Rule::QualifiedName), Level::Error);
        assert_eq!(policy.level("squawk/ban-drop-column".parse().unwrap()), Level::Off);
        assert!(policy.allows_extension("hstore") && !policy.allows_extension("citext"));
        assert!(policy.knows_what_is_applied());
    }

    #[test]
    fn what_guards_the_migrator_is_not_up_to_a_policy() {
        assert!(matches!(
            LintPolicy::default().set(Rule::RoleSwitch, Level::Off),
            Err(PolicyError::Fixed(Rule::RoleSwitch))
        ));
        assert!(matches!(read("[rules]\nrole-switch = 'off'"), Err(PolicyError::Rules { .. })));
        assert!(matches!(read("[rules]\nno-such-rule = 'off'"), Err(PolicyError::Rules { .. })));
        assert!(matches!(read("[rules]\nsyntax = 'loud'"), Err(PolicyError::Malformed { .. })));
        assert!(matches!(read("until = 3"), Err(PolicyError::Malformed { .. })));
        assert!(matches!(read(&" ".repeat(70_000)), Err(PolicyError::Io { .. })));
    }

    #[test]
    fn what_blocks_shared_databases_is_an_error_where_there_are_any_unless_a_team_has_decided() {
        let mut policy = read("[rules]\nunscoped-lookup = 'warning'").unwrap();
        policy.expect_shared_databases();
        assert_eq!(policy.level(Rule::QualifiedName), Level::Error);
        assert_eq!(policy.level(Rule::UnscopedLookup), Level::Warning);
    }

    #[test]
    fn denied_warnings_are_errors_and_what_is_off_stays_off() {
        let mut policy = LintPolicy::default();
        policy.set(Rule::Syntax, Level::Off).unwrap();
        policy.deny_warnings();
        assert_eq!(policy.level(Rule::QualifiedName), Level::Error);
        assert_eq!(policy.level(Rule::Syntax), Level::Off);
    }
}
