//! Squawk's rules on locks, table rewrites and running programs, asked in process.
//!
//! Squawk reads one file at a time, its syntax tree costs much more than the text, and a long expression costs it the
//! square of its length. So it is given only what its rules can say something about: comments are blanked out (a file is
//! silenced by `-- lint-ignore`, with a reason, and by nothing else), and so are statements that are too long. What
//! stays keeps its place, so that findings need no mapping.

use crate::advice::Raised;
use crate::lexer::{Lexer, Token, TokenKind};
use crate::migration::Phase;
use crate::rule::{Level, Rule};
use crate::script::{Script, name_of};
use squawk_linter::{Linter, Rule as Named, Violation};
use squawk_syntax::SourceFile;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The oldest PostgreSQL that Tenantry runs on: what is dangerous there is told.
const POSTGRESQL: &str = "15.0";
/// How many tokens a statement may have to be judged. Bounds the work on hostile files, and how deep the parser goes.
const TOKENS_MAX: usize = 2_000;
/// How many statements that cannot be read are told of one file.
const UNREADABLE_MAX: usize = 3;

/// One of squawk's rules, named `squawk/…`. What each is about: <https://squawkhq.com/docs/rules>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SquawkRule(Named);

/// What a rule is for decides its level.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It keeps a table that holds rows from being locked for long, or the migration from failing on it.
    Locks,
    /// It keeps what running programs use; a file with `-- phase: contract` declares that they are gone.
    Programs,
    /// What it finds is rarely meant.
    Mistakes,
    /// Style, or what other rules or the migrator see to.
    Other,
}

impl SquawkRule {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        enum_iterator::all::<Named>().map(Self).filter(|rule| rule.is_offered())
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let named = Named::try_from(name.strip_prefix("squawk/")?).ok()?;
        Some(Self(named)).filter(|rule| rule.is_offered())
    }

    /// Not an alias of others, and not about squawk's own comments, which are never seen.
    fn is_offered(self) -> bool {
        !matches!(self.0, Named::UnusedIgnore | Named::RequireTimeoutSettings)
    }

    pub(crate) fn default_level(self) -> Level {
        match self.purpose() {
            Purpose::Locks => Level::Error,
            Purpose::Programs | Purpose::Mistakes => Level::Warning,
            Purpose::Other => Level::Off,
        }
    }

    fn purpose(self) -> Purpose {
        match self.0 {
            Named::RequireConcurrentIndexCreation
            | Named::RequireConcurrentIndexDeletion
            | Named::RequireConcurrentPartitionDetach
            | Named::RequireConcurrentReindex
            | Named::ConstraintMissingNotValid
            | Named::DisallowedUniqueConstraint
            | Named::ChangingColumnType
            | Named::AddingFieldWithDefault
            | Named::AddingForeignKeyConstraint
            | Named::AddingNotNullableField
            | Named::AddingRequiredField
            | Named::AddingSerialPrimaryKeyField
            | Named::BanAlterDomainWithAddConstraint => Purpose::Locks,
            Named::RenamingColumn
            | Named::RenamingTable
            | Named::RenamingObject
            | Named::BanDropColumn
            | Named::BanDropTable
            | Named::BanDropNotNull
            | Named::BanDropView
            | Named::BanDropFunction
            | Named::BanDropType
            | Named::BanDropDomain
            | Named::BanDropSequence => Purpose::Programs,
            Named::BanTruncateCascade
            | Named::BanDuplicateColumnAssignments
            | Named::IdentifierTooLong
            | Named::PreferRepack => Purpose::Mistakes,
            _ => Purpose::Other,
        }
    }
}

impl fmt::Display for SquawkRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "squawk/{}", self.0)
    }
}

/// What squawk is asked about a file.
pub(crate) struct Question<'a> {
    pub(crate) script: &'a Script<'a>,
    pub(crate) transactional: bool,
    pub(crate) phase: Option<Phase>,
    /// Tables and indexes without rows.
    pub(crate) empty: &'a HashSet<String>,
    /// No tenant has any table.
    pub(crate) starts_from_nothing: bool,
    pub(crate) enabled: &'a [SquawkRule],
    /// Whether to tell what cannot be read.
    pub(crate) tell_unreadable: bool,
}

