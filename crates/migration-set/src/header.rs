//! What the comments at the top of a file declare.

use crate::finding::Finding;
use crate::lexer::{Lexer, Token, TokenKind};
use crate::migration::Phase;
use crate::rule::Rule;
use crate::statement::Lines;

/// The declared facts, with what holds when nothing is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) transactional: bool,
    pub(crate) phase: Option<Phase>,
    pub(crate) requires_app: Option<String>,
}

/// How many characters a requirement may have: it is shown in tables.
const REQUIREMENT_CHARACTERS_MAX: usize = 100;

/// What the header `-- requires-app: …` of a file that was found good says.
pub fn requires_app(sql: &str) -> Option<String> {
    let comments = Lexer::new(sql).take_while(|token| !token.is_significant());
    comments.filter_map(|token| Declaration::of(&token)).find_map(|declaration| match declaration {
        Declaration::RequiresApp(requirement) => Some(requirement.to_owned()),
        _ => None,
    })
}

/// Reads the line comments before the first statement. A declaration further down would be silently without effect, so it
/// is a finding, as are a second one, an unknown phase and a requirement that cannot be shown.
pub(crate) fn read(file: &str, sql: &str, lines: &Lines<'_>, findings: &mut Vec<Finding>) -> Header {
    let mut header = Header { transactional: true, phase: None, requires_app: None };
    let mut at_top = true;
    for token in Lexer::new(sql) {
        at_top &= !token.is_significant();
        let Some(declaration) = Declaration::of(&token) else {
            continue;
        };
        let problem = match declaration {
            _ if !at_top => Some("a header has no effect below the first statement: move it to the top of the file"),
            Declaration::NoTransaction if !header.transactional => Some("the header is there twice: remove one"),
            Declaration::NoTransaction => {
                header.transactional = false;
                None
            }
            Declaration::Phase(_) if header.phase.is_some() => Some("a file has one phase: remove the other header"),
            Declaration::Phase(phase) => {
                header.phase = phase;
                phase.is_none().then_some("the phase is either expand or contract: write one of them")
            }
            Declaration::RequiresApp(_) if header.requires_app.is_some() => {
                Some("a file has one requirement: remove the other header")
            }
            Declaration::RequiresApp(requirement) => {
                header.requires_app = Some(requirement.to_owned());
                let is_shown = !requirement.is_empty()
                    && requirement.chars().count() <= REQUIREMENT_CHARACTERS_MAX
                    && !requirement.chars().any(char::is_control);
                (!is_shown).then_some("say which version of the program this needs, in at most 100 characters")
            }
        };
        if let Some(message) = problem {
            findings.push(Finding::new(file, lines.position(token.start), Rule::Header, message));
        }
    }
    header
}

/// One header line; a phase that is not known is `None`.
enum Declaration<'a> {
    NoTransaction,
    Phase(Option<Phase>),
    RequiresApp(&'a str),
}

impl<'a> Declaration<'a> {
    fn of(token: &Token<'a>) -> Option<Self> {
        if token.kind != TokenKind::LineComment {
            return None;
        }
        let text = token.text.trim_start_matches('-').trim();
        if text.eq_ignore_ascii_case("no-transaction") {
            return Some(Self::NoTransaction);
        }
        let (name, value) = text.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("requires-app") {
            return Some(Self::RequiresApp(value));
        }
        name.eq_ignore_ascii_case("phase").then(|| {
            Self::Phase(match value.to_ascii_lowercase().as_str() {
                "expand" => Some(Phase::Expand),
                "contract" => Some(Phase::Contract),
                _ => None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, read};
    use crate::finding::Finding;
    use crate::migration::Phase;
    use crate::statement::Lines;

    fn header(sql: &str) -> (Header, Vec<Finding>) {
        let mut findings = Vec::new();
        let header = read("V1__a.sql", sql, &Lines::new(sql), &mut findings);
        (header, findings)
    }

    #[test]
    fn headers_stand_anywhere_in_the_top_comment_block() {
        let (header, findings) =
            header("-- Gates.\r\n\r\n/* why */\r\n--no-transaction\r\n-- phase: Contract\r\nSELECT 1;");
        assert!(findings.is_empty());
        assert!(!header.transactional);
        assert_eq!(header.phase, Some(Phase::Contract));
    }

    #[test]
    fn a_file_without_headers_runs_in_a_transaction() {
        let (header, findings) = header("-- this needs no-transaction: it does not\nSELECT '-- no-transaction';");
        assert!(header.transactional && header.phase.is_none() && findings.is_empty());
    }

    #[test]
    fn a_requirement_is_kept_as_it_was_written() {
        let sql = "-- Requires-App:  Flights >= 2.4 (booking)\r\nSELECT 1;";
        let (header, findings) = header(sql);
        assert!(findings.is_empty());
        assert_eq!(header.requires_app.as_deref(), Some("Flights >= 2.4 (booking)"));
        assert_eq!(super::requires_app(sql), header.requires_app);
        assert_eq!(super::requires_app("SELECT 1; -- requires-app: 2"), None);
    }

    #[test]
    fn a_requirement_that_cannot_be_shown_is_found() {
        let long = format!("-- requires-app: {}\nSELECT 1;", "9".repeat(101));
        for sql in ["-- requires-app:\nSELECT 1;", "-- requires-app: \u{1b}[2J\nSELECT 1;", long.as_str()] {
            assert_eq!(header(sql).1.len(), 1, "{sql}");
        }
        assert_eq!(header("-- requires-app: 1\n-- requires-app: 2\nSELECT 1;").1.len(), 1);
        assert_eq!(header("SELECT 1;\n-- requires-app: 1").1.len(), 1);
    }

    #[test]
    fn headers_that_would_have_no_effect_are_found() {
        assert_eq!(header("SELECT 1;\n-- no-transaction\n").1[0].line, 2);
        assert_eq!(header("-- phase: shrink\nSELECT 1;").1.len(), 1);
        assert_eq!(header("-- phase: expand\n-- phase: contract\nSELECT 1;").1.len(), 1);
        assert_eq!(header("-- no-transaction\n-- no-transaction\nSELECT 1;").1.len(), 1);
    }
}
