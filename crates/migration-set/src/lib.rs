//! Reads, orders, digests and lints a folder of SQL files.
//!
//! Here live the rules on what a migration set is: file names, versions, checksums, headers, the content address, and
//! the findings for which a file is refused. What guards the migrator is judged on the developer's machine and again at
//! the server's door, by the same code. Advice (locks, rewrites, running programs, other isolations) is for the developer's
//! machine and CI: a server cannot know what a team knows of its tables. Here too: how folders of other tools become one of
//! Tenantry's.
//!
//! Never here: a connection, async, or a decision about when and where a migration runs.
//!
//! Start reading at [`MigrationSet`], then [`Rule`] for what is found, [`LintReport`] and [`LintPolicy`] for advice, and
//! [`Import`].
//!
//! Decided once, because homes remember it:
//! - File names are `V<version>__<name>.sql`, `U…` for one that may come late, or `R__<name>.sql` for one that is applied
//!   after all of those and again whenever it changes; refinery leaves the latter alone.
//!   `V<version>__<name>.down.sql` undoes the file that is named like it; refinery leaves it alone too. Versions are 64 bits wide (refinery's
//!   `int8-versions`), so 14-digit time stamps work.
//! - Checksums are refinery's, over name, version and content, so that a home's history table can be read by stock
//!   refinery with the same feature. Content is hashed byte by byte: a file whose line endings are converted (git's
//!   `autocrlf`) is another file. Let `.gitattributes` say `*.sql -text`.
//! - The identity of a set is SHA-256 over, per migration in order: version, kind, name, checksum, whether it runs in a
//!   transaction, phase, the SHA-256 of the content, and what it requires of the program, where it says so, and what undoes it, where something does; then, per
//!   repeatable one by name: name, whether it runs in a transaction, the SHA-256 of the content.

mod advice;
mod digest;
mod error;
mod file_name;
mod finding;
mod folder;
mod header;
mod import;
mod lexer;
mod lint;
mod migration;
mod policy;
mod report;
mod rule;
mod script;
mod set;
mod squawk;
mod statement;

pub use error::MigrationSetError;
pub use finding::{Finding, Severity};
pub use header::requires_app;
pub use import::{Import, ImportError, ImportTool, ImportedFile, SourceFile, SourceRemark};
pub use migration::{Migration, MigrationKind, Phase};
pub use policy::{EXTENSIONS_DEFAULT, LintPolicy, POLICY_FILE, PolicyError};
pub use report::LintReport;
pub use rule::{Level, Rule, UnknownRule};
pub use set::{FILE_BYTES_MAX, FILES_MAX, FINDINGS_MAX, MigrationSet, SET_BYTES_MAX};
pub use squawk::SquawkRule;
pub use statement::{Position, Statement, line_of_position, statements};