impl Question<'_> {
    pub(crate) fn ask(&self) -> Vec<Raised> {
        let (text, too_long) = self.readable_text();
        let mut raised: Vec<Raised> = too_long.into_iter().filter(|_| self.tell_unreadable).collect();
        // A parser asserts what it believes of itself. Where that fails, a file is left unjudged, not the command undone.
        let answer = catch_unwind(AssertUnwindSafe(|| self.lint(&text)));
        let Ok((violations, unreadable)) = answer else {
            let message = "squawk gave up on this file: it was not judged by it";
            raised.extend(self.tell_unreadable.then(|| Raised::new(0, Rule::Syntax, message)));
            return raised;
        };
        if self.tell_unreadable {
            raised.extend(unreadable);
        }
        // Squawk tells violations by their place.
        let said_better: Vec<Range<usize>> = violations
            .iter()
            .filter(|one| matches!(one.code, Named::AddingForeignKeyConstraint | Named::DisallowedUniqueConstraint))
            .map(range)
            .collect();
        raised.extend(violations.iter().filter(|one| self.matters(one, &said_better)).map(raise));
        raised
    }

    /// The file with what squawk is not to see blanked out, and the statements that were blanked for their length.
    fn readable_text(&self) -> (String, Vec<Raised>) {
        let sql = self.script.sql;
        let mut text: Vec<u8> =
            sql.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { byte } else { b' ' }).collect();
        let mut too_long = Vec::new();
        for tokens in &self.script.statements {
            let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { continue };
            if tokens.len() > TOKENS_MAX {
                // Bulk data is long and has nothing to be judged.
                if ["ALTER", "CREATE", "DROP"].iter().any(|keyword| first.is_word(keyword)) {
                    let message = format!("this has more than {TOKENS_MAX} words: it is too long to be judged");
                    too_long.push(Raised::new(first.start, Rule::Syntax, message));
                }
                continue;
            }
            for token in tokens {
                text[token.start..token.end()].copy_from_slice(token.text.as_bytes());
            }
            if let Some(after) = text.get_mut(last.end()) {
                // Most often the statement's own semicolon; a comment that follows directly gives way to it.
                *after = if *after == b'\n' || *after == b'\r' { *after } else { b';' };
            }
        }
        too_long.truncate(UNREADABLE_MAX);
        (String::from_utf8(text).unwrap_or_default(), too_long)
    }

    fn lint(&self, text: &str) -> (Vec<Violation>, Vec<Raised>) {
        let parse = SourceFile::parse(text);
        let unreadable = parse.errors().into_iter().take(UNREADABLE_MAX).map(|error| {
            let message =
                format!("the linter cannot read this ({}): what PostgreSQL can read is right", error.message());
            Raised::new(offset(error.range().start()), Rule::Syntax, message)
        });
        let mut linter = Linter::from(self.enabled.iter().map(|rule| rule.0));
        linter.settings.pg_version = POSTGRESQL.parse().unwrap_or_default();
        linter.settings.assume_in_transaction = self.transactional;
        (linter.lint(&parse, text), unreadable.collect())
    }

    fn matters(&self, violation: &Violation, said_better: &[Range<usize>]) -> bool {
        let purpose = SquawkRule(violation.code).purpose();
        if purpose == Purpose::Programs && self.phase == Some(Phase::Contract) {
            return false;
        }
        let at = offset(violation.text_range.start());
        if matches!(purpose, Purpose::Locks | Purpose::Programs) {
            let target = || self.script.statement_at(at).and_then(target);
            if self.starts_from_nothing || target().is_some_and(|target| self.empty.contains(&target)) {
                return false;
            }
        }
        match violation.code {
            // Two further rules say the same, and what to do about it, of foreign keys and unique constraints.
            Named::ConstraintMissingNotValid => {
                let next = said_better.partition_point(|better| better.start < at);
                said_better.get(next).is_none_or(|better| better.end > range(violation).end)
            }
            Named::AddingFieldWithDefault => !is_number(&self.script.sql[range(violation)]),
            _ => true,
        }
    }
}

fn raise(violation: &Violation) -> Raised {
    let mut message = match violation.code {
        // Squawk speaks of generated columns here whatever it has found.
        Named::AddingFieldWithDefault => "A default that is computed for each row, as a stored generated column is, \
                                          rewrites the table, and nobody can read it meanwhile."
            .to_owned(),
        _ => violation.message.clone(),
    };
    if let Some(help) = &violation.help {
        message.push(' ');
        message.push_str(help);
    }
    if matches!(
        violation.code,
        Named::RequireConcurrentIndexCreation | Named::RequireConcurrentIndexDeletion | Named::RequireConcurrentReindex
    ) {
        message.push_str(" Put it into a file of its own with the line `-- no-transaction` at the top.");
    }
    Raised::new(offset(violation.text_range.start()), Rule::Squawk(SquawkRule(violation.code)), message)
}

/// What a statement changes: the table, or of an index that is dropped or rebuilt, the index.
fn target(tokens: &Vec<Token<'_>>) -> Option<String> {
    let is = |at: usize, keyword: &str| tokens.get(at).is_some_and(|token| token.is_word(keyword));
    let mut at = if is(0, "CREATE") {
        if !tokens.iter().take(3).any(|token| token.is_word("INDEX")) {
            return None;
        }
        tokens.iter().position(|token| token.is_word("ON"))? + 1
    } else if is(0, "TRUNCATE") {
        1 + usize::from(is(1, "TABLE"))
    } else if (is(0, "ALTER") || is(0, "DROP") || is(0, "REINDEX")) && (is(1, "TABLE") || is(1, "INDEX")) {
        2
    } else {
        return None;
    };
    while ["CONCURRENTLY", "IF", "EXISTS", "ONLY"].iter().any(|keyword| is(at, keyword)) {
        at += 1;
    }
    name_of(tokens.get(at..)?)
}

/// A constant that squawk takes for an expression: `-1`.
fn is_number(text: &str) -> bool {
    let mut tokens =
        Lexer::new(text).filter(|token| token.is_significant() && !matches!(token.text, "-" | "+" | "(" | ")"));
    tokens.next().is_some_and(|token| token.kind == TokenKind::Number) && tokens.next().is_none()
}

fn range(violation: &Violation) -> Range<usize> {
    offset(violation.text_range.start())..offset(violation.text_range.end())
}

fn offset(size: impl Into<u32>) -> usize {
    let bytes: u32 = size.into();
    bytes as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    #[test]
    fn the_oldest_postgresql_is_told_to_squawk() {
        let version: squawk_linter::Version = super::POSTGRESQL.parse().unwrap();
        assert!(version >= "15.0".parse().unwrap());
    }

    #[test]
    fn a_signed_number_is_a_constant() {
        for number in ["-1", "+ 2.5", "(-3)", "0"] {
            assert!(super::is_number(number), "{number}");
        }
        for other in ["random()", "-a", "1 - 1", ""] {
            assert!(!super::is_number(other), "{other}");
        }
    }
}
